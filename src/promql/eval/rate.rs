//! `rate`, `increase`, `delta` with extrapolation, `irate`, `idelta`.
//!
//! A counter that says when it began to count needs less guessing: see [`resets`](super::resets).
//!
//! Source: Prometheus, `promql/functions.go` (`extrapolatedRate`, `histogramRate`, `instantValue`).

use std::sync::Arc;

use super::columns::{FLOAT, Part, Point};
use super::extended;
use super::resets;
use super::window::{Patience, RangeJob, Window};
use crate::model::{CounterResetHint, FloatHistogram};
use crate::promql::ast::RangeMode;
use crate::storage::SampleSlices;

/// Fills a row with the growth within each window, extrapolated to the whole of it.
pub(super) fn extrapolated(
    job: &RangeJob<'_, '_>,
    samples: &SampleSlices<'_>,
    out: &mut Part,
    row: usize,
    counter: bool,
    per_second: bool,
) -> u64 {
    if job.spec.mode != RangeMode::Plain {
        return job.each(samples, out, row, |_, w| extended::rate(job, w, counter, per_second));
    }
    let starts = counter && !(samples.starts.is_empty() && samples.hist_starts.is_empty());
    if samples.hist_ts.is_empty() && !starts {
        return floats(job, samples, out, row, counter, per_second);
    }
    job.each(samples, out, row, |_, w| {
        if !w.ts.is_empty() && !w.hist_ts.is_empty() {
            job.ctx.notes.mixed_floats_histograms(job.metric(), job.pos);
            return Point::None;
        }
        if w.hist_ts.is_empty() && w.starts.is_empty() {
            return growth(w, job.spec.range, counter, per_second).map_or(Point::None, Point::Float);
        }
        if w.hist_ts.is_empty() {
            return growth_since_start(job, w, per_second).map_or(Point::None, Point::Float);
        }
        let starts = if counter { w.hist_starts } else { &[] };
        let begun = resets::begun_within(starts, w.hist_ts, w.start);
        if w.hists.len() < 2 && begun.is_none() {
            return Point::None;
        }
        note_overlap(job, starts, w.hist_ts);
        let Some(mut growth) = histogram_growth(job, w.hist_ts, w.hists, starts, begun.is_some(), counter)
        else {
            return Point::None;
        };
        let first = w.hists[0].count;
        let to_zero = (growth.count > 0.0 && first >= 0.0).then(|| first / growth.count);
        let to_zero = to_zero.filter(|_| counter);
        growth.scale(factor(w.hist_ts, w, job.spec.range, to_zero, per_second, begun));
        Point::histogram(growth)
    })
}

/// A series of floats only: resets are looked for once, not once per window, and how windows lie is looked at only
/// where it changes.
fn floats(
    job: &RangeJob<'_, '_>,
    samples: &SampleSlices<'_>,
    out: &mut Part,
    row: usize,
    counter: bool,
    per_second: bool,
) -> u64 {
    let (ts, vs) = (samples.ts, samples.vs);
    // Without a branch for each sample: that takes a vector of them at a time.
    let fell = |vs: &[f64]| vs.iter().zip(&vs[1..]).fold(false, |any, (a, b)| any | (b < a));
    let resets = counter && !vs.is_empty() && fell(vs);
    let seconds = per_second.then_some(job.spec.range as f64 / 1000.0);
    let span = out.span(row);
    let (kinds, values) = (&mut out.kinds[span.clone()], &mut out.values[span]);
    let (mut reach, mut factor) = (Reach::default(), 0.0);
    let mut patience = Patience::default();
    job.spec.slide_over(ts, job.grid, |place| {
        let vs = &vs[place.from..place.until];
        let [v0, .., last] = vs else { return };
        let shape = Shape::of(&ts[place.from..place.until], place.start, place.end);
        if shape != reach.shape {
            reach = Reach::of(shape);
            factor = reach.factor(None, seconds);
        }
        let mut growth = last - v0;
        if resets {
            if patience.is_over(job.ctx, vs.len()) {
                return;
            }
            growth = with_resets(growth, vs);
        }
        let to_zero = if counter && growth > 0.0 && *v0 >= 0.0 { reach.near_zero(*v0, growth) } else { None };
        let factor = if to_zero.is_some() { reach.factor(to_zero, seconds) } else { factor };
        kinds[place.step] = FLOAT;
        values[place.step] = growth * factor;
    })
}

