//! Lines of least squares through windows: `deriv` and `predict_linear`.
//!
//! Windows that overlap share their samples, so that walking each of them would take the square of the time. Sums over
//! a window are differences of sums from the start of the series instead. Such differences lose what sums of doubles
//! cannot hold; here every sum is kept as two doubles (about 106 bits), or exactly in integers, so that the result is
//! nearer to the true one than compensated sums over each window are.

use super::context::Context;
use crate::model::kahan_add;

/// Slope per second and value at `origin` of the line of least squares. There are two samples at least.
pub(super) fn linear_regression(ctx: &Context<'_>, ts: &[i64], vs: &[f64], origin: i64) -> (f64, f64) {
    regression(ctx.pieces(ts).zip(ctx.pieces(vs)), vs[0], vs.len(), origin)
}

/// The same of pieces of times and values, of which the first and the number are given.
fn regression<'v>(
    pieces: impl Iterator<Item = (&'v [i64], &'v [f64])>,
    first: f64,
    len: usize,
    origin: i64,
) -> (f64, f64) {
    let (mut sx, mut cx, mut sy, mut cy) = (0.0, 0.0, 0.0, 0.0);
    let (mut sxy, mut cxy, mut sxx, mut cxx) = (0.0, 0.0, 0.0, 0.0);
    let mut constant = true;
    for (ts, vs) in pieces {
        for (&t, &y) in ts.iter().zip(vs) {
            constant &= y == first;
            let x = t.saturating_sub(origin) as f64 / 1e3;
            (sx, cx) = kahan_add(x, sx, cx);
            (sy, cy) = kahan_add(y, sy, cy);
            (sxy, cxy) = kahan_add(x * y, sxy, cxy);
            (sxx, cxx) = kahan_add(x * x, sxx, cxx);
        }
    }
    if constant {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = len as f64;
    let (sx, sy, sxy, sxx) = (sx + cx, sy + cy, sxy + cxy, sxx + cxx);
    let slope = (sxy - sx * sy / n) / (sxx - sx * sx / n);
    (slope, sy / n - slope * sx / n)
}

/// Sums over the first samples of a series, for lines through any of its windows.
pub(super) struct Sums {
    /// Times count from here.
    base: i64,
    sums: Vec<Sum>,
    /// Where the run of equal values that a sample ends begins.
    run: Vec<u32>,
}

/// Over the samples before one; times in ms.
#[derive(Clone, Copy)]
struct Sum {
    x: i128,
    xx: i128,
    y: Double,
    xy: Double,
}

/// Greater values could overflow while they are split.
const VALUE_MAX: f64 = 1e280;

/// So many samples, and so many ms between the first and the last, leave room in 128 bits for squares of sums.
const SAMPLES_MAX: usize = 1 << 22;
const SPAN_MAX: i64 = 1 << 40;

impl Sums {
    /// `None` if a value is not finite, or something is too large: then each window has to be walked.
    pub fn new(ts: &[i64], vs: &[f64]) -> Option<Self> {
        let (base, last) = (*ts.first()?, *ts.last()?);
        let small = |v: &f64| v.abs() < VALUE_MAX;
        if last.checked_sub(base)? > SPAN_MAX || vs.len() > SAMPLES_MAX || !vs.iter().all(small) {
            return None;
        }
        let mut sum = Sum { x: 0, xx: 0, y: Double::ZERO, xy: Double::ZERO };
        let mut sums = Vec::with_capacity(vs.len() + 1);
        let mut run: Vec<u32> = Vec::with_capacity(vs.len());
        sums.push(sum);
        for (i, (&t, &y)) in ts.iter().zip(vs).enumerate() {
            let x = t - base;
            sum.x += i128::from(x);
            sum.xx += i128::from(x) * i128::from(x);
            sum.y = sum.y.plus(Double { high: y, low: 0.0 });
            sum.xy = sum.xy.plus(Double::product(x as f64, y));
            sums.push(sum);
            run.push(if i > 0 && vs[i - 1] == y { run[i - 1] } else { i as u32 });
        }
        Some(Sums { base, sums, run })
    }

    /// As [`linear_regression`] of the samples from `from` to before `to`; `first` is the first one's value.
    pub fn line(&self, from: usize, to: usize, first: f64, origin: i64) -> (f64, f64) {
        if self.run[to - 1] as usize <= from {
            return (0.0, first);
        }
        let (a, b) = (&self.sums[from], &self.sums[to]);
        let n = (to - from) as i128;
        let (x, xx) = (b.x - a.x, b.xx - a.xx);
        let (y, xy) = (b.y.minus(a.y), b.xy.minus(a.xy));
        // n·Σxy - Σx·Σy over n·Σx² - (Σx)²: it does not matter where x is counted from.
        let covariance = xy.times(n as f64).minus(y.times_integer(x));
        let slope = covariance.value() / (n * xx - x * x) as f64;
        let from_origin = x - n * i128::from(origin.saturating_sub(self.base));
        let mean = y.value() / n as f64;
        (slope * 1e3, mean - slope * (from_origin as f64 / n as f64))
    }
}

/// The unevaluated sum of two doubles, the second at most half a unit in the last place of the first.
///
/// Source: Dekker 1971, "A floating-point technique for extending the available precision".
#[derive(Clone, Copy, Debug)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    const ZERO: Double = Double { high: 0.0, low: 0.0 };

    fn value(self) -> f64 {
        self.high + self.low
    }

    /// Without rounding.
    fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let b_part = high - a;
        Double { high, low: (a - (high - b_part)) + (b - b_part) }
    }

    /// Without rounding.
    fn product(a: f64, b: f64) -> Self {
        let split = |v: f64| {
            let c = 134_217_729.0 * v;
            let high = c - (c - v);
            (high, v - high)
        };
        let high = a * b;
        let ((ah, al), (bh, bl)) = (split(a), split(b));
        Double { high, low: ((ah * bh - high) + ah * bl + al * bh) + al * bl }
    }

    fn plus(self, other: Double) -> Self {
        let high = Double::sum(self.high, other.high);
        let low = Double::sum(self.low, other.low);
        let next = Double::sum(high.high, high.low + low.high);
        Double::sum(next.high, next.low + low.low)
    }

    fn minus(self, other: Double) -> Self {
        self.plus(Double { high: -other.high, low: -other.low })
    }

    fn times(self, factor: f64) -> Self {
        let high = Double::product(self.high, factor);
        Double::sum(high.high, high.low + self.low * factor)
    }

    fn times_integer(self, factor: i128) -> Self {
        let high = factor as f64;
        let low = (factor - high as i128) as f64;
        self.times(high).plus(self.times(low))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_give_the_line_that_walking_gives(
            values in proptest::collection::vec(-1000i32..1000, 2..200),
            scale in prop_oneof![Just(1.0), Just(1e-9), Just(1e12), Just(0.1)],
            level in prop_oneof![Just(0.0), Just(1e6), Just(-3e9)],
            from in 0usize..100,
            ahead in -10_000i64..10_000_000,
        ) {
            let vs: Vec<f64> = values.iter().map(|v| f64::from(*v) * scale + level).collect();
            let ts: Vec<i64> = (0..vs.len() as i64).map(|i| 1_700_000_000_000 + i * 15_000 + i % 3).collect();
            let from = from.min(vs.len() - 2);
            let origin = ts[vs.len() - 1] + ahead;
            let sums = Sums::new(&ts, &vs).unwrap();
            let got = sums.line(from, vs.len(), vs[from], origin);
            let pieces = std::iter::once((&ts[from..], &vs[from..]));
            let want = regression(pieces, vs[from], vs.len() - from, origin);
            // By so much rounding moves the line that is walked, seen from far away.
            let greatest = vs.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let reach = ((origin - ts[from]).abs() as f64 / 1e3).max(15.0 * vs.len() as f64);
            let slope = 1e-14 * greatest * reach / (15.0 * 15.0) + 1e-7 * want.0.abs();
            let value = slope * reach + 1e-12 * greatest + 1e-7 * want.1.abs();
            prop_assert!((got.0 - want.0).abs() <= slope, "{got:?} {want:?}");
            prop_assert!((got.1 - want.1).abs() <= value, "{got:?} {want:?}");
        }
    }

    #[test]
    fn a_constant_is_exact_and_a_nan_is_walked() {
        let ts: Vec<i64> = (0..10).map(|i| i * 1000).collect();
        let sums = Sums::new(&ts, &[0.1; 10]).unwrap();
        assert_eq!(sums.line(3, 9, 0.1, 77_000), (0.0, 0.1));
        assert!(Sums::new(&ts[..2], &[1.0, f64::NAN]).is_none());
        assert!(Sums::new(&ts[..2], &[1.0, 1e300]).is_none());
    }
}
