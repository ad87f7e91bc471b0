//! Limits, cancellation, threads: what the scripts of Prometheus do not test.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Clock;
use crate::model::Labels;
use crate::promql::{
    Engine, EngineOptions, Features, PointValue, QueryError, QueryLimits, QueryRequest, QueryResult,
    StepSamples, Value, parse_with,
};
use crate::storage::{Storage, StorageOptions};

pub(super) fn storage(series: usize, samples: usize) -> Storage {
    let options =
        StorageOptions { retention_ms: i64::MAX / 4, window_ms: i64::MAX / 4, ..StorageOptions::default() };
    let storage = Storage::open(options).unwrap();
    let mut appender = storage.appender();
    for i in 0..series {
        let (group, n) = ((i % 7).to_string(), i.to_string());
        let labels = Labels::from_pairs([("__name__", "x_total"), ("group", &group), ("n", &n)]);
        let series = appender.series(&labels).unwrap();
        for s in 0..samples {
            appender.append(series, s as i64 * 15_000, (i * s % 101) as f64).unwrap();
        }
    }
    appender.commit().unwrap();
    storage
}

pub(super) fn engine(limits: QueryLimits) -> Engine {
    let options = EngineOptions { features: Features::all(), limits, ..EngineOptions::default() };
    Engine::new(options, Clock::system())
}

fn run(
    query: &str,
    request: &QueryRequest,
    limits: QueryLimits,
    storage: &Storage,
) -> Result<QueryResult, QueryError> {
    let engine = engine(limits);
    let expr = parse_with(query, engine.options().features).unwrap();
    engine.evaluate(query, &expr, request, &storage.reader())
}

fn limits(max_samples: u64) -> QueryLimits {
    QueryLimits { timeout: Duration::from_secs(60), max_samples, ..QueryLimits::default() }
}

#[test]
fn samples_are_limited() {
    let storage = storage(50, 100);
    let range = QueryRequest::range(0, 1_000_000, 15_000);
    let check = |query: &str, request: &QueryRequest, max: u64, fits: bool| {
        let got = run(query, request, limits(max), &storage);
        match got {
            Ok(r) => assert!(fits && r.stats.peak_samples <= max, "{query} with {max}: {:?}", r.stats),
            Err(e) => {
                assert!(!fits, "{query} with {max}: {e}");
                assert_eq!(e, QueryError::TooManySamples { limit: max });
            }
        }
    };
    check("x_total", &QueryRequest::instant(60_000), 50, true);
    check("x_total", &QueryRequest::instant(60_000), 49, false);
    check("x_total", &range, 50 * 67, true);
    check("x_total", &range, 50 * 67 - 1, false);
    // Grids that no memory could hold, in a query, a subquery, and one inside another.
    check("vector(1)", &QueryRequest::range(0, i64::MAX / 2, 1), 1000, false);
    check("sum_over_time(vector(1)[200y:1ms])", &QueryRequest::instant(0), 1000, false);
    check("sum_over_time((x_total)[200y:1ms])", &QueryRequest::instant(0), 1000, false);
    check("sum_over_time(sum_over_time(x_total[1d:1ms])[1d:1ms])", &QueryRequest::instant(0), 1000, false);
}

