//! `anchored` and `smoothed`: windows that look beyond their edges instead of extrapolating.
//!
//! Anchored windows start from the last sample at or before their left edge; smoothed ones interpolate at both edges.
//!
//! Source: Prometheus, `promql/functions.go` (`extendedRate`, `extendedHistogramRate`) and `engine.go` (`smoothSeries`).

use std::sync::Arc;

use super::columns::{Columns, Point};
use super::context::{Context, Grid, Result};
use super::window::{RangeJob, Window};
use crate::model::{CounterResetHint, FloatHistogram, is_stale_marker};
use crate::promql::ast::{Pos, RangeMode, VectorSelector};
use crate::promql::kept::Own;

/// The value between two samples; a counter that was reset between them starts from zero.
fn between(t0: i64, v0: f64, t1: i64, v1: f64, t: i64, counter: bool) -> f64 {
    let v0 = if counter && v1 < v0 { 0.0 } else { v0 };
    v0 + (v1 - v0) * (t - t0) as f64 / (t1 - t0) as f64
}

/// The histogram between two; `None` (after a warning) if they do not fit together.
fn between_histograms(
    ctx: &Context<'_>,
    (t0, h0): (i64, &FloatHistogram),
    (t1, h1): (i64, &FloatHistogram),
    t: i64,
    counter: bool,
    (metric, pos): (&str, &Pos),
) -> Option<FloatHistogram> {
    if t == t0 {
        return Some(h0.clone());
    }
    if t == t1 {
        return Some(h1.clone());
    }
    let fraction = (t - t0) as f64 / (t1 - t0) as f64;
    let mut result = h1.clone();
    if counter && h1.is_reset_after(h0) {
        result.scale(fraction);
        return Some(result);
    }
    let apart = result.subtract(h0).map(|d| {
        if d.bounds_reconciled {
            ctx.notes.bounds_reconciled("subtraction", pos);
        }
    });
    result.scale(fraction);
    let together = apart.and_then(|()| result.add(h0));
    match together {
        Ok(d) => {
            if d.bounds_reconciled {
                ctx.notes.bounds_reconciled("addition", pos);
            }
            Some(result)
        }
        Err(_) => {
            ctx.notes.mixed_schemas(metric, pos);
            None
        }
    }
}

/// The indices of the samples that stand at (or next to) the edges; `None` if the window has nothing to tell.
fn edges(ts: &[i64], w: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = ts.len().checked_sub(1)?;
    let first = ts[..last].partition_point(|t| *t <= w.start).saturating_sub(1);
    if smoothed {
        last = ts[..last].partition_point(|t| *t < w.end);
    }
    let nothing = ts[last] <= w.start || (smoothed && ts[first] > w.end);
    (!nothing).then_some((first, last))
}

/// `rate`, `increase` and `delta` of an anchored or smoothed range.
pub(super) fn rate(job: &RangeJob<'_, '_>, w: &Window<'_>, counter: bool, per_second: bool) -> Point {
    if !w.ts.is_empty() && !w.hist_ts.is_empty() {
        job.ctx.notes.mixed_floats_histograms(job.metric(), job.pos);
        return Point::None;
    }
    let smoothed = job.spec.mode == RangeMode::Smoothed;
    let seconds = job.spec.range as f64 / 1000.0;
    if w.hist_ts.is_empty() {
        let Some(growth) = float_growth(w, smoothed, counter) else { return Point::None };
        return Point::Float(if per_second { growth / seconds } else { growth });
    }
    let Some(mut growth) = histogram_growth(job, w, smoothed, counter) else { return Point::None };
    if per_second {
        growth.divide(seconds);
    }
    growth.counter_reset_hint = CounterResetHint::Gauge;
    growth.compact();
    Point::histogram(growth)
}

fn float_growth(w: &Window<'_>, smoothed: bool, counter: bool) -> Option<f64> {
    let (ts, vs) = (w.ts, w.vs);
    let (mut first, mut last) = edges(ts, w, smoothed)?;
    let left = if smoothed && ts[first] < w.start {
        between(ts[first], vs[first], ts[first + 1], vs[first + 1], w.start, counter)
    } else {
        vs[first]
    };
    let right = if smoothed && last > 0 && ts[last] > w.end {
        between(ts[last - 1], vs[last - 1], ts[last], vs[last], w.end, counter)
    } else {
        vs[last]
    };
    let mut growth = right - left;
    if counter {
        // The edges have taken care of the resets that they span.
        if ts[first] <= w.start {
            first += 1;
        }
        let until = if ts[last] >= w.end { last } else { last + 1 };
        last = until.max(first);
        let mut before = left;
        for &v in &vs[first.min(last)..last] {
            if v < before {
                growth += before;
            }
            before = v;
        }
        if right < before {
            growth += before;
        }
    }
    Some(growth)
}

