//! What it is worth that blocks are mapped and not read with `pread`: the same reads of the same block, both ways.
//!
//! Data: 20,000 series of 480 samples, sealed into one block, which is in the page cache. Reads are as long as its chunks
//! are on average, in the order of the file (a query over all series) and mixed (a query over some); and as long as a pair
//! in the index, as a binary search for a label reads them. Each read adds up its bytes, so that all are touched.
//! `pread` is measured for each read by itself, and for the page of 32 KiB around it, kept until another is needed.
//!
//! `cargo bench --profile fast --bench block_map`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use streamgate::model::Labels;
use streamgate::storage::fuzzing::Map;
use streamgate::storage::{Samples, Storage, StorageOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERIES: usize = 20_000;
const SAMPLES: i64 = 480;
const START: i64 = 1_700_006_400_000;
const PAGE_BYTES: usize = 32 * 1024;
const PAIR_BYTES: usize = 12;

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() };
    let storage = Storage::open(options).unwrap();
    fill(&storage);
    storage.seal_all().unwrap();
    let stats = storage.block_stats();
    let path = std::fs::read_dir(dir.path().join("blocks"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "block"))
        .unwrap();
    let chunk_bytes = (stats[0].bytes as usize / SERIES).max(1);
    println!("{} bytes, {chunk_bytes} for each chunk, with its part of the index", stats[0].bytes);

    let snapshots = storage.reader().select(&[], i64::MIN, i64::MAX);
    let mut out = Samples::default();
    let mut read_all = || {
        let begin = Instant::now();
        for s in &snapshots {
            out.clear();
            s.read(i64::MIN, i64::MAX, &mut out);
            black_box(&out);
        }
        begin.elapsed().as_nanos() as f64 / snapshots.len() as f64
    };
    let decoded = (0..5).map(|_| read_all()).fold(f64::MAX, f64::min);
    println!("{decoded:.0} ns for a chunk to be found, read from the mapping and decoded\n");

    let map = Map::open(&path).unwrap();
    let file = File::open(&path).unwrap();
    println!("{:<28} {:>8} {:>8} {:>8} {:>8} {:>10}", "ns", "mapped", "pread", "ratio", "by page", "ratio");
    let in_order = |n: usize, len: usize| (0..n).map(|i| i * len % (map.len() - len)).collect::<Vec<_>>();
    let mixed = |n: usize, len: usize| {
        let place = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % (map.len() - len);
        (0..n as u64).map(place).collect::<Vec<_>>()
    };
    for (what, places, len) in [
        ("chunks in the file's order", in_order(SERIES, chunk_bytes), chunk_bytes),
        ("chunks, mixed", mixed(SERIES, chunk_bytes), chunk_bytes),
        ("pairs of a binary search", mixed(SERIES, PAIR_BYTES), PAIR_BYTES),
    ] {
        let mapped = best(&places, |at| sum(&map[at..at + len]));
        let mut buffer = vec![0; len];
        let single = best(&places, |at| {
            file.read_exact_at(&mut buffer, at as u64).unwrap();
            sum(&buffer)
        });
        let (mut page, mut number) = (vec![0; PAGE_BYTES + len], usize::MAX);
        let paged = best(&places, |at| {
            if at / PAGE_BYTES != number {
                number = at / PAGE_BYTES;
                let from = number * PAGE_BYTES;
                let until = map.len().min(from + page.len());
                file.read_exact_at(&mut page[..until - from], from as u64).unwrap();
            }
            sum(&page[at % PAGE_BYTES..at % PAGE_BYTES + len])
        });
        let (by_single, by_page) = (single / mapped, paged / mapped);
        println!("{what:<28} {mapped:8.1} {single:8.1} {by_single:7.1}x {paged:8.1} {by_page:9.1}x");
    }
}

/// Nanoseconds for a read, the best of five rounds.
fn best(places: &[usize], mut read: impl FnMut(usize) -> u64) -> f64 {
    let mut round = || {
        let begin = Instant::now();
        let all: u64 = places.iter().map(|at| read(*at)).fold(0, u64::wrapping_add);
        black_box(all);
        begin.elapsed().as_nanos() as f64 / places.len() as f64
    };
    (0..5).map(|_| round()).fold(f64::MAX, f64::min)
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|b| u64::from(*b)).sum()
}

fn fill(storage: &Storage) {
    let mut a = storage.appender();
    let refs: Vec<_> = (0..SERIES)
        .map(|i| {
            let labels = [
                ("__name__", format!("metric_{}", i % 100)),
                ("instance", format!("host-{}", i / 100)),
                ("job", "node".to_owned()),
            ];
            a.series(&Labels::from_pairs(labels)).unwrap()
        })
        .collect();
    a.commit().unwrap();
    let mut values: Vec<i64> = (0..SERIES as i64).collect();
    let mut state = 1u64;
    for n in 0..SAMPLES {
        let mut a = storage.appender();
        for (series, value) in refs.iter().zip(&mut values) {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *value += (state >> 59) as i64;
            a.append(*series, START + n * 15_000, *value as f64).unwrap();
        }
        a.commit().unwrap();
    }
}
