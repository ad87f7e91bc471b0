//! Which part of an expression makes two answers differ.

use streamgate::promql::ast::{At, BinaryOp, DurationExpr, Expr, ExprKind, Subquery, ValueType};

use crate::Pair;
use crate::answer::difference;
use crate::known;
use crate::server::Request;

/// Prometheus's `evaluation_interval`, the step of subqueries that have none.
const DEFAULT_STEP_MS: i64 = 60_000;

/// A part that differs though none of its own parts does.
#[derive(Clone, Debug)]
pub enum Cause {
    /// As a difference between the versions that is known, by its reason.
    Known(&'static str),
    /// The part, and how it differs.
    New(String, String),
}

/// Adds the smallest parts of `expr` that differ; false if it does not differ at all.
pub fn find(pair: &Pair, expr: &Expr, request: &Request, out: &mut Vec<Cause>) -> bool {
    let text = expr.to_string();
    let (theirs, ours) = pair.ask(&text, request);
    let Some(why) = difference(&theirs, &ours, crate::laid(expr)) else { return false };
    let mut below = false;
    for (part, request) in parts(expr, request) {
        below |= find(pair, part, &request, out);
    }
    if !below {
        out.push(match known::explain(expr, &theirs, &ours) {
            Some(reason) => Cause::Known(reason),
            None => Cause::New(format!("{text} for {request:?}"), why),
        });
    }
    true
}

/// The operands, and for which times they are asked.
fn parts<'e>(expr: &'e Expr, request: &Request) -> Vec<(&'e Expr, Request)> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => Vec::new(),
        ExprKind::Vector(_) | ExprKind::Matrix(_) => Vec::new(),
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => part(e, request),
        ExprKind::Binary(b) => [part(&b.lhs, request), part(&b.rhs, request)].concat(),
        ExprKind::Aggregate(a) => {
            let all = a.param.iter().chain([&a.expr]);
            all.flat_map(|e| part(e, request)).collect()
        }
        ExprKind::Call(c) => c.args.iter().flat_map(|e| part(e, request)).collect(),
        ExprKind::Subquery(s) => within(s, request).map(|inner| (&s.expr, inner)).into_iter().collect(),
    }
}

/// The operand with its times; of one that no range query answers, its operands.
fn part<'e>(expr: &'e Expr, request: &Request) -> Vec<(&'e Expr, Request)> {
    let inner = match &expr.kind {
        ExprKind::Paren(inner) => inner,
        _ => expr,
    };
    match inner.value_type() {
        ValueType::Matrix if matches!(inner.kind, ExprKind::Subquery(_)) => parts(inner, request),
        ValueType::Matrix | ValueType::String if request.step_ms > 0 => Vec::new(),
        _ => vec![(inner, *request)],
    }
}

/// The times at which a subquery asks; `None` if there are too many.
fn within(s: &Subquery, request: &Request) -> Option<Request> {
    const STEPS_MAX: i64 = 10_000;
    let offset = s.shift.offset.as_ref().map_or(0.0, ms) as i64;
    let (first, last) = match s.shift.at {
        None => (request.start, request.end),
        Some(At::Time(t)) => (t, t),
        Some(At::Start) => (request.start, request.start),
        Some(At::End) => (request.end, request.end),
    };
    let step_ms = s.step.as_ref().map_or(DEFAULT_STEP_MS, |d| ms(d) as i64).max(1);
    let start = (first - offset - ms(&s.range) as i64).div_euclid(step_ms) * step_ms + step_ms;
    let end = (last - offset).max(start);
    ((end - start) / step_ms < STEPS_MAX).then_some(Request { start, end, step_ms })
}

/// The milliseconds of a duration that neither step nor range of the query decides.
fn ms(duration: &DurationExpr) -> f64 {
    match duration {
        DurationExpr::Literal(ms) => *ms as f64,
        DurationExpr::Number(seconds) => seconds * 1000.0,
        DurationExpr::Negate(d) => -ms(d),
        DurationExpr::Paren(d) => ms(d),
        DurationExpr::Binary { op, lhs, rhs, .. } => {
            let (a, b) = (ms(lhs) / 1000.0, ms(rhs) / 1000.0);
            1000.0
                * match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod => a % b,
                    BinaryOp::Pow => a.powf(b),
                    other => panic!("{other:?} in a duration"),
                }
        }
        DurationExpr::Step | DurationExpr::Range | DurationExpr::Min(..) | DurationExpr::Max(..) => {
            panic!("{duration:?} is newer than what is compared with")
        }
    }
}
