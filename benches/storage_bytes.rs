//! What a sample takes on the disk, by kind of data, and how fast sealed blocks and the head give columns back.
//!
//! Data: 500 series of each kind, 480 samples 15 s apart, seeds fixed: constants, counters, gauges with one and three
//! decimals, random walks, pages of memory, classic histogram buckets, full mantissas, random bits; and `node`, a mixture of
//! these like a node exporter's (two thirds stand still). `NODE_TEXTS=DIR` adds `node_exporter`: the exposition texts of one
//! target, files `DIR/MILLISECONDS.txt` as they were scraped.
//!
//! First comes a table: bytes per sample of values and timestamps, and with the index of a block that holds only these
//! series; then millions of samples a second, one core, from the block for the first time (checksums are verified), again,
//! from the head, and from the head after a restart, which has put full chunks away as they were when they were open.
//!
//! `cargo bench --profile fast --bench storage_bytes`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use streamgate::exposition::{Entry, Format, Parser};
use streamgate::model::{Labels, MatchOp, Matcher, Timestamp};
use streamgate::storage::{Samples, SeriesSnapshot, Storage, StorageOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERIES: u64 = 500;
const SAMPLES: i64 = 480;
/// The start of a window.
const START: Timestamp = 1_700_006_400_000;

type Columns = Vec<(Labels, Vec<(Timestamp, f64)>)>;

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    println!(
        "{:<16} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
        "", "values", "all", "first", "again", "head", "restart"
    );
    println!("{:<16} {:>15} {:>35}", "", "B/sample", "M samples/s");
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        report(name, &columns(name, |i| (kind, i)));
    }
    report("node", &columns("node", |i| NODE[i as usize % NODE.len()]));
    if let Some(dir) = std::env::var_os("NODE_TEXTS") {
        report("node_exporter", &node_exporter(Path::new(&dir)));
    }
}

/// A fixed stream of bits.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
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
    let mut step = || {
        at += (random() % width) as i64 + drift;
        value(at)
    };
    (0..SAMPLES).map(|_| step()).collect()
}

type Make = fn(u64) -> Vec<f64>;

const KINDS: [(&str, Make); 10] = [
    ("constant", |seed| vec![seed as f64 / 7.0; SAMPLES as usize]),
    ("counter", |seed| walk(seed, 1000, 16, 0, |i| i as f64)),
    ("slow counter", |seed| {
        let mut random = random(seed);
        walk(seed, 1000, 2, 0, |i| i as f64)
            .iter()
            .scan(0.0, |n, _| {
                *n += f64::from(u8::from(random().is_multiple_of(20)));
                Some(*n)
            })
            .collect()
    }),
    ("cpu seconds", |seed| walk(seed, 100_000, 300, 1200, |i| i as f64 / 100.0)),
    ("gauge, 1 decimal", |seed| walk(seed, 500, 21, -10, |i| i as f64 / 10.0)),
    ("walk, 3 decimals", |seed| walk(seed, 500_000, 201, -100, |i| i as f64 / 1000.0)),
    ("memory pages", |seed| walk(seed, 1 << 20, 2001, -1000, |i| (i * 4096) as f64)),
    ("histogram bucket", |seed| walk(seed, 0, 1 + 40 * (1 + seed % 12), 0, |i| i as f64)),
    ("full mantissa", |seed| walk(seed, 1 << 20, 2001, -1000, |i| (i as f64).sqrt())),
    ("random bits", |seed| {
        let mut random = random(seed);
        (0..SAMPLES).map(|_| f64::from_bits(random() >> 2)).collect()
    }),
];

/// Kinds of 24 neighbours, with a seed each.
const NODE: [(usize, u64); 24] = [
    (0, 0),
    (0, 1),
    (0, 2),
    (3, 3),
    (0, 4),
    (0, 5),
    (2, 6),
    (0, 7),
    (0, 8),
    (1, 9),
    (0, 10),
    (0, 11),
    (3, 12),
    (0, 13),
    (0, 14),
    (6, 15),
    (0, 16),
    (0, 17),
    (4, 18),
    (0, 19),
    (2, 20),
    (0, 21),
    (0, 22),
    (5, 23),
];

