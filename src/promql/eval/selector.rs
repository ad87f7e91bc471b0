//! Instant vector selectors: the newest sample of each series at each step, as far as the lookback reaches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::columns::{Columns, FLOAT, Part, Point, RowLabels};
use super::context::{Context, Grid, Held, Result};
use super::rows::{Duplicates, Rows};
use super::{extended, source};
use crate::model::{METRIC_NAME, MatchOp, Matcher, is_stale_marker};
use crate::promql::Selections;
use crate::promql::ast::{Pos, RangeMode, VectorSelector};
use crate::promql::kept::{Kept, Own};
use crate::promql::uses::{Asked, Found, Selected, Use};
use crate::storage::{Need, SampleSlices};

/// What a selector puts into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    Value,
    /// The sample's own time in milliseconds, as a float.
    Time,
    /// The same of its start time; 0 if it has none.
    Start,
}

impl Context<'_> {
    /// The series that the matchers select, for one use of them.
    pub fn select(&self, matchers: &[Matcher], own: Use) -> Result<Found> {
        let others = self.others.filter(|o| o.is_repeated(matchers));
        let found = others.and_then(|o| o.find(matchers, own)).or_else(|| self.shared.find(matchers, own));
        let found = match found {
            Some(found) => found,
            None => self.select_anew(matchers, own, others)?,
        };
        let series = found.selection.len();
        self.samples.series.fetch_add(series as u64, Ordering::Relaxed);
        if let Some(profile) = &self.profile {
            profile.selected(matchers, series);
        }
        Ok(found)
    }

    fn select_anew(&self, matchers: &[Matcher], own: Use, others: Option<&Selections>) -> Result<Found> {
        let Asked { select, keep } = match others {
            Some(others) => others.asked(matchers, own),
            None => self.shared.asked(matchers, own),
        };
        let stop = || self.check().is_err();
        let selection = Arc::new(self.reader.selection(matchers, select.range, select.need, &stop));
        self.check()?;
        let bytes = selection.bytes();
        // Until the query ends: label tables live nearly as long.
        self.hold(Held { samples: 0, bytes })?;
        let Some(tally) = others.map(Selections::tally).or(self.shared.tally()) else {
            return Ok(Found::alone(selection));
        };
        let mut selected = Selected::new(select, Arc::clone(&selection));
        if let Some((range, uses)) =
            keep.filter(|_| select.need == Need::Window || selection.reaches_blocks())
        {
            selected = selected.keeping(Kept::new(&selection, range, self.room(tally)), uses);
        }
        let found = selected.take(own.range);
        if let Some(others) = others {
            // It outlives the query then, and must leave room for the others.
            let limits = &self.options.limits;
            if let Some(charge) = self.samples.hand_over_below(bytes, limits.max_bytes_total / 2) {
                match others.keep(matchers, selected, charge, limits.max_bytes) {
                    Ok(()) => return Ok(found),
                    Err(back) => selected = back,
                }
            }
        }
        self.shared.keep(matchers, selected);
        Ok(found)
    }

    pub fn vector_selector(&self, v: &VectorSelector, pos: &Pos, grid: Grid) -> Result<Columns> {
        let (offset, at) = self.times.shift(&v.shift)?;
        let once = at.map_or(grid, Grid::at);
        let columns = match v.mode {
            RangeMode::Smoothed => extended::smoothed_selector(self, v, pos, once.shifted(-offset))?,
            _ => {
                let rows = self.plain_rows(v, once.shifted(-offset), Take::Value)?;
                self.materialise(rows, once)?
            }
        };
        self.check_slots(columns.rows(), grid.len)?;
        if at.is_some() { columns.broadcast(grid.len, &mut self.pace()) } else { Ok(columns) }
    }

    /// The recipe of a selector that is not pinned to a time.
    pub fn selector_rows<'e>(&'e self, v: &'e VectorSelector, grid: Grid) -> Result<Option<Rows<'e>>> {
        let (offset, at) = self.times.shift(&v.shift)?;
        if v.mode == RangeMode::Smoothed || (at.is_some() && grid.len > 1) {
            return Ok(None);
        }
        let grid = at.map_or(grid, |t| Grid { start: t, ..grid });
        Ok(Some(self.plain_rows(v, grid.shifted(-offset), Take::Value)?))
    }

    /// Rows of what is newest at each of `times`.
    pub fn plain_rows<'e>(&'e self, v: &VectorSelector, times: Grid, take: Take) -> Result<Rows<'e>> {
        let found = self.select(&v.matchers, self.times.newest(times))?;
        Ok(self.latest_rows(found, times, take, self.stats_only(v)))
    }

    pub fn latest_rows<'e>(&'e self, found: Found, times: Grid, take: Take, stats_only: bool) -> Rows<'e> {
        let lookback = self.times.lookback;
        let from = times.start.saturating_sub(lookback).saturating_add(1);
        let count = found.selection.len();
        let table = Arc::clone(found.selection.table());
        let fill = Box::new(move |range: std::ops::Range<usize>, out: &mut Part| {
            let mut own = Own::default();
            let mut read = 0;
            let mut pace = self.pace();
            for s in range {
                let samples = if stats_only {
                    let samples = found.read_own(s, from, times.end(), &mut own);
                    source::strip(samples);
                    samples.slices()
                } else {
                    found.read(s, from, times.end(), &mut own)
                };
                pace.work(times.len + samples.ts.len() + samples.hist_ts.len() * HISTOGRAM_READ)?;
                if samples.is_empty() {
                    continue;
                }
                let row = out.push_row(RowLabels::Stored { series: s as u32, bare: false }, false);
                let found = latest(&samples, times, lookback, take, out, row);
                if self.samples.by_step() {
                    for (step, slot) in out.span(row).enumerate() {
                        let size = match out.point(slot) {
                            Point::None => continue,
                            Point::Float(_) => 1,
                            Point::Histogram(h) => h.size_in_samples(),
                        };
                        self.samples.read_at(step, size);
                        self.samples.fetch_at(step, size);
                    }
                }
                if found == 0 {
                    out.pop_row();
                }
                read += found;
            }
            self.samples.read(read);
            self.samples.fetch(read);
            Ok(())
        });
        Rows { count, fill, table, cost: times.len, duplicates: Duplicates::Impossible }
    }
}

