//! What an expression needs several times is selected and decoded once, and costs nothing that it would not cost anyway.

use std::sync::atomic::Ordering;

use super::tests::{engine, storage};
use crate::promql::{QueryError, QueryLimits, QueryRequest, QueryResult, parse_with};
use crate::storage::Storage;

/// The answer, and how many samples were decoded for it.
fn run(
    query: &str,
    request: &QueryRequest,
    limits: QueryLimits,
    storage: &Storage,
) -> (Result<QueryResult, QueryError>, u64) {
    let engine = engine(limits);
    let expr = parse_with(query, engine.options().features).unwrap();
    let reader = storage.reader();
    let result = engine.evaluate(query, &expr, request, &reader);
    let kept = result.as_ref().map_or(0, |r| r.charge.bytes());
    assert_eq!(engine.held_bytes(), kept, "{query}");
    (result, reader.decoded.load(Ordering::Relaxed))
}

/// The same expression with nothing to share: its second selector says what it selects in another way.
fn unshared(query: &str) -> String {
    let at = query.rfind("x_total").unwrap();
    format!("{}{{__name__=\"x_total\",group!=\"\"}}{}", &query[..at], &query[at + "x_total".len()..])
}

const RANGE: (i64, i64) = (600_000, 1_200_000);

#[test]
fn a_selector_that_occurs_twice_is_decoded_once() {
    let storage = storage(70, 200);
    let range =
        QueryRequest { per_step: true, profile: true, ..QueryRequest::range(RANGE.0, RANGE.1, 60_000) };
    let instant = QueryRequest { step_ms: 0, end: RANGE.0, ..range.clone() };
    for (query, request, once) in [
        ("rate(x_total[5m]) / rate(x_total[5m])", &range, true),
        ("rate(x_total[5m]) / rate(x_total[5m])", &instant, true),
        ("max_over_time(x_total[10m]) - min_over_time(x_total[10m])", &range, true),
        ("x_total > bool 1 and x_total < 5", &range, true),
        ("x_total + on (n) rate(x_total[4m])", &range, true),
        ("x_total + on (n) rate(x_total[5m])", &instant, true),
        ("rate(x_total[5m]) + on (n) x_total", &instant, true),
        ("rate(x_total[5m]) - rate(x_total[5m] offset 1m)", &range, true),
        ("rate(x_total[5m] offset 1m) - rate(x_total[5m])", &range, true),
        ("rate(x_total[5m]) - rate(x_total[7m])", &range, true),
        ("rate(x_total[7m]) - rate(x_total[5m])", &range, true),
        ("sum(x_total) by (group) / on () group_left () sum(x_total)", &range, true),
        ("max_over_time(rate(x_total[2m])[5m:30s]) - min_over_time(rate(x_total[2m])[5m:30s])", &range, true),
        ("absent_over_time(x_total[5m]) or count_over_time(x_total[5m])", &range, true),
        ("sum(x_total @ 900 offset 15s) + sum(rate(x_total[5m] @ 900))", &range, true),
        // No two of these need much of the same.
        ("rate(x_total[5m]) - rate(x_total[5m] offset 1h)", &range, false),
        ("rate(x_total[1m]) - rate(x_total[10m])", &instant, false),
    ] {
        let limits = QueryLimits::default();
        let (shared, decoded) = run(query, request, limits, &storage);
        let (alone, decoded_alone) = run(&unshared(query), request, limits, &storage);
        let (shared, alone) = (shared.unwrap(), alone.unwrap());
        assert!(format!("{:?}", shared.value) == format!("{:?}", alone.value), "{query}");
        // They count for each selector all the same, as in Prometheus.
        let (mine, other) = (&shared.stats, &alone.stats);
        assert_eq!(mine.total_samples, other.total_samples, "{query}");
        assert_eq!(
            (mine.samples_read, mine.peak_samples),
            (other.samples_read, other.peak_samples),
            "{query}"
        );
        assert_eq!(shared.samples_per_step, alone.samples_per_step, "{query}");
        let touched = |r: &QueryResult| r.profile.iter().map(|n| (n.samples, n.selected)).collect::<Vec<_>>();
        assert_eq!(touched(&shared), touched(&alone), "{query}");
        assert_eq!(other.samples_reused, 0, "{query}");
        if once {
            // Not half as many, for what each decodes may be more than the other.
            assert!(decoded * 10 < decoded_alone * 7, "{query}: {decoded} and {decoded_alone}");
            assert!(mine.samples_reused * 10 > decoded_alone * 3, "{query}: {mine:?}");
        } else {
            assert_eq!((decoded, mine.samples_reused), (decoded_alone, 0), "{query}");
        }
    }
}

#[test]
fn what_is_read_most_is_decoded_once() {
    let storage = storage(20, 200);
    let instant = QueryRequest::instant(2_400_000);
    // Two need one minute, which is kept; the third needs thirty, which it decodes for itself.
    let query = "sum(rate(x_total[1m])) + sum(increase(x_total[1m])) + sum(rate(x_total[30m]))";
    let (result, decoded) = run(query, &instant, QueryLimits::default(), &storage);
    assert_eq!((result.unwrap().stats.samples_reused, decoded), (20 * 4, 20 * (4 + 120)));
    // A third use of the same needs nothing more, nor does a fourth.
    let query = "sum(rate(x_total[1m])) + sum(delta(x_total[1m])) + sum(idelta(x_total[1m])) + sum(irate(x_total[1m]))";
    let (result, decoded) = run(query, &instant, QueryLimits::default(), &storage);
    assert_eq!((result.unwrap().stats.samples_reused, decoded), (3 * 20 * 4, 20 * 4));
}

#[test]
fn what_is_kept_refuses_nothing() {
    let storage = storage(60, 400);
    let request = QueryRequest::range(4_800_000, 6_000_000, 60_000);
    let query = "max_over_time(x_total[1h]) - min_over_time(x_total[1h])";
    let (mut refused, mut without, mut some, mut all) = (0, 0, 0, 0);
    for i in 0..160_u64 {
        // By the query's own limit, and by that of all of them together.
        let bytes = 20_000 + 1_000 * (i / 2) * (i / 2);
        let limits = match i % 2 {
            0 => QueryLimits { max_bytes: bytes, ..QueryLimits::default() },
            _ => QueryLimits { max_bytes_total: bytes, ..QueryLimits::default() },
        };
        let (shared, _) = run(query, &request, limits, &storage);
        let (alone, _) = run(&unshared(query), &request, limits, &storage);
        match (shared, alone) {
            (Err(_), Err(_)) => refused += 1,
            (Ok(shared), alone) => {
                assert!(alone.is_err() || alone.unwrap().value == shared.value);
                match shared.stats.samples_reused {
                    0 => without += 1,
                    n if n < 60 * 319 => some += 1,
                    _ => all += 1,
                }
            }
            (Err(e), Ok(_)) => panic!("{bytes}: {e}"),
        }
    }
    assert!(refused > 3 && without > 3 && some > 3 && all > 3, "{refused} {without} {some} {all}");
}
