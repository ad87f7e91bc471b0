//! Cutting a histogram at a bound: the operators `</` and `>/`.
//!
//! A bucket across the bound is divided by the interpolation that its schema has; the sum is estimated anew from the
//! middle of what is left of each bucket. The open-ended buckets of custom bounds hold an unknown spread: cut from
//! their closed side they stay whole, cut from their open side they go, and the lowest counts as starting at zero if
//! its upper bound is above that.

use super::{Bucket, FloatHistogram};

/// Which side of the bound stays.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Below,
    Above,
}

impl FloatHistogram {
    /// Keeps what lies at or below `bound`.
    pub fn keep_below(&mut self, bound: f64) {
        self.trim(bound, Keep::Below);
    }

    /// Keeps what lies above `bound`.
    pub fn keep_above(&mut self, bound: f64) {
        self.trim(bound, Keep::Above);
    }

    fn trim(&mut self, bound: f64, keep: Keep) {
        let linear = self.has_custom_buckets();
        let mut changed = false;
        let (mut count, mut sum) = (0.0, 0.0);
        let mut cut = |buckets: Vec<Bucket>, part: &dyn Fn(&Bucket) -> (f64, f64)| -> Vec<f64> {
            let mut left = Vec::with_capacity(buckets.len());
            for b in buckets {
                let (kept, middle) = if b.count == 0.0 { (0.0, 0.0) } else { part(&b) };
                changed |= kept != b.count;
                if kept != 0.0 {
                    count += kept;
                    sum += kept * middle;
                }
                left.push(kept);
            }
            left
        };
        let positive = cut(self.positive().collect(), &|b| part(b, bound, keep, linear));
        let negative = cut(self.negative().collect(), &|b| part(b, bound, keep, linear));
        let mut zero = self.zero_bucket();
        let populated = |buckets: &[f64]| buckets.iter().any(|count| *count != 0.0);
        match (populated(&self.negative_buckets), populated(&self.positive_buckets)) {
            (false, true) => zero.lower = 0.0,
            (true, false) => zero.upper = 0.0,
            _ => {}
        }
        let zero =
            if self.zero_count > 0.0 { cut(vec![zero], &|b| part_of_zero(b, bound, keep))[0] } else { 0.0 };
        if changed {
            self.positive_buckets = positive;
            self.negative_buckets = negative;
            self.zero_count = zero;
            self.count = count;
            self.sum = sum;
        }
        self.compact();
    }
}

/// How much of a populated bucket stays, and the middle of that.
fn part(b: &Bucket, bound: f64, keep: Keep, linear: bool) -> (f64, f64) {
    let mut b = *b;
    if b.lower == f64::NEG_INFINITY && b.upper == f64::INFINITY {
        let whole = match keep {
            Keep::Below => bound == f64::INFINITY,
            Keep::Above => bound == f64::NEG_INFINITY,
        };
        return if whole { (b.count, 0.0) } else { (0.0, 0.0) };
    }
    if b.lower == f64::NEG_INFINITY {
        if b.upper > 0.0 && (bound >= 0.0 || bound == f64::NEG_INFINITY && keep == Keep::Above) {
            b.lower = 0.0;
        } else {
            return match keep {
                Keep::Below if bound >= b.upper => (b.count, b.upper),
                Keep::Below if b.upper <= 0.0 && bound > b.lower => (b.count, bound),
                Keep::Above if bound == f64::NEG_INFINITY => (b.count, b.upper),
                _ => (0.0, 0.0),
            };
        }
    }
    if b.upper == f64::INFINITY {
        return match keep {
            Keep::Below if bound == f64::INFINITY => (b.count, b.lower),
            Keep::Above if bound < f64::INFINITY => (b.count, bound.max(b.lower)),
            _ => (0.0, 0.0),
        };
    }
    let (whole, some) = match keep {
        Keep::Below => (b.upper <= bound, b.lower < bound),
        Keep::Above => (b.lower >= bound, b.upper > bound),
    };
    if whole {
        return (b.count, middle(b.lower, b.upper, linear));
    }
    if !some {
        return (0.0, 0.0);
    }
    let below = b.count * fraction_below(&b, bound, linear);
    match keep {
        Keep::Below => (below, middle(b.lower, bound, linear)),
        Keep::Above => (b.count - below, middle(bound, b.upper, linear)),
    }
}

/// The same of the zero bucket. One that is nothing but zero lies above the bound 0, and a bound that is no number makes
/// its count none.
fn part_of_zero(b: &Bucket, bound: f64, keep: Keep) -> (f64, f64) {
    let whole = (b.count, (b.lower + b.upper) / 2.0);
    match keep {
        Keep::Below if bound <= b.lower => (0.0, 0.0),
        Keep::Above if bound <= b.lower => whole,
        Keep::Below if bound >= b.upper => whole,
        Keep::Above if bound >= b.upper => (0.0, 0.0),
        Keep::Below => (b.count * (bound - b.lower) / (b.upper - b.lower), (b.lower + bound) / 2.0),
        Keep::Above => (b.count * (b.upper - bound) / (b.upper - b.lower), (bound + b.upper) / 2.0),
    }
}

/// The arithmetic middle, or the geometric one within an exponential bucket.
fn middle(lower: f64, upper: f64, linear: bool) -> f64 {
    if linear {
        return (lower + upper) / 2.0;
    }
    let geometric = (lower.abs() * upper.abs()).sqrt();
    if upper <= 0.0 { -geometric } else { geometric }
}

/// The share of a bucket's observations that lie below `value`, which is inside of it.
fn fraction_below(b: &Bucket, value: f64, linear: bool) -> f64 {
    if linear {
        return (value - b.lower) / (b.upper - b.lower);
    }
    let (lower, upper, value) = (b.lower.abs().log2(), b.upper.abs().log2(), value.abs().log2());
    if b.lower >= 0.0 { (value - lower) / (upper - lower) } else { 1.0 - (value - upper) / (lower - upper) }
}
