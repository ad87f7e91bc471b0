//! Nodes that treat each series for itself, as recipes for rows.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::columns::Columns;
use super::context::{Context, Grid, Result, unwrap_parens};
use super::{binary, labels, pointwise};
use crate::promql::ast::{Expr, ExprKind};

/// Fills the rows of a range of the selected series into a table. May leave out rows that have no point.
pub(super) type Fill<'a> = Box<dyn Fn(Range<usize>, &mut Columns) -> Result<()> + Send + Sync + 'a>;

/// A recipe for a table, row by row.
pub(super) struct Rows<'a> {
    /// How many series there are at most.
    pub count: usize,
    pub fill: Fill<'a>,
    /// About how many samples are read for one row.
    pub cost: usize,
    /// What to do with rows that have the same labels.
    pub duplicates: Duplicates,
}

/// Rows with the same labels may arise when metric names are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duplicates {
    /// There are none.
    Impossible,
    /// They are united if they have no step in common.
    Unite,
    /// They are an error.
    Refuse,
}

/// How many slots one call of [`Rows::fill`] should make: large enough to hide its overhead, small enough for caches.
const SLOTS_PER_BATCH: usize = 32_768;

/// Below so many slots (or samples read), a second thread costs more than it saves.
const SLOTS_WORTH_A_THREAD: usize = 100_000;

impl<'c> Context<'c> {
    /// The node as a recipe for rows, if it is of that kind. Selects the series, but reads none.
    pub fn rows<'e>(&'e self, expr: &'e Expr, grid: Grid) -> Result<Option<Rows<'e>>> {
        let Some(profile) = &self.profile else { return self.rows_of(expr, grid) };
        let Some(rows) = profile.timed(expr, self.clock, || self.rows_of(expr, grid))? else {
            profile.forget(expr);
            return Ok(None);
        };
        let inner = rows.fill;
        let fill: Fill<'e> = Box::new(move |range, out| {
            let (rows, held) = (out.rows(), out.samples());
            profile.busy(expr, self.clock, || inner(range, out))?;
            profile.gave(expr, out.rows() - rows, (out.samples() - held).samples);
            Ok(())
        });
        Ok(Some(Rows { fill, ..rows }))
    }

    /// [`Context::rows`] without its cost being noted.
    pub fn rows_of<'e>(&'e self, expr: &'e Expr, grid: Grid) -> Result<Option<Rows<'e>>> {
        match &unwrap_parens(expr).kind {
            ExprKind::Vector(v) => self.selector_rows(v, grid),
            ExprKind::Unary { negate: true, expr } => Ok(self.rows(expr, grid)?.map(|rows| {
                self.map_rows(rows, Duplicates::Unite, grid, |columns| {
                    pointwise::negate(columns);
                    Ok(())
                })
            })),
            ExprKind::Unary { negate: false, expr } => self.rows(expr, grid),
            ExprKind::Binary(b) => binary::rows(self, &unwrap_parens(expr).pos, b, grid),
            ExprKind::Call(c) => match self.range_function_rows(expr, c, grid)? {
                Some(rows) => Ok(Some(rows)),
                None => pointwise::rows(self, c, grid),
            },
            _ => Ok(None),
        }
    }

    /// A recipe that changes the values of another one's rows, and drops the metric names.
    pub fn map_rows<'e>(
        &'e self,
        inner: Rows<'e>,
        duplicates: Duplicates,
        grid: Grid,
        change: impl Fn(&mut Columns) -> Result<()> + Send + Sync + 'e,
    ) -> Rows<'e> {
        let Rows { count, fill, cost, duplicates: before } = inner;
        let duplicates = if self.delayed() { Duplicates::Impossible } else { duplicates.max(before) };
        let fill: Fill<'e> = Box::new(move |range, out| {
            let mut part = Columns::new(grid.len);
            fill(range, &mut part)?;
            change(&mut part)?;
            self.drop_names(&mut part);
            out.append(part);
            Ok(())
        });
        Rows { count, fill, cost, duplicates }
    }

    /// Makes all the rows.
    pub fn materialise(&self, rows: Rows<'_>, grid: Grid) -> Result<Columns> {
        // Of all threads together: each has a part of the table.
        let made = AtomicUsize::new(0);
        let parts = self.fold_rows(
            &rows,
            grid,
            || Columns::new(grid.len),
            |all, part| {
                self.hold(part.samples())?;
                let rows = made.fetch_add(part.rows(), Ordering::Relaxed) + part.rows();
                self.check_slots(rows, part.steps)?;
                all.append(part);
                Ok(())
            },
        )?;
        let mut all = Columns::new(grid.len);
        for part in parts {
            all.append(part);
        }
        match rows.duplicates {
            Duplicates::Impossible => Ok(all),
            Duplicates::Unite => labels::unite(all),
            Duplicates::Refuse => {
                labels::refuse_duplicates(&all)?;
                Ok(all)
            }
        }
    }

    /// Makes the rows batch by batch and folds each batch into a state; one state per thread, in the order of the
    /// rows.
    pub fn fold_rows<S: Send>(
        &self,
        rows: &Rows<'_>,
        grid: Grid,
        state: impl Fn() -> S + Sync,
        fold: impl Fn(&mut S, Columns) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let per_row = grid.len.max(rows.cost).max(1);
        let batch = (SLOTS_PER_BATCH / per_row).clamp(1, 1024);
        let run = |range: Range<usize>| -> Result<S> {
            let mut state = state();
            let mut next = range.start;
            while next < range.end {
                self.check()?;
                let until = (next + batch).min(range.end);
                let mut part = Columns::new(grid.len);
                (rows.fill)(next..until, &mut part)?;
                fold(&mut state, part)?;
                next = until;
            }
            Ok(state)
        };
        let worth = rows.count.saturating_mul(per_row) / SLOTS_WORTH_A_THREAD;
        let threads = worth.clamp(1, self.threads).min(rows.count.max(1));
        if threads == 1 {
            return Ok(vec![run(0..rows.count)?]);
        }
        let share = rows.count.div_ceil(threads);
        let ranges: Vec<Range<usize>> = (0..threads)
            .map(|t| (t * share).min(rows.count)..((t + 1) * share).min(rows.count))
            .filter(|r| !r.is_empty())
            .collect();
        let run = &run;
        std::thread::scope(|scope| {
            let handles: Vec<_> =
                ranges[1..].iter().cloned().map(|range| scope.spawn(move || run(range))).collect();
            let mut states = vec![run(ranges[0].clone())];
            for handle in handles {
                states.push(match handle.join() {
                    Ok(state) => state,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
            }
            states.into_iter().collect()
        })
    }
}
