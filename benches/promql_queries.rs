//! Queries over 2,000 series, 6 h at 15 s, in memory: `cargo bench --bench promql_queries`.
//!
//! Data: counters that grow by a seeded pseudo-random amount, in 20 groups, and classic histograms of 8 buckets.

#![allow(clippy::unwrap_used)] // A bench stops at what it cannot do.

use std::sync::OnceLock;

use streamgate::clock::Clock;
use streamgate::model::Labels;
use streamgate::promql::{Engine, EngineOptions, QueryRequest, parse};
use streamgate::storage::{Storage, StorageOptions};

const SERIES: usize = 2000;
const STEP: i64 = 15_000;
const END: i64 = 6 * 3_600_000;

fn main() {
    divan::main();
}

fn storage() -> &'static Storage {
    static STORAGE: OnceLock<Storage> = OnceLock::new();
    STORAGE.get_or_init(|| {
        let options = StorageOptions {
            retention_ms: i64::MAX / 4,
            window_ms: i64::MAX / 4,
            ..StorageOptions::default()
        };
        let storage = Storage::open(options).unwrap();
        let buckets = ["0.1", "0.2", "0.5", "1", "2", "5", "10", "+Inf"];
        let labels: Vec<Labels> = (0..SERIES)
            .map(|i| {
                let (group, instance) = ((i % 20).to_string(), i.to_string());
                if i % 2 == 0 {
                    Labels::from_pairs([("__name__", "x_total"), ("group", &group), ("instance", &instance)])
                } else {
                    let (le, instance) = (buckets[i / 2 % 8], (i / 16).to_string());
                    Labels::from_pairs([
                        ("__name__", "h_bucket"),
                        ("job", "a"),
                        ("instance", &instance),
                        ("le", le),
                    ])
                }
            })
            .collect();
        let mut values = vec![0.0; SERIES];
        let mut seed = 1u64;
        for step in 0..=END / STEP {
            let mut appender = storage.appender();
            for (labels, value) in labels.iter().zip(&mut values) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *value += (seed >> 60) as f64;
                let series = appender.series(labels).unwrap();
                appender.append(series, step * STEP, *value).unwrap();
            }
            appender.commit().unwrap();
        }
        storage
    })
}

const QUERIES: &[&str] = &[
    "x_total",
    "sum(x_total)",
    "sum by (group) (rate(x_total[5m]))",
    "histogram_quantile(0.99, sum by (le, job) (rate(h_bucket[5m])))",
    "topk(5, rate(x_total[5m]))",
    "rate(x_total[5m]) / on (instance) x_total",
    "quantile_over_time(0.9, x_total[30m])",
    "max_over_time(x_total[1h])",
    "sum_over_time(x_total[30m])",
    "max_over_time(sum(rate(x_total[5m]))[30m:1m])",
    "x_total{instance=~\"1.*\"} * 2 > 10",
    "count_values(\"v\", x_total > bool 100)",
];

fn query(bencher: divan::Bencher<'_, '_>, query: &str, request: &QueryRequest) {
    let (storage, engine) = (storage(), Engine::new(EngineOptions::default(), Clock::system()));
    let expr = parse(query).unwrap();
    bencher.bench(|| engine.evaluate(query, &expr, request, &storage.reader()).unwrap());
}

#[divan::bench(args = QUERIES, sample_count = 10)]
fn instant(bencher: divan::Bencher<'_, '_>, q: &str) {
    query(bencher, q, &QueryRequest::instant(END));
}

/// 5 h at a step of one minute.
#[divan::bench(args = QUERIES, sample_count = 3)]
fn range(bencher: divan::Bencher<'_, '_>, q: &str) {
    query(bencher, q, &QueryRequest::range(3_600_000, END, 60_000));
}
