//! The engine and the twin over random data: the same values at every step, and errors where the twin has errors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::Union;

use super::{Refusal, Series, Twin, Value};
use crate::clock::Clock;
use crate::model::{Labels, stale_marker};
use crate::promql::ast::Expr;
use crate::promql::{
    self, Engine, EngineOptions, Features, PointValue, QueryError, QueryRequest, QueryResult, Selections,
    parse_with,
};
use crate::storage::{Reader, Storage, StorageOptions};

/// Between two samples, ms.
const STEP: i64 = 15_000;
/// Positions at which a series may have a sample.
const LENGTH: usize = 48;

/// The values of one series at all positions.
fn column() -> impl Strategy<Value = Vec<Option<f64>>> {
    let gauge = prop_oneof![
        20 => (0..40_i32).prop_map(|v| Some(f64::from(v))),
        3 => Just(None),
        1 => Just(Some(stale_marker())),
        1 => Just(Some(-2.5)),
    ];
    let special = prop_oneof![
        10 => (0..4_i32).prop_map(|v| Some(f64::from(v))),
        2 => Just(Some(f64::NAN)),
        1 => Just(Some(f64::INFINITY)),
        1 => Just(Some(f64::NEG_INFINITY)),
        2 => Just(None),
        1 => Just(Some(stale_marker())),
    ];
    // Growth, a reset (-1), a gap (-2), a staleness marker (-3).
    let grown = prop_oneof![30 => 0..9_i32, 1 => Just(-1), 2 => Just(-2), 1 => Just(-3)];
    let counter = prop::collection::vec(grown, LENGTH).prop_map(|steps| {
        let mut total = 0.0;
        let mut sample = |step| match step {
            -2 => None,
            -3 => Some(stale_marker()),
            -1 => {
                total = 0.0;
                Some(total)
            }
            step => {
                total += f64::from(step);
                Some(total)
            }
        };
        steps.into_iter().map(&mut sample).collect()
    });
    let sparse = prop_oneof![1 => (0..5_i32).prop_map(|v| Some(f64::from(v))), 6 => Just(None)];
    let constant = (0..3_i32).prop_map(|v| vec![Some(f64::from(v)); LENGTH]);
    prop_oneof![
        3 => prop::collection::vec(gauge, LENGTH),
        1 => prop::collection::vec(special, LENGTH),
        3 => counter,
        1 => prop::collection::vec(sparse, LENGTH),
        1 => constant,
    ]
}

fn data() -> impl Strategy<Value = Vec<Series>> {
    let one = (column(), 0..STEP);
    prop::collection::vec(prop::option::weighted(0.8, one), 12).prop_map(|columns| {
        let mut out = Vec::new();
        for (i, column) in columns.into_iter().enumerate() {
            let Some((values, shift)) = column else { continue };
            let (name, job, instance) = (["a", "b"][i / 6], ["x", "y"][i / 3 % 2], ["0", "1", "2"][i % 3]);
            let labels = Labels::from_pairs([("__name__", name), ("job", job), ("instance", instance)]);
            let at = |(i, v): (usize, Option<f64>)| v.map(|v| (i as i64 * STEP + shift, v));
            out.push((labels, values.into_iter().enumerate().filter_map(at).collect()));
        }
        out
    })
}

fn any_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(words)
}

fn shift() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        6 => Just(String::new()),
        1 => any_of(&[" offset 1m", " offset -45s", " @ 300", " @ start()", " @ end()", " @ 400 offset 30s"])
            .prop_map(str::to_owned),
    ]
}

fn selector() -> impl Strategy<Value = String> + Clone {
    let braces = any_of(&["", "", "{job=\"x\"}", "{job!=\"x\"}", "{instance=~\"0|1\"}", "{instance!~\"0\"}"]);
    (any_of(&["a", "b"]), braces).prop_map(|(name, braces)| format!("{name}{braces}"))
}

fn window() -> impl Strategy<Value = &'static str> + Clone {
    any_of(&["15s", "31s", "1m", "2m", "5m", "10m", "1h"])
}

