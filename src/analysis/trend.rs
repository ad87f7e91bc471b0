//! A straight line through samples.

use crate::model::Timestamp;

/// The least-squares line through samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearFit {
    /// Units per second.
    pub slope_per_second: f64,
    /// The line's value at the last sample.
    pub end_value: f64,
    /// Share of the variance that the line explains, 0 to 1; 1 for a column without variance.
    pub r_squared: f64,
    /// Seconds between the first and the last sample fitted.
    pub window_seconds: f64,
    /// How many samples were fitted.
    pub samples: usize,
}

impl LinearFit {
    /// The line's value so many seconds after the last sample.
    #[must_use]
    pub fn value_after(&self, seconds: f64) -> f64 {
        self.end_value + self.slope_per_second * seconds
    }

    /// Seconds after the last sample at which the line reaches `level`; `None` if it never does.
    #[must_use]
    pub fn seconds_until(&self, level: f64) -> Option<f64> {
        let seconds = (level - self.end_value) / self.slope_per_second;
        (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
    }
}

/// Fits a line by least squares. `ts` (ms, ascending) and `vs` have equal length; values that are not finite are
/// passed over. `None` for fewer than three samples or no span of time: two points are no trend.
#[must_use]
pub fn fit_line(ts: &[Timestamp], vs: &[f64]) -> Option<LinearFit> {
    debug_assert_eq!(ts.len(), vs.len());
    let finite = || ts.iter().zip(vs).filter(|(_, v)| v.is_finite());
    let samples = finite().count();
    let (first, last) = (*finite().next()?.0, *finite().next_back()?.0);
    if samples < 3 || first == last {
        return None;
    }
    let n = samples as f64;
    // Times count from the last sample: small numbers, so that squares keep their digits.
    let seconds = |t: Timestamp| (t - last) as f64 / 1000.0;
    let mean_x = finite().map(|(t, _)| seconds(*t)).sum::<f64>() / n;
    let mean_y = finite().map(|(_, v)| v / n).sum::<f64>();
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (t, v) in finite() {
        let (dx, dy) = (seconds(*t) - mean_x, v - mean_y);
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    let slope = xy / xx;
    let end_value = mean_y - slope * mean_x;
    let r_squared = if yy == 0.0 { 1.0 } else { slope * (xy / yy) };
    // Values near the ends of f64 overflow when squared: no line is better than a wrong one.
    if !(slope.is_finite() && end_value.is_finite() && r_squared.is_finite()) {
        return None;
    }
    Some(LinearFit {
        slope_per_second: slope,
        end_value,
        r_squared: r_squared.clamp(0.0, 1.0),
        window_seconds: (last - first) as f64 / 1000.0,
        samples,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_straight_line_is_found_exactly() {
        let ts: Vec<i64> = (0..10).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        let vs: Vec<f64> = (0..10).map(|i| 5.0 + 3.0 * f64::from(i)).collect();
        let fit = fit_line(&ts, &vs).unwrap();
        assert!((fit.slope_per_second - 0.2).abs() < 1e-9, "{fit:?}");
        assert!((fit.end_value - 32.0).abs() < 1e-9);
        assert!((fit.r_squared - 1.0).abs() < 1e-9);
        assert_eq!((fit.window_seconds, fit.samples), (135.0, 10));
        assert!((fit.seconds_until(42.0).unwrap() - 50.0).abs() < 1e-6);
        assert_eq!(fit.seconds_until(0.0), None);
    }

    #[test]
    fn too_little_gives_no_trend() {
        assert_eq!(fit_line(&[], &[]), None);
        assert_eq!(fit_line(&[0, 1000], &[1.0, 2.0]), None);
        assert_eq!(fit_line(&[0, 1000, 2000, 3000], &[1.0, f64::NAN, f64::INFINITY, 2.0]), None);
        assert_eq!(fit_line(&[5, 5, 5], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn a_constant_has_slope_zero_and_is_never_elsewhere() {
        let fit = fit_line(&[0, 1000, 2000], &[4.0; 3]).unwrap();
        assert_eq!((fit.slope_per_second, fit.r_squared), (0.0, 1.0));
        assert_eq!(fit.seconds_until(5.0), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_the_share_explained_is_a_share(vs in proptest::collection::vec(any::<f64>(), 0..50)) {
            let ts: Vec<i64> = (0..vs.len() as i64).map(|i| i * 1000).collect();
            if let Some(fit) = fit_line(&ts, &vs) {
                prop_assert!((0.0..=1.0).contains(&fit.r_squared) && fit.slope_per_second.is_finite());
            }
        }
    }
}
