//! How often each operator looks whether to stop, told by a clock that moves when it is read.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::model::Labels;
use crate::promql::{Engine, EngineOptions, Features, QueryError, QueryRequest, QueryResult, parse_with};
use crate::storage::{Storage, StorageOptions};

const SERIES: usize = 12_000;
const LONG_SERIES: usize = 120;
const STEPS: i64 = 4_000;
const ONE: &str = "long{n=\"7\"}";

/// `many`: 12,000 series of one sample. `long`: 120 series with a sample at each of 4,000 steps. `long_bucket`: the
/// same as the buckets of a histogram. `hist`: 12,000 native histograms. `alike`: 12,000 series of one group of which
/// no two have a sample at one time.
fn storage() -> Storage {
    let options =
        StorageOptions { retention_ms: i64::MAX / 4, window_ms: i64::MAX / 4, ..StorageOptions::default() };
    let storage = Storage::open(options).unwrap();
    let mut appender = storage.appender();
    let at = STEPS * 1_000;
    for i in 0..SERIES {
        let n = i.to_string();
        for name in ["many", "other"] {
            let labels = Labels::from_pairs([("__name__", name), ("job", "j"), ("instance", &n), ("le", &n)]);
            let series = appender.series(&labels).unwrap();
            appender.append(series, at, (i * 7919 % SERIES) as f64).unwrap();
        }
    }
    for i in 0..LONG_SERIES {
        let n = i.to_string();
        let long = Labels::from_pairs([("__name__", "long"), ("n", &n)]);
        let bucket = Labels::from_pairs([("__name__", "long_bucket"), ("le", &n), ("job", "j")]);
        for (name, labels) in [("long", long), ("bucket", bucket)] {
            let series = appender.series(&labels).unwrap();
            for s in 0..STEPS {
                let value = if name == "long" { (i as i64 * s % 101) as f64 } else { i as f64 };
                appender.append(series, s * 1_000, value).unwrap();
            }
        }
    }
    appender.commit().unwrap();
    storage
}

/// The result, and how often the clock was read; from the reading on that `stop_at` says, the query is to stop.
fn looks(storage: &Storage, query: &str, range: bool, stop_at: Option<u64>) -> (Result<QueryResult>, u64) {
    let (clock, hand) = Clock::manual(0);
    let options = EngineOptions { features: Features::all(), ..EngineOptions::default() };
    let engine = Engine::new(options, clock.clone());
    let expr = parse_with(query, engine.options().features).unwrap();
    let mut request = match range {
        true => QueryRequest::range(0, (STEPS - 1) * 1_000, 1_000),
        false => QueryRequest::instant(STEPS * 1_000),
    };
    request.timeout = stop_at.map(Duration::from_nanos);
    hand.advance_by_reading(Duration::from_nanos(1));
    let result = engine.evaluate(query, &expr, &request, &storage.reader());
    // The first reading sets the deadline, the last one is this.
    (result, clock.monotonic().as_nanos() as u64 - 2)
}

