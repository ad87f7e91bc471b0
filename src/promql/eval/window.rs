//! Range vectors: windows of samples that slide over each series once.

use std::sync::Arc;

use super::columns::{Columns, Part, Point};
use super::context::{Context, Grid, Held, Result, fail, unwrap_parens};
use super::over_time::RangeFunction;
use super::pace::LABELS;
use super::rows::{Duplicates, Rows};
use super::selector::{HISTOGRAM_READ, has_one_name};
use super::source::Source;
use super::{labels, rate, sorted};
use crate::model::{FloatHistogram, METRIC_NAME};
use crate::promql::MatrixSeries;
use crate::promql::ast::{Call, Expr, ExprKind, Pos, RangeMode, ValueType};
use crate::promql::kept::Own;
use crate::promql::uses::Use;
use crate::storage::SampleSlices;

/// The samples of one series in one window, and the window's place: `(start, end]`.
///
/// With `anchored` and `smoothed` the samples reach beyond the window by the lookback.
pub(super) struct Window<'a> {
    pub ts: &'a [i64],
    pub vs: &'a [f64],
    pub hist_ts: &'a [i64],
    pub hists: &'a [Arc<FloatHistogram>],
    /// Start times of the floats and of the histograms, where start times are asked for and there are any; else empty.
    pub starts: &'a [i64],
    pub hist_starts: &'a [i64],
    pub start: i64,
    pub end: i64,
    /// The evaluation time.
    pub time: i64,
}

impl Window<'_> {
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.hist_ts.is_empty()
    }
}

/// How windows lie relative to the evaluation times.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowSpec {
    pub range: i64,
    pub offset: i64,
    /// The time that `@` pins all windows to.
    pub at: Option<i64>,
    pub mode: RangeMode,
    pub lookback: i64,
}

impl WindowSpec {
    #[inline]
    pub fn bounds(&self, time: i64) -> (i64, i64) {
        let end = self.at.unwrap_or(time).saturating_sub(self.offset);
        (end.saturating_sub(self.range), end)
    }

    /// How far samples are looked for beyond the bounds, to the left and to the right.
    fn margins(&self) -> (i64, i64) {
        match self.mode {
            RangeMode::Plain => (0, 0),
            RangeMode::Anchored => (self.lookback, 0),
            RangeMode::Smoothed => (self.lookback, self.lookback),
        }
    }

    /// What has to be read for all windows of the grid: `(after, to]`.
    pub fn reach(&self, grid: Grid) -> (i64, i64) {
        let (left, right) = self.margins();
        let (first, _) = self.bounds(grid.start);
        let (_, last) = self.bounds(grid.end());
        (first.saturating_sub(left), last.saturating_add(right))
    }

    /// Calls `f` with the window of each step; both ends only move forward. Answers how many samples all windows had.
    #[inline]
    pub fn slide(
        &self,
        samples: &SampleSlices<'_>,
        grid: Grid,
        mut f: impl FnMut(usize, &Window<'_>),
    ) -> u64 {
        let (mut hlo, mut hhi) = (0, 0);
        let mut in_histograms = 0;
        let (left, right) = self.margins();
        let floats = self.slide_over(samples.ts, grid, |place| {
            let Place { step, from, until, start, end } = place;
            let mut window = Window {
                ts: &samples.ts[from..until],
                vs: &samples.vs[from..until],
                hist_ts: &[],
                hists: &[],
                starts: samples.starts.get(from..until).unwrap_or(&[]),
                hist_starts: &[],
                start,
                end,
                time: grid.time(step),
            };
            if !samples.hist_ts.is_empty() {
                advance(samples.hist_ts, &mut hlo, start.saturating_sub(left));
                advance(samples.hist_ts, &mut hhi, end.saturating_add(right));
                let hlo = hlo.min(hhi);
                window.hist_ts = &samples.hist_ts[hlo..hhi];
                window.hists = &samples.hists[hlo..hhi];
                window.hist_starts = samples.hist_starts.get(hlo..hhi).unwrap_or(&[]);
                in_histograms += window.hists.iter().map(|h| h.size_in_samples()).sum::<u64>();
            }
            if !window.is_empty() {
                f(step, &window);
            }
        });
        floats + in_histograms
    }

    /// Calls `f` with the place of each step's window among the times `ts`, also where it is empty. Answers how many
    /// of them all windows had.
    #[inline]
    pub fn slide_over(&self, ts: &[i64], grid: Grid, mut f: impl FnMut(Place)) -> u64 {
        let (left, right) = self.margins();
        let (mut from, mut until, mut total) = (0, 0, 0);
        for step in 0..grid.len {
            let (start, end) = self.bounds(grid.time(step));
            advance(ts, &mut from, start.saturating_sub(left));
            advance(ts, &mut until, end.saturating_add(right));
            let from = from.min(until);
            total += (until - from) as u64;
            f(Place { step, from, until, start, end });
        }
        total
    }
}

/// Where the window `(start, end]` of a step lies among the times of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub step: usize,
    pub from: usize,
    pub until: usize,
    pub start: i64,
    pub end: i64,
}