/// What reading a histogram costs, in units of work.
pub(super) const HISTOGRAM_READ: usize = 32;

/// Whether all series that these matchers select have the same metric name.
pub(super) fn has_one_name(matchers: &[Matcher]) -> bool {
    matchers.iter().any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty())
}

/// A sample's start time.
fn start(starts: &[i64], i: usize) -> f64 {
    starts.get(i).map_or(0.0, |s| *s as f64)
}

/// Fills a row with the newest sample at each time, and answers how many slots that made.
fn latest(
    samples: &SampleSlices<'_>,
    times: Grid,
    lookback: i64,
    take: Take,
    out: &mut Part,
    row: usize,
) -> u64 {
    let span = out.span(row);
    let mut found = 0;
    if samples.hist_ts.is_empty() {
        let (ts, vs) = (samples.ts, samples.vs);
        let kinds = &mut out.kinds[span.clone()];
        let values = &mut out.values[span];
        let mut next = 0;
        for (i, (kind, value)) in kinds.iter_mut().zip(values).enumerate() {
            let t = times.time(i);
            while next < ts.len() && ts[next] <= t {
                next += 1;
            }
            let Some(last) = next.checked_sub(1) else { continue };
            if ts[last] > t.saturating_sub(lookback) && !is_stale_marker(vs[last]) {
                *kind = FLOAT;
                *value = match take {
                    Take::Value => vs[last],
                    Take::Time => ts[last] as f64,
                    Take::Start => start(samples.starts, last),
                };
                found += 1;
            }
        }
        return found;
    }
    let (mut floats, mut hists) = (0, 0);
    for (i, slot) in span.enumerate() {
        let t = times.time(i);
        while floats < samples.ts.len() && samples.ts[floats] <= t {
            floats += 1;
        }
        while hists < samples.hist_ts.len() && samples.hist_ts[hists] <= t {
            hists += 1;
        }
        let float = floats.checked_sub(1).map(|i| (samples.ts[i], samples.vs[i]));
        let hist = hists.checked_sub(1).map(|i| (samples.hist_ts[i], &samples.hists[i]));
        let (float_start, hist_start) = if take == Take::Start {
            (start(samples.starts, floats.wrapping_sub(1)), start(samples.hist_starts, hists.wrapping_sub(1)))
        } else {
            (0.0, 0.0)
        };
        let after = t.saturating_sub(lookback);
        match (float, hist) {
            (f, Some((th, h))) if f.is_none_or(|(tf, _)| tf < th) => {
                if th > after && !h.is_stale_marker() {
                    match take {
                        Take::Value => out.set(slot, Point::Histogram(h.clone())),
                        Take::Time | Take::Start => {
                            // Marked as a histogram's time, for `info` refuses those.
                            out.set(slot, Point::Histogram(h.clone()));
                            out.values[slot] = if take == Take::Time { th as f64 } else { hist_start };
                        }
                    }
                    found += h.size_in_samples();
                }
            }
            (Some((tf, v)), _) => {
                if tf > after && !is_stale_marker(v) {
                    let value = match take {
                        Take::Value => v,
                        Take::Time => tf as f64,
                        Take::Start => float_start,
                    };
                    out.set(slot, Point::Float(value));
                    found += 1;
                }
            }
            (None, _) => {}
        }
    }
    found
}
