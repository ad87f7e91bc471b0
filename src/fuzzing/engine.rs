//! PromQL's evaluation: whatever the parser accepts has an answer or an error, within the limits.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::model::{CounterResetHint, FloatHistogram, Labels, MatchOp, Matcher, Span, stale_marker};
use crate::promql::{
    Engine, EngineOptions, Features, QueryError, QueryLimits, QueryRequest, Value, parse_selector, parse_with,
};
use crate::storage::{Reader, Storage, StorageOptions};

/// Few, so that an input costs little whatever it asks for.
const SAMPLES_MAX: u64 = 20_000;
const STEP_MS: i64 = 15_000;
const STEPS: i64 = 80;

/// An expression, asked at once and over a range, and at the ends of time.
pub fn answers(input: &[u8]) {
    static READER: LazyLock<Reader> = LazyLock::new(store);
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > 1024 {
        return;
    }
    let middle = STEPS * STEP_MS / 2;
    let requests = [
        QueryRequest::instant(middle),
        QueryRequest::range(middle - 300_000, middle + 300_000, 61_001),
        QueryRequest::instant(i64::MIN),
        QueryRequest::instant(i64::MAX),
    ];
    for (i, request) in requests.iter().enumerate() {
        let features = Features { delayed_name_removal: i != 1, ..Features::all() };
        let Ok(expr) = parse_with(text, features) else { return };
        let limits = QueryLimits {
            timeout: Duration::from_secs(60),
            max_samples: SAMPLES_MAX,
            ..QueryLimits::default()
        };
        let options = EngineOptions { features, limits, ..EngineOptions::default() };
        let engine = Engine::new(options, Clock::system());
        match engine.evaluate(text, &expr, request, &READER) {
            Ok(result) => {
                assert!(result.stats.peak_samples <= SAMPLES_MAX, "{text}: {:?}", result.stats);
                check_shape(text, &result.value, request);
            }
            Err(e) => assert!(!matches!(e, QueryError::Timeout | QueryError::Cancelled), "{text}: {e}"),
        }
    }
}

/// Times are those that were asked for, and ascend; no label set comes twice.
fn check_shape(text: &str, value: &Value, request: &QueryRequest) {
    let mut labels: Vec<&Labels> = match value {
        Value::Scalar { .. } | Value::String { .. } => return,
        Value::Vector(v) => {
            assert!(v.iter().all(|s| s.ts == request.start), "{text}");
            v.iter().map(|s| &s.labels).collect()
        }
        Value::Matrix(m) => {
            for series in m {
                let times = series.floats.iter().map(|(t, _)| *t);
                assert!(times.is_sorted(), "{text}: {series:?}");
                assert!(series.histograms.iter().map(|(t, _)| *t).is_sorted(), "{text}: {series:?}");
            }
            m.iter().map(|s| &s.labels).collect()
        }
    };
    let all = labels.len();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), all, "{text} has a label set twice");
}

/// Floats, histograms of all kinds, staleness markers, start times, gaps, odd values.
fn store() -> Reader {
    let options =
        StorageOptions { retention_ms: i64::MAX / 4, window_ms: i64::MAX / 4, ..StorageOptions::default() };
    let storage = Storage::open(options).expect("a storage in memory opens");
    let mut appender = storage.appender();
    let kinds =
        ["counter", "gauge", "special", "latency_bucket", "exponential", "custom", "mixed", "target_info"];
    for (i, (name, instance)) in kinds.iter().flat_map(|k| ["0", "1"].map(|n| (*k, n))).enumerate() {
        let les: &[&str] = if name == "latency_bucket" { &["0.1", "1", "+Inf"] } else { &[""] };
        for (rank, le) in les.iter().enumerate() {
            let job = if i % 3 == 0 { "api" } else { "db" };
            let labels =
                Labels::from_pairs([("__name__", name), ("job", job), ("instance", instance), ("le", le)]);
            let series = appender.series(&labels).expect("the labels are valid");
            for step in 0..STEPS {
                let ts = step * STEP_MS + i as i64 * 211;
                let n = step as f64;
                if (step + i as i64) % 23 == 0 {
                    continue;
                }
                let value = match name {
                    _ if (step + i as i64) % 31 == 0 => stale_marker(),
                    "counter" => (step % 40) as f64 * 3.5,
                    "gauge" => (step * 37 % 101) as f64 - 50.0,
                    "special" => [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 5e-324, -1.5]
                        [step as usize % 8],
                    "latency_bucket" => n * (rank + 1) as f64,
                    _ => 1.0,
                };
                let as_histogram =
                    matches!(name, "exponential" | "custom") || (name == "mixed" && step % 5 < 2);
                let done = if as_histogram && value == 1.0 {
                    appender.append_histogram(series, ts, Arc::new(histogram(name == "custom", step)))
                } else {
                    appender.append(series, ts, value)
                };
                done.expect("the samples are in order");
            }
        }
    }
    appender.commit().expect("memory takes the batch");
    storage.reader()
}

fn histogram(custom: bool, step: i64) -> FloatHistogram {
    let grown = (step % 50) as f64;
    let schema = if custom { -53 } else { [0, 1, 3, -2][step as usize / 20 % 4] };
    let odd = step % 29 == 7;
    FloatHistogram {
        counter_reset_hint: [CounterResetHint::Unknown, CounterResetHint::Gauge][usize::from(step % 17 == 3)],
        schema,
        zero_threshold: if custom { 0.0 } else { 0.001 },
        zero_count: if custom { 0.0 } else { grown },
        count: grown * if custom { 3.0 } else { 6.0 },
        sum: if odd { f64::NAN } else { grown * 2.5 },
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![grown, grown * 2.0],
        negative_spans: if custom { Vec::new() } else { vec![Span { offset: -1, length: 2 }] },
        negative_buckets: if custom { Vec::new() } else { vec![grown, grown] },
        custom_values: match (custom, step / 30 % 2) {
            (false, _) => Vec::new(),
            (true, 0) => vec![1.0, 5.0, 10.0],
            (true, _) => vec![1.0, 10.0, 100.0],
        },
    }
}

/// The index selects the series that the matchers match, one by one.
pub fn index(input: &[u8]) {
    static SERIES: LazyLock<(Vec<Labels>, Reader)> = LazyLock::new(|| {
        let reader = store();
        let every = Matcher::new(MatchOp::NotEqual, "__name__", "").expect("no pattern to be wrong");
        let all = reader.select(&[every], i64::MIN, i64::MAX);
        (all.iter().map(|s| s.labels().clone()).collect(), reader)
    });
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > 512 {
        return;
    }
    let Ok(matchers) = parse_selector(text) else { return };
    let (all, reader) = &*SERIES;
    let mut selected: Vec<Labels> =
        reader.select(&matchers, i64::MIN, i64::MAX).iter().map(|s| s.labels().clone()).collect();
    let matching = |l: &&Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
    let mut wanted: Vec<Labels> = all.iter().filter(matching).cloned().collect();
    selected.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(selected, wanted, "{text}");
}
