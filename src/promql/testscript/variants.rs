//! The same case in other ways, which must not change the answer: with `@` on every selector and evaluated at another
//! time, and as the middle step of a range query.

use super::compare;
use super::script::{Eval, Expected};
use crate::model::Timestamp;
use crate::promql::ast::{At, Expr, ExprKind};
use crate::promql::{Engine, MatrixSeries, PointValue, QueryRequest, Value, VectorSample};
use crate::storage::Reader;

/// Functions whose value depends on the evaluation time itself.
const OF_THE_EVALUATION_TIME: [&str; 14] = [
    "time",
    "timestamp",
    "predict_linear",
    "range",
    "start",
    "end",
    "step",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
];

/// Functions whose value depends on the whole query.
const OF_THE_QUERY: [&str; 4] = ["start", "end", "range", "step"];

/// How far the range query reaches to both sides, and its step.
const STEP_MS: i64 = 60_000;

/// Evaluates an instant case that passed in the other ways that it allows.
pub(super) fn check(engine: &Engine, reader: &Reader, eval: &Eval, expr: &Expr) -> Result<(), String> {
    if eval.step_ms != 0 || eval.fail.is_some() {
        return Ok(());
    }
    if !calls_any(expr, &OF_THE_EVALUATION_TIME) && !calls_any(expr, &["year"]) {
        let mut fixed = expr.clone();
        fix_time(&mut fixed, eval.start);
        let times = if eval.start == 0 {
            vec![-1000, 0, 1000]
        } else {
            vec![-10 * eval.start, 0, eval.start / 5, eval.start, 10 * eval.start]
        };
        for ts in times {
            let result = engine.evaluate(&eval.expr, &fixed, &QueryRequest::instant(ts), reader);
            result
                .map_err(|e| e.to_string())
                .and_then(|r| compare::value(eval, &r.value))
                .map_err(|e| format!("as {fixed} at {ts} ms: {e}"))?;
        }
    }
    let plain = !eval.ordered && eval.range_vector.is_none() && !matches!(eval.expected, Expected::String(_));
    if plain && !calls_any(expr, &OF_THE_QUERY) {
        let request = QueryRequest::range(eval.start - STEP_MS, eval.start + STEP_MS, STEP_MS);
        let result = engine.evaluate(&eval.expr, expr, &request, reader);
        result
            .map_err(|e| e.to_string())
            .and_then(|r| match (r.value, &eval.expected) {
                (Value::Matrix(matrix), expected) => compare::value(
                    eval,
                    &at_time(&matrix, eval.start, matches!(expected, Expected::Scalar(_))),
                ),
                _ => Err("no matrix".to_owned()),
            })
            .map_err(|e| format!("as a step of a range query: {e}"))?;
    }
    Ok(())
}

/// The step at `ts` as an instant query would give it.
fn at_time(matrix: &[MatrixSeries], ts: Timestamp, scalar: bool) -> Value {
    let mut vector: Vec<VectorSample> = Vec::new();
    for series in matrix {
        let float = series.floats.iter().find(|(t, _)| *t == ts).map(|(_, v)| PointValue::Float(*v));
        let histogram = series.histograms.iter().find(|(t, _)| *t == ts);
        let value = float.or_else(|| histogram.map(|(_, h)| PointValue::Histogram(h.clone())));
        vector.extend(value.map(|value| VectorSample { labels: series.labels.clone(), ts, value }));
    }
    match vector.as_slice() {
        [VectorSample { value: PointValue::Float(value), .. }] if scalar => {
            Value::Scalar { ts, value: *value }
        }
        _ => Value::Vector(vector),
    }
}

/// Puts `@ ts` on every selector and subquery that has none. What is within a subquery stays: it takes its times from
/// there.
fn fix_time(expr: &mut Expr, ts: Timestamp) {
    let at = Some(At::Time(ts));
    match &mut expr.kind {
        ExprKind::Vector(v) => v.shift.at = v.shift.at.or(at),
        ExprKind::Matrix(m) => m.vector.shift.at = m.vector.shift.at.or(at),
        ExprKind::Subquery(s) => s.shift.at = s.shift.at.or(at),
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => fix_time(inner, ts),
        ExprKind::Binary(b) => {
            fix_time(&mut b.lhs, ts);
            fix_time(&mut b.rhs, ts);
        }
        ExprKind::Aggregate(a) => {
            fix_time(&mut a.expr, ts);
            a.param.iter_mut().for_each(|p| fix_time(p, ts));
        }
        ExprKind::Call(c) => c.args.iter_mut().for_each(|a| fix_time(a, ts)),
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
    }
}

/// Whether one of these functions is called anywhere, in a duration too.
fn calls_any(expr: &Expr, names: &[&str]) -> bool {
    // Durations print as calls as well, and no selector prints like one.
    match &expr.kind {
        ExprKind::Call(c) => names.contains(&c.function) || c.args.iter().any(|a| calls_any(a, names)),
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => calls_any(inner, names),
        ExprKind::Binary(b) => calls_any(&b.lhs, names) || calls_any(&b.rhs, names),
        ExprKind::Aggregate(a) => {
            calls_any(&a.expr, names) || a.param.as_ref().is_some_and(|p| calls_any(p, names))
        }
        ExprKind::Subquery(s) => calls_any(&s.expr, names) || mentions(expr, names),
        ExprKind::Vector(_) | ExprKind::Matrix(_) => mentions(expr, names),
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => false,
    }
}

fn mentions(expr: &Expr, names: &[&str]) -> bool {
    let text = expr.to_string();
    ["step()", "range()", "start()", "end()"]
        .iter()
        .any(|w| names.contains(&&w[..w.len() - 2]) && text.contains(w))
}