#[test]
fn memory_and_series_are_limited() {
    let storage = storage(50, 100);
    let range = QueryRequest::range(0, 1_000_000, 15_000);
    // 67 steps of 50 series take 9 bytes each, and some for each series; then 16 in the result.
    let (less, more) = (50 * 67 * 9, 50 * 67 * (9 + 16) + 50 * 1000);
    let with = |max_bytes| QueryLimits { max_bytes, ..QueryLimits::default() };
    let result = run("x_total", &range, with(more), &storage).unwrap();
    assert!((less..=more).contains(&result.stats.peak_bytes), "{:?}", result.stats);
    let error = run("x_total", &range, with(less), &storage).unwrap_err();
    assert_eq!(error, QueryError::TooMuchMemory { limit: less });
    assert!(error.to_string().contains("--query.max-memory"), "{error}");
    // Many queries together have a limit of their own; what an ended one held counts no more.
    let both = engine(QueryLimits { max_bytes_total: more, ..QueryLimits::default() });
    let expr = parse_with("x_total", both.options().features).unwrap();
    for _ in 0..3 {
        assert!(both.evaluate("x_total", &expr, &range, &storage.reader()).is_ok());
    }
    let both = engine(QueryLimits { max_bytes_total: less, ..QueryLimits::default() });
    let error = both.evaluate("x_total", &expr, &range, &storage.reader()).unwrap_err();
    assert_eq!(error, QueryError::TooMuchMemoryTogether { limit: less });
    // Nor does one that was refused, for whatever.
    for limits in [
        limits(100),
        with(less),
        QueryLimits { max_series: 49, ..limits(1_000_000) },
        QueryLimits { max_bytes_total: less, ..limits(1_000_000) },
    ] {
        let engine = engine(limits);
        for query in [
            "x_total",
            "2 * x_total",
            "x_total + x_total",
            "label_replace(x_total, \"a\", \"b\", \"\", \"\")",
        ] {
            let expr = parse_with(query, engine.options().features).unwrap();
            engine.evaluate(query, &expr, &range, &storage.reader()).unwrap_err();
            assert_eq!(engine.held_bytes(), 0, "{query}");
        }
    }
    let few = QueryLimits { max_series: 49, ..QueryLimits::default() };
    let error = run("x_total", &range, few, &storage).unwrap_err();
    assert_eq!(error, QueryError::TooManySeries { series: 50, limit: 49 });
    assert!(run("sum(x_total)", &range, few, &storage).is_ok());
}

/// Each sample has a value of its own: the result would have 3,350 series.
#[test]
fn values_past_the_limit_of_series_are_not_counted_to_the_end() {
    let storage = storage(50, 100);
    let query = r#"count_values("v", x_total + 1000 * timestamp(x_total))"#;
    let few = QueryLimits { max_series: 200, ..QueryLimits::default() };
    match run(query, &QueryRequest::range(0, 1_000_000, 15_000), few, &storage).unwrap_err() {
        QueryError::TooManySeries { series, limit: 200 } => assert!(series <= 250, "{series}"),
        other => panic!("{other}"),
    }
    // Within another operator they make no series of the result.
    let within = format!("count({query})");
    assert!(run(&within, &QueryRequest::range(0, 1_000_000, 15_000), few, &storage).is_ok());
}

