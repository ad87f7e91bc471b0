//! How an answer differs from what a script demands.

use std::collections::BTreeMap;

use super::points::Point;
use super::script::{Demand, Eval, Expected};
use crate::model::{FloatHistogram, Labels, Timestamp, is_stale_marker};
use crate::promql::{MatrixSeries, PointValue, Value};

/// How far floats may be apart, of their sum.
const EPSILON: f64 = 1e-6;

/// Compares the answer of a case.
pub(super) fn value(eval: &Eval, value: &Value) -> Result<(), String> {
    match (&eval.expected, value) {
        (Expected::String(expected), Value::String { value, .. }) if expected == value => Ok(()),
        (Expected::String(expected), Value::String { value, .. }) => {
            Err(format!("expected string {expected:?}, got {value:?}"))
        }
        (Expected::Scalar(expected), Value::Scalar { value, .. }) => {
            if floats_equal(*expected, *value) {
                Ok(())
            } else {
                Err(format!("expected scalar {expected}, got {value}"))
            }
        }
        (Expected::Series(expected), Value::Vector(vector)) => {
            let got: Vec<(&Labels, PointValue)> =
                vector.iter().map(|s| (&s.labels, s.value.clone())).collect();
            instant(expected, &got, eval.ordered)
        }
        (Expected::Series(expected), Value::Matrix(matrix)) => {
            let (start, _, step) = match (eval.step_ms, eval.range_vector) {
                (0, Some(times)) => times,
                (0, None) => return Err("got a range vector".to_owned()),
                _ => (eval.start, eval.end, eval.step_ms),
            };
            range(expected, matrix, start, step)
        }
        (_, other) => Err(format!("got a result of another type: {}", shown(other))),
    }
}

/// Compares annotations of one kind.
pub(super) fn annotations(kind: &str, demand: &Demand, got: &[String]) -> Result<(), String> {
    if demand.none && !got.is_empty() {
        return Err(format!("expected no {kind}, got {got:?}"));
    }
    if (demand.some || !demand.texts.is_empty()) && got.is_empty() {
        return Err(format!("expected a {kind}, got none"));
    }
    // Any at all will do, whatever else is demanded.
    let all_found = demand.texts.iter().all(|t| got.iter().any(|g| t.accepts(g)));
    if demand.some && all_found {
        return Ok(());
    }
    if demand.texts.is_empty() {
        return Ok(());
    }
    let all_expected = got.iter().all(|g| demand.texts.iter().any(|t| t.accepts(g)));
    if all_found && all_expected { Ok(()) } else { Err(format!("the {kind} texts differ, got {got:?}")) }
}

fn instant(
    expected: &[(Labels, Vec<Point>)],
    got: &[(&Labels, PointValue)],
    ordered: bool,
) -> Result<(), String> {
    let mut left: BTreeMap<&Labels, &PointValue> = BTreeMap::new();
    for (labels, value) in got {
        if left.insert(labels, value).is_some() {
            return Err(format!("{labels} comes twice"));
        }
    }
    for (i, (labels, points)) in expected.iter().enumerate() {
        let [point] = points.as_slice() else {
            return Err(format!("the script must give {labels} one value"));
        };
        let Some(value) = left.remove(labels) else {
            let got: Vec<String> = got.iter().map(|(l, v)| format!("{l} {}", shown_point(v))).collect();
            return Err(format!("{labels} is missing, got [{}]", got.join(", ")));
        };
        if ordered && got.get(i).is_none_or(|(l, _)| *l != labels) {
            return Err(format!("{labels} is not at place {}", i + 1));
        }
        same(point, value).map_err(|e| format!("{labels}: {e}"))?;
    }
    match left.iter().next() {
        Some((labels, value)) => Err(format!("unexpected {labels} {}", shown_point(value))),
        None => Ok(()),
    }
}

