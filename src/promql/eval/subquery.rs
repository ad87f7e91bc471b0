//! Subqueries: an expression evaluated over a grid of its own.

use std::collections::HashMap;
use std::sync::Arc;

use super::columns::{Columns, Lazy, Series};
use super::context::{Context, Grid, Result};
use super::pace::LABELS;
use super::source::{Source, append_row};
use super::window::WindowSpec;
use crate::model::Labels;
use crate::promql::ast::Subquery;
use crate::storage::{LabelTable, Samples};

/// A longer grid is evaluated in parts of so many steps: then no operator has a row that is too long for it to look in
/// time whether to stop, nor tables of the whole grid's size. What a step gives does not depend on the others.
pub(super) const STEPS_AT_ONCE: usize = 1 << 18;

/// So many samples' room is made at once at most.
const ROOM_MAX: usize = 1 << 26;

/// The samples of series that several parts of a grid gave, one part after the other.
#[derive(Default)]
pub(super) struct Joined {
    pub series: Vec<(Series, Samples)>,
    /// Of no series: these have label sets of their own.
    pub table: Arc<LabelTable>,
    numbers: HashMap<(Labels, bool), usize>,
    room: usize,
}

impl Joined {
    /// Adds what a part of the grid gave; as many parts are to come.
    fn add(&mut self, ctx: &Context<'_>, rows: &Lazy, part: Grid, to_come: usize) -> Result<()> {
        let mut pace = ctx.pace();
        for row in 0..rows.columns.rows() {
            pace.work(part.len + LABELS)?;
            let (labels, drop_name) = (rows.labels(row), rows.columns.series[row].drop_name);
            let number =
                *self.numbers.entry((labels, drop_name)).or_insert_with_key(|(labels, drop_name)| {
                    let series = Series { labels: labels.clone(), drop_name: *drop_name };
                    self.series.push((series, Samples::default()));
                    self.series.len() - 1
                });
            let samples = &mut self.series[number].1;
            let (floats, hists) = (samples.ts.len(), samples.hists.len());
            append_row(rows, row, part, samples);
            let (floats, hists) = (samples.ts.len() - floats, &samples.hists[hists..]);
            let in_histograms = hists.iter().map(|h| h.size_in_samples()).sum::<u64>();
            ctx.hold(floats as u64 + in_histograms)?;
            // What grows is copied, and that cannot be stopped: so there is room for as many in each part to come.
            let more = floats.saturating_mul(to_come).min(ROOM_MAX.saturating_sub(self.room));
            if samples.ts.capacity() - samples.ts.len() < more {
                self.room += more;
                let _room = samples.ts.try_reserve_exact(more);
                let _room = samples.vs.try_reserve_exact(more);
            }
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Evaluates what is inside a subquery over its own grid, which covers all windows that `grid` needs.
    pub fn subquery(&self, s: &Subquery, grid: Grid) -> Result<(Source, WindowSpec)> {
        let (spec, inner) = self.times.subquery(s, grid)?;
        let Grid { step, len, .. } = inner;
        if len == 0 {
            return Ok((Source::Table(Columns::new(0).into(), inner), spec));
        }
        self.check_slots(1, len)?;
        if len <= STEPS_AT_ONCE {
            let rows = self.samples.inside_subquery(inner, grid, || self.lazy_vector(&s.expr, inner))?;
            return Ok((Source::Table(rows, inner), spec));
        }
        let mut joined = Joined::default();
        for from in (0..len).step_by(STEPS_AT_ONCE) {
            let part = Grid { start: inner.time(from), step, len: STEPS_AT_ONCE.min(len - from) };
            let rows = self.samples.inside_subquery(part, grid, || self.lazy_vector(&s.expr, part))?;
            joined.add(self, &rows, part, (len - from - part.len).div_ceil(STEPS_AT_ONCE))?;
            self.samples.release(rows.columns.samples());
        }
        Ok((Source::Joined(joined), spec))
    }
}