#[test]
fn labels_that_are_made_count_as_memory() {
    let storage = storage(50, 100);
    let request = QueryRequest::instant(60_000);
    let max_bytes = 1_000_000;
    let limits = QueryLimits { max_bytes, ..limits(1000) };
    let long = "y".repeat(30_000);
    for query in [
        format!(r#"label_replace(x_total, "z", "{long}", "n", ".*")"#),
        format!(r#"label_join(x_total, "z", "{long}", "n", "n")"#),
        // The value is short, but the row has a long one beside it, which is copied.
        format!(
            r#"label_replace(label_replace(topk(20, x_total), "z", "{long}", "n", ".*"), "y", "1", "n", ".*")"#
        ),
    ] {
        let error = run(&query, &request, limits, &storage).unwrap_err();
        assert_eq!(error, QueryError::TooMuchMemory { limit: max_bytes }, "{query}");
    }
    // What could take seconds for one value is not begun.
    let slow = format!(
        r#"label_replace(label_replace(topk(1, x_total), "z", "{long}", "n", ".*"), "w", "$1", "z", "((y?){{0,300}}x?)*")"#
    );
    let error = run(&slow, &request, QueryLimits::default(), &storage).unwrap_err().to_string();
    assert!(error.contains("too large for a value of 30000 bytes"), "{error}");
}

#[test]
fn a_long_window_counts_while_it_is_loaded() {
    let storage = storage(1, 10_000);
    let query = "sum_over_time(x_total[10d])";
    let at = QueryRequest::instant(150_000_000);
    let most = |max_bytes: u64| QueryLimits { max_bytes, ..limits(50_000_000) };
    let result = run(query, &at, most(200_000), &storage).unwrap();
    assert!(result.stats.peak_bytes >= 160_000, "{:?}", result.stats);
    assert_eq!(
        run(query, &at, most(150_000), &storage).map(|_| ()),
        Err(QueryError::TooMuchMemory { limit: 150_000 })
    );
}

#[test]
fn a_result_counts_until_it_is_dropped() {
    let storage = storage(50, 100);
    let range = QueryRequest::range(0, 1_000_000, 15_000);
    let one = 50 * 67 * 16;
    let expr = crate::promql::parse("x_total").unwrap();
    let engine = engine(QueryLimits { max_bytes_total: 3 * one, ..QueryLimits::default() });
    let query = || engine.evaluate("x_total", &expr, &range, &storage.reader());
    let kept = query().unwrap();
    assert!((one..one + 50 * 300).contains(&engine.held_bytes()), "{}", engine.held_bytes());
    // A second one stands beside it, but a third finds no room.
    let second = query().unwrap();
    assert_eq!(engine.held_bytes(), kept.charge.bytes() + second.charge.bytes());
    let error = query().unwrap_err();
    assert_eq!(error, QueryError::TooMuchMemoryTogether { limit: 3 * one });
    assert!(error.to_string().contains("--query.max-memory-total"), "{error}");
    drop(kept);
    assert!(query().is_ok());
    drop(second);
    assert_eq!(engine.held_bytes(), 0);
}

#[test]
fn samples_are_counted_by_step_as_prometheus_does() {
    let storage = storage(5, 100);
    let range = QueryRequest { per_step: true, ..QueryRequest::range(60_000, 120_000, 30_000) };
    for (query, steps, read) in [
        ("x_total", [5, 5, 5], [5, 5, 5]),
        ("x_total + x_total", [10, 10, 10], [10, 10, 10]),
        // What the window before held was taken from storage for that one.
        ("sum(rate(x_total[1m]))", [20, 20, 20], [20, 10, 10]),
        ("sum(rate(x_total[1m] offset 15s))", [20, 20, 20], [20, 10, 10]),
        // What a subquery reads counts once its result is read; what is pinned counts at every step. From storage it
        // is taken for the first step that is not before the subquery's.
        ("max_over_time(x_total[1m:30s])", [10, 10, 10], [10, 5, 5]),
        ("max_over_time(sum(rate(x_total[1m]))[1m:30s])", [2, 2, 2], [25, 10, 10]),
        ("count_over_time(max_over_time(x_total[1m:15s])[1m:30s])", [10, 10, 10], [25, 10, 10]),
        ("x_total @ 60", [5, 5, 5], [5, 0, 0]),
        ("sum(rate(x_total[1m] @ 60)) + time()", [20, 20, 20], [20, 0, 0]),
        ("sum_over_time(rate(x_total[1m])[1m:30s] @ 120)", [10, 10, 10], [30, 0, 0]),
        ("time()", [0, 0, 0], [0, 0, 0]),
        ("absent_over_time(x_total[30s])", [10, 10, 10], [10, 10, 10]),
    ] {
        let result = run(query, &range, QueryLimits::default(), &storage).unwrap();
        let (got, stats) = (&result.samples_per_step, result.stats);
        assert_eq!(got.iter().map(|s| s.total).collect::<Vec<_>>(), steps, "{query}");
        assert_eq!(got.iter().map(|s| s.read).collect::<Vec<_>>(), read, "{query}");
        assert_eq!(
            (stats.total_samples, stats.samples_read),
            (steps.iter().sum(), read.iter().sum()),
            "{query}"
        );
        assert_eq!(got[1].ts, 90_000);
    }
    let instant = QueryRequest { per_step: true, ..QueryRequest::instant(60_000) };
    let result = run("x_total[1m]", &instant, QueryLimits::default(), &storage).unwrap();
    assert_eq!(
        (result.samples_per_step, result.stats.total_samples),
        (vec![StepSamples { ts: 60_000, total: 20, read: 20 }], 20)
    );
    assert!(
        run("x_total", &QueryRequest::instant(0), limits(100), &storage).unwrap().samples_per_step.is_empty()
    );
}

#[test]
fn samples_of_overlapping_windows_are_read_once() {
    let storage = storage(5, 100);
    let range = QueryRequest::range(60_000, 120_000, 30_000);
    for (query, total, read) in [
        ("x_total", 15, 15),
        ("rate(x_total[1m])", 60, 40),
        ("rate(x_total[15s])", 15, 15),
        ("rate(x_total[1m] @ 60)", 60, 20),
        ("max_over_time(x_total[1m:30s])", 30, 20),
        ("absent_over_time(x_total[1m])", 60, 40),
        ("time()", 0, 0),
    ] {
        let stats = run(query, &range, QueryLimits::default(), &storage).unwrap().stats;
        assert_eq!((stats.total_samples, stats.samples_read), (total, read), "{query}");
    }
}

#[test]
fn features_say_how_a_counter_is_known() {
    let storage = Storage::open(StorageOptions::default()).unwrap();
    let mut appender = storage.appender();
    for (name, kind) in [("a_total", "gauge"), ("b", "counter"), ("c_bucket", "histogram"), ("d_total", "")] {
        let labels = Labels::from_pairs([("__name__", name), ("__type__", kind), ("n", name)]);
        let series = appender.series(&labels).unwrap();
        for s in 0..4 {
            appender.append(series, s * 15_000, s as f64).unwrap();
        }
    }
    appender.commit().unwrap();
    let infos = |type_and_unit_labels: bool| {
        let features = Features { type_and_unit_labels, ..Features::default() };
        let engine = Engine::new(EngineOptions { features, ..EngineOptions::default() }, Clock::system());
        let query = "rate({__name__=~\".+\"}[1m])";
        let expr = parse_with(query, features).unwrap();
        let result = engine.evaluate(query, &expr, &QueryRequest::instant(45_000), &storage.reader());
        result.map(|r| r.annotations.infos).unwrap_or_else(|e| vec![e.to_string()])
    };
    let by_type = |got: &str, name: &str| {
        format!(
            "PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", \
             got \"{got}\": \"{name}\" (1:6)"
        )
    };
    assert_eq!(infos(true), [by_type("", "d_total"), by_type("gauge", "a_total")]);
    let by_name = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"b\" (1:6)";
    assert_eq!(infos(false), [by_name]);
}

#[test]
fn start_times_show_only_with_their_feature() {
    let storage = storage(5, 100);
    let rows = |use_start_timestamps: bool, query: &str| {
        let features = Features { use_start_timestamps, ..Features::all() };
        let engine = Engine::new(EngineOptions { features, ..EngineOptions::default() }, Clock::system());
        let expr = parse_with(query, features).unwrap();
        let request = QueryRequest::range(60_000, 120_000, 30_000);
        match engine.evaluate(query, &expr, &request, &storage.reader()).unwrap().value {
            Value::Matrix(rows) => rows.len(),
            other => panic!("{other:?}"),
        }
    };
    for query in ["start_timestamp(x_total)", "start_timestamp(x_total @ 60)", "start_timestamp((x_total))"] {
        assert_eq!((rows(false, query), rows(true, query)), (0, 5), "{query}");
    }
    assert_eq!(rows(true, "start_timestamp(-x_total)"), 0);
}

#[test]
fn a_profile_tells_what_each_part_cost() {
    let storage = storage(50, 100);
    let range = QueryRequest { profile: true, ..QueryRequest::range(60_000, 600_000, 60_000) };
    let query = "sum by (group) (rate(x_total[1m])) / (2 * count(x_total))";
    let profile = run(query, &range, QueryLimits::default(), &storage).unwrap().profile;
    let shown: Vec<_> =
        profile.iter().map(|n| (n.depth, n.operator.as_str(), n.series, n.samples, n.selected)).collect();
    assert_eq!(
        shown,
        [
            (0, "/", 0, 0, None),
            (1, "sum by (group)", 7, 70, None),
            (2, "rate", 50, 500, None),
            (3, "x_total[1m]", 50, 2000, Some((50, 2000))),
            (1, "*", 1, 10, None),
            (2, "2", 0, 0, None),
            (2, "count", 1, 10, None),
            (3, "x_total", 50, 500, Some((50, 500))),
        ]
    );
    assert!(profile.iter().all(|n| n.total >= n.own && n.evaluations == 1), "{profile:?}");
    let unasked = run(query, &QueryRequest::range(0, 1, 1), QueryLimits::default(), &storage).unwrap();
    assert!(unasked.profile.is_empty());
}

#[test]
fn labels_that_functions_make_are_bounded() {
    let storage = storage(10, 10);
    let at = QueryRequest::instant(60_000);
    let (long, refs) = ("y".repeat(60_000), "$1".repeat(40_000));
    let join = format!(r#"label_join(x_total, "z", "{long}", "n", "group")"#);
    assert!(run(&join, &at, limits(1_000_000), &storage).is_ok());
    // Ten values of 60,000 bytes are memory, and no samples.
    assert!(run(&join, &at, limits(100), &storage).is_ok());
    let error = run(&join, &at, QueryLimits { max_bytes: 500_000, ..limits(100) }, &storage).unwrap_err();
    assert_eq!(error, QueryError::TooMuchMemory { limit: 500_000 });
    for query in [
        format!(r#"label_join(x_total, "z", "{long}", "n", "n", "n")"#),
        format!(r#"label_replace(x_total, "z", "{refs}", "__name__", "(.*)")"#),
        format!(r#"label_replace(x_total, "z", "{long}{long}", "n", ".*")"#),
    ] {
        let error = run(&query, &at, limits(1_000_000), &storage).unwrap_err().to_string();
        assert!(error.ends_with("would make a label value of more than 65536 bytes"), "{error}");
    }
}

#[test]
fn ranges_below_a_millisecond_have_no_samples() {
    let storage = storage(3, 10);
    let at = QueryRequest::instant(60_000);
    let none = |query: &str| match run(query, &at, limits(1000), &storage).unwrap().value {
        Value::Matrix(m) => m.is_empty(),
        Value::Vector(v) => v.is_empty(),
        other => panic!("{query}: {other:?}"),
    };
    for range in ["0.0001", "0.0001:1s", "0.0002 * 2", "1ms / 3", "1ms / 3:7s"] {
        assert!(none(&format!("x_total[{range}]")), "{range}");
        for function in ["rate", "last_over_time", "deriv", "quantile_over_time"] {
            let q = if function == "quantile_over_time" { "0.5, " } else { "" };
            assert!(none(&format!("{function}({q}x_total[{range}])")), "{function} {range}");
        }
    }
    assert!(!none("x_total[0.001]"));
    for query in ["x_total[1m - 2m]", "x_total[1m - 1m]", "x_total[5m:0.0001]"] {
        let error = run(query, &at, limits(1000), &storage).unwrap_err().to_string();
        assert!(error.ends_with("duration must be greater than 0"), "{query}: {error}");
    }
}

#[test]
fn label_replace_reads_its_pattern_within_a_group() {
    let storage = storage(1, 10);
    let at = QueryRequest::instant(60_000);
    let replaced = |pattern: &str| {
        let query = format!(r#"label_replace(x_total, "z", "$0", "n", "{pattern}")"#);
        run(&query, &at, limits(1000), &storage).map(drop).map_err(|e| e.to_string())
    };
    assert!(replaced(r"\\Q0\\E").is_ok() && replaced(r"\\p{Number}|\\p{greek}").is_ok());
    let error = replaced(r"\\Q0").unwrap_err();
    assert!(error.ends_with(r"invalid regular expression in label_replace(): \Q0"), "{error}");
}

#[test]
fn a_cancelled_or_late_query_stops() {
    let storage = storage(10, 10);
    let request = QueryRequest::instant(60_000);
    request.cancelled.store(true, Ordering::Relaxed);
    assert_eq!(run("sum(x_total)", &request, limits(1000), &storage).unwrap_err(), QueryError::Cancelled);
    let request = QueryRequest { timeout: Some(Duration::ZERO), ..QueryRequest::instant(60_000) };
    assert_eq!(run("sum(x_total)", &request, limits(1000), &storage).unwrap_err(), QueryError::Timeout);
}

#[test]
fn values_that_occur_once_take_no_table() {
    let storage = storage(50, 100);
    let range = QueryRequest::range(0, 1_000_000, 15_000);
    // 3350 values, each at one of 67 steps: a table of them has 224,450 slots.
    let query = r#"count_values("v", x_total + 1000 * timestamp(x_total))"#;
    let little = QueryLimits { max_bytes: 1_500_000, ..QueryLimits::default() };
    let values = |result: QueryResult| match result.value {
        Value::Matrix(matrix) => matrix,
        other => panic!("{other:?}"),
    };
    let alone = values(run(query, &range, little, &storage).unwrap());
    assert!(alone.len() > 2000 && alone.is_sorted_by(|a, b| a.labels < b.labels), "{}", alone.len());
    assert_eq!(alone.iter().flat_map(|s| &s.floats).map(|p| p.1).sum::<f64>(), 50.0 * 67.0);
    // Below an operator it is the table, with the same in it.
    let below = format!("--({query})");
    let error = run(&below, &range, little, &storage).unwrap_err();
    assert_eq!(error, QueryError::TooMuchMemory { limit: 1_500_000 });
    assert_eq!(values(run(&below, &range, QueryLimits::default(), &storage).unwrap()), alone);
    for query in [
        r#"count_values("v", x_total % 3)"#,
        r#"count_values by (group) ("v", x_total % 3)"#,
        r#"count_values without (v, n) ("v", x_total % 3)"#,
        r#"(count_values("group", x_total / 0))"#,
    ] {
        let alone = values(run(query, &range, QueryLimits::default(), &storage).unwrap());
        let below = values(run(&format!("--({query})"), &range, QueryLimits::default(), &storage).unwrap());
        assert_eq!(format!("{alone:?}"), format!("{below:?}"), "{query}");
        assert!(!alone.is_empty());
    }
}

#[test]
fn long_subqueries_are_evaluated_in_parts() {
    // A sample each 15 s, so that the series of this time end, and others begin, within a part and between two.
    let storage = storage(6, 60);
    let instant = |query: &str| {
        let result = run(query, &QueryRequest::instant(885_000), limits(50_000_000), &storage).unwrap();
        let Value::Vector(vector) = result.value else { panic!("{query} is no vector") };
        let value = |v: &PointValue| match v {
            PointValue::Float(v) => *v,
            PointValue::Histogram(_) => f64::NAN,
        };
        vector.iter().map(|s| (s.labels.clone(), value(&s.value))).collect::<Vec<_>>()
    };
    for inner in [
        "x_total",
        "x_total > 30",
        "topk(1, x_total)",
        "sum by (group) (x_total)",
        "-x_total",
        "vector(time())",
        "x_total * on (group) group_left sum by (group) (x_total)",
        "label_replace(x_total > 50, \"a\", \"$1\", \"n\", \"(.*)\")",
        "max_over_time(x_total[1m])",
    ] {
        // Two parts as a whole, and less than one by parts of a minute.
        let whole = |function: &str| instant(&format!("{function}(({inner})[5m:1ms])"));
        for (function, combined) in
            [("count_over_time", "sum"), ("max_over_time", "max"), ("min_over_time", "min")]
        {
            let pieces: Vec<String> = (0..5)
                .map(|i| {
                    let part = format!("{function}(({inner})[1m:1ms] offset {i}m)");
                    format!("label_replace({part}, \"part\", \"{i}\", \"\", \"\")")
                })
                .collect();
            let pieces = instant(&format!("{combined} without (part) ({})", pieces.join(" or ")));
            let mut got = whole(function);
            let mut want = pieces;
            got.sort_by(|a, b| a.0.cmp(&b.0));
            want.sort_by(|a, b| a.0.cmp(&b.0));
            assert!(!got.is_empty(), "{inner}");
            assert_eq!(got, want, "{function} of {inner}");
        }
    }
    let all = "x_total{n=\"5\"}[5m:1ms]";
    for function in ["sum", "avg", "stddev", "mad"] {
        let query = |range: &str| instant(&format!("{function}_over_time({range})"))[0].1;
        // Each of the 20 values stands for 15,000 steps; of two scrapes the first one's share is that of the window's edge.
        let (long, short) = (query(all), query("x_total{n=\"5\"}[5m:1s]"));
        let scale = if function == "sum" { 1000.0 } else { 1.0 };
        assert!((long - short * scale).abs() <= 1e-3 * long.abs(), "{function}: {long} {short}");
    }
    // What the parts gave is held as a whole: 5 minutes of two series, by ms.
    let query = "count_over_time(x_total{n=~\"1|2\"}[5m:1ms])";
    let at = QueryRequest::instant(885_000);
    let fits = |max: u64| run(query, &at, limits(max), &storage).map(|_| ());
    assert_eq!(fits(550_000), Err(QueryError::TooManySamples { limit: 550_000 }));
    assert_eq!(fits(1_300_000), Ok(()));
}

#[test]
fn threads_do_not_change_answers() {
    // Large enough for several threads; the same series one by one are small enough for one.
    let storage = storage(300, 400);
    let request = QueryRequest::range(600_000, 5_900_000, 15_000);
    let all = |query: &str| match run(query, &request, limits(50_000_000), &storage).unwrap().value {
        Value::Matrix(m) => m,
        v => panic!("{v:?}"),
    };
    for function in ["sum", "avg", "min", "max", "count", "stddev"] {
        for inner in ["x_total", "rate(x_total[5m])", "max_over_time(x_total[2m]) * 2"] {
            let together = all(&format!("{function} by (group) ({inner})"));
            assert_eq!(together.len(), 7);
            for series in together {
                let group = series.labels.get("group").unwrap().to_owned();
                let only = inner.replace("x_total", &format!("x_total{{group=\"{group}\"}}"));
                let alone = all(&format!("{function} by (group) ({only})"));
                for (a, b) in series.floats.iter().zip(&alone[0].floats) {
                    assert!(
                        (a.1 - b.1).abs() <= 1e-9 * a.1.abs().max(1.0),
                        "{function} {inner}: {a:?} {b:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn results_of_every_kind() {
    let storage = storage(3, 20);
    let value =
        |query: &str| run(query, &QueryRequest::instant(60_000), limits(1000), &storage).unwrap().value;
    assert_eq!(value("1 + 2"), Value::Scalar { ts: 60_000, value: 3.0 });
    assert_eq!(value("\"a\""), Value::String { ts: 60_000, value: "a".into() });
    let Value::Matrix(m) = value("x_total{n=\"1\"}[45s]") else { panic!("no matrix") };
    assert_eq!(m[0].floats, [(30_000, 2.0), (45_000, 3.0), (60_000, 4.0)]);
    let Value::Vector(v) = value("topk(1, x_total)") else { panic!("no vector") };
    assert_eq!((v.len(), &v[0].value), (1, &PointValue::Float(8.0)));
    let Value::Matrix(m) = value("x_total{n=\"1\"}[1m:30s]") else { panic!("no matrix") };
    assert_eq!(m[0].floats, [(30_000, 2.0), (60_000, 4.0)]);
}

/// An aggregation over a subquery evaluated it twice, one over such an aggregation four times, and so on.
#[test]
fn what_is_aggregated_is_evaluated_once() {
    let storage = storage(6, 100);
    for request in [QueryRequest::instant(900_000), QueryRequest::range(600_000, 1_200_000, 60_000)] {
        let read =
            |query: &str| run(query, &request, QueryLimits::default(), &storage).unwrap().stats.samples_read;
        for query in [
            "max_over_time(x_total[5m:30s])",
            "abs(max_over_time(x_total[5m:30s]))",
            "rate({group=~\".+\"}[5m])",
            "max_over_time(x_total[5m:30s]) * 2",
            "-rate(x_total[5m:30s])",
        ] {
            assert_eq!(read(&format!("sum({query})")), read(query), "{query}");
        }
    }
    let at = QueryRequest::instant(900_000);
    let stats = |query: &str| run(query, &at, QueryLimits::default(), &storage).unwrap().stats;
    let once = stats("max_over_time(x_total[5m:30s])");
    let within =
        "max_over_time(sum(max_over_time(sum(max_over_time(x_total[5m:30s]))[0.001:30s]))[0.001:30s])";
    let nested = stats(within);
    assert_eq!(nested.samples_read, once.samples_read);
    assert!(nested.peak_samples <= once.peak_samples + 10, "{nested:?} {once:?}");
}
