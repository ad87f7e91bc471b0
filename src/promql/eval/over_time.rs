//! Functions of range vectors: `*_over_time`, trends, changes; dispatch of the rates.

use super::columns::{Part, Point};
use super::context::{Context, Result, fail};
use super::quantile::{quantile, quantile_of_many};
use super::rate;
use super::trend::{Sums, linear_regression};
use super::window::{RangeJob, Window};
use super::{extended, labels};
use crate::model::{CounterResetHint, FloatHistogram, SchemaMismatch, kahan_add};
use crate::promql::QueryError;
use crate::storage::SampleSlices;

/// A function that makes one number (or histogram) of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeFunction {
    Avg,
    Changes,
    Count,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    First,
    Idelta,
    Increase,
    Irate,
    Last,
    Mad,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Stddev,
    Stdvar,
    Sum,
    TsOfFirst,
    TsOfLast,
    TsOfMax,
    TsOfMin,
}

impl RangeFunction {
    pub fn of(name: &str) -> Option<Self> {
        use RangeFunction as F;
        Some(match name {
            "avg_over_time" => F::Avg,
            "changes" => F::Changes,
            "count_over_time" => F::Count,
            "delta" => F::Delta,
            "deriv" => F::Deriv,
            "double_exponential_smoothing" | "holt_winters" => F::DoubleExponentialSmoothing,
            "first_over_time" => F::First,
            "idelta" => F::Idelta,
            "increase" => F::Increase,
            "irate" => F::Irate,
            "last_over_time" => F::Last,
            "mad_over_time" => F::Mad,
            "max_over_time" => F::Max,
            "min_over_time" => F::Min,
            "predict_linear" => F::PredictLinear,
            "present_over_time" => F::Present,
            "quantile_over_time" => F::Quantile,
            "rate" => F::Rate,
            "resets" => F::Resets,
            "stddev_over_time" => F::Stddev,
            "stdvar_over_time" => F::Stdvar,
            "sum_over_time" => F::Sum,
            "ts_of_first_over_time" => F::TsOfFirst,
            "ts_of_last_over_time" => F::TsOfLast,
            "ts_of_max_over_time" => F::TsOfMax,
            "ts_of_min_over_time" => F::TsOfMin,
            _ => return None,
        })
    }

    /// Like an offset, these only move samples in time.
    pub fn keeps_name(self) -> bool {
        matches!(self, RangeFunction::First | RangeFunction::Last)
    }

    pub fn wants_counter(self) -> bool {
        matches!(self, RangeFunction::Rate | RangeFunction::Increase)
    }

    pub fn works_anchored(self) -> bool {
        self.works_smoothed() || matches!(self, RangeFunction::Resets | RangeFunction::Changes)
    }

    pub fn works_smoothed(self) -> bool {
        matches!(self, RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta)
    }

