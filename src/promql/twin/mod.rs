//! The slow twin of the engine: one evaluation time after the other, one sample after the other, nothing kept, nothing
//! shared, as the documentation of PromQL reads. `tests` compares the engine with it on random data.
//!
//! It knows floats and staleness markers, selectors, subqueries, `offset` and `@`, the functions of ranges, aggregations
//! and binary operators; for all else see Prometheus's own scripts and `tests/promql_differential`.

mod aggregate;
mod matching;
mod ranges;
mod tests;

use std::collections::BTreeMap;

use super::ast::{At, DurationExpr, Expr, ExprKind, TimeShift, VectorSelector};
use crate::model::{Labels, MatchOp, Matcher, is_stale_marker};

/// A series as it was appended: times (ms) ascending.
pub type Series = (Labels, Vec<(i64, f64)>);

pub type Vector = Vec<(Labels, f64)>;

/// The value of an expression at one time.
#[derive(Clone, Debug)]
pub enum Value {
    Scalar(f64),
    Vector(Vector),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The expression has no value by PromQL's rules.
    Error(String),
    /// The twin does not know this kind of expression.
    Unknown(String),
}

type Result<T> = std::result::Result<T, Refusal>;

fn unknown<T>(what: impl Into<String>) -> Result<T> {
    Err(Refusal::Unknown(what.into()))
}

fn error<T>(what: impl Into<String>) -> Result<T> {
    Err(Refusal::Error(what.into()))
}

/// A window `(start, end]` with a series' samples in it, and the evaluation time; all in ms.
pub struct Window {
    pub samples: Vec<(i64, f64)>,
    pub start: i64,
    pub end: i64,
    pub time: i64,
}

pub struct Twin<'a> {
    pub series: &'a [Series],
    pub lookback: i64,
    pub start: i64,
    pub end: i64,
}

