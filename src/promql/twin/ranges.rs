//! Functions of one window.

use super::Window;

/// `None`: the function is not known. `Some(None)`: it has no value for this window, which is not empty.
pub fn apply(function: &str, scalars: &[f64], window: &Window) -> Option<Option<f64>> {
    let values: Vec<f64> = window.samples.iter().map(|(_, v)| *v).collect();
    let n = values.len() as f64;
    let seconds = |ts: i64| ts as f64 / 1000.0;
    let best = |better: fn(f64, f64) -> bool| {
        let pick = |a: (i64, f64), b: &(i64, f64)| if better(b.1, a.1) || a.1.is_nan() { *b } else { a };
        window.samples[1..].iter().fold(window.samples[0], pick)
    };
    let at_best = |better: fn(f64, f64) -> bool| {
        let pick = |a: (i64, f64), b: &(i64, f64)| if better(b.1, a.1) || a.1.is_nan() { *b } else { a };
        window.samples[1..].iter().fold(window.samples[0], pick).0
    };
    let (first, last) = (window.samples[0], window.samples[values.len() - 1]);
    Some(match function {
        "rate" => extrapolated(window, true, true),
        "increase" => extrapolated(window, true, false),
        "delta" => extrapolated(window, false, false),
        "irate" | "idelta" => match &window.samples[..] {
            [.., a, b] => {
                let grown = if function == "irate" && b.1 < a.1 { b.1 } else { b.1 - a.1 };
                Some(if function == "irate" { grown / seconds(b.0 - a.0) } else { grown })
            }
            _ => None,
        },
        "deriv" => line(window, first.0).map(|(slope, _)| slope),
        "predict_linear" => {
            line(window, window.time).map(|(slope, intercept)| slope * scalars[0] + intercept)
        }
        "changes" => {
            let changed = |w: &&[f64]| w[0] != w[1] && !(w[0].is_nan() && w[1].is_nan());
            Some(values.windows(2).filter(changed).count() as f64)
        }
        "resets" => Some(values.windows(2).filter(|w| w[1] < w[0]).count() as f64),
        "sum_over_time" => Some(values.iter().sum()),
        "avg_over_time" => Some(values.iter().sum::<f64>() / n),
        "count_over_time" => Some(n),
        "present_over_time" => Some(1.0),
        "last_over_time" => Some(last.1),
        "first_over_time" => Some(first.1),
        "min_over_time" => Some(best(|a, b| a < b).1),
        "max_over_time" => Some(best(|a, b| a > b).1),
        "ts_of_first_over_time" => Some(seconds(first.0)),
        "ts_of_last_over_time" => Some(seconds(last.0)),
        "ts_of_min_over_time" => Some(seconds(at_best(|a, b| a <= b))),
        "ts_of_max_over_time" => Some(seconds(at_best(|a, b| a >= b))),
        "stdvar_over_time" => Some(variance(&values)),
        "stddev_over_time" => Some(variance(&values).sqrt()),
        "quantile_over_time" => Some(quantile(scalars[0], &values)),
        // Since Prometheus 3.14 one NaN makes the deviation undefined.
        "mad_over_time" if values.iter().any(|v| v.is_nan()) => Some(f64::NAN),
        "mad_over_time" => {
            let median = quantile(0.5, &values);
            Some(quantile(0.5, &values.iter().map(|v| (v - median).abs()).collect::<Vec<_>>()))
        }
        "double_exponential_smoothing" => smoothed(&values, scalars[0], scalars[1]),
        _ => return None,
    })
}

/// The growth within the samples, stretched to the window's ends, but no further than half the usual distance of
/// samples where the end is far from the samples, and for a counter not to where it would be negative.
fn extrapolated(window: &Window, counter: bool, per_second: bool) -> Option<f64> {
    let samples = &window.samples;
    if samples.len() < 2 {
        return None;
    }
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    let mut grown = last.1 - first.1;
    if counter {
        grown += samples.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum::<f64>();
    }
    let sampled = (last.0 - first.0) as f64 / 1000.0;
    let usual = sampled / (samples.len() - 1) as f64;
    let reach = |gap: f64| if gap >= usual * 1.1 { usual / 2.0 } else { gap };
    let mut before = reach((first.0 - window.start) as f64 / 1000.0);
    let after = reach((window.end - last.0) as f64 / 1000.0);
    if counter && grown > 0.0 && first.1 >= 0.0 {
        before = before.min(sampled * (first.1 / grown));
    }
    let whole = grown * ((sampled + before + after) / sampled);
    Some(if per_second { whole / ((window.end - window.start) as f64 / 1000.0) } else { whole })
}

/// Least squares: slope per second, and the line's value at `origin`.
fn line(window: &Window, origin: i64) -> Option<(f64, f64)> {
    let samples = &window.samples;
    if samples.len() < 2 {
        return None;
    }
    if samples.iter().all(|(_, v)| *v == samples[0].1) {
        let v = samples[0].1;
        return Some(if v.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, v) });
    }
    let n = samples.len() as f64;
    let x = |ts: i64| (ts - origin) as f64 / 1000.0;
    let mean_x = samples.iter().map(|(ts, _)| x(*ts)).sum::<f64>() / n;
    let mean_y = samples.iter().map(|(_, v)| v).sum::<f64>() / n;
    let covariance: f64 = samples.iter().map(|(ts, v)| (x(*ts) - mean_x) * (v - mean_y)).sum();
    let variance: f64 = samples.iter().map(|(ts, _)| (x(*ts) - mean_x).powi(2)).sum();
    let slope = covariance / variance;
    Some((slope, mean_y - slope * mean_x))
}

pub fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n
}

pub fn quantile(q: f64, values: &[f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN counts as smaller than every number.
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| {
        b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let rank = q * (values.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    sorted[below] * (1.0 - weight) + sorted[above] * weight
}

fn smoothed(values: &[f64], factor: f64, trend_factor: f64) -> Option<f64> {
    let (mut level, mut trend) = (*values.first()?, values.get(1)? - values[0]);
    let mut before = 0.0;
    for (i, v) in values.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        before = level;
        level = factor * v + (1.0 - factor) * (level + trend);
    }
    Some(level)
}
