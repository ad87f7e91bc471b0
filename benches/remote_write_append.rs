//! Remote write from the compressed body to the committed batch: requests of 2,000 series with ten labels and one
//! sample each, over 20,000 series.
//!
//! `again` is a sender that repeats its series (the steady state), `first` one whose series are all new,
//! `decode_only` the walk over the message without hashing, caching or storing.
//!
//! `cargo bench --bench remote_write_append`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use streamgate::exposition::remote_write::{Encoder, Encoding, Item, WriteRequest, compress_snappy};
use streamgate::ingest::{Ingest, IngestLimits, RemoteWriteVersion};
use streamgate::model::Labels;
use streamgate::storage::{Storage, StorageOptions};

const PER_REQUEST: usize = 2000;
const REQUESTS: usize = 10;

fn main() {
    divan::main();
}

fn ingest() -> Ingest {
    let storage = Storage::open(StorageOptions::default()).expect("a storage in memory opens");
    Ingest::new(storage, IngestLimits::default(), Arc::default())
}

/// Request `request` of round `round`, uncompressed.
fn message(request: usize, round: usize) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for i in 0..PER_REQUEST {
        let n = request * PER_REQUEST + i;
        let labels = Labels::from_pairs([
            ("__name__", format!("bench_metric_{}", n % 50)),
            ("cluster", "eu-1".to_owned()),
            ("namespace", "shop".to_owned()),
            ("pod", format!("cart-7d9f8b6c5-{n:06}")),
            ("container", "cart".to_owned()),
            ("node", format!("node-{}", n % 20)),
            ("method", "GET".to_owned()),
            ("code", "200".to_owned()),
            ("path", "/api/v1/items".to_owned()),
            ("instance", format!("10.0.{}.{}:8080", n / 250 % 250, n % 250)),
        ]);
        let ts = 1_700_000_000_000 + round as i64 * 15_000;
        encoder.series(&labels, &[(ts, (n * 7 + round * 13) as f64)], &[]);
    }
    encoder.finish()
}

#[divan::bench]
fn decode_only(bencher: divan::Bencher) {
    let message = message(0, 0);
    bencher.counter(ItemsCount::new(PER_REQUEST)).bench(|| {
        let mut request = WriteRequest::new(&message);
        let mut samples = 0;
        while let Ok(Some(Item::Series(series))) = request.next() {
            let mut values = series.values();
            while let Ok(Some(_)) = values.next() {
                samples += 1;
            }
        }
        samples
    });
}

#[divan::bench(sample_count = 50, sample_size = 10)]
fn again(bencher: divan::Bencher) {
    let ingest = ingest();
    let mut sent = 0usize;
    for request in 0..REQUESTS {
        let body = compress_snappy(&message(request, 0));
        ingest.remote_write(&body, Encoding::Snappy, RemoteWriteVersion::V1).expect("the request is valid");
    }
    bencher
        .counter(ItemsCount::new(PER_REQUEST))
        .with_inputs(|| {
            sent += 1;
            compress_snappy(&message(sent % REQUESTS, 1 + sent / REQUESTS))
        })
        .bench_local_refs(|body| ingest.remote_write(body, Encoding::Snappy, RemoteWriteVersion::V1).is_ok());
}

#[divan::bench(sample_count = 30, sample_size = 1)]
fn first(bencher: divan::Bencher) {
    let body = compress_snappy(&message(0, 0));
    bencher
        .counter(ItemsCount::new(PER_REQUEST))
        .with_inputs(ingest)
        .bench_values(|ingest| ingest.remote_write(&body, Encoding::Snappy, RemoteWriteVersion::V1).is_ok());
}
