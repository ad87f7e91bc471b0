//! Which samples the selectors of an expression will read, before anything is read.

use super::context::{Grid, Result};
use super::subquery::STEPS_AT_ONCE;
use super::times::Times;
use crate::model::Matcher;
use crate::promql::ast::{Expr, ExprKind, RangeMode, VectorSelector};
use crate::promql::uses::Use;
use crate::storage::Need;

/// Calls `f` with the matchers of each selector and what it reads when the expression is evaluated over the grid. Left out
/// are those that are evaluated in parts, and those that have no meaning: the evaluation says so.
pub(super) fn each_use<'e>(times: &Times, expr: &'e Expr, grid: Grid, f: &mut dyn FnMut(&'e [Matcher], Use)) {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => each_use(times, e, grid, f),
        ExprKind::Binary(b) => {
            each_use(times, &b.lhs, grid, f);
            each_use(times, &b.rhs, grid, f);
        }
        ExprKind::Aggregate(a) => {
            a.param.iter().for_each(|p| each_use(times, p, grid, f));
            each_use(times, &a.expr, grid, f);
        }
        // What `info` selects follows from the series of its first argument.
        ExprKind::Call(c) if c.function == "info" => {
            c.args.iter().take(1).for_each(|a| each_use(times, a, grid, f));
        }
        ExprKind::Call(c) => c.args.iter().for_each(|a| each_use(times, a, grid, f)),
        ExprKind::Vector(v) => {
            if let Ok(what) = use_of_vector(times, v, grid) {
                f(&v.matchers, what);
            }
        }
        ExprKind::Matrix(m) => {
            if let Ok(spec) = times.window_spec(m) {
                let (after, to) = spec.reach(grid);
                f(&m.vector.matchers, Use::window(after, to));
            }
        }
        ExprKind::Subquery(s) => {
            if let Ok((_, inner)) = times.subquery(s, grid)
                && (1..=STEPS_AT_ONCE).contains(&inner.len)
            {
                each_use(times, &s.expr, inner, f);
            }
        }
    }
}

fn use_of_vector(times: &Times, v: &VectorSelector, grid: Grid) -> Result<Use> {
    let (offset, at) = times.shift(&v.shift)?;
    let grid = at.map_or(grid, Grid::at).shifted(-offset);
    Ok(match v.mode {
        RangeMode::Smoothed => times.smoothed(grid),
        _ => times.newest(grid),
    })
}

impl Use {
    /// All samples in `(after, to]`.
    pub fn window(after: i64, to: i64) -> Self {
        Use { range: (after.saturating_add(1), to), need: Need::Window }
    }
}

impl Times {
    /// What is read for the newest sample at each time of the grid.
    pub fn newest(&self, grid: Grid) -> Use {
        let need = if grid.len == 1 { Need::Newest } else { Need::Window };
        Use { need, ..Use::window(grid.start.saturating_sub(self.lookback), grid.end()) }
    }

    /// What is read for the samples around each time of the grid.
    pub fn smoothed(&self, grid: Grid) -> Use {
        let (start, end) = (grid.start, grid.end());
        Use::window(start.saturating_sub(self.lookback), end.saturating_add(self.lookback))
    }
}