/// The growth from the first to the last value of a counter that fell in between.
fn with_resets(mut growth: f64, vs: &[f64]) -> f64 {
    for pair in vs.windows(2) {
        if pair[1] < pair[0] {
            growth += pair[0];
        }
    }
    growth
}

/// The extrapolated growth of the floats in a window.
fn growth(w: &Window<'_>, range: i64, counter: bool, per_second: bool) -> Option<f64> {
    let [v0, .., last] = w.vs else { return None };
    let growth = if counter { with_resets(last - v0, w.vs) } else { last - v0 };
    let to_zero = (counter && growth > 0.0 && *v0 >= 0.0).then(|| v0 / growth);
    Some(growth * factor(w.ts, w, range, to_zero, per_second, None))
}

/// The extrapolated growth of a counter of floats some of which have start times.
fn growth_since_start(job: &RangeJob<'_, '_>, w: &Window<'_>, per_second: bool) -> Option<f64> {
    let (ts, vs) = (w.ts, w.vs);
    let begun = resets::begun_within(w.starts, ts, w.start);
    if ts.len() < 2 && begun.is_none() {
        return None;
    }
    note_overlap(job, w.starts, ts);
    let mut growth = vs[vs.len() - 1] - vs[0];
    for i in 1..vs.len() {
        if vs[i] < vs[i - 1] || resets::started_between(w.starts, ts, i) {
            growth += vs[i - 1];
        }
    }
    let to_zero = (growth > 0.0 && vs[0] >= 0.0).then(|| vs[0] / growth);
    if begun.is_some() {
        growth += vs[0];
    }
    Some(growth * factor(ts, w, job.spec.range, to_zero, per_second, begun))
}

fn note_overlap(job: &RangeJob<'_, '_>, starts: &[i64], ts: &[i64]) {
    if (1..starts.len()).any(|i| resets::overlaps(starts, ts, i)) {
        job.ctx.notes.start_time_overlaps(job.metric(), job.pos);
    }
}

/// How a window and its samples lie to each other, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    to_first: i64,
    sampled: i64,
    to_end: i64,
    count: usize,
}

impl Shape {
    /// Of the window `(start, end]` with the times of its samples, at least one.
    #[inline]
    fn of(ts: &[i64], start: i64, end: i64) -> Self {
        let (first, last) = (ts[0], ts[ts.len() - 1]);
        Shape { to_first: first - start, sampled: last - first, to_end: end - last, count: ts.len() }
    }
}

/// How far the samples of a window are taken to reach, in seconds.
///
/// Up to the window's edge if that is less than 1.1 mean distances between samples away, else half such a distance.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    shape: Shape,
    to_start: f64,
    sampled: f64,
    to_end: f64,
}

impl Reach {
    fn of(shape: Shape) -> Self {
        let sampled = shape.sampled as f64 / 1000.0;
        let mean_distance = if shape.count > 1 { sampled / (shape.count - 1) as f64 } else { 0.0 };
        let threshold = mean_distance * 1.1;
        let up_to = |ms: i64| {
            let seconds = ms as f64 / 1000.0;
            if seconds >= threshold { mean_distance / 2.0 } else { seconds }
        };
        Reach { shape, to_start: up_to(shape.to_first), sampled, to_end: up_to(shape.to_end) }
    }

    /// `v0 / growth` if a counter that grows like this may have been zero after the start. Mostly it was far from that,
    /// which is seen without a division.
    #[inline]
    fn near_zero(&self, v0: f64, growth: f64) -> Option<f64> {
        (v0 * self.sampled <= self.to_start * growth * 1.000_001).then(|| v0 / growth)
    }