    /// Fills a row from the samples of its series, and answers how many samples its windows had.
    pub fn fill(
        self,
        job: &RangeJob<'_, '_>,
        samples: &SampleSlices<'_>,
        out: &mut Part,
        row: usize,
    ) -> Result<u64> {
        use RangeFunction as F;
        let scalar = |i: usize, step: usize| job.scalars.get(i).map_or(f64::NAN, |v| v[step]);
        let seconds = |ms: i64| ms as f64 / 1000.0;
        Ok(match self {
            F::Rate => rate::extrapolated(job, samples, out, row, true, true),
            F::Increase => rate::extrapolated(job, samples, out, row, true, false),
            F::Delta => rate::extrapolated(job, samples, out, row, false, false),
            F::Irate => job.each(samples, out, row, |_, w| rate::instant(job, w, true)),
            F::Idelta => job.each(samples, out, row, |_, w| rate::instant(job, w, false)),
            F::Avg => job.each(samples, out, row, |_, w| match homogeneous(job, w) {
                Some(true) => Point::Float(average(job.ctx, w.vs)),
                Some(false) => sum_histograms(job, w, true),
                None => Point::None,
            }),
            F::Sum => job.each(samples, out, row, |_, w| match homogeneous(job, w) {
                Some(true) => Point::Float(sum(job.ctx, w.vs)),
                Some(false) => sum_histograms(job, w, false),
                None => Point::None,
            }),
            F::Count => {
                job.each(samples, out, row, |_, w| Point::Float((w.ts.len() + w.hist_ts.len()) as f64))
            }
            F::Present => job.each(samples, out, row, |_, _| Point::Float(1.0)),
            F::First => job.each(samples, out, row, |_, w| match (w.ts.first(), w.hist_ts.first()) {
                (Some(t), h) if h.is_none_or(|h| t < h) => Point::Float(w.vs[0]),
                (_, Some(_)) => Point::Histogram(w.hists[0].clone()),
                _ => Point::None,
            }),
            F::Last => job.each(samples, out, row, |_, w| match (w.ts.last(), w.hist_ts.last()) {
                (Some(t), h) if h.is_none_or(|h| h < t) => Point::Float(w.vs[w.vs.len() - 1]),
                (_, Some(_)) => Point::Histogram(w.hists[w.hists.len() - 1].clone()),
                _ => Point::None,
            }),
            F::TsOfFirst => job.each(samples, out, row, |_, w| {
                let first = w.ts.first().into_iter().chain(w.hist_ts.first()).min();
                first.map_or(Point::None, |t| Point::Float(seconds(*t)))
            }),
            F::TsOfLast => job.each(samples, out, row, |_, w| {
                let last = w.ts.last().into_iter().chain(w.hist_ts.last()).max();
                last.map_or(Point::None, |t| Point::Float(seconds(*t)))
            }),
            F::Max => job.each(samples, out, row, |_, w| {
                floats_only(job, w, |w| extreme(job.ctx, w.vs, |new, best| new > best).1)
            }),
            F::Min => job.each(samples, out, row, |_, w| {
                floats_only(job, w, |w| extreme(job.ctx, w.vs, |new, best| new < best).1)
            }),
            F::TsOfMax => job.each(samples, out, row, |_, w| {
                floats_only(job, w, |w| seconds(w.ts[extreme(job.ctx, w.vs, |new, best| new >= best).0]))
            }),
            F::TsOfMin => job.each(samples, out, row, |_, w| {
                floats_only(job, w, |w| seconds(w.ts[extreme(job.ctx, w.vs, |new, best| new <= best).0]))
            }),
            F::Stddev => {
                job.each(samples, out, row, |_, w| floats_only(job, w, |w| variance(job.ctx, w.vs).sqrt()))
            }
            F::Stdvar => job.each(samples, out, row, |_, w| floats_only(job, w, |w| variance(job.ctx, w.vs))),
            F::Quantile => {
                let mut scratch = Vec::new();
                job.each(samples, out, row, |step, w| {
                    let q = scalar(0, step);
                    if !w.vs.is_empty() && !(0.0..=1.0).contains(&q) {
                        job.ctx.notes.invalid_quantile(q, job.pos);
                    }
                    floats_only(job, w, |w| window_quantile(job.ctx, q, w.vs, |v| v, &mut scratch))
                })
            }
            F::Mad => {
                let mut scratch = Vec::new();
                job.each(samples, out, row, |_, w| {
                    floats_only(job, w, |w| {
                        if w.vs.iter().any(|v| v.is_nan()) {
                            return f64::NAN;
                        }
                        let median = window_quantile(job.ctx, 0.5, w.vs, |v| v, &mut scratch);
                        window_quantile(job.ctx, 0.5, w.vs, |v| (v - median).abs(), &mut scratch)
                    })
                })
            }
            F::Deriv => {
                let lines = Lines::new(job, samples);
                job.each(samples, out, row, |_, w| {
                    trend(job, w, |w| lines.line(job.ctx, samples, w, w.ts[0]).0)
                })
            }
            F::PredictLinear => {
                let lines = Lines::new(job, samples);
                job.each(samples, out, row, |step, w| {
                    trend(job, w, |w| {
                        let (slope, intercept) = lines.line(job.ctx, samples, w, w.time);
                        slope * scalar(0, step) + intercept
                    })
                })
            }
            F::DoubleExponentialSmoothing => {
                let mut refused: Option<QueryError> = None;
                let read = job.each(samples, out, row, |step, w| {
                    let (smoothing, by_trend) = (scalar(0, step), scalar(1, step));
                    for (what, v) in [("smoothing", smoothing), ("trend", by_trend)] {
                        if v <= 0.0 || v >= 1.0 {
                            let name = if what == "smoothing" { "sf" } else { "tf" };
                            refused.get_or_insert(QueryError::Execution(format!(
                                "invalid {what} factor. Expected: 0 < {name} < 1, got: {v:.6}"
                            )));
                            return Point::None;
                        }
                    }
                    trend(job, w, |w| smooth(job.ctx, w.vs, smoothing, by_trend))
                });
                if let Some(e) = refused {
                    return Err(e);
                }
                read
            }
            F::Resets => job.each(samples, out, row, |_, w| {
                extended::from_anchor(job.spec.mode, w).map_or(Point::None, |w| Point::Float(resets(&w)))
            }),
            F::Changes => job.each(samples, out, row, |_, w| {
                extended::from_anchor(job.spec.mode, w).map_or(Point::None, |w| Point::Float(changes(&w)))
            }),
        })
    }
}

