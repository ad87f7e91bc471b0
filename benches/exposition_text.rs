//! Parsing and scraping of a text body: 2,500 series of ten labels, as a busy exporter writes them.
//!
//! `parse` walks over the body with all labels' places, `scrape_again` is a whole scrape that repeats the last one's
//! series with other values (the steady state), `scrape_first` one that makes every series.
//!
//! `cargo bench --bench exposition_text`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]

use std::fmt::Write as _;
use std::sync::Arc;

use divan::counter::ItemsCount;
use streamgate::exposition::{Format, Parser};
use streamgate::ingest::{Ingest, IngestLimits, ScrapeCache, ScrapeOptions};
use streamgate::model::Labels;
use streamgate::storage::{Storage, StorageOptions};

const SERIES: usize = 2500;
const TEXT: Option<&str> = Some("text/plain; version=0.0.4");

fn main() {
    divan::main();
}

fn body(round: usize) -> String {
    let mut out = String::new();
    for i in 0..SERIES {
        if i % 50 == 0 {
            let _ = writeln!(out, "# HELP bench_metric_{} Something that is measured.", i / 50);
            let _ = writeln!(out, "# TYPE bench_metric_{} gauge", i / 50);
        }
        let _ = writeln!(
            out,
            "bench_metric_{}{{cluster=\"eu-1\",namespace=\"shop\",pod=\"cart-7d9f8b6c5-{i:05}\",container=\"cart\",\
             node=\"node-{}\",method=\"GET\",code=\"200\",path=\"/api/v1/items\"}} {}.{}",
            i / 50,
            i % 20,
            (i * 7 + round * 13) % 100_000,
            (i + round) % 10
        );
    }
    out
}

fn ingest() -> Ingest {
    let storage = Storage::open(StorageOptions::default()).expect("a storage in memory opens");
    Ingest::new(storage, IngestLimits::default(), Arc::default())
}

fn options() -> ScrapeOptions {
    let target_labels = Labels::from_pairs([("job", "bench"), ("instance", "127.0.0.1:9100")]);
    ScrapeOptions { target_labels, ..ScrapeOptions::default() }
}

#[divan::bench]
fn parse(bencher: divan::Bencher) {
    let body = body(0);
    bencher.counter(ItemsCount::new(SERIES)).bench(|| {
        let mut parser = Parser::new(Format::Text, body.as_bytes());
        let mut entries = 0;
        while let Ok(Some(_)) = parser.next() {
            entries += 1;
        }
        entries
    });
}

#[divan::bench]
fn scrape_again(bencher: divan::Bencher) {
    let (ingest, options) = (ingest(), options());
    let bodies: Vec<String> = (0..16).map(body).collect();
    let mut cache = ScrapeCache::default();
    let mut round = 0usize;
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        round += 1;
        let ts = 1_700_000_000_000 + round as i64 * 15_000;
        ingest.scrape(&mut cache, &options, bodies[round % 16].as_bytes(), TEXT, ts, 0.1)
    });
}

#[divan::bench]
fn scrape_first(bencher: divan::Bencher) {
    let body = body(0);
    let options = options();
    bencher.counter(ItemsCount::new(SERIES)).with_inputs(ingest).bench_values(|ingest| {
        ingest.scrape(&mut ScrapeCache::default(), &options, body.as_bytes(), TEXT, 1_700_000_000_000, 0.1)
    });
}
