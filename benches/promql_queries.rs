//! Queries over 5,000 series of 24 h and over 100,000 series of 1 h, at 15 s, in memory, without HTTP:
//! `cargo bench --bench promql_queries`, or with `few` or `many` behind it for one of them.
//!
//! Data: counters that grow by a seeded pseudo-random amount, in 20 groups, and classic histograms of 8 buckets, half of
//! each. The figures stand in `docs/benchmarks.md`. 24 h of 100,000 series would take minutes to write; the `query` bench of the project's harness has such data.

#![allow(clippy::unwrap_used)] // A bench stops at what it cannot do.

use std::sync::OnceLock;

use divan::Bencher;
use streamgate::clock::Clock;
use streamgate::model::Labels;
use streamgate::promql::{Engine, EngineOptions, QueryRequest, parse};
use streamgate::storage::{Storage, StorageOptions};

/// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;

fn main() {
    divan::main();
}

fn fill(series: usize, end: i64) -> Storage {
    let options =
        StorageOptions { retention_ms: i64::MAX / 4, window_ms: i64::MAX / 4, ..StorageOptions::default() };
    let storage = Storage::open(options).unwrap();
    let buckets = ["0.1", "0.2", "0.5", "1", "2", "5", "10", "+Inf"];
    let labels: Vec<Labels> = (0..series)
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
    let mut values = vec![0.0; series];
    let mut seed = 1u64;
    for step in 0..=end / STEP {
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
}

fn query(bencher: Bencher<'_, '_>, query: &str, request: &QueryRequest, storage: &Storage) {
    let engine = Engine::new(EngineOptions::default(), Clock::system());
    let expr = parse(query).unwrap();
    bencher.bench(|| engine.evaluate(query, &expr, request, &storage.reader()).unwrap());
}

mod few {
    use super::*;

    const END: i64 = 24 * HOUR;

    fn storage() -> &'static Storage {
        static STORAGE: OnceLock<Storage> = OnceLock::new();
        STORAGE.get_or_init(|| fill(5_000, END))
    }

    const QUERIES: &[&str] = &[
        "x_total{instance=\"10\"}",
        "x_total",
        "sum(x_total)",
        "sum by (group) (rate(x_total[5m]))",
        "histogram_quantile(0.99, sum by (le, job) (rate(h_bucket[5m])))",
        "topk(5, rate(x_total[5m]))",
        "rate(x_total[5m]) / on (instance) x_total",
        "x_total * on (group) group_left () count by (group) (x_total)",
        "quantile_over_time(0.9, x_total[1h])",
        "max_over_time(x_total[1h])",
        "predict_linear(x_total[1h], 3600)",
        "max_over_time(sum(rate(x_total[5m]))[30m:1m])",
        "x_total{instance=~\"1.*\"} * 2 > 10",
        "count_values(\"v\", x_total > bool 100)",
        "label_replace(x_total, \"x\", \"$1\", \"instance\", \"(.).*\")",
    ];

    #[divan::bench(args = QUERIES, sample_count = 10)]
    fn instant(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::instant(END), storage());
    }

    #[divan::bench(args = QUERIES, sample_count = 3)]
    fn an_hour_by_15_s(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::range(END - HOUR, END, STEP), storage());
    }

    #[divan::bench(args = QUERIES, sample_count = 3)]
    fn a_day_by_5_min(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::range(0, END, 300_000), storage());
    }

    /// Selectors that occur twice. Each stands beside a twin whose second selector says the same in another way, so that
    /// nothing is shared: the ratio of the two is what sharing brings.
    const REPEATED: &[&str] = &[
        "sum(rate(x_total[5m])) / sum(rate(x_total[5m]))",
        "sum(rate(x_total[5m])) / sum(rate({__name__=\"x_total\",group!=\"\"}[5m]))",
        "sum(max_over_time(x_total[1h])) - sum(min_over_time(x_total[1h]))",
        "sum(max_over_time(x_total[1h])) - sum(min_over_time({__name__=\"x_total\",group!=\"\"}[1h]))",
        "count(x_total > bool 1) + count(x_total < 5)",
        "count(x_total > bool 1) + count({__name__=\"x_total\",group!=\"\"} < 5)",
        "sum(rate(x_total[5m])) / sum(rate(x_total[5m] offset 1m))",
        "sum(rate(x_total[5m])) / sum(rate({__name__=\"x_total\",group!=\"\"}[5m] offset 1m))",
        "sum(rate(x_total[5m])) / sum(rate(x_total[1h]))",
        "sum(rate(x_total[5m])) / sum(rate({__name__=\"x_total\",group!=\"\"}[1h]))",
    ];

    #[divan::bench(args = REPEATED, sample_count = 20)]
    fn repeated_instant(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::instant(END), storage());
    }

    #[divan::bench(args = REPEATED, sample_count = 7)]
    fn repeated_hour_by_15_s(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::range(END - HOUR, END, STEP), storage());
    }

    #[divan::bench(args = REPEATED, sample_count = 3)]
    fn repeated_day_by_5_min(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::range(0, END, 300_000), storage());
    }

    #[divan::bench(args = ["max_over_time(x_total[1d])", "increase(x_total[1d])"], sample_count = 3)]
    fn a_day_at_once(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::instant(END), storage());
    }
}

mod many {
    use super::*;

    const END: i64 = HOUR;

    fn storage() -> &'static Storage {
        static STORAGE: OnceLock<Storage> = OnceLock::new();
        STORAGE.get_or_init(|| fill(100_000, END))
    }

    const QUERIES: &[&str] = &[
        "sum(x_total)",
        "sum by (group) (rate(x_total[5m]))",
        "histogram_quantile(0.99, sum by (le, job) (rate(h_bucket[5m])))",
        "topk(5, rate(x_total[5m]))",
        "sort_desc(sum by (instance) (x_total))",
        "sum(x_total{instance=~\"1.*5\",group!~\"1.\"})",
        "rate(x_total[5m]) / on (instance) x_total",
    ];

    #[divan::bench(args = QUERIES, sample_count = 5)]
    fn instant(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::instant(END), storage());
    }

    #[divan::bench(args = QUERIES, sample_count = 3)]
    fn ten_minutes_by_15_s(bencher: Bencher<'_, '_>, q: &str) {
        query(bencher, q, &QueryRequest::range(END - 600_000, END, STEP), storage());
    }
}