/// Moves `at` past all times up to `bound`.
#[inline]
fn advance(ts: &[i64], at: &mut usize, bound: i64) {
    while *at < ts.len() && ts[*at] <= bound {
        *at += 1;
    }
}

/// The index of the range vector among a function's arguments.
pub(super) fn range_argument(call: &Call) -> Option<usize> {
    call.args
        .iter()
        .position(|a| matches!(unwrap_parens(a).kind, ExprKind::Matrix(_) | ExprKind::Subquery(_)))
}

impl Context<'_> {
    /// A function of a range vector as a recipe for rows.
    pub fn range_function_rows<'e>(
        &'e self,
        expr: &'e Expr,
        call: &'e Call,
        grid: Grid,
    ) -> Result<Option<Rows<'e>>> {
        let Some(index) = range_argument(call) else { return Ok(None) };
        let Some(function) = RangeFunction::of(call.function) else { return Ok(None) };
        let _ = expr;
        let argument = unwrap_parens(&call.args[index]);
        let mut scalars = Vec::new();
        for (i, a) in call.args.iter().enumerate() {
            if i != index && super::value_type(a) == ValueType::Scalar {
                scalars.push(self.scalar(a, grid)?);
            }
        }
        let (source, spec, one_name) = self.range_source(argument, grid)?;
        match spec.mode {
            RangeMode::Anchored if !function.works_anchored() => {
                return fail(format!(
                    "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with {}",
                    call.function
                ));
            }
            RangeMode::Smoothed if !function.works_smoothed() => {
                return fail(format!(
                    "smoothed modifier can only be used with: delta, increase, rate - not with {}",
                    call.function
                ));
            }
            _ => {}
        }
        let drop_name = !function.keeps_name();
        let duplicates = match (self.delayed() || !drop_name, one_name) {
            (true, _) | (_, true) => Duplicates::Impossible,
            _ => Duplicates::Refuse,
        };
        let (after, to) = spec.reach(grid);
        // A guess: one sample in 15 s.
        let cost = usize::try_from(to.saturating_sub(after) / 15_000).unwrap_or(usize::MAX);
        let first = unwrap_parens(&call.args[0]);
        // Prometheus has lost the place of a subquery by then, and points at the start of the query.
        let pos = if matches!(first.kind, ExprKind::Subquery(_)) { &(0..0) } else { &first.pos };
        let count = source.len();
        let table = Arc::clone(source.table());
        let fill = Box::new(move |range: std::ops::Range<usize>, out: &mut Part| {
            let mut own = Own::default();
            let mut pace = self.pace();
            for i in range {
                let samples = &source.load(i, after, to, &mut own);
                pace.work(samples.ts.len() + samples.hist_ts.len() * HISTOGRAM_READ)?;
                if samples.is_empty() {
                    continue;
                }
                if let Some(profile) = &self.profile {
                    profile.read(argument, samples);
                }
                let (labels, dropped) = source.labels(i);
                let job =
                    RangeJob { ctx: self, pos, source: &source, series: i, spec, grid, scalars: &scalars };
                let row = out.push_row(labels, dropped);
                let loaded = self.hold_loaded(&source, samples)?;
                let read = function.fill(&job, samples, out, row)?;
                self.samples.release(loaded);
                self.samples.read(read);
                self.count_fetched(&source, samples, read);
                self.count_steps(&source, &spec, samples, grid);
                if !out.has_points(row) {
                    out.pop_row();
                    continue;
                }
                if function.wants_counter() {
                    rate::note_unlikely_counter(&job, out.row_kinds(row));
                }
                if drop_name {
                    let series = &mut out.series[row];
                    series.drop_name = true;
                    if !self.delayed() {
                        series.labels = series.labels.without_metadata();
                    }
                }
            }
            // A window that was left early has given a wrong value.
            self.check()
        });
        Ok(Some(Rows { count, fill, table, cost: cost.min(1 << 24), duplicates }))
    }

    /// Counts the samples that the windows over a series of the source hold, `read` in all: windows that overlap hold
    /// whatever was loaded, others each its own.
    fn count_fetched(&self, source: &Source, samples: &SampleSlices<'_>, read: u64) {
        if let Source::Storage { .. } = source {
            let in_histograms = samples.hists.iter().map(|h| h.size_in_samples()).sum::<u64>();
            self.samples.fetch(read.min(samples.ts.len() as u64 + in_histograms));
        }
    }

    /// Notes that the samples of a series are held, if they are many and were not held before.
    fn hold_loaded(&self, source: &Source, samples: &SampleSlices<'_>) -> Result<Held> {
        const FEW: usize = 4096;
        if samples.len() <= FEW || !matches!(source, Source::Storage { .. }) {
            return Ok(Held::default());
        }
        let in_histograms = samples.hists.iter().map(|h| h.size_in_samples()).sum::<u64>();
        let held = Held { samples: 0, bytes: 16 * (samples.ts.len() as u64 + in_histograms) };
        self.hold(held)?;
        Ok(held)
    }

    /// Counts the samples of each window, if the query asks for that: all of them, and those that the windows before
    /// it did not hold.
    fn count_steps(&self, source: &Source, spec: &WindowSpec, samples: &SampleSlices<'_>, grid: Grid) {
        if !self.samples.by_step() {
            return;
        }
        let sizes = |hists: &[Arc<FloatHistogram>]| hists.iter().map(|h| h.size_in_samples()).sum::<u64>();
        let stored = matches!(source, Source::Storage { .. });
        let mut until = i64::MIN;
        spec.slide(samples, grid, |step, window| {
            self.samples.read_at(step, window.ts.len() as u64 + sizes(window.hists));
            if stored {
                let seen = |ts: &[i64]| ts.partition_point(|t| *t <= until);
                let floats = window.ts.len() - seen(window.ts);
                let fresh = floats as u64 + sizes(&window.hists[seen(window.hist_ts)..]);
                self.samples.fetch_at(step, fresh);
                until = until
                    .max(*window.ts.last().unwrap_or(&i64::MIN))
                    .max(*window.hist_ts.last().unwrap_or(&i64::MIN));
            }
        });
    }

    /// The samples behind a range vector, how its windows lie, and whether all its series have one name.
    pub fn range_source(&self, argument: &Expr, grid: Grid) -> Result<(Source, WindowSpec, bool)> {
        match &argument.kind {
            ExprKind::Matrix(m) => {
                let spec = self.times.window_spec(m)?;
                let (after, to) = spec.reach(grid);
                let found = self.select(&m.vector.matchers, Use::window(after, to))?;
                let stats_only = self.stats_only(&m.vector);
                let starts = self.options.features.use_start_timestamps && spec.mode == RangeMode::Plain;
                Ok((Source::Storage { found, stats_only, starts }, spec, has_one_name(&m.vector.matchers)))
            }
            ExprKind::Subquery(s) => {
                let (source, spec) = self.subquery(s, grid)?;
                Ok((source, spec, false))
            }
            _ => fail("expected a range vector"),
        }
    }

    /// `absent_over_time`: 1 at the steps at which no series has a sample in its window.
    pub fn absent_over_time(&self, call: &Call, grid: Grid) -> Result<Columns> {
        let argument = unwrap_parens(&call.args[0]);
        let (source, spec, _) = self.range_source(argument, grid)?;
        if spec.mode != RangeMode::Plain {
            let (word, list) = match spec.mode {
                RangeMode::Anchored => ("anchored", "changes, delta, increase, rate, resets"),
                _ => ("smoothed", "delta, increase, rate"),
            };
            return fail(format!(
                "{word} modifier can only be used with: {list} - not with absent_over_time"
            ));
        }
        let (after, to) = spec.reach(grid);
        let mut present = vec![false; grid.len];
        let mut own = Own::default();
        let mut pace = self.pace();
        for i in 0..source.len() {
            let samples = &source.load(i, after, to, &mut own);
            pace.work(LABELS + samples.ts.len() + samples.hist_ts.len() * HISTOGRAM_READ)?;
            if let Some(profile) = &self.profile {
                profile.read(argument, samples);
            }
            let read = spec.slide(samples, grid, |step, _| present[step] = true);
            self.samples.read(read);
            self.count_fetched(&source, samples, read);
            self.count_steps(&source, &spec, samples, grid);
        }
        Ok(labels::absent(argument, &present))
    }

    /// The floats with their times.
    fn pairs(&self, samples: &SampleSlices<'_>) -> Result<Vec<(i64, f64)>> {
        let mut pairs = Vec::with_capacity(samples.ts.len());
        self.in_pieces(samples.ts.len(), |piece| {
            pairs.extend(samples.ts[piece.clone()].iter().copied().zip(samples.vs[piece].iter().copied()));
        })?;
        Ok(pairs)
    }

    /// The answer to an instant query for a range vector.
    pub fn instant_matrix(&self, argument: &Expr, ts: i64) -> Result<Vec<MatrixSeries>> {
        let grid = Grid::at(ts);
        let (source, spec, _) = self.range_source(argument, grid)?;
        let (after, to) = spec.reach(grid);
        let (start, end) = spec.bounds(ts);
        let mut out = Vec::new();
        let mut own = Own::default();
        let mut pace = self.pace();
        for i in 0..source.len() {
            let samples = &source.load(i, after, to, &mut own);
            pace.work(LABELS + samples.ts.len() + samples.hist_ts.len() * HISTOGRAM_READ)?;
            if let Some(profile) = &self.profile {
                profile.read(argument, samples);
            }
            let held = (samples.ts.len() + samples.hist_ts.len()) as u64;
            self.hold(held)?;
            self.samples.read(held);
            self.count_fetched(&source, samples, held);
            self.count_steps(&source, &spec, samples, grid);
            if samples.is_empty() {
                continue;
            }
            if spec.mode != RangeMode::Plain && !samples.hist_ts.is_empty() {
                let word = if spec.mode == RangeMode::Anchored { "anchored" } else { "smoothed" };
                return fail(format!("{word} modifier is not supported with histograms"));
            }
            let (labels, drop_name) = source.labels(i);
            let labels = if drop_name { labels.without_metadata() } else { labels };
            let mut series = MatrixSeries {
                labels: labels.make(source.table()),
                floats: self.pairs(samples)?,
                histograms: samples.hist_ts.iter().copied().zip(samples.hists.iter().cloned()).collect(),
            };
            if spec.mode != RangeMode::Plain {
                series.floats = super::extended::bounded(&series.floats, start, end, spec.mode);
            }
            // A subquery's grid reaches to the window's ends by construction; storage was asked for the window.
            if !series.floats.is_empty() || !series.histograms.is_empty() {
                out.push(series);
            }
        }
        let mut order: Vec<usize> = (0..out.len()).collect();
        sorted::sort_by(&mut order, || self.check(), |a, b| out[*a].labels.cmp(&out[*b].labels))?;
        Ok(order.into_iter().map(|i| std::mem::take(&mut out[i])).collect())
    }
}

