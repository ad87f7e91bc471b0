//! How much work a query is, before it is done.

use super::context::unwrap_parens;
use crate::promql::QueryRequest;
use crate::promql::ast::{DurationExpr, Expr, ExprKind, MatrixSelector, TimeShift, VectorSelector};
use crate::storage::Reader;

/// Samples read, slots filled and label values tried, about ten nanoseconds each: below this, a query takes a small part
/// of a millisecond.
const SMALL: u64 = 20_000;

/// What a sample is taken to be apart from the next, in ms.
const INTERVAL_MS: u64 = 15_000;

/// Whether the query is so little work, all of it in memory, that handing it to another thread would be a good part of
/// the whole.
pub(super) fn is_small(expr: &Expr, request: &QueryRequest, lookback: i64, reader: &Reader) -> bool {
    let span = request.end.saturating_sub(request.start).max(0);
    let steps = if request.step_ms > 0 { (span / request.step_ms).unsigned_abs() + 1 } else { 1 };
    let cost = Cost { reader, request, lookback, steps, span };
    cost.of(expr).is_some_and(|c| c < SMALL)
}

struct Cost<'a> {
    reader: &'a Reader,
    request: &'a QueryRequest,
    lookback: i64,
    steps: u64,
    span: i64,
}

impl Cost<'_> {
    /// `None` for what cannot be told, or is not small.
    fn of(&self, expr: &Expr) -> Option<u64> {
        Some(match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => self.steps,
            ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => self.of(e)?,
            ExprKind::Binary(b) => self.of(&b.lhs)? + self.of(&b.rhs)?,
            ExprKind::Aggregate(a) => self.of(&a.expr)? + a.param.as_ref().map_or(Some(0), |p| self.of(p))?,
            ExprKind::Call(c) if c.function == "info" => return None,
            ExprKind::Call(c) => {
                let one = |a: &Expr| match &unwrap_parens(a).kind {
                    ExprKind::Matrix(m) => self.matrix(m, looks_at_ends_only(c.function)),
                    _ => self.of(a),
                };
                c.args.iter().map(one).sum::<Option<u64>>()?.saturating_add(self.steps)
            }
            ExprKind::Vector(v) => self.selector(v, 0, 1)?,
            ExprKind::Matrix(m) => self.matrix(m, false)?,
            ExprKind::Subquery(_) => return None,
        })
    }

    fn matrix(&self, m: &MatrixSelector, ends_only: bool) -> Option<u64> {
        let DurationExpr::Literal(range) = m.range else { return None };
        let range = range.max(0);
        let window = if ends_only { 2 } else { 1 + range.unsigned_abs() / INTERVAL_MS };
        self.selector(&m.vector, range, window)
    }

    /// A selector with so many samples looked at in each step.
    fn selector(&self, v: &VectorSelector, range: i64, window: u64) -> Option<u64> {
        let TimeShift { offset, at: None } = &v.shift else { return None };
        let offset = match offset {
            None => 0,
            Some(DurationExpr::Literal(ms)) => *ms,
            Some(_) => return None,
        };
        let back = range.saturating_add(self.lookback);
        let from = self.request.start.saturating_sub(offset).saturating_sub(back);
        let to = self.request.end.saturating_sub(offset).saturating_add(self.lookback);
        let (series, tries) = self.reader.estimate(&v.matchers, from, to)?;
        let samples = range.saturating_add(self.span).unsigned_abs() / INTERVAL_MS;
        let each = 16u64.saturating_add(samples).saturating_add(self.steps.saturating_mul(window));
        Some(tries.saturating_add(series.saturating_mul(each)))
    }
}

/// Functions that look at the first and the last samples of a window, however long it is. (A counter that was reset has
/// all of its windows looked at; that is the exception.)
fn looks_at_ends_only(function: &str) -> bool {
    matches!(
        function,
        "rate"
            | "increase"
            | "delta"
            | "irate"
            | "idelta"
            | "first_over_time"
            | "last_over_time"
            | "count_over_time"
            | "present_over_time"
    )
}
