//! Nodes that treat each series for itself, as recipes for rows.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::columns::{Columns, Lazy, Part};
use super::context::{Context, Grid, Result, unwrap_parens};
use super::{binary, labels, pointwise};
use crate::promql::ast::{Expr, ExprKind};
use crate::storage::LabelTable;

/// Fills the rows of a range of the selected series into a table. May leave out rows that have no point.
pub(super) type Fill<'a> = Box<dyn Fn(Range<usize>, &mut Part) -> Result<()> + Send + Sync + 'a>;

/// A recipe for a table, row by row.
pub(super) struct Rows<'a> {
    /// How many series there are at most.
    pub count: usize,
    pub fill: Fill<'a>,
    /// Where the labels of the rows stand.
    pub table: Arc<LabelTable>,
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
            let rows = out.rows();
            profile.busy(expr, self.clock, || inner(range, out))?;
            profile.gave(expr, out.rows() - rows, out.samples_from(rows).samples);
            Ok(())
        });
        Ok(Some(Rows { fill, ..rows }))
    }

    /// [`Context::rows`] without its cost being noted.
    pub fn rows_of<'e>(&'e self, expr: &'e Expr, grid: Grid) -> Result<Option<Rows<'e>>> {
        match &unwrap_parens(expr).kind {
            ExprKind::Vector(v) => self.selector_rows(v, grid),
            ExprKind::Unary { negate: true, expr } => Ok(self.rows(expr, grid)?.map(|rows| {
                self.map_rows(rows, Duplicates::Unite, grid, |columns| pointwise::negate(self, columns))
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
        change: impl Fn(&mut Part) -> Result<()> + Send + Sync + 'e,
    ) -> Rows<'e> {
        let Rows { count, fill, table, cost, duplicates: before } = inner;
        let duplicates = if self.delayed() { Duplicates::Impossible } else { duplicates.max(before) };
        let fill: Fill<'e> = Box::new(move |range, out| {
            let mut part = Columns::new(grid.len);
            fill(range, &mut part)?;
            change(&mut part)?;
            for s in &mut part.series {
                s.drop_name = true;
                if !self.delayed() {
                    s.labels = s.labels.without_metadata();
                }
            }
            out.append(part);
            Ok(())
        });
        Rows { count, fill, table, cost, duplicates }
    }

    /// Makes all the rows, with their labels.
    pub fn materialise(&self, rows: Rows<'_>, grid: Grid) -> Result<Columns> {
        let duplicates = rows.duplicates;
        let all = self.materialise_lazy(rows, grid)?.made(&mut self.pace())?;
        match duplicates {
            Duplicates::Impossible => Ok(all),
            Duplicates::Unite => labels::unite(self, all),
            Duplicates::Refuse => {
                labels::refuse_duplicates(self, &all)?;
                Ok(all)
            }
        }
    }

    /// A node that the type checker knows to be an instant vector, for an operator that needs few of the labels.
    pub fn lazy_vector(&self, expr: &Expr, grid: Grid) -> Result<Lazy> {
        self.check()?;
        if (grid.len == 1 || !super::is_step_invariant(expr))
            && let Some(rows) = self.rows(expr, grid)?
        {
            return if rows.duplicates == Duplicates::Impossible {
                self.materialise_lazy(rows, grid)
            } else {
                Ok(self.materialise(rows, grid)?.into())
            };
        }
        Ok(self.vector(expr, grid)?.into())
    }

    /// Makes all the rows, without looking for duplicates.
    fn materialise_lazy(&self, rows: Rows<'_>, grid: Grid) -> Result<Lazy> {
        // Of all threads together: each has a part of the table.
        let made = AtomicUsize::new(0);
        let parts = self.each_batch(
            &rows,
            grid,
            // The first takes in what the others made.
            |share| Columns::with_capacity(grid.len, if share.start == 0 { rows.count } else { share.len() }),
            |all: &mut Part, batch| {
                let before = all.rows();
                (rows.fill)(batch, all)?;
                let new = all.rows() - before;
                self.hold(all.samples_from(before))?;
                self.check_slots(made.fetch_add(new, Ordering::Relaxed) + new, grid.len)
            },
        )?;
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_else(|| Columns::new(grid.len));
        let mut pace = self.pace();
        for part in parts {
            all.append_part(part, &mut pace)?;
        }
        Ok(Lazy { columns: all, table: rows.table })
    }

    /// Makes the rows batch by batch and folds each batch into a state; one state per thread, in the order of the
    /// rows.
    pub fn fold_rows<S: Send>(
        &self,
        rows: &Rows<'_>,
        grid: Grid,
        state: impl Fn() -> S + Sync,
        fold: impl Fn(&mut S, &Part) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let states = self.each_batch(
            rows,
            grid,
            |_| (state(), Columns::new(grid.len)),
            |(state, part), batch| {
                // The table's memory serves all batches.
                part.clear_rows();
                (rows.fill)(batch, part)?;
                fold(state, part)
            },
        )?;
        Ok(states.into_iter().map(|(state, _)| state).collect())
    }

    /// Calls `work` with the numbers of each batch of rows and a state; one state per thread, in the order of the
    /// rows. `state` is told which rows it is for.
    fn each_batch<S: Send>(
        &self,
        rows: &Rows<'_>,
        grid: Grid,
        state: impl Fn(Range<usize>) -> S + Sync,
        work: impl Fn(&mut S, Range<usize>) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let per_row = grid.len.max(rows.cost).max(1);
        let batch = (SLOTS_PER_BATCH / per_row).clamp(1, 1024);
        let run = |range: Range<usize>| -> Result<S> {
            let mut state = state(range.clone());
            let mut next = range.start;
            while next < range.end {
                self.check()?;
                let until = (next + batch).min(range.end);
                work(&mut state, next..until)?;
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
        let stack = self.options.features.depth.stack_bytes();
        std::thread::scope(|scope| {
            let spawn = |range: &Range<usize>| {
                let own = range.clone();
                let thread = std::thread::Builder::new().stack_size(stack);
                thread.spawn_scoped(scope, move || run(own)).map_err(|_| range.clone())
            };
            let handles: Vec<_> = ranges[1..].iter().map(spawn).collect();
            let mut states = vec![run(ranges[0].clone())];
            for handle in handles {
                states.push(match handle.map(std::thread::ScopedJoinHandle::join) {
                    Ok(Ok(state)) => state,
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    // The system has no thread to give: then this one does the work.
                    Err(range) => run(range),
                });
            }
            states.into_iter().collect()
        })
    }
}
