//! A day in which a tenth of the series is replaced every five minutes: memory and disk follow what the ring holds.
//!
//! Data: 20,000 series (or `SERIES=…`) of pods with 20 series each, ten labels a series, a sample a minute; a tenth of the pods
//! is replaced every five minutes. Windows of two hours, six hours of retention (`RETENTION_H=…`), `DAYS=1`. Upkeep and
//! patterns over the pods' names every minute, as a server and its dashboards have them. Prints a line for each simulated hour: series
//! that are sent; series, pairs and bytes of the head by its own account; bytes of what patterns selected; WAL; blocks; memory
//! of this process that is its own (`RssAnon`) and with mapped files (`VmRSS`).
//!
//! `cargo bench --profile fast --bench churn`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]

use streamgate::model::{Labels, MatchOp, Matcher};
use streamgate::storage::{AppendError, SeriesRef, Storage, StorageMetrics, StorageOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const POD_SERIES: usize = 20;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let (series, days) = (number("SERIES", 20_000), number("DAYS", 1));
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        retention_ms: number("RETENTION_H", 6) as i64 * HOUR_MS,
        ..StorageOptions::default()
    };
    let metrics = StorageMetrics::default();
    let storage = Storage::open_with(options, metrics.clone()).unwrap();
    println!(
        "{:>4} {:>7} {:>7} {:>7} {:>8} {:>9} {:>9} {:>6} {:>9} {:>8} {:>8}",
        "hour",
        "sent",
        "series",
        "pairs",
        "head MB",
        "select MB",
        "WAL MB",
        "blocks",
        "block MB",
        "anon MB",
        "RSS MB"
    );
    let mut pods = Pods { first: 0, refs: vec![None; series], sent: 0 };
    // Not from 0: windows are counted from there.
    let begin = 1000 * 24 * HOUR_MS;
    for minute in 0..days * 24 * 60 {
        let now = begin + minute as i64 * MINUTE_MS;
        if minute > 0 && minute % 5 == 0 {
            pods.replace(series / POD_SERIES / 10);
        }
        pods.sample(&storage, minute, now);
        storage.relieve(now);
        storage.maintain(now);
        look(&storage, minute, now);
        if minute % 60 == 59 {
            print(&storage, &metrics, minute / 60 + 1, &pods);
        }
    }
}

/// What is sent at the moment.
struct Pods {
    /// The number of the oldest pod.
    first: usize,
    refs: Vec<Option<SeriesRef>>,
    /// Series that were ever sent.
    sent: usize,
}

impl Pods {
    fn replace(&mut self, pods: usize) {
        self.first += pods;
        self.refs.rotate_left(pods * POD_SERIES);
        let from = self.refs.len() - pods * POD_SERIES;
        self.refs[from..].fill(None);
    }

    fn sample(&mut self, storage: &Storage, minute: usize, now: i64) {
        let mut a = storage.appender();
        for (i, known) in self.refs.iter_mut().enumerate() {
            let n = self.first * POD_SERIES + i;
            let value = ((minute * (n % 97)) as f64 / 10.0).floor();
            let result = known.map_or(Err(AppendError::UnknownSeries), |s| a.append(s, now, value));
            if result == Err(AppendError::UnknownSeries) {
                self.sent += 1;
                let series = a.series(&labels(n)).unwrap();
                a.append(series, now, value).unwrap();
                *known = Some(series);
            }
        }
        assert_eq!(a.commit().unwrap().refused(), 0);
    }
}

fn labels(n: usize) -> Labels {
    let (pod, metric) = (n / POD_SERIES, n % POD_SERIES);
    Labels::from_pairs([
        ("__name__", format!("container_metric_{metric}_total")),
        ("cluster", "production-eu".to_owned()),
        ("container", format!("app-{}", pod % 40)),
        ("image", format!("registry/app-{}:1.{}", pod % 40, pod / 2000)),
        ("instance", format!("10.{}.{}.{}:9100", pod >> 16 & 255, pod >> 8 & 255, pod & 255)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", pod % 12)),
        ("node", format!("node-{}", pod % 50)),
        ("pod", format!("app-{}-{:010x}", pod % 40, pod.wrapping_mul(0x9e37_79b9))),
        ("uid", format!("{:016x}", (pod as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))),
    ])
}

/// Some patterns, new ones each hour.
fn look(storage: &Storage, minute: usize, now: i64) {
    for digit in 0..4 {
        let pattern = format!("app-.*{:x}{digit}.*", minute / 60 % 16);
        let matchers = [Matcher::new(MatchOp::Regex, "pod", &pattern).unwrap()];
        let selected = storage.reader().label_values("pod", &matchers, now - 3 * HOUR_MS, now);
        std::hint::black_box(selected);
    }
}

fn print(storage: &Storage, metrics: &StorageMetrics, hour: usize, pods: &Pods) {
    let stats = storage.stats();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{hour:>4} {:>7} {:>7} {:>7} {:>8.1} {:>9.2} {:>9.1} {:>6} {:>9.1} {:>8.1} {:>8.1}",
        pods.sent,
        stats.series,
        stats.label_pairs,
        mb(stats.memory_bytes),
        mb(metrics.select_cache_bytes.get()),
        mb(stats.wal_bytes),
        stats.blocks,
        mb(stats.block_bytes),
        mb(resident("RssAnon")),
        mb(resident("VmRSS")),
    );
}

/// Bytes of this process; 0 where the system does not tell.
fn resident(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(what)?.strip_prefix(':'));
    line.and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