/// An instant vector whose values are not rounded: it may be compared or ranked.
fn exact() -> impl Strategy<Value = String> + Clone {
    let range = (selector(), window(), shift()).prop_map(|(s, w, shift)| format!("{s}[{w}]{shift}"));
    let function = any_of(&[
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "first_over_time",
        "present_over_time",
        "changes",
        "resets",
        "idelta",
        "ts_of_first_over_time",
        "ts_of_last_over_time",
        "ts_of_min_over_time",
        "ts_of_max_over_time",
    ]);
    prop_oneof![
        2 => (selector(), shift()).prop_map(|(s, shift)| s + &shift),
        1 => (function, range).prop_map(|(f, range)| format!("{f}({range})")),
        1 => selector().prop_map(|s| format!("timestamp({s})")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => exact(),
        6 => range_function((selector(), window(), shift()).prop_map(|(s, w, shift)| format!("{s}[{w}]{shift}")).boxed()),
        1 => comparison(),
        1 => ranked(),
        1 => (selector(), window()).prop_map(|(s, w)| format!("absent_over_time({s}[{w}])")),
        1 => selector().prop_map(|s| format!("absent({s})")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let grouping = any_of(&[
            "",
            " by (job)",
            " by (job, instance)",
            " without (instance)",
            " by ()",
            " by (__name__)",
            " without ()",
        ]);
        let op = any_of(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile"]);
        let aggregation = (op, grouping, inner.clone(), any_of(&["0.5", "0.9", "0", "2", "-1"])).prop_map(
            |(op, grouping, inner, q)| {
                let q = if op == "quantile" { format!("{q}, ") } else { String::new() };
                format!("{op}{grouping} ({q}{inner})")
            },
        );
        let subquery = (inner.clone(), window(), any_of(&["", "15s", "37s", "1m"]), shift())
            .prop_map(|(inner, window, step, shift)| format!("({inner})[{window}:{step}]{shift}"));
        let matching = any_of(&[
            "",
            "",
            "on (job, instance)",
            "ignoring (instance)",
            "on (job) group_left ()",
            "on (job) group_right ()",
            "on (instance, job) group_left (nothing)",
            "ignoring (job) group_right (job)",
            "on ()",
        ]);
        let calculation =
            (inner.clone(), any_of(&["+", "-", "*", "/", "%", "atan2"]), matching, inner.clone())
                .prop_map(|(l, op, matching, r)| format!("({l} {op} {matching} {r})"));
        let sets = (
            inner.clone(),
            any_of(&["and", "or", "unless"]),
            any_of(&["", "on (job)", "ignoring (job)"]),
            inner.clone(),
        )
            .prop_map(|(l, op, matching, r)| format!("({l} {op} {matching} {r})"));
        let scalars = (
            inner.clone(),
            any_of(&[
                "+ 1",
                "* 2",
                "- 0.5",
                "/ 4",
                "^ 2",
                "+ time()",
                "* scalar(a{instance=\"0\",job=\"x\"})",
            ]),
        )
            .prop_map(|(inner, rest)| format!("({inner} {rest})"));
        let single = (any_of(&["abs", "ceil", "-"]), selector()).prop_map(|(f, s)| format!("{f}({s})"));
        Union::new_weighted(vec![
            (4, aggregation.boxed()),
            (2, range_function(subquery.boxed()).boxed()),
            (2, calculation.boxed()),
            (1, sets.boxed()),
            (1, scalars.boxed()),
            (1, single.boxed()),
        ])
    })
}

fn range_function(range: BoxedStrategy<String>) -> impl Strategy<Value = String> + Clone {
    let simple = any_of(&[
        "rate",
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "deriv",
        "changes",
        "resets",
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "first_over_time",
        "present_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "mad_over_time",
    ]);
    prop_oneof![
        10 => (simple, range.clone()).prop_map(|(f, range)| format!("{f}({range})")),
        1 => (any_of(&["0", "0.5", "0.9", "1", "-1", "NaN"]), range.clone())
            .prop_map(|(q, range)| format!("quantile_over_time({q}, {range})")),
        1 => (range.clone(), any_of(&["0", "60", "-30"]))
            .prop_map(|(range, t)| format!("predict_linear({range}, {t})")),
        1 => range.prop_map(|range| format!("double_exponential_smoothing({range}, 0.4, 0.2)")),
    ]
}

fn comparison() -> impl Strategy<Value = String> + Clone {
    let op = any_of(&["==", "!=", ">", "<", ">=", "<="]);
    let matching = any_of(&[
        "",
        "on (job, instance)",
        "ignoring (instance)",
        "on (job) group_left ()",
        "on (job) group_right ()",
    ]);
    (
        exact(),
        op,
        any_of(&["", " bool"]),
        matching,
        prop_oneof![exact().boxed(), any_of(&["2", "0", "NaN"]).prop_map(str::to_owned).boxed()],
    )
        .prop_map(|(l, op, bool, matching, r)| {
            let matching = if r.len() < 4 { "" } else { matching };
            format!("({l} {op}{bool} {matching} {r})")
        })
}

/// Of equal values it is open which of the series are taken: the sums and counts are the same for all.
fn ranked() -> impl Strategy<Value = String> + Clone {
    let op = any_of(&["topk", "bottomk"]);
    let outer = any_of(&["sum", "count"]);
    let values = (any_of(&["", " by (job)"]), exact())
        .prop_map(|(grouping, inner)| format!("count_values{grouping} (\"v\", {inner})"));
    prop_oneof![
        3 => (outer, op, any_of(&["", " by (job)", " without (job)"]), 0..5, exact())
            .prop_map(|(outer, op, grouping, k, inner)| format!("{outer} by (job) ({op}{grouping} ({k}, {inner}))")),
        1 => values,
    ]
}

fn reader(series: &[Series]) -> Reader {
    let options =
        StorageOptions { retention_ms: i64::MAX / 4, window_ms: i64::MAX / 4, ..StorageOptions::default() };
    let storage = Storage::open(options).unwrap();
    let mut appender = storage.appender();
    for (labels, samples) in series {
        let series = appender.series(labels).unwrap();
        for (ts, v) in samples {
            appender.append(series, *ts, *v).unwrap();
        }
    }
    appender.commit().unwrap();
    storage.reader()
}

type Steps = BTreeMap<i64, BTreeMap<Labels, f64>>;

/// The engine's answer, by time.
fn answer(
    engine: &Engine,
    text: &str,
    expr: &Expr,
    request: &QueryRequest,
    reader: &Reader,
) -> Result<Steps, String> {
    let result = engine.evaluate(text, expr, request, reader).map_err(|e| e.to_string())?;
    let mut steps = Steps::new();
    match result.value {
        promql::Value::Vector(vector) => {
            for sample in vector {
                let PointValue::Float(v) = sample.value else { panic!("a histogram from floats") };
                steps.entry(sample.ts).or_default().insert(sample.labels, v);
            }
        }
        promql::Value::Matrix(matrix) => {
            for series in matrix {
                for (ts, v) in series.floats {
                    steps.entry(ts).or_default().insert(series.labels.clone(), v);
                }
            }
        }
        promql::Value::Scalar { ts, value } => {
            steps.entry(ts).or_default().insert(Labels::empty(), value);
        }
        promql::Value::String { .. } => panic!("a string"),
    }
    Ok(steps)
}

fn slow_answer(twin: &Twin, expr: &Expr, step: i64) -> Result<Steps, Refusal> {
    let mut steps = Steps::new();
    let mut ts = twin.start;
    while ts <= twin.end {
        let vector = match twin.eval(expr, ts)? {
            Value::Scalar(v) => vec![(Labels::empty(), v)],
            Value::Vector(v) => v,
        };
        if !vector.is_empty() {
            steps.insert(ts, vector.into_iter().collect());
        }
        ts += step.max(1);
    }
    Ok(steps)
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-7 + 1e-9 * a.abs().max(b.abs())
}

fn compare(
    text: &str,
    series: &[Series],
    request: &QueryRequest,
    engine: &Engine,
    reader: &Reader,
) -> Result<bool, TestCaseError> {
    let expr = parse_with(text, Features::all()).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
    let lookback = engine.options().lookback_ms;
    let twin = Twin { series, lookback, start: request.start, end: request.end };
    let fast = answer(engine, text, &expr, request, reader);
    match (fast, slow_answer(&twin, &expr, request.step_ms)) {
        (_, Err(Refusal::Unknown(what))) => {
            Err(TestCaseError::fail(format!("{text}: the twin does not know {what}")))
        }
        (Err(_), Err(Refusal::Error(_))) => Ok(false),
        // Series that never meet at one time may still end up as one after their names are dropped.
        (Err(e), Ok(_)) if e.contains("same labelset") => Ok(false),
        // A subquery is evaluated at all times between the windows as well.
        (Err(_), Ok(_)) if text.contains(":") && request.step_ms > 0 => Ok(false),
        (Ok(fast), Ok(slow)) => {
            let times: std::collections::BTreeSet<_> = fast.keys().chain(slow.keys()).collect();
            for ts in times {
                let empty = BTreeMap::new();
                let (f, s) = (fast.get(ts).unwrap_or(&empty), slow.get(ts).unwrap_or(&empty));
                let same =
                    f.len() == s.len() && f.iter().zip(s).all(|((a, x), (b, y))| a == b && close(*x, *y));
                prop_assert!(same, "{} at {} ms:\n  engine {:?}\n  twin   {:?}", text, ts, f, s);
            }
            Ok(!slow.is_empty())
        }
        (fast, slow) => Err(TestCaseError::fail(format!("{text}:\n  engine {fast:?}\n  twin   {slow:?}"))),
    }
}

fn request() -> impl Strategy<Value = QueryRequest> {
    let end = LENGTH as i64 * STEP;
    prop_oneof![
        1 => (0..end + 60_000).prop_map(QueryRequest::instant),
        3 => (-30_000..end, prop::sample::select(vec![1_000_i64, 15_000, 47_000, 120_000]), 0..30_i64)
            .prop_map(|(start, step, n)| QueryRequest::range(start, start + n * step, step)),
    ]
}

/// Cases of one seed, `PROPTEST_CASES` or so many.
fn runner(cases: u32) -> proptest::test_runner::TestRunner {
    proptest::test_runner::TestRunner::new_with_rng(
        ProptestConfig {
            cases: std::env::var("PROPTEST_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(cases),
            failure_persistence: None,
            max_shrink_iters: 4096,
            ..ProptestConfig::default()
        },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
}

#[test]
fn what_is_read_once_is_answered_as_if_it_were_read_each_time() {
    let features = Features { delayed_name_removal: false, ..Features::all() };
    let engine = Engine::new(EngineOptions { features, ..EngineOptions::default() }, Clock::system());
    let (asked, reused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let cases = prop::collection::vec((expression(), request()), 1..8);
    let outcome = runner(48).run(&(data(), cases), |(series, cases)| {
        let reader = reader(&series);
        for (text, request) in &cases {
            // All selectors occur twice.
            let twice = format!("({text}) or ({text})");
            compare(&twice, &series, request, &engine, &reader)?;
            let expr = parse_with(&twice, features).unwrap();
            let result = engine.evaluate(&twice, &expr, request, &reader);
            asked.set(asked.get() + 1);
            reused.set(reused.get() + u32::from(result.is_ok_and(|r| r.stats.samples_reused > 0)));
        }
        // The same as the rules of a group.
        let ts = cases[0].1.end;
        let at = QueryRequest::instant(ts);
        let rules: Vec<_> =
            cases.iter().map(|(text, _)| (text, parse_with(text, features).unwrap())).collect();
        let mut selections = Selections::of(rules.iter().map(|(_, e)| e));
        engine.foresee(&mut selections, rules.iter().map(|(_, e)| e), ts);
        for (text, expr) in &rules {
            let shown = |result: Result<QueryResult, QueryError>| format!("{:?}", result.map(|r| r.value));
            let together = engine.evaluate_sharing(text, expr, &at, &reader, &selections);
            let alone = engine.evaluate(text, expr, &at, &reader);
            prop_assert_eq!(shown(together), shown(alone), "{}", text);
        }
        selections.forget_all();
        prop_assert_eq!(engine.held_bytes(), 0);
        Ok(())
    });
    outcome.unwrap();
    let (asked, reused) = (asked.get(), reused.get());
    assert!(reused * 2 > asked, "only {reused} of {asked} share samples");
}

#[test]
fn the_engine_answers_as_the_twin() {
    let mut runner = runner(128);
    let features = Features { delayed_name_removal: false, ..Features::all() };
    let engine = Engine::new(EngineOptions { features, ..EngineOptions::default() }, Clock::system());
    let (asked, answered) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let cases = prop::collection::vec((expression(), request()), 1..16);
    let outcome = runner.run(&(data(), cases), |(series, cases)| {
        let reader = reader(&series);
        for (text, request) in cases {
            asked.set(asked.get() + 1);
            answered.set(answered.get() + u32::from(compare(&text, &series, &request, &engine, &reader)?));
        }
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(why, (series, _))) = &outcome {
        let series: Vec<String> = series.iter().map(|(l, samples)| format!("{l} {samples:?}")).collect();
        panic!("{why}\nover\n{}", series.join("\n"));
    }
    outcome.unwrap();
    let (asked, answered) = (asked.get(), answered.get());
    assert!(answered * 2 > asked, "only {answered} of {asked} have a result");
}