impl Twin<'_> {
    pub fn eval(&self, expr: &Expr, time: i64) -> Result<Value> {
        match &expr.kind {
            ExprKind::Number(v) | ExprKind::Duration(v) => Ok(Value::Scalar(*v)),
            ExprKind::Paren(e) => self.eval(e, time),
            ExprKind::Unary { negate: false, expr } => self.eval(expr, time),
            ExprKind::Unary { negate: true, expr } => match self.eval(expr, time)? {
                Value::Scalar(v) => Ok(Value::Scalar(-v)),
                Value::Vector(v) => {
                    nameless(v.into_iter().map(|(l, v)| (l, -v)).collect()).map(Value::Vector)
                }
            },
            ExprKind::Vector(s) => {
                let found = self.select(s, time)?;
                Ok(Value::Vector(found.into_iter().map(|(l, _, v)| (l, v)).collect()))
            }
            ExprKind::Call(call) => self.call(call.function, &call.args, time),
            ExprKind::Aggregate(a) => self.aggregate(a, time).map(Value::Vector),
            ExprKind::Binary(b) => self.binary(b, time),
            _ => unknown(expr.to_string()),
        }
    }

    fn vector(&self, expr: &Expr, time: i64) -> Result<Vector> {
        match self.eval(expr, time)? {
            Value::Vector(v) => Ok(v),
            Value::Scalar(_) => unknown("a scalar in place of a vector"),
        }
    }

    fn scalar(&self, expr: &Expr, time: i64) -> Result<f64> {
        match self.eval(expr, time)? {
            Value::Scalar(v) => Ok(v),
            Value::Vector(_) => unknown("a vector in place of a scalar"),
        }
    }

    /// The time that a selector looks from.
    fn shifted(&self, shift: &TimeShift, time: i64) -> Result<i64> {
        let from = match shift.at {
            None => time,
            Some(At::Time(ts)) => ts,
            Some(At::Start) => self.start,
            Some(At::End) => self.end,
        };
        Ok(from - shift.offset.as_ref().map_or(Ok(0), literal)?)
    }

    /// Each matching series' newest sample that is no older than the lookback, unless it is a staleness marker.
    fn select(&self, selector: &VectorSelector, time: i64) -> Result<Vec<(Labels, i64, f64)>> {
        let at = self.shifted(&selector.shift, time)?;
        let mut found = Vec::new();
        for (labels, samples) in self.series.iter().filter(|(l, _)| matches(&selector.matchers, l)) {
            let newest = samples.iter().rfind(|(ts, _)| *ts <= at);
            if let Some((ts, v)) = newest.filter(|(ts, v)| *ts > at - self.lookback && !is_stale_marker(*v)) {
                found.push((labels.clone(), *ts, *v));
            }
        }
        Ok(found)
    }

    /// The windows of a range selector or a subquery, those without samples left out.
    fn windows(&self, expr: &Expr, time: i64) -> Result<Vec<(Labels, Window)>> {
        match &expr.kind {
            ExprKind::Paren(e) => self.windows(e, time),
            ExprKind::Matrix(m) => {
                let end = self.shifted(&m.vector.shift, time)?;
                let start = end - literal(&m.range)?;
                let mut found = Vec::new();
                for (labels, samples) in self.series.iter().filter(|(l, _)| matches(&m.vector.matchers, l)) {
                    let inside = |(ts, v): &(i64, f64)| *ts > start && *ts <= end && !is_stale_marker(*v);
                    let samples: Vec<_> = samples.iter().copied().filter(inside).collect();
                    if !samples.is_empty() {
                        found.push((labels.clone(), Window { samples, start, end, time }));
                    }
                }
                Ok(found)
            }
            ExprKind::Subquery(s) => {
                let end = self.shifted(&s.shift, time)?;
                let start = end - literal(&s.range)?;
                let step = s.step.as_ref().map_or(Ok(60_000), literal)?;
                let mut series: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
                let mut ts = (start.div_euclid(step) + 1) * step;
                while ts <= end {
                    let values = match self.eval(&s.expr, ts)? {
                        Value::Scalar(v) => vec![(Labels::empty(), v)],
                        Value::Vector(v) => v,
                    };
                    for (labels, v) in values {
                        series.entry(labels).or_default().push((ts, v));
                    }
                    ts += step;
                }
                let window = |(labels, samples)| (labels, Window { samples, start, end, time });
                Ok(series.into_iter().map(window).collect())
            }
            _ => unknown("a range vector of another kind"),
        }
    }

    fn call(&self, function: &str, args: &[Expr], time: i64) -> Result<Value> {
        let each = |vector: Vector, f: &dyn Fn(f64) -> f64| -> Result<Value> {
            nameless(vector.into_iter().map(|(l, v)| (l, f(v))).collect()).map(Value::Vector)
        };
        match function {
            "time" => Ok(Value::Scalar(time as f64 / 1000.0)),
            "vector" => Ok(Value::Vector(vec![(Labels::empty(), self.scalar(&args[0], time)?)])),
            "scalar" => match &self.vector(&args[0], time)?[..] {
                [(_, v)] => Ok(Value::Scalar(*v)),
                _ => Ok(Value::Scalar(f64::NAN)),
            },
            "abs" => each(self.vector(&args[0], time)?, &f64::abs),
            "ceil" => each(self.vector(&args[0], time)?, &f64::ceil),
            "timestamp" => match &args[0].kind {
                ExprKind::Vector(s) => {
                    let found = self.select(s, time)?;
                    let times = found.into_iter().map(|(l, ts, _)| (l, ts as f64 / 1000.0));
                    nameless(times.collect()).map(Value::Vector)
                }
                _ => each(self.vector(&args[0], time)?, &|_| time as f64 / 1000.0),
            },
            "absent" => Ok(Value::Vector(absent(&args[0], self.vector(&args[0], time)?.is_empty()))),
            "absent_over_time" => {
                Ok(Value::Vector(absent(&args[0], self.windows(&args[0], time)?.is_empty())))
            }
            _ => {
                let is_range = |e: &&Expr| {
                    let mut e = *e;
                    while let ExprKind::Paren(inner) = &e.kind {
                        e = inner;
                    }
                    matches!(e.kind, ExprKind::Matrix(_) | ExprKind::Subquery(_))
                };
                let Some(range) = args.iter().find(is_range) else { return unknown(function) };
                let scalars: Vec<f64> = args
                    .iter()
                    .filter(|a| !is_range(a))
                    .map(|a| self.scalar(a, time))
                    .collect::<Result<_>>()?;
                let mut out = Vec::new();
                for (labels, window) in self.windows(range, time)? {
                    let Some(value) = ranges::apply(function, &scalars, &window) else {
                        return unknown(function);
                    };
                    out.extend(value.map(|v| (labels, v)));
                }
                let keeps = matches!(function, "last_over_time" | "first_over_time");
                if keeps { Ok(Value::Vector(out)) } else { nameless(out).map(Value::Vector) }
            }
        }
    }
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

fn literal(duration: &DurationExpr) -> Result<i64> {
    match duration {
        DurationExpr::Literal(ms) => Ok(*ms),
        DurationExpr::Negate(d) => Ok(-literal(d)?),
        _ => unknown("a calculated duration"),
    }
}

/// Drops the metric names; two elements that are the same then are an error.
fn nameless(vector: Vector) -> Result<Vector> {
    unique(vector.into_iter().map(|(l, v)| (l.without(&["__name__"]), v)).collect())
}

fn unique(vector: Vector) -> Result<Vector> {
    let mut seen = std::collections::BTreeSet::new();
    if vector.iter().all(|(l, _)| seen.insert(l.clone())) {
        return Ok(vector);
    }
    error("vector cannot contain metrics with the same labelset")
}

/// What stands for a vector that is not there: its labels as far as the selector names them.
fn absent(argument: &Expr, is_absent: bool) -> Vector {
    let matchers = match &argument.kind {
        ExprKind::Vector(s) => &s.matchers[..],
        ExprKind::Matrix(m) => &m.vector.matchers[..],
        _ => &[],
    };
    let once = |m: &&Matcher| matchers.iter().filter(|o| o.name == m.name).count() == 1;
    let named = matchers.iter().filter(|m| m.op == MatchOp::Equal && m.name != "__name__").filter(once);
    let labels = Labels::from_pairs(named.map(|m| (m.name.as_str(), m.value.as_str())));
    if is_absent { vec![(labels, 1.0)] } else { Vec::new() }
}