/// `Some(true)` if there are only floats, `Some(false)` if only histograms; a mix gets a warning.
fn homogeneous(job: &RangeJob<'_, '_>, w: &Window<'_>) -> Option<bool> {
    if !w.ts.is_empty() && !w.hist_ts.is_empty() {
        job.ctx.notes.mixed_floats_histograms(job.metric(), job.pos);
        return None;
    }
    Some(w.hist_ts.is_empty())
}

/// For functions that leave histograms out.
fn floats_only(job: &RangeJob<'_, '_>, w: &Window<'_>, f: impl FnOnce(&Window<'_>) -> f64) -> Point {
    if w.vs.is_empty() {
        return Point::None;
    }
    if !w.hist_ts.is_empty() {
        job.ctx.notes.histograms_ignored_in_range(job.metric(), job.pos);
    }
    Point::Float(f(w))
}

/// For functions that need two floats.
fn trend(job: &RangeJob<'_, '_>, w: &Window<'_>, f: impl FnOnce(&Window<'_>) -> f64) -> Point {
    if !w.vs.is_empty() && !w.hist_ts.is_empty() {
        job.ctx.notes.histograms_ignored_in_range(job.metric(), job.pos);
    }
    if w.vs.len() < 2 { Point::None } else { Point::Float(f(w)) }
}

pub(super) fn sum(ctx: &Context<'_>, vs: &[f64]) -> f64 {
    let (mut sum, mut c) = (0.0, 0.0);
    for piece in ctx.pieces(vs) {
        for &v in piece {
            (sum, c) = kahan_add(v, sum, c);
        }
    }
    if sum.is_infinite() { sum } else { sum + c }
}

/// The plain mean as long as the sum does not overflow, from then on the incremental one.
pub(super) fn average(ctx: &Context<'_>, vs: &[f64]) -> f64 {
    let Some((&first, rest)) = vs.split_first() else { return f64::NAN };
    let (mut sum, mut c, mut mean) = (first, 0.0, 0.0);
    let mut incremental = false;
    let mut count = 1.0;
    for piece in ctx.pieces(rest) {
        for &v in piece {
            count += 1.0;
            if !incremental {
                let (s, k) = kahan_add(v, sum, c);
                if !s.is_infinite() {
                    (sum, c) = (s, k);
                    continue;
                }
                incremental = true;
                mean = sum / (count - 1.0);
                c /= count - 1.0;
            }
            let q = (count - 1.0) / count;
            (mean, c) = kahan_add(v / count, q * mean, q * c);
        }
    }
    if incremental { mean + c } else { sum / count + c / count }
}

/// The index and value of the best float; NaN is the best only if there is nothing else.
fn extreme(ctx: &Context<'_>, vs: &[f64], better: impl Fn(f64, f64) -> bool) -> (usize, f64) {
    let (mut at, mut best, mut before) = (0, vs[0], 0);
    for piece in ctx.pieces(vs) {
        for (i, &v) in piece.iter().enumerate() {
            if better(v, best) || best.is_nan() {
                (at, best) = (before + i, v);
            }
        }
        before += piece.len();
    }
    (at, best)
}

/// Source: Welford 1962, with compensated sums.
pub(super) fn variance(ctx: &Context<'_>, vs: &[f64]) -> f64 {
    let (mut mean, mut c_mean, mut aux, mut c_aux, mut count) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for piece in ctx.pieces(vs) {
        for &v in piece {
            count += 1.0;
            let delta = v - (mean + c_mean);
            (mean, c_mean) = kahan_add(delta / count, mean, c_mean);
            (aux, c_aux) = kahan_add(delta * (v - (mean + c_mean)), aux, c_aux);
        }
    }
    (aux + c_aux) / count
}

/// Lines through the windows of one series.
struct Lines {
    /// Where windows overlap enough for sums over the series to be worth it.
    sums: Option<Sums>,
}

impl Lines {
    fn new(job: &RangeJob<'_, '_>, samples: &SampleSlices<'_>) -> Self {
        // A sample is in about so many windows.
        let overlap = job.spec.range / job.grid.step.max(1);
        let worth = job.grid.len > 8 && overlap > 8 && samples.ts.len() > 64;
        Lines { sums: if worth { Sums::new(samples.ts, samples.vs) } else { None } }
    }

