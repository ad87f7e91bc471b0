//! Histograms that no client sends.

use std::sync::Arc;

use streamgate::clock::Clock;
use streamgate::promql::{Engine, EngineOptions, Features, QueryRequest, Value, parse_with};
use streamgate::storage::{Storage, StorageOptions};

use crate::data::{Random, START, floats};
use crate::generator::Generator;

/// Histograms of odd layouts, floats among them, values that no client sends: whatever the parser accepts gives an
/// answer or an error.
#[test]
fn random_expressions_never_panic() {
    let cases = if std::env::var_os("STREAMGATE_PROMETHEUS").is_some() { 20_000 } else { 2_000 };
    let mut random = Random(0xfeed_beef_1234_5677);
    let storage = Storage::open(StorageOptions {
        retention_ms: i64::MAX / 4,
        window_ms: i64::MAX / 4,
        ..StorageOptions::default()
    })
    .unwrap();
    let mut appender = storage.appender();
    for (labels, samples) in floats() {
        let series = appender.series(&labels).unwrap();
        let histograms = random.below(3);
        let custom = random.chance(30);
        for (ts, v) in samples.iter().step_by(4) {
            if histograms == 0 || (histograms == 1 && random.chance(50)) {
                appender.append(series, *ts, *v).unwrap();
            } else {
                let h = odd_histogram(&mut random, custom);
                appender.append_histogram(series, *ts, Arc::new(h)).unwrap();
            }
        }
    }
    appender.commit().unwrap();
    let options = EngineOptions { features: Features::all(), ..EngineOptions::default() };
    let engines = [true, false].map(|delayed| {
        let features = Features { delayed_name_removal: delayed, ..Features::all() };
        Engine::new(EngineOptions { features, ..options.clone() }, Clock::system())
    });
    let mut generator = Generator(Random(0x1357_9bdf_0246_8ace));
    let mut answered = 0;
    for i in 0..cases {
        let mut query = generator.any();
        match generator.0.below(8) {
            0 => query = format!("histogram_quantile({}, {query})", generator.number()),
            1 => {
                query = format!("histogram_fraction({}, {}, {query})", generator.number(), generator.number())
            }
            2 => query = format!("({query}) </ {}", generator.number()),
            3 => query = format!("({query}) >/ {}", generator.number()),
            4 => query = format!("histogram_quantiles({query}, \"q\", {}, 0.5)", generator.number()),
            5 => {
                let f = generator.0.pick(&["rate", "increase", "delta"]);
                let mode = generator.0.pick(&["anchored", "smoothed"]);
                query = format!("{f}({}[5m] {mode})", generator.any_selector());
            }
            6 => query = format!("histogram_count(info({query}))"),
            _ => {}
        }
        let at = START + 1_800_000 + generator.0.below(4_000_000) as i64;
        let request = match generator.0.below(4) {
            0 => QueryRequest::range(at, at + 1_200_000, 60_000),
            1 => QueryRequest::instant([i64::MIN, i64::MAX, 0, -1][generator.0.below(4)]),
            _ => QueryRequest::instant(at),
        };
        answered += usize::from(has_result(&engines[i % 2], &storage, &query, &request));
    }
    println!("\n{answered} of {cases} random expressions have a result");
    assert!(answered * 8 > cases);
}

fn has_result(engine: &Engine, storage: &Storage, query: &str, request: &QueryRequest) -> bool {
    let Ok(expr) = parse_with(query, engine.options().features) else { return false };
    match engine.evaluate(query, &expr, request, &storage.reader()).map(|r| r.value) {
        Ok(Value::Vector(v)) => !v.is_empty(),
        Ok(Value::Matrix(m)) => !m.is_empty(),
        Ok(Value::Scalar { .. } | Value::String { .. }) => true,
        Err(_) => false,
    }
}

fn odd_histogram(random: &mut Random, custom: bool) -> streamgate::model::FloatHistogram {
    use streamgate::model::{CounterResetHint, FloatHistogram, Span};
    let mut layout = |first: usize| -> (Vec<Span>, Vec<f64>) {
        let spans: Vec<Span> = (0..random.below(4))
            .map(|i| Span {
                offset: if i == 0 {
                    first as i32 - if custom { 0 } else { 3 }
                } else {
                    random.below(3) as i32
                },
                length: random.below(4) as u32,
            })
            .collect();
        let total = spans.iter().map(|s| s.length as usize).sum::<usize>();
        let mut count = || {
            [0.0, 1.0, 3.0, 7.5, f64::NAN, f64::INFINITY, -2.0][random.below(if total > 6 { 7 } else { 4 })]
        };
        let buckets = (0..total).map(|_| count()).collect();
        (spans, buckets)
    };
    let (positive_spans, positive_buckets) = layout(0);
    let (negative_spans, negative_buckets) = if custom { (Vec::new(), Vec::new()) } else { layout(1) };
    let schema = if custom { -53 } else { [0, 1, 3, 8, -4, -2][random.below(6)] };
    FloatHistogram {
        counter_reset_hint: [
            CounterResetHint::Unknown,
            CounterResetHint::Unknown,
            CounterResetHint::Reset,
            CounterResetHint::NotReset,
            CounterResetHint::Gauge,
        ][random.below(5)],
        schema,
        zero_threshold: if custom { 0.0 } else { [0.0, 0.001, 0.5, 3.0][random.below(4)] },
        zero_count: if custom { 0.0 } else { random.below(3) as f64 },
        count: random.below(50) as f64,
        sum: [1.0, -5.0, 100.0, f64::NAN, f64::INFINITY][random.below(5)],
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values: if custom {
            [vec![1.0, 5.0], vec![], vec![-2.0, 0.0, 3.0]][random.below(3)].clone()
        } else {
            Vec::new()
        },
    }
}
