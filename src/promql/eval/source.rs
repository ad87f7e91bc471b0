//! Where the samples of a range vector come from, series by series.

use std::sync::Arc;

use super::columns::{ABSENT, FLOAT, HISTOGRAM, Lazy, RowLabels};
use super::context::Grid;
use super::subquery::Joined;
use crate::model::{CounterResetHint, FloatHistogram, is_stale_marker};
use crate::promql::kept::Own;
use crate::promql::uses::Found;
use crate::storage::{LabelTable, SampleSlices, Samples};

/// Where the samples of a range vector come from.
pub(super) enum Source {
    Storage {
        found: Found,
        /// Only counts, sums and resets of histograms matter.
        stats_only: bool,
        /// Whether start times are asked for.
        starts: bool,
    },
    /// A subquery's result over its own grid.
    Table(Lazy, Grid),
    /// The result of one that was evaluated in parts.
    Joined(Joined),
}

impl Source {
    pub fn len(&self) -> usize {
        match self {
            Source::Storage { found, .. } => found.selection.len(),
            Source::Table(rows, _) => rows.columns.rows(),
            Source::Joined(joined) => joined.series.len(),
        }
    }

    /// Where the labels of the series stand.
    pub fn table(&self) -> &Arc<LabelTable> {
        match self {
            Source::Storage { found, .. } => found.selection.table(),
            Source::Table(rows, _) => &rows.table,
            Source::Joined(joined) => &joined.table,
        }
    }

    pub fn labels(&self, i: usize) -> (RowLabels, bool) {
        match self {
            Source::Storage { .. } => (RowLabels::Stored { series: i as u32, bare: false }, false),
            Source::Table(rows, _) => {
                let s = &rows.columns.series[i];
                (s.labels.clone(), s.drop_name)
            }
            Source::Joined(joined) => {
                let (s, _) = &joined.series[i];
                (RowLabels::Made(s.labels.clone()), s.drop_name)
            }
        }
    }

    /// A label of a series; empty if it has none of this name.
    pub fn label(&self, i: usize, name: &str) -> &str {
        match self {
            Source::Storage { found, .. } => {
                let mut pairs = found.selection.table().pairs(i as u32);
                pairs.find(|(n, _)| *n == name).map_or("", |(_, v)| v)
            }
            Source::Table(rows, _) => rows.columns.series[i].labels.get(&rows.table, name).unwrap_or(""),
            Source::Joined(joined) => joined.series[i].0.labels.get(name).unwrap_or(""),
        }
    }

    /// The samples of one series within `(after, to]`, without staleness markers. `own` is where they are put if they do
    /// not lie in one piece already.
    pub fn load<'s>(&'s self, i: usize, after: i64, to: i64, own: &'s mut Own) -> SampleSlices<'s> {
        let Own { samples, group } = own;
        samples.clear();
        match self {
            Source::Storage { found, stats_only, starts } => {
                let from = after.saturating_add(1);
                if let Some(kept) = found.kept(i, (from, to), group) {
                    let kept = if *starts { kept } else { kept.without_starts() };
                    let to_strip = *stats_only && !kept.hists.is_empty();
                    if !to_strip && !has_stale(kept) {
                        return kept;
                    }
                    *samples = kept.into();
                } else {
                    found.selection.read(i, from, to, samples);
                    if !starts {
                        samples.starts.clear();
                        samples.hist_starts.clear();
                    }
                }
                drop_stale(samples);
                if *stats_only {
                    strip(samples);
                }
            }
            Source::Table(rows, grid) => append_row(rows, i, *grid, samples),
            Source::Joined(joined) => return joined.series[i].1.slices(),
        }
        samples.slices()
    }
}

/// Appends a row's points, at the times of the grid.
pub(super) fn append_row(Lazy { columns, .. }: &Lazy, row: usize, grid: Grid, out: &mut Samples) {
    for (step, slot) in columns.span(row).enumerate() {
        match columns.kinds[slot] {
            ABSENT => {}
            FLOAT => {
                out.ts.push(grid.time(step));
                out.vs.push(columns.values[slot]);
            }
            HISTOGRAM => {
                if let Some(h) = columns.hist(slot) {
                    out.hist_ts.push(grid.time(step));
                    out.hists.push(forget_resets(h));
                }
            }
            _ => {}
        }
    }
}

/// Samples may be missing or repeated in a subquery's result, so what they know about resets no longer holds.
fn forget_resets(h: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match h.counter_reset_hint {
        CounterResetHint::Reset | CounterResetHint::NotReset => {
            Arc::new(FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..(**h).clone() })
        }
        _ => Arc::clone(h),
    }
}

fn any_stale(vs: &[f64]) -> bool {
    // Nearly always there is none, so no look stops early.
    vs.iter().fold(false, |any, v| any | is_stale_marker(*v))
}

fn has_stale(samples: SampleSlices<'_>) -> bool {
    any_stale(samples.vs) || samples.hists.iter().any(|h| h.is_stale_marker())
}

fn drop_stale(samples: &mut Samples) {
    if any_stale(&samples.vs) {
        let mut kept = samples.vs.iter().map(|v| !is_stale_marker(*v));
        samples.ts.retain(|_| kept.next().unwrap_or(false));
        let mut kept = samples.vs.iter().map(|v| !is_stale_marker(*v));
        samples.starts.retain(|_| kept.next().unwrap_or(false));
        samples.vs.retain(|v| !is_stale_marker(*v));
    }
    if samples.hists.iter().any(|h| h.is_stale_marker()) {
        let mut kept = samples.hists.iter().map(|h| !h.is_stale_marker());
        samples.hist_ts.retain(|_| kept.next().unwrap_or(false));
        let mut kept = samples.hists.iter().map(|h| !h.is_stale_marker());
        samples.hist_starts.retain(|_| kept.next().unwrap_or(false));
        samples.hists.retain(|h| !h.is_stale_marker());
    }
}

/// Replaces histograms by their counts and sums, after noting where the buckets show a reset.
pub(super) fn strip(samples: &mut Samples) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    for h in &mut samples.hists {
        let full = Arc::clone(h);
        let hint = match (full.counter_reset_hint, &before) {
            (CounterResetHint::Unknown, Some(b)) if full.is_reset_after(b) => CounterResetHint::Reset,
            (CounterResetHint::Unknown, Some(_)) => CounterResetHint::NotReset,
            (hint, _) => hint,
        };
        *h = Arc::new(FloatHistogram {
            counter_reset_hint: hint,
            schema: full.schema,
            count: full.count,
            sum: full.sum,
            custom_values: full.custom_values.clone(),
            ..FloatHistogram::default()
        });
        before = if full.is_stale_marker() { None } else { Some(full) };
    }
}