    /// Slope and value at `origin`.
    fn line(&self, ctx: &Context<'_>, samples: &SampleSlices<'_>, w: &Window<'_>, origin: i64) -> (f64, f64) {
        match &self.sums {
            Some(sums) => {
                let from = samples.ts.partition_point(|t| *t < w.ts[0]);
                sums.line(from, from + w.ts.len(), w.vs[0], origin)
            }
            None => linear_regression(ctx, w.ts, w.vs, origin),
        }
    }
}

/// The quantile of what `of` makes of the values of a window.
fn window_quantile(
    ctx: &Context<'_>,
    q: f64,
    vs: &[f64],
    of: impl Fn(f64) -> f64,
    scratch: &mut Vec<f64>,
) -> f64 {
    /// More are not copied and selected from: neither could be stopped.
    const SELECTED_AT_ONCE: usize = 1 << 18;
    if vs.len() > SELECTED_AT_ONCE {
        return quantile_of_many(q, vs.len(), |each| {
            ctx.pieces(vs).for_each(|piece| piece.iter().for_each(|v| each(of(*v))));
        });
    }
    scratch.clear();
    scratch.extend(vs.iter().map(|v| of(*v)));
    quantile(q, scratch)
}

/// Holt's linear method.
fn smooth(ctx: &Context<'_>, vs: &[f64], smoothing: f64, by_trend: f64) -> f64 {
    let (mut before, mut level) = (0.0, vs[0]);
    let mut slope = vs[1] - vs[0];
    for (i, &v) in ctx.pieces(vs).flatten().enumerate().skip(1) {
        if i > 1 {
            slope = by_trend * (level - before) + (1.0 - by_trend) * slope;
        }
        let next = smoothing * v + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    level
}

/// A value of either kind.
enum Value<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

/// A sample of either kind with its time and its start time, for walking a window in time order.
struct Sample<'a> {
    value: Value<'a>,
    ts: i64,
    start: i64,
}

impl Sample<'_> {
    /// Whether the counter began anew after the sample before.
    fn started_after(&self, before: &Sample<'_>) -> bool {
        super::resets::started_between(&[before.start, self.start], &[before.ts, self.ts], 1)
    }
}

/// Calls `f` with each two samples that follow each other.
fn pairs(w: &Window<'_>, mut f: impl FnMut(&Sample<'_>, &Sample<'_>)) {
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    let (mut i, mut j) = (0, 0);
    let mut before: Option<Sample<'_>> = None;
    while i < w.ts.len() || j < w.hist_ts.len() {
        let float_next = j >= w.hist_ts.len() || (i < w.ts.len() && w.ts[i] < w.hist_ts[j]);
        let now = if float_next {
            i += 1;
            Sample { value: Value::Float(w.vs[i - 1]), ts: w.ts[i - 1], start: start(w.starts, i - 1) }
        } else {
            j += 1;
            let start = start(w.hist_starts, j - 1);
            Sample { value: Value::Histogram(&w.hists[j - 1]), ts: w.hist_ts[j - 1], start }
        };
        if let Some(before) = &before {
            f(before, &now);
        }
        before = Some(now);
    }
}

fn resets(w: &Window<'_>) -> f64 {
    if w.hist_ts.is_empty() && w.starts.is_empty() {
        return w.vs.windows(2).filter(|p| p[1] < p[0]).count() as f64;
    }
    let mut count = 0.0;
    pairs(w, |before, now| {
        let reset = match (&before.value, &now.value) {
            (Value::Float(b), Value::Float(n)) => n < b || now.started_after(before),
            (Value::Histogram(b), Value::Histogram(n)) => now.started_after(before) || n.is_reset_after(b),
            _ => true,
        };
        count += f64::from(u8::from(reset));
    });
    count
}

fn changes(w: &Window<'_>) -> f64 {
    let changed = |b: f64, n: f64| n != b && !(n.is_nan() && b.is_nan());
    if w.hist_ts.is_empty() {
        return w.vs.windows(2).filter(|p| changed(p[0], p[1])).count() as f64;
    }
    let mut count = 0.0;
    pairs(w, |before, now| {
        let change = match (&before.value, &now.value) {
            (Value::Float(b), Value::Float(n)) => changed(*b, *n),
            (Value::Histogram(b), Value::Histogram(n)) => !n.same_as(b),
            _ => true,
        };
        count += f64::from(u8::from(change));
    });
    count
}

/// Sum or mean of histograms, with what the annotations need to know about their hints and bounds.
#[derive(Clone, Debug)]
pub(super) struct HistogramSum {
    sum: FloatHistogram,
    compensation: Option<FloatHistogram>,
    count: f64,
    /// The running mean instead of the sum, once the sum would overflow.
    incremental: bool,
    averaging: bool,
    reset_seen: bool,
    not_reset_seen: bool,
    pub bounds_reconciled: bool,
}