fn histogram_growth(
    job: &RangeJob<'_, '_>,
    w: &Window<'_>,
    smoothed: bool,
    counter: bool,
) -> Option<FloatHistogram> {
    let (ts, hs) = (w.hist_ts, w.hists);
    let notes = &job.ctx.notes;
    let place = (job.metric(), job.pos);
    let (first, last) = edges(ts, w, smoothed)?;
    let inside = &hs[first..=last];
    if inside.iter().any(|h| h.has_custom_buckets() != inside[0].has_custom_buckets()) {
        notes.mixed_schemas(job.metric(), job.pos);
        return None;
    }
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if counter && inside.iter().any(|h| is_gauge(h)) {
        notes.not_a_counter(job.metric(), job.pos);
    }
    let pair = |i: usize, t: i64| {
        between_histograms(job.ctx, (ts[i], &hs[i]), (ts[i + 1], &hs[i + 1]), t, counter, place)
    };
    let left = if smoothed && ts[first] < w.start { pair(first, w.start)? } else { (*hs[first]).clone() };
    let right =
        if smoothed && last > 0 && ts[last] > w.end { pair(last - 1, w.end)? } else { (*hs[last]).clone() };
    if !counter && (!is_gauge(&left) || !is_gauge(&right)) {
        notes.not_a_gauge(job.metric(), job.pos);
    }
    let mut growth = right.clone();
    combine(job, growth.subtract(&left), "subtraction")?;
    if counter {
        let mut next = first + 1;
        let mut before = left;
        if smoothed && ts[first] < w.start && hs[first + 1].is_reset_after(&hs[first]) {
            // The interpolation at the left edge spanned this reset.
            before = (*hs[first + 1]).clone();
            next += 1;
        }
        // The last sample is represented by `right`, whose hint must not be compared with itself.
        if next <= last {
            for h in &hs[next..last] {
                if h.is_reset_after(&before) {
                    combine(job, growth.add(&before), "addition")?;
                }
                before = (**h).clone();
            }
            if right.is_reset_after(&before) {
                combine(job, growth.add(&before), "addition")?;
            }
        }
    }
    Some(growth)
}

fn combine(
    job: &RangeJob<'_, '_>,
    done: std::result::Result<crate::model::Combined, crate::model::SchemaMismatch>,
    operation: &str,
) -> Option<()> {
    match done {
        Ok(d) => {
            if d.bounds_reconciled {
                job.ctx.notes.bounds_reconciled(operation, job.pos);
            }
            Some(())
        }
        Err(_) => {
            job.ctx.notes.mixed_schemas(job.metric(), job.pos);
            None
        }
    }
}

/// The window from its anchor on: the newest sample at or before the left edge, of whatever kind, and all after it.
/// `None` if nothing lies after the edge.
pub(super) fn from_anchor<'a>(mode: RangeMode, w: &Window<'a>) -> Option<Window<'a>> {
    let (mut float, mut hist) = (0, 0);
    if mode == RangeMode::Anchored {
        let floats = w.ts.partition_point(|t| *t <= w.start);
        let hists = w.hist_ts.partition_point(|t| *t <= w.start);
        if floats >= w.ts.len() && hists >= w.hist_ts.len() {
            return None;
        }
        let float_is_newer = hists == 0 || (floats > 0 && w.ts[floats - 1] >= w.hist_ts[hists - 1]);
        (float, hist) = match (floats + hists, float_is_newer) {
            (0, _) => (0, 0),
            (_, true) => (floats - 1, hists),
            (_, false) => (floats, hists - 1),
        };
    }
    Some(Window {
        ts: &w.ts[float..],
        vs: &w.vs[float..],
        hist_ts: &w.hist_ts[hist..],
        hists: &w.hists[hist..],
        starts: w.starts.get(float..).unwrap_or(&[]),
        hist_starts: w.hist_starts.get(hist..).unwrap_or(&[]),
        ..*w
    })
}