fn labels(name: &str, i: u64) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("node_something_{}_total", i % 100)),
        ("cluster", "production-eu".to_owned()),
        ("device", format!("dev{}", i % 40)),
        ("instance", format!("host-{:05}.example.org:9100", i / 100)),
        ("job", name.to_owned()),
        ("mode", ["idle", "user", "system", "iowait"][i as usize % 4].to_owned()),
        ("region", ["a", "b", "c"][(i / 100) as usize % 3].to_owned()),
    ])
}

fn columns(name: &str, kind: impl Fn(u64) -> (usize, u64)) -> Columns {
    let series = (0..SERIES).map(|i| {
        let (kind, seed) = kind(i);
        let values = KINDS[kind].1(seed + i);
        let times = (0..SAMPLES).map(|t| START + t * 15_000);
        (labels(name, i), times.zip(values).collect())
    });
    series.collect()
}

/// Recorded scrapes of one target, as if they had been made every 15 s.
fn node_exporter(dir: &Path) -> Columns {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut series: BTreeMap<String, Vec<(Timestamp, f64)>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (i, file) in files.iter().take(SAMPLES as usize).enumerate() {
        let text = std::fs::read(file).unwrap();
        let mut parser = Parser::new(Format::Text, &text);
        while let Some(entry) = parser.next().unwrap() {
            if let Entry::Sample(sample) = entry {
                let labels = Labels::from_pairs(parser.labels());
                let key = labels.to_string();
                series.entry(key.clone()).or_default().push((START + i as i64 * 15_000, sample.value));
                names.entry(key).or_insert(labels);
            }
        }
    }
    series.into_iter().map(|(key, samples)| (names[&key].with("instance", "host:9100"), samples)).collect()
}

fn read(series: &[SeriesSnapshot]) -> (usize, f64) {
    let begin = Instant::now();
    let (mut out, mut samples) = (Samples::default(), 0);
    for s in series {
        out.clear();
        s.read(i64::MIN, i64::MAX, &mut out);
        samples += divan::black_box(&out).ts.len();
    }
    (samples, samples as f64 / begin.elapsed().as_secs_f64() / 1e6)
}

fn report(name: &str, columns: &Columns) {
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() };
    let storage = Storage::open(options.clone()).unwrap();
    let rounds = columns.iter().map(|(_, s)| s.len()).max().unwrap_or(0);
    let refs: Vec<_> = {
        let mut a = storage.appender();
        let refs = columns.iter().map(|(labels, _)| a.series(labels).unwrap()).collect();
        a.commit().unwrap();
        refs
    };
    let mut at = vec![0; columns.len()];
    for round in 0..rounds {
        let ts = START + round as i64 * 15_000;
        let mut a = storage.appender();
        for (i, (_, samples)) in columns.iter().enumerate() {
            if let Some((t, v)) = samples.get(at[i])
                && *t == ts
            {
                a.append(refs[i], *t, *v).unwrap();
                at[i] += 1;
            }
        }
        a.commit().unwrap();
    }
    let all = [Matcher::new(MatchOp::NotEqual, "__name__", "").unwrap()];
    let best = |storage: &Storage, n: usize| {
        let series = storage.reader().select(&all, i64::MIN, i64::MAX);
        (0..n).map(|_| read(&series)).fold((0, 0.0), |(_, b), (samples, m)| (samples, f64::max(b, m)))
    };
    let (samples, head) = best(&storage, 5);
    drop(storage);
    let storage = Storage::open(options).unwrap();
    let (replayed, restart) = best(&storage, 5);
    storage.seal_all().unwrap();
    let (_, first) = best(&storage, 1);
    let (sealed, again) = best(&storage, 5);
    assert_eq!((samples, samples), (replayed, sealed), "every sample comes back");
    let blocks = storage.block_stats();
    let bytes: u64 = blocks.iter().map(|b| b.bytes).sum();
    let data: u64 = blocks.iter().map(|b| b.data_bytes).sum();
    let per_sample = |bytes: u64| bytes as f64 / samples as f64;
    println!(
        "{name:<16} {:>7.3} {:>7.3} {first:>8.0} {again:>8.0} {head:>8.0} {restart:>8.0}",
        per_sample(data),
        per_sample(bytes)
    );
}