#[test]
fn every_operator_looks_whether_to_stop() {
    let storage = storage();
    // What is around the inner query goes over 12,000 rows, or over 480,000 slots: each is so many looks at least.
    let instant = [
        ("sort(many)", "many", 3),
        ("sort_desc(many)", "many", 3),
        ("sort_by_label(many, \"instance\")", "many", 3),
        ("topk(9000, many)", "many", 5),
        ("bottomk(2, many)", "count(many)", 2),
        ("limitk(9000, many)", "count(many)", 2),
        ("limit_ratio(0.5, many)", "count(many)", 2),
        ("quantile(0.9, many)", "count(many)", 2),
        ("count_values(\"v\", many)", "many", 5),
        ("count_values without (instance, le) (\"v\", many)", "many", 5),
        ("label_replace(many, \"a\", \"$1\", \"instance\", \"(.*)\")", "many", 5),
        ("label_join(many, \"a\", \"-\", \"instance\", \"job\")", "many", 5),
        ("sum by (instance) (many > 5)", "many > 5", 2),
        ("many * on (instance, job, le) group_left other", "count(many) + count(other)", 2),
        ("many and on (job) other", "count(many) + count(other)", 2),
        ("many unless other", "count(many) + count(other)", 2),
        ("many or on (instance) other", "many", 8),
        ("histogram_quantile(0.9, many)", "count(many)", 2),
        ("histogram_fraction(0, 5, many)", "count(many)", 2),
        ("info(many)", "many", 5),
        ("abs(many > 5)", "many > 5", 3),
        ("-(many > 5)", "many > 5", 3),
        ("many[5m]", "1", 25),
        // One window of 300,000 samples is walked in two pieces, and selected from in four walks or more.
        ("sum_over_time(one[5m:1ms])", "count_over_time(one[5m:1ms])", 1),
        ("max_over_time(one[5m:1ms])", "count_over_time(one[5m:1ms])", 1),
        ("stddev_over_time(one[5m:1ms])", "count_over_time(one[5m:1ms])", 1),
        ("deriv(one[5m:1ms])", "count_over_time(one[5m:1ms])", 2),
        ("quantile_over_time(0.5, one[5m:1ms])", "count_over_time(one[5m:1ms])", 4),
        ("one[5m:1ms]", "count_over_time(one[5m:1ms])", 30),
    ];
    let range = [
        ("topk(3, long)", "long", 10),
        ("limitk(3, long)", "long", 10),
        ("limit_ratio(0.5, long)", "long", 7),
        ("quantile(0.9, long)", "long", 10),
        ("count_values(\"v\", long)", "long", 20),
        ("histogram_quantile(0.9, long_bucket)", "long_bucket", 7),
        ("long > 5", "long", 7),
        ("abs(long > 5)", "long > 5", 14),
        ("clamp_max(long > 5, 7)", "long > 5", 14),
        ("-(long > 5)", "long > 5", 14),
        ("long / on (n) long", "long", 10),
        ("long and long", "long", 10),
        ("long or on (n) long", "long", 10),
        ("avg by (n) (long > 5)", "long > 5", 7),
        ("scalar(long > 5)", "long > 5", 1),
        ("absent(long > 5)", "long > 5", 1),
        ("long @ 100", "long{n=\"1\"}", 7),
        ("max_over_time((long > 5)[1m:1s])", "long > 5", 7),
        ("quantile_over_time(0.5, long[10m])", "long", 100),
    ];
    let check = |outer: &str, inner: &str, least: u64, range: bool| {
        let (result, with) = looks(&storage, outer, range, None);
        assert!(result.is_ok(), "{outer}: {result:?}");
        let (result, without) = looks(&storage, inner, range, None);
        assert!(result.is_ok(), "{inner}: {result:?}");
        assert!(with >= without + least, "{outer}: {with} looks, {inner}: {without}");
    };
    for (outer, inner, least) in instant {
        let (outer, inner) = (&outer.replace("one", ONE), &inner.replace("one", ONE));
        check(outer, inner, least, false);
    }
    for (outer, inner, least) in range {
        check(outer, inner, least, true);
    }
}

#[test]
fn a_query_stops_at_whichever_look_it_is_told_to() {
    let storage = storage();
    let median = format!("quantile_over_time(0.5, {ONE}[5m:1ms])");
    let queries = [
        (median.as_str(), false),
        ("sort_by_label(many, \"instance\")", false),
        ("topk(9000, many)", false),
        ("count_values(\"v\", many)", false),
        ("many * on (instance, job, le) group_left other", false),
        ("many or on (instance) other", false),
        ("label_replace(many, \"a\", \"$1\", \"instance\", \"(.*)\")", false),
        ("info(many)", false),
        ("histogram_quantile(0.9, many)", false),
        ("quantile(0.9, long)", true),
        ("-(long > 5)", true),
        ("long / on (n) long", true),
    ];
    for (query, range) in queries {
        let (_, all) = looks(&storage, query, range, None);
        // At twenty places between the first look and the last one.
        for stop in (0..20).map(|i| i * (all - 1) / 19) {
            let (result, looked) = looks(&storage, query, range, Some(stop));
            assert_eq!(result.unwrap_err(), QueryError::Timeout, "{query} at {stop} of {all}");
            // Every thread looks once more at most, and a selection that stops looks again for itself.
            assert!(looked <= stop + 40, "{query} told at {stop} looked until {looked} of {all}");
        }
    }
}
