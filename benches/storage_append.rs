//! Appending, the WAL, memory, sealing, replay and reading, at 100,000 series (or `SERIES=1000000`).
//!
//! Data: series with ten labels, two thirds of them constant, a sixth counters, a sixth gauges with two decimals, every
//! 15 s; batches of 10,000 samples, as remote write sends them. The first part prints one measurement of each kind with
//! the CPU time of this process; then divan times a batch.
//!
//! `cargo bench --profile fast --bench storage_append`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]

use std::time::Instant;

use streamgate::model::{Labels, Matcher, Timestamp};
use streamgate::storage::{Samples, SeriesRef, Storage, StorageOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 10_000;
const STEP_MS: i64 = 15_000;

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    report();
    divan::main();
}

fn series_count() -> usize {
    std::env::var("SERIES").ok().and_then(|s| s.parse().ok()).unwrap_or(100_000)
}

fn labels(i: usize) -> Labels {
    let (metric, instance) = (i % 1000, i / 1000);
    Labels::from_pairs([
        ("__name__", format!("node_something_metric_{metric}_total")),
        ("cluster", "production-eu".to_owned()),
        ("cpu", (metric % 16).to_string()),
        ("device", format!("dev{}", metric % 40)),
        ("instance", format!("host-{instance:05}.example.org:9100")),
        ("job", "node".to_owned()),
        ("mode", ["idle", "user", "system", "iowait"][metric % 4].to_owned()),
        ("pod", format!("node-exporter-{instance:x}")),
        ("region", ["a", "b", "c"][instance % 3].to_owned()),
        ("team", "platform".to_owned()),
    ])
}

fn value(i: usize, round: usize) -> f64 {
    // A fixed mixture of bits, so that every run sees the same data.
    let noise = (i * 31 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    match i % 6 {
        0 => (round * 150) as f64 + noise as f64,
        1 => (5000 + noise * 7) as f64 / 100.0,
        _ => (i % 1000) as f64,
    }
}

fn round(storage: &Storage, refs: &[SeriesRef], n: usize) {
    let ts: Timestamp = 1_700_000_000_000 + n as i64 * STEP_MS;
    for (b, batch) in refs.chunks(BATCH).enumerate() {
        let mut a = storage.appender();
        for (i, s) in batch.iter().enumerate() {
            a.append(*s, ts, value(b * BATCH + i, n)).expect("the series is there");
        }
        a.commit().expect("the directory can be written");
    }
}

/// Makes the series, each with a first sample, in batches as they come over the network.
fn create(storage: &Storage, n: usize) -> Vec<SeriesRef> {
    let mut refs = Vec::with_capacity(n);
    for from in (0..n).step_by(BATCH / 10) {
        let mut a = storage.appender();
        for i in from..n.min(from + BATCH / 10) {
            let s = a.series(&labels(i)).expect("no limit");
            a.append(s, 1_700_000_000_000, value(i, 0)).expect("the series is there");
            refs.push(s);
        }
        a.commit().expect("the directory can be written");
    }
    refs
}

/// User and system time of this process, to a hundredth of a second.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |field: usize| stat.split(' ').nth(field).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / 100.0
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn report() {
    let n = series_count();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let options = StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() };
    let storage = Storage::open(options.clone()).expect("an empty directory opens");
    let rss = rss_bytes();
    let measured = |what: &str, samples: usize, work: &mut dyn FnMut()| {
        let (cpu, wall) = (cpu_s(), Instant::now());
        work();
        let (cpu, wall) = (cpu_s() - cpu, wall.elapsed().as_secs_f64());
        let per_million = cpu / samples as f64 * 1e6;
        println!("{what:<28} {cpu:7.3} s CPU {wall:7.3} s wall {per_million:8.4} s CPU per 1M");
    };
    let mut refs = Vec::new();
    measured("make series, first sample", n, &mut || refs = create(&storage, n));
    println!("{:<28} {} B/series RSS", "", (rss_bytes() - rss) / n as u64);
    let rounds = 100;
    measured("append 100 rounds", n * rounds, &mut || (1..=rounds).for_each(|r| round(&storage, &refs, r)));
    let stats = storage.stats();
    println!(
        "{:<28} {} B/series RSS, WAL {:.2} B/sample",
        "",
        (rss_bytes() - rss) / n as u64,
        stats.wal_bytes as f64 / (n * (rounds + 1)) as f64
    );
    measured("append 380 more rounds", n * 380, &mut || (101..=480).for_each(|r| round(&storage, &refs, r)));
    let stats = storage.stats();
    println!(
        "{:<28} {} B/series RSS, {} of chunks, a full head",
        "",
        (rss_bytes() - rss) / n as u64,
        stats.head_bytes / n as u64
    );
    let m = storage.head_memory();
    for (part, bytes) in [
        ("table", m.table),
        ("lists", m.lists),
        ("texts", m.texts),
        ("postings", m.postings),
        ("slots", m.slots),
        ("open chunks", m.open_chunks),
        ("full chunks", m.full_chunks),
        ("pages", m.pages),
    ] {
        println!("{:<28} {:6.1} B/series {part}", "", bytes as f64 / n as f64);
    }
    let mut snapshots = Vec::new();
    let all = [Matcher::equal("job", "node")];
    measured("select all, head", n, &mut || snapshots = storage.reader().select(&all, i64::MIN, i64::MAX));
    let read = |snapshots: &[streamgate::storage::SeriesSnapshot]| {
        let mut out = Samples::default();
        for s in snapshots {
            out.clear();
            s.read(i64::MIN, i64::MAX, &mut out);
            divan::black_box(&out);
        }
    };
    measured("read all, head", n * 481, &mut || read(&snapshots));
    snapshots.clear();
    drop(storage);
    let mut opened = None;
    measured("replay", n * 481, &mut || {
        opened = Some(Storage::open(options.clone()).expect("it opens again"))
    });
    let storage = opened.expect("it was opened");
    measured("seal", n * 481, &mut || storage.seal_all().expect("the directory can be written"));
    let stats = storage.stats();
    println!("{:<28} {} B/sample in the block", "", stats.block_bytes as f64 / stats.block_samples as f64);
    measured("select all, block", n, &mut || snapshots = storage.reader().select(&all, i64::MIN, i64::MAX));
    measured("read all, block, first", n * 481, &mut || read(&snapshots));
    measured("read all, block, again", n * 481, &mut || read(&snapshots));
}

fn bench_batch(bencher: divan::Bencher<'_, '_>, options: StorageOptions) {
    let storage = Storage::open(options).expect("an empty directory opens");
    let refs = create(&storage, BATCH);
    let mut n = 0;
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(|| {
        n += 1;
        round(&storage, &refs, n);
    });
}

#[divan::bench]
fn batch_in_memory(bencher: divan::Bencher<'_, '_>) {
    bench_batch(bencher, StorageOptions::default());
}

#[divan::bench]
fn batch_with_wal(bencher: divan::Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    bench_batch(bencher, StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() });
}