    /// By how much the growth between the first and the last sample is multiplied. A counter is not extrapolated below
    /// zero (`to_zero`: its first value as a multiple of the growth). `seconds` is the range, for a growth per second.
    #[inline]
    fn factor(&self, to_zero: Option<f64>, seconds: Option<f64>) -> f64 {
        let mut to_start = self.to_start;
        if let Some(zero) = to_zero {
            let to_zero = self.sampled * zero;
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        seconds.map_or(factor, |s| factor / s)
    }
}

/// By how much the growth between the first and the last sample is multiplied: see [`Reach::factor`]. A counter that is
/// known to have begun within the window (`begun`) is not extrapolated to the left at all.
fn factor(
    ts: &[i64],
    w: &Window<'_>,
    range: i64,
    to_zero: Option<f64>,
    per_second: bool,
    begun: Option<i64>,
) -> f64 {
    let mut reach = Reach::of(Shape::of(ts, w.start, w.end));
    if let Some(begun) = begun {
        reach.sampled = (ts[ts.len() - 1] - begun) as f64 / 1000.0;
        reach.to_start = 0.0;
    }
    let to_zero = if begun.is_some() { None } else { to_zero };
    reach.factor(to_zero, per_second.then_some(range as f64 / 1000.0))
}

/// The growth from the first (with `from_zero`: from nothing) to the last histogram, resets taken into account;
/// nothing if they do not fit together.
fn histogram_growth(
    job: &RangeJob<'_, '_>,
    ts: &[i64],
    hists: &[Arc<FloatHistogram>],
    starts: &[i64],
    from_zero: bool,
    counter: bool,
) -> Option<FloatHistogram> {
    let notes = &job.ctx.notes;
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let (first, last) = (&hists[0], &hists[hists.len() - 1]);
    // What was before a reset does not matter, nor does its layout.
    let mut before: Arc<FloatHistogram> = Arc::clone(first);
    let is_reset = |i: usize, before: &FloatHistogram| {
        hists[i].is_reset_after(before) || resets::started_between(starts, ts, i)
    };
    if hists.len() < 2 {
        let mut growth = (**first).clone();
        growth.counter_reset_hint = CounterResetHint::Gauge;
        growth.compact();
        return Some(growth);
    }
    if counter && is_reset(1, first) {
        before = Arc::new(FloatHistogram {
            schema: hists[1].schema,
            custom_values: hists[1].custom_values.clone(),
            ..FloatHistogram::default()
        });
    }
    let custom = before.has_custom_buckets();
    let middle = if counter { &hists[1..hists.len() - 1] } else { &[] };
    if last.has_custom_buckets() == custom && middle.iter().any(|h| h.has_custom_buckets() != custom) {
        // Of the others nothing more is said then.
        notes.mixed_schemas(job.metric(), job.pos);
        return None;
    }
    if counter && (is_gauge(first) || is_gauge(last)) {
        notes.not_a_counter(job.metric(), job.pos);
    }
    if last.has_custom_buckets() != custom {
        notes.mixed_schemas(job.metric(), job.pos);
        return None;
    }
    if middle.iter().any(|h| is_gauge(h)) {
        notes.not_a_counter(job.metric(), job.pos);
    }
    let coarsest = middle.iter().map(|h| h.schema).fold(last.schema.min(before.schema), i32::min);
    let mut growth = (**last).clone();
    growth.reduce_resolution(coarsest);
    let done = growth.subtract(&before).ok()?;
    if done.bounds_reconciled {
        notes.bounds_reconciled("subtraction", job.pos);
    }
    if counter {
        for (i, h) in hists.iter().enumerate().skip(1) {
            if is_reset(i, &before) {
                let done = growth.add(&before).ok()?;
                if done.bounds_reconciled {
                    notes.bounds_reconciled("addition", job.pos);
                }
            }
            before = Arc::clone(h);
        }
        if from_zero {
            let done = growth.add(first).ok()?;
            if done.bounds_reconciled {
                notes.bounds_reconciled("addition", job.pos);
            }
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.not_a_gauge(job.metric(), job.pos);
    }
    growth.counter_reset_hint = CounterResetHint::Gauge;
    growth.compact();
    Some(growth)
}

/// `irate` and `idelta`: from the last two samples.
pub(super) fn instant(job: &RangeJob<'_, '_>, w: &Window<'_>, counter: bool) -> Point {
    if w.hist_ts.is_empty() && w.starts.is_empty() {
        return last_two(w, counter).map_or(Point::None, Point::Float);
    }
    let notes = &job.ctx.notes;
    // The last two of each kind, newest first; of those the two newest.
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    let floats = w.ts.iter().zip(w.vs).enumerate().rev().take(2);
    let floats = floats.map(|(i, (t, v))| (*t, start(w.starts, i), Point::Float(*v)));
    let hists = w.hist_ts.iter().zip(w.hists).enumerate().rev().take(2);
    let hists = hists.map(|(i, (t, h))| (*t, start(w.hist_starts, i), Point::Histogram(h.clone())));
    let mut newest: Vec<(i64, i64, Point)> = floats.chain(hists).collect();
    newest.sort_by_key(|(t, _, _)| std::cmp::Reverse(*t));
    let [(t1, s1, now), (t0, s0, before), ..] = &newest[..] else { return Point::None };
    let (starts, times) = ([*s0, *s1], [*t0, *t1]);
    let restarted = counter && resets::started_between(&starts, &times, 1);
    let seconds = (t1 - t0) as f64 / 1000.0;
    if t0 == t1 {
        return Point::None;
    }
    match (now, before) {
        (Point::Float(now), Point::Float(before)) => {
            let growth = if restarted || (counter && now < before) { *now } else { now - before };
            Point::Float(if counter { growth / seconds } else { growth })
        }
        (Point::Histogram(now), Point::Histogram(before)) => {
            let gauges = [now, before].map(|h| h.counter_reset_hint == CounterResetHint::Gauge);
            if counter && gauges.contains(&true) {
                notes.not_a_counter(job.metric(), job.pos);
            }
            if !counter && gauges.contains(&false) {
                notes.not_a_gauge(job.metric(), job.pos);
            }
            let mut growth = (**now).clone();
            if !restarted && (!counter || !now.is_reset_after(before)) {
                match growth.subtract(before) {
                    Ok(done) if done.bounds_reconciled => notes.bounds_reconciled("subtraction", job.pos),
                    Ok(_) => {}
                    Err(_) => {
                        notes.mixed_schemas(job.metric(), job.pos);
                        return Point::None;
                    }
                }
            }
            growth.counter_reset_hint = CounterResetHint::Gauge;
            growth.compact();
            if counter {
                growth.divide(seconds);
            }
            Point::histogram(growth)
        }
        _ => {
            notes.mixed_floats_histograms(job.metric(), job.pos);
            Point::None
        }
    }
}

/// The growth between the last two floats, per second for a counter.
#[inline]
fn last_two(w: &Window<'_>, counter: bool) -> Option<f64> {
    let before = w.vs.len().checked_sub(2)?;
    let (v0, v1) = (w.vs[before], w.vs[before + 1]);
    let seconds = (w.ts[before + 1] - w.ts[before]) as f64 / 1000.0;
    let growth = if counter && v1 < v0 { v1 } else { v1 - v0 };
    Some(if counter { growth / seconds } else { growth })
}

/// `rate` and `increase` of something that is no counter by its name, or by its type where series carry that, get an
/// info.
pub(super) fn note_unlikely_counter(job: &RangeJob<'_, '_>, kinds: &[u8]) {
    let (name, notes) = (job.metric(), &job.ctx.notes);
    if name.is_empty() || !kinds.contains(&FLOAT) {
        return;
    }
    if job.ctx.options.features.type_and_unit_labels {
        let kind = job.label("__type__");
        if !matches!(kind, "counter" | "histogram") {
            notes.maybe_not_a_counter_by_type(name, kind, job.pos);
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end)) {
        notes.maybe_not_a_counter(name, job.pos);
    }
}