/// The samples of an extended range as a matrix shows them: with values at the very edges.
pub(super) fn bounded(floats: &[(i64, f64)], start: i64, end: i64, mode: RangeMode) -> Vec<(i64, f64)> {
    let (ts, vs): (Vec<i64>, Vec<f64>) = floats.iter().copied().unzip();
    let w = Window {
        ts: &ts,
        vs: &vs,
        hist_ts: &[],
        hists: &[],
        starts: &[],
        hist_starts: &[],
        start,
        end,
        time: end,
    };
    let smoothed = mode == RangeMode::Smoothed;
    let Some((first, last)) = edges(&ts, &w, smoothed) else { return Vec::new() };
    let left = if smoothed && ts[first] < start {
        between(ts[first], vs[first], ts[first + 1], vs[first + 1], start, false)
    } else {
        vs[first]
    };
    let right = if smoothed && last > 0 && ts[last] > end {
        between(ts[last - 1], vs[last - 1], ts[last], vs[last], end, false)
    } else {
        vs[last]
    };
    let mut out = vec![(start, left)];
    out.extend(floats.iter().copied().filter(|(t, _)| *t > start && *t < end));
    out.push((end, right));
    out
}

/// A smoothed instant selector: at each time the value between the samples around it.
pub(super) fn smoothed_selector(
    ctx: &Context<'_>,
    v: &VectorSelector,
    pos: &Pos,
    times: Grid,
) -> Result<Columns> {
    let lookback = ctx.times.lookback;
    let mut out = Columns::new(times.len);
    let mut own = Own::default();
    let what = ctx.times.smoothed(times);
    let found = ctx.select(&v.matchers, what)?;
    for series in 0..found.selection.len() {
        ctx.check()?;
        let samples = found.read(series, what.range.0, what.range.1, &mut own);
        let floats: Vec<(i64, f64)> = samples
            .ts
            .iter()
            .copied()
            .zip(samples.vs.iter().copied())
            .filter(|(_, v)| !is_stale_marker(*v))
            .collect();
        let hists: Vec<(i64, Arc<FloatHistogram>)> = samples
            .hist_ts
            .iter()
            .copied()
            .zip(samples.hists.iter().cloned())
            .filter(|(_, h)| !h.is_stale_marker())
            .collect();
        let labels = found.selection.labels(series);
        let row = out.push_row(labels.clone(), false);
        let first = row * out.steps;
        let metric = labels.metric_name();
        for step in 0..times.len {
            let t = times.time(step);
            let floats = inside(&floats, t.saturating_sub(lookback), t.saturating_add(lookback));
            let hists = inside(&hists, t.saturating_sub(lookback), t.saturating_add(lookback));
            let read = (floats.len() + hists.len()) as u64;
            ctx.samples.read(read);
            ctx.samples.fetch(read);
            ctx.samples.read_at(step, read);
            ctx.samples.fetch_at(step, read);
            let point = if !floats.is_empty() && !hists.is_empty() {
                ctx.notes.mixed_floats_histograms(metric, pos);
                Point::None
            } else if hists.is_empty() {
                let next = floats.partition_point(|(at, _)| *at < t);
                match (next.checked_sub(1).map(|i| floats[i]), floats.get(next)) {
                    (_, Some((at, v))) if *at == t => Point::Float(*v),
                    (Some((t0, v0)), Some((t1, v1))) => Point::Float(between(t0, v0, *t1, *v1, t, false)),
                    (Some((_, v0)), None) => Point::Float(v0),
                    (None, _) => Point::None,
                }
            } else {
                let next = hists.partition_point(|(at, _)| *at < t);
                match (next.checked_sub(1).map(|i| &hists[i]), hists.get(next)) {
                    (_, Some((at, h))) if *at == t => Point::Histogram(h.clone()),
                    (Some((t0, h0)), Some((t1, h1))) => {
                        let counter = h0.counter_reset_hint != CounterResetHint::Gauge
                            && h1.counter_reset_hint != CounterResetHint::Gauge;
                        between_histograms(ctx, (*t0, h0), (*t1, h1), t, counter, (metric, pos))
                            .map_or(Point::None, Point::histogram)
                    }
                    (Some((_, h0)), None) => Point::Histogram(h0.clone()),
                    (None, _) => Point::None,
                }
            };
            if !matches!(point, Point::None) {
                out.set(first + step, point);
            }
        }
        if out.has_points(row) {
            ctx.hold(times.len as u64)?;
            ctx.check_slots(out.rows(), times.len)?;
        } else {
            out.pop_row();
        }
    }
    Ok(out)
}

/// What lies within `(after, to]`.
fn inside<T>(points: &[(i64, T)], after: i64, to: i64) -> &[(i64, T)] {
    let first = points.partition_point(|(t, _)| *t <= after);
    let end = points.partition_point(|(t, _)| *t <= to);
    &points[first.min(end)..end]
}