impl HistogramSum {
    pub fn new(first: &FloatHistogram, averaging: bool) -> Self {
        let mut s = HistogramSum {
            sum: first.clone(),
            compensation: None,
            count: 1.0,
            incremental: false,
            averaging,
            reset_seen: false,
            not_reset_seen: false,
            bounds_reconciled: false,
        };
        s.track(first);
        s
    }

    fn track(&mut self, h: &FloatHistogram) {
        self.reset_seen |= h.counter_reset_hint == CounterResetHint::Reset;
        self.not_reset_seen |= h.counter_reset_hint == CounterResetHint::NotReset;
    }

    pub fn reset_collision(&self) -> bool {
        self.reset_seen && self.not_reset_seen
    }

    pub fn add(&mut self, h: &FloatHistogram) -> std::result::Result<(), SchemaMismatch> {
        self.track(h);
        self.count += 1.0;
        if !self.averaging {
            let done = self.sum.add_compensated(h, &mut self.compensation)?;
            self.bounds_reconciled |= done.bounds_reconciled;
            return Ok(());
        }
        if !self.incremental {
            let (mut sum, mut compensation) = (self.sum.clone(), self.compensation.clone());
            let done = sum.add_compensated(h, &mut compensation)?;
            self.bounds_reconciled |= done.bounds_reconciled;
            if !sum.has_overflow() {
                (self.sum, self.compensation) = (sum, compensation);
                return Ok(());
            }
            self.incremental = true;
            self.sum.divide(self.count - 1.0);
            if let Some(c) = &mut self.compensation {
                c.divide(self.count - 1.0);
            }
        }
        let q = (self.count - 1.0) / self.count;
        if let Some(c) = &mut self.compensation {
            c.scale(q);
        }
        let mut part = h.clone();
        part.divide(self.count);
        self.sum.scale(q);
        let done = self.sum.add_compensated(&part, &mut self.compensation)?;
        self.bounds_reconciled |= done.bounds_reconciled;
        Ok(())
    }

    /// Takes over what another accumulator of the same kind has.
    pub fn merge(&mut self, other: HistogramSum) -> std::result::Result<(), SchemaMismatch> {
        self.reset_seen |= other.reset_seen;
        self.not_reset_seen |= other.not_reset_seen;
        self.bounds_reconciled |= other.bounds_reconciled;
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let sum = HistogramSum { averaging: false, ..other }.finish();
            let done = self.sum.add_compensated(&sum, &mut self.compensation)?;
            self.bounds_reconciled |= done.bounds_reconciled;
            self.count = count;
            return Ok(());
        }
        // A weighted mean of the two means.
        let (own_weight, other_weight) = (self.count / count, other.count / count);
        let mut mean = self.clone().finish();
        mean.scale(own_weight);
        let mut part = other.finish();
        part.scale(other_weight);
        let done = mean.add(&part)?;
        self.bounds_reconciled |= done.bounds_reconciled;
        (self.sum, self.compensation) = (mean, None);
        self.count = count;
        self.incremental = true;
        Ok(())
    }

    pub fn finish(mut self) -> FloatHistogram {
        if self.averaging && !self.incremental {
            self.sum.divide(self.count);
            if let Some(c) = &mut self.compensation {
                c.divide(self.count);
            }
        }
        if let Some(mut c) = self.compensation {
            c.counter_reset_hint = self.sum.counter_reset_hint;
            // The compensation has the sum's own layout, so this cannot fail.
            let _ = self.sum.add(&c);
        }
        self.sum
    }
}

fn sum_histograms(job: &RangeJob<'_, '_>, w: &Window<'_>, averaging: bool) -> Point {
    let mut sum = HistogramSum::new(&w.hists[0], averaging);
    for h in &w.hists[1..] {
        if sum.add(h).is_err() {
            job.ctx.notes.mixed_schemas(job.metric(), job.pos);
            return Point::None;
        }
    }
    if sum.reset_collision() {
        job.ctx.notes.reset_collision("aggregation", job.pos);
    }
    if sum.bounds_reconciled {
        job.ctx.notes.bounds_reconciled("aggregation", job.pos);
    }
    Point::histogram(sum.finish())
}

/// Refuses a label name that cannot be one.
pub(super) fn checked_label_name<'a>(name: &'a str, function: &str, role: &str) -> Result<&'a str> {
    if labels::is_valid_name(name) {
        Ok(name)
    } else {
        fail(format!("invalid {role} label name in {function}(): {name}"))
    }
}
