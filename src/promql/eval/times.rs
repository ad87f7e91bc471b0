//! The times of a query, and what its durations come to.

use super::context::{Grid, Result, fail};
use super::window::WindowSpec;
use crate::promql::ast::{At, BinaryOp, DurationExpr, MatrixSelector, RangeMode, Subquery, TimeShift};
use crate::promql::{EngineOptions, QueryRequest};

/// When a query is evaluated, and what its text leaves open; all in ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub lookback: i64,
    /// Start, end and step (0 if instant) of the whole query.
    pub query_start: i64,
    pub query_end: i64,
    pub query_step: i64,
    /// The step of a subquery that names none; at least 1.
    subquery_step: i64,
}

impl Times {
    pub fn of(options: &EngineOptions, request: &QueryRequest) -> Self {
        Times {
            lookback: request.lookback_ms.unwrap_or(options.lookback_ms),
            query_start: request.start,
            query_end: request.end,
            query_step: request.step_ms,
            subquery_step: options.default_subquery_step_ms.max(1),
        }
    }

    /// Offset (ms) and pinned time of a selector or subquery.
    pub fn shift(&self, shift: &TimeShift) -> Result<(i64, Option<i64>)> {
        let at = shift.at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.query_start,
            At::End => self.query_end,
        });
        Ok((self.offset(shift.offset.as_ref())?, at))
    }

    /// How the windows of a range selector lie.
    pub fn window_spec(&self, m: &MatrixSelector) -> Result<WindowSpec> {
        let (offset, at) = self.shift(&m.vector.shift)?;
        let range = self.range_ms(&m.range)?;
        Ok(WindowSpec { range, offset, at, mode: m.vector.mode, lookback: self.lookback })
    }

    /// How the windows of a subquery lie, and the grid of its own, which covers all windows that `grid` needs.
    pub fn subquery(&self, s: &Subquery, grid: Grid) -> Result<(WindowSpec, Grid)> {
        let (offset, at) = self.shift(&s.shift)?;
        let range = self.range_ms(&s.range)?;
        let step = match &s.step {
            Some(d) => self.positive(d)?,
            None => self.subquery_step,
        };
        let spec = WindowSpec { range, offset, at, mode: RangeMode::Plain, lookback: self.lookback };
        let (after, to) = spec.reach(grid);
        let start = (after.div_euclid(step) + 1).saturating_mul(step);
        let len = match to.saturating_sub(start) {
            _ if start > to => 0,
            span => usize::try_from(span / step).map_or(usize::MAX, |n| n.saturating_add(1)),
        };
        Ok((spec, Grid { start, step, len }))
    }

    /// Milliseconds of a duration that may be negative.
    pub fn offset(&self, d: Option<&DurationExpr>) -> Result<i64> {
        d.map_or(Ok(0), |d| self.duration(d))
    }

    /// Milliseconds of a range, which must be above zero; one below a millisecond has none.
    pub fn range_ms(&self, d: &DurationExpr) -> Result<i64> {
        match d {
            // The parser has looked at it.
            DurationExpr::Literal(ms) => Ok(*ms),
            d if self.duration_seconds(d)? > 0.0 => self.duration(d),
            d => self.positive(d),
        }
    }

    /// Milliseconds of a step, which must be above zero.
    pub fn positive(&self, d: &DurationExpr) -> Result<i64> {
        match self.duration(d)? {
            ms if ms > 0 => Ok(ms),
            _ => fail("duration must be greater than 0"),
        }
    }

    fn duration(&self, d: &DurationExpr) -> Result<i64> {
        if let DurationExpr::Literal(ms) = d {
            return Ok(*ms);
        }
        let seconds = self.duration_seconds(d)?;
        // What Go's nanoseconds hold, as for a duration that is not calculated.
        if seconds.is_nan() || seconds.abs() > i64::MAX as f64 / 1e9 {
            return fail("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn duration_seconds(&self, d: &DurationExpr) -> Result<f64> {
        Ok(match d {
            DurationExpr::Literal(ms) => *ms as f64 / 1000.0,
            DurationExpr::Number(v) => *v,
            DurationExpr::Step => self.query_step as f64 / 1000.0,
            DurationExpr::Range => self.query_end.saturating_sub(self.query_start) as f64 / 1000.0,
            DurationExpr::Paren(d) => self.duration_seconds(d)?,
            DurationExpr::Negate(d) => -self.duration_seconds(d)?,
            DurationExpr::Min(a, b) => self.duration_seconds(a)?.min(self.duration_seconds(b)?),
            DurationExpr::Max(a, b) => self.duration_seconds(a)?.max(self.duration_seconds(b)?),
            DurationExpr::Binary { op, lhs, rhs, .. } => {
                let (l, r) = (self.duration_seconds(lhs)?, self.duration_seconds(rhs)?);
                match op {
                    BinaryOp::Add => l + r,
                    BinaryOp::Sub => l - r,
                    BinaryOp::Mul => l * r,
                    BinaryOp::Div if r == 0.0 => return fail("division by zero"),
                    BinaryOp::Div => l / r,
                    BinaryOp::Mod if r == 0.0 => return fail("modulo by zero"),
                    BinaryOp::Mod => l % r,
                    BinaryOp::Pow => l.powf(r),
                    _ => return fail("unexpected operator in a duration expression"),
                }
            }
        })
    }
}