/// One series' turn through a range function.
pub(super) struct RangeJob<'a, 'c> {
    pub ctx: &'a Context<'c>,
    /// Where annotations point.
    pub pos: &'a Pos,
    pub source: &'a Source,
    /// Its number in the source.
    pub series: usize,
    pub spec: WindowSpec,
    pub grid: Grid,
    /// The scalar arguments, by step.
    pub scalars: &'a [Vec<f64>],
}

impl RangeJob<'_, '_> {
    /// The metric name, for annotations; empty if there is none.
    pub fn metric(&self) -> &str {
        self.label(METRIC_NAME)
    }

    /// A label of the series; empty if it has none of this name.
    pub fn label(&self, name: &str) -> &str {
        self.source.label(self.series, name)
    }

    /// Fills a row with what `f` makes of each window. Stops in between if the query is to stop; the next check says so.
    #[inline]
    pub fn each(
        &self,
        samples: &SampleSlices<'_>,
        out: &mut Part,
        row: usize,
        mut f: impl FnMut(usize, &Window<'_>) -> Point,
    ) -> u64 {
        let first = row * out.steps;
        let mut patience = Patience::default();
        self.spec.slide(samples, self.grid, |step, window| {
            if patience.is_over(self.ctx, window.ts.len() + window.hist_ts.len()) {
                return;
            }
            match f(step, window) {
                Point::None => {}
                point => out.set(first + step, point),
            }
        })
    }
}

/// A range function looks at so many samples between two looks at whether to stop: some milliseconds' worth.
const SAMPLES_BETWEEN_CHECKS: usize = 500_000;

/// When to look whether the query is to stop.
pub(super) struct Patience {
    left: usize,
    over: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { left: SAMPLES_BETWEEN_CHECKS, over: false }
    }
}

impl Patience {
    /// Whether the query is to stop rather than to look at so many samples more.
    #[inline]
    pub fn is_over(&mut self, ctx: &Context<'_>, samples: usize) -> bool {
        match self.left.checked_sub(samples) {
            Some(left) => self.left = left,
            None => {
                self.left = SAMPLES_BETWEEN_CHECKS;
                self.over = self.over || ctx.check().is_err();
            }
        }
        self.over
    }
}