fn range(
    expected: &[(Labels, Vec<Point>)],
    got: &[MatrixSeries],
    start: Timestamp,
    step: i64,
) -> Result<(), String> {
    if let Some(pair) = got.windows(2).find(|w| w[0].labels >= w[1].labels) {
        return Err(format!("{} comes after {}: not sorted, or twice", pair[1].labels, pair[0].labels));
    }
    let mut left: BTreeMap<&Labels, &MatrixSeries> = got.iter().map(|s| (&s.labels, s)).collect();
    for (labels, points) in expected {
        let Some(series) = left.remove(labels) else {
            // A line without points stands for no series.
            if points.iter().all(|p| *p == Point::None) {
                continue;
            }
            let got: Vec<String> = got.iter().map(|s| s.labels.to_string()).collect();
            return Err(format!("{labels} is missing, got [{}]", got.join(", ")));
        };
        let mut values: BTreeMap<Timestamp, PointValue> =
            series.floats.iter().map(|(t, v)| (*t, PointValue::Float(*v))).collect();
        values.extend(series.histograms.iter().map(|(t, h)| (*t, PointValue::Histogram(h.clone()))));
        for (i, point) in points.iter().enumerate() {
            let ts = start + step * i as i64;
            let place = || format!("{labels} at {ts} ms");
            match (point, values.remove(&ts)) {
                (Point::None, None) => {}
                (Point::None, Some(v)) => return Err(format!("{}: unexpected {}", place(), shown_point(&v))),
                (_, None) => return Err(format!("{}: no point", place())),
                (point, Some(v)) => same(point, &v).map_err(|e| format!("{}: {e}", place()))?,
            }
        }
        if let Some((ts, v)) = values.pop_first() {
            return Err(format!("{labels} at {ts} ms: unexpected {}", shown_point(&v)));
        }
    }
    match left.keys().next() {
        Some(labels) => Err(format!("unexpected series {labels}")),
        None => Ok(()),
    }
}

fn same(expected: &Point, got: &PointValue) -> Result<(), String> {
    let ok = match (expected, got) {
        (Point::Float(a), PointValue::Float(b)) => floats_equal(*a, *b),
        (Point::Histogram { value, hint }, PointValue::Histogram(got)) => histograms_equal(value, got, *hint),
        _ => false,
    };
    if ok {
        return Ok(());
    }
    let expected = match expected {
        Point::None => "nothing".to_owned(),
        Point::Float(v) => v.to_string(),
        Point::Histogram { value, .. } => shown_point(&PointValue::Histogram(value.clone())),
    };
    Err(format!("expected {expected}, got {}", shown_point(got)))
}

/// Near enough to each other. Any NaN equals any other, but a staleness marker only itself.
fn floats_equal(a: f64, b: f64) -> bool {
    if is_stale_marker(a) || is_stale_marker(b) {
        return is_stale_marker(a) && is_stale_marker(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

fn histograms_equal(a: &FloatHistogram, b: &FloatHistogram, hint: bool) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    a.compact();
    b.compact();
    let lists_equal =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| floats_equal(*a, *b));
    (!hint || a.counter_reset_hint == b.counter_reset_hint)
        && a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && floats_equal(a.count, b.count)
        && floats_equal(a.sum, b.sum)
        && floats_equal(a.zero_count, b.zero_count)
        && lists_equal(&a.positive_buckets, &b.positive_buckets)
        && lists_equal(&a.negative_buckets, &b.negative_buckets)
}

fn shown_point(value: &PointValue) -> String {
    match value {
        PointValue::Float(v) => v.to_string(),
        PointValue::Histogram(h) => format!("{h:?}"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Scalar { value, .. } => format!("scalar {value}"),
        Value::String { value, .. } => format!("string {value:?}"),
        Value::Vector(v) => format!("vector of {}", v.len()),
        Value::Matrix(m) => format!("matrix of {}", m.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_equal_when_near() {
        let stale = crate::model::stale_marker();
        for (a, b, equal) in [
            (1.0, 1.000_000_1, true),
            (1.0, 1.001, false),
            (0.0, 1e-300, false),
            (0.0, -0.0, true),
            (f64::INFINITY, f64::INFINITY, true),
            (f64::INFINITY, f64::NEG_INFINITY, false),
            (f64::NAN, -f64::NAN, true),
            (f64::NAN, stale, false),
            (stale, stale, true),
            (f64::MAX, f64::MAX, true),
        ] {
            assert_eq!(floats_equal(a, b), equal, "{a} {b}");
        }
    }
}
