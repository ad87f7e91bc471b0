//! The codecs of columns: bytes per sample, and samples per second and core.
//!
//! Data: columns of 480 samples, each kind a thousand times with another seed: constants, counters, gauges with one and
//! three decimals, pages of memory, full mantissas. Sizes are printed first, then divan times encoding and decoding
//! of a mixture like a node exporter's, two thirds of which is constant.
//!
//! `cargo bench --profile fast --bench chunk_codec`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]

use divan::counter::ItemsCount;
use streamgate::storage::codecs::{OpenChunk, floats};

const SAMPLES: usize = 480;

fn main() {
    for (name, make) in KINDS {
        let mut bytes = Vec::new();
        for seed in 0..1000 {
            floats::encode(&make(seed), &mut bytes);
        }
        println!("{name:<20} {:.3} B/sample", bytes.len() as f64 / (1000 * SAMPLES) as f64);
    }
    divan::main();
}

/// A fixed stream of bits.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn walk(seed: u64, start: i64, width: u64, drift: i64, value: impl Fn(i64) -> f64) -> Vec<f64> {
    let mut random = random(seed);
    let mut at = start;
    (0..SAMPLES)
        .map(|_| {
            at += (random() % width) as i64 + drift;
            value(at)
        })
        .collect()
}

type Make = fn(u64) -> Vec<f64>;

const KINDS: [(&str, Make); 7] = [
    ("constant", |seed| vec![seed as f64 / 7.0; SAMPLES]),
    ("counter", |seed| walk(seed, 1000, 16, 0, |i| i as f64)),
    ("cpu seconds", |seed| walk(seed, 100_000, 300, 1200, |i| i as f64 / 100.0)),
    ("gauge, 1 decimal", |seed| walk(seed, 500, 21, -10, |i| i as f64 / 10.0)),
    ("walk, 3 decimals", |seed| walk(seed, 500_000, 201, -100, |i| i as f64 / 1000.0)),
    ("memory pages", |seed| walk(seed, 1 << 20, 2001, -1000, |i| (i * 4096) as f64)),
    ("full mantissa", |seed| walk(seed, 1 << 20, 2001, -1000, |i| (i as f64).sqrt())),
];

/// Like a node exporter: two thirds constant, the rest of all kinds.
fn mixture() -> Vec<Vec<f64>> {
    (0..1200u64)
        .map(|i| if i % 3 < 2 { KINDS[0].1(i) } else { KINDS[1 + (i / 3) as usize % 5].1(i) })
        .collect()
}

#[divan::bench]
fn encode_mixture(bencher: divan::Bencher<'_, '_>) {
    let columns = mixture();
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(columns.len() * SAMPLES)).bench_local(|| {
        out.clear();
        columns.iter().for_each(|c| floats::encode(c, &mut out));
        out.len()
    });
}

fn bench_decode(bencher: divan::Bencher<'_, '_>, columns: Vec<Vec<f64>>) {
    let encoded: Vec<Vec<u8>> = columns
        .iter()
        .map(|c| {
            let mut bytes = Vec::new();
            floats::encode(c, &mut bytes);
            bytes
        })
        .collect();
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    bencher.counter(ItemsCount::new(columns.len() * SAMPLES)).bench_local(|| {
        for bytes in &encoded {
            out.clear();
            floats::decode(bytes, SAMPLES, &mut out, &mut scratch).expect("what was just encoded");
            divan::black_box(&out);
        }
    });
}

#[divan::bench]
fn decode_mixture(bencher: divan::Bencher<'_, '_>) {
    bench_decode(bencher, mixture());
}

#[divan::bench(args = [1, 2, 3, 4, 5, 6])]
fn decode_kind(bencher: divan::Bencher<'_, '_>, kind: usize) {
    bench_decode(bencher, (0..100).map(|seed| KINDS[kind].1(seed)).collect());
}

#[divan::bench]
fn append_to_open_chunk(bencher: divan::Bencher<'_, '_>) {
    let columns = mixture();
    bencher.counter(ItemsCount::new(columns.len() * 120)).bench_local(|| {
        for c in &columns {
            let mut chunk = OpenChunk::default();
            c.iter().take(120).enumerate().for_each(|(i, v)| chunk.append(i as i64 * 15_000, v.to_bits()));
            divan::black_box(&chunk);
        }
    });
}

#[divan::bench]
fn read_open_chunk(bencher: divan::Bencher<'_, '_>) {
    let chunks: Vec<OpenChunk> = mixture()
        .iter()
        .map(|c| {
            let mut chunk = OpenChunk::default();
            c.iter().take(120).enumerate().for_each(|(i, v)| chunk.append(i as i64 * 15_000, v.to_bits()));
            chunk
        })
        .collect();
    let (mut ts, mut vs) = (Vec::new(), Vec::new());
    bencher.counter(ItemsCount::new(chunks.len() * 120)).bench_local(|| {
        for chunk in &chunks {
            ts.clear();
            vs.clear();
            chunk.read(i64::MIN, i64::MAX, &mut ts, &mut vs);
            divan::black_box(&vs);
        }
    });
}
