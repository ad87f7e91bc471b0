//! Quantiles of plain numbers, of classic histograms and of native ones, and the inverse.
//!
//! Source: Prometheus, `promql/quantile.go`.

use super::notes::Notes;
use crate::model::{Bucket, FloatHistogram};
use crate::promql::ast::Pos;

/// The quantile of numbers, which are sorted by it; NaN sorts first.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let (lower, upper, weight) = ranks(q, values.len());
    let order = |a: &f64, b: &f64| b.is_nan().cmp(&a.is_nan()).then_with(|| a.total_cmp(b));
    let (_, at, above) = values.select_nth_unstable_by(lower, order);
    let low = *at;
    let high =
        if upper == lower { low } else { above.iter().copied().min_by(|a, b| order(a, b)).unwrap_or(low) };
    low * (1.0 - weight) + high * weight
}

/// Between which of so many sorted numbers a quantile from 0 to 1 lies, and how near to the second.
fn ranks(q: f64, len: usize) -> (usize, usize, f64) {
    let rank = q * (len as f64 - 1.0);
    let lower = rank.floor().max(0.0) as usize;
    (lower, (lower + 1).min(len - 1), rank - rank.floor())
}

/// As [`quantile`], of so many numbers that they are walked several times rather than moved: `walk` calls what it is
/// given with each of them. If it does so with fewer, the result means nothing.
///
/// Source: selection by distribution to 16 bits at a time, as radix sort does.
pub(super) fn quantile_of_many(q: f64, len: usize, walk: impl Fn(&mut dyn FnMut(f64))) -> f64 {
    const DIGIT: u32 = 16;
    if len == 0 || !(0.0..=1.0).contains(&q) {
        return quantile(q, &mut [0.0][..len.min(1)]);
    }
    let (lower, upper, weight) = ranks(q, len);
    let (mut found, mut known, mut before) = (0, 0, 0);
    let mut equal = 0;
    for shift in (0..u64::BITS).step_by(DIGIT as usize).rev() {
        let mut counts = vec![0usize; 1 << DIGIT];
        walk(&mut |v| {
            let key = sort_key(v);
            if key & known == found {
                counts[(key >> shift) as usize & ((1 << DIGIT) - 1)] += 1;
            }
        });
        let mut digit = 0;
        while digit + 1 < counts.len() && before + counts[digit] <= lower {
            before += counts[digit];
            digit += 1;
        }
        equal = counts[digit];
        found |= (digit as u64) << shift;
        known |= ((1 << DIGIT) - 1) << shift;
    }
    let mut above = found;
    if before + equal <= upper {
        above = u64::MAX;
        walk(&mut |v| {
            let key = sort_key(v);
            if key > found {
                above = above.min(key);
            }
        });
    }
    of_sort_key(found) * (1.0 - weight) + of_sort_key(above) * weight
}

/// A number that sorts as the value does; NaN sorts first.
fn sort_key(v: f64) -> u64 {
    match v.to_bits() {
        _ if v.is_nan() => 0,
        bits if v.is_sign_negative() => !bits,
        bits => bits | 1 << 63,
    }
}

/// The value of a [`sort_key`].
fn of_sort_key(key: u64) -> f64 {
    match key {
        0 => f64::NAN,
        key if key >> 63 == 1 => f64::from_bits(key & !(1 << 63)),
        key => f64::from_bits(!key),
    }
}

/// A bucket of a classic histogram: how many observations are at most `upper`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classic {
    pub upper: f64,
    pub count: f64,
}

/// Counts that shrink towards higher buckets were lifted: by how much, and between which bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lifted {
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_diff: f64,
}

/// Relative differences up to this are rounding, not decreases.
const SMALL_DELTA: f64 = 1e-12;

/// The quantile of a classic histogram.
pub(super) fn classic_quantile(q: f64, buckets: &mut Vec<Classic>) -> (f64, Option<Lifted>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    let Some(lifted) = prepare(buckets) else { return (f64::NAN, None) };
    let last = buckets.len() - 1;
    if buckets.len() < 2 || buckets[last].count == 0.0 {
        return (f64::NAN, None);
    }
    let mut rank = q * buckets[last].count;
    let at = first_at_least(rank, &buckets[..last]);
    if at == last {
        return (buckets[last - 1].upper, lifted);
    }
    if at == 0 && buckets[0].upper <= 0.0 {
        return (buckets[0].upper, lifted);
    }
    let (mut lower, mut count) = (0.0, buckets[at].count);
    if at > 0 {
        lower = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (lower + (buckets[at].upper - lower) * (rank / count), lifted)
}

/// The first bucket with a count of at least `rank`. NaN is not: which one is found then depends on where is looked, so
/// this looks where Go's `sort.Search` does.
fn first_at_least(rank: f64, buckets: &[Classic]) -> usize {
    let (mut from, mut to) = (0, buckets.len());
    while from < to {
        let middle = usize::midpoint(from, to);
        if buckets[middle].count >= rank {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

/// Sorts and unites equal bounds; false without a bucket up to +Inf.
fn unite(buckets: &mut Vec<Classic>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|b, a| {
        let same = a.upper == b.upper;
        if same {
            a.count += b.count;
        }
        same
    });
    buckets.last().is_some_and(|b| b.upper == f64::INFINITY)
}

/// Unites equal bounds and makes the counts monotonic; `None` without a bucket up to +Inf.
fn prepare(buckets: &mut Vec<Classic>) -> Option<Option<Lifted>> {
    if !unite(buckets) {
        return None;
    }
    let mut lifted: Option<Lifted> = None;
    let mut before = buckets[0].count;
    for b in buckets.iter_mut().skip(1) {
        let now = b.count;
        if now == before {
            continue;
        }
        if nearly_equal(before, now) {
            b.count = before;
            continue;
        }
        if now < before {
            b.count = before;
            let l = lifted.get_or_insert(Lifted { min_bucket: b.upper, max_bucket: b.upper, max_diff: 0.0 });
            l.max_bucket = b.upper;
            l.max_diff = l.max_diff.max(before - now);
            continue;
        }
        before = now;
    }
    Some(lifted)
}

fn nearly_equal(a: f64, b: f64) -> bool {
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < SMALL_DELTA
}

/// The share of a classic histogram's observations between two bounds. Counts that shrink stay as they are, as in
/// Prometheus, which makes them monotonic for quantiles only.
pub(super) fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<Classic>) -> f64 {
    if !unite(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() || count.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut below = 0.0;
    let mut bound = if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    for b in buckets.iter() {
        let within = |v: f64| {
            if bound == f64::NEG_INFINITY {
                b.count
            } else if b.upper == f64::INFINITY {
                below
            } else {
                below + (b.count - below) * (v - bound) / (b.upper - bound)
            }
        };
        for (rank, v) in [(&mut lower_rank, lower), (&mut upper_rank, upper)] {
            if rank.is_none() {
                if bound >= v {
                    *rank = Some(below);
                } else if b.upper > v {
                    *rank = Some(within(v));
                }
            }
        }
        below = b.count;
        bound = b.upper;
    }
    let lower_rank = lower_rank.map_or(count, |r: f64| r.min(count));
    let upper_rank = upper_rank.map_or(count, |r: f64| r.min(count));
    (upper_rank - lower_rank) / count
}

/// The bounds of a bucket around zero as interpolation sees them: one-sided histograms end at zero.
fn one_sided(h: &FloatHistogram, b: &mut Bucket) {
    if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
        b.lower = 0.0;
    } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
        b.upper = 0.0;
    }
}

/// The quantile of a native histogram: exponential between exponential bounds, else linear.
pub(super) fn native_quantile(q: f64, h: &FloatHistogram, name: &str, notes: &Notes, pos: &Pos) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    // Observations of NaN are in the count and in no bucket: then only counting from below is right.
    let from_below = h.sum.is_nan() || q < 0.5;
    let mut all = h.all_buckets();
    if !from_below {
        all.reverse();
    }
    let mut rank = if from_below { q * h.count } else { (1.0 - q) * h.count };
    let mut count = 0.0;
    let mut bucket =
        Bucket { lower: 0.0, upper: 0.0, lower_inclusive: true, upper_inclusive: true, count: 0.0 };
    for b in &all {
        // An empty one counts where it is the last: its bound is the answer if the rank is not reached.
        bucket = *b;
        if b.count == 0.0 {
            continue;
        }
        count += b.count;
        if count >= rank {
            break;
        }
    }
    let mut b = bucket;
    if h.has_custom_buckets() {
        // A bucket without any bound counts as the lowest one.
        if b.lower == f64::NEG_INFINITY {
            if b.upper <= 0.0 {
                return b.upper;
            }
            b.lower = 0.0;
        } else if b.upper == f64::INFINITY {
            return b.lower;
        }
    } else if b.lower < 0.0 && b.upper > 0.0 {
        one_sided(h, &mut b);
    }
    // Rounding can make the buckets hold more than the count; so can negative buckets, whose ranks are below zero.
    count = count.min(h.count);
    if count < rank {
        if h.sum.is_nan() {
            notes.quantile_is_nan(name, pos);
            return f64::NAN;
        }
        return b.upper;
    }
    if h.sum.is_nan() {
        let observed: f64 = all.iter().map(|b| b.count).sum();
        if observed < h.count {
            notes.quantile_is_skewed(name, pos);
        }
    }
    if from_below {
        rank -= count - b.count;
    } else {
        rank = count - rank;
    }
    let fraction = rank / b.count;
    if h.has_custom_buckets() || (b.lower <= 0.0 && b.upper >= 0.0) {
        return b.lower + (b.upper - b.lower) * fraction;
    }
    let (lower, upper) = (b.lower.abs().log2(), b.upper.abs().log2());
    if b.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// The share of a native histogram's observations between two bounds.
pub(super) fn native_fraction(
    lower: f64,
    upper: f64,
    h: &FloatHistogram,
    name: &str,
    notes: &Notes,
    pos: &Pos,
) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let all = h.all_buckets();
    let mut count = h.count;
    if h.sum.is_nan() {
        let observed: f64 = all.iter().map(|b| b.count).sum();
        if observed < h.count {
            notes.fraction_excludes_nans(name, pos);
        }
        count = observed;
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut below = 0.0;
    for b in &all {
        let mut b = *b;
        let around_zero = b.lower <= 0.0 && b.upper >= 0.0;
        if around_zero {
            // Custom buckets are all among the positive ones, so that theirs begins at zero too.
            one_sided(h, &mut b);
        }
        let linear = h.has_custom_buckets() || around_zero;
        let within = |v: f64| {
            if b.lower == f64::NEG_INFINITY {
                return below + b.count;
            }
            if b.upper == f64::INFINITY {
                return below;
            }
            if linear {
                return below + b.count * (v - b.lower) / (b.upper - b.lower);
            }
            let (l, u, v2) = (b.lower.abs().log2(), b.upper.abs().log2(), v.abs().log2());
            let share = if v > 0.0 { (v2 - l) / (u - l) } else { 1.0 - (v2 - u) / (l - u) };
            below + b.count * share
        };
        for (rank, v) in [(&mut lower_rank, lower), (&mut upper_rank, upper)] {
            if rank.is_none() {
                if b.lower >= v {
                    *rank = Some(below);
                } else if b.upper > v {
                    *rank = Some(within(v));
                }
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        below += b.count;
    }
    let lower_rank = lower_rank.map_or(count, |r: f64| r.min(count));
    let upper_rank = upper_rank.map_or(count, |r: f64| r.min(count));
    (upper_rank - lower_rank) / h.count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn walking_finds_the_quantile_that_selecting_finds(
            mut values in proptest::collection::vec(
                prop_oneof![
                    4 => (-20i32..20).prop_map(f64::from),
                    4 => any::<f64>(),
                    1 => proptest::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0]),
                ],
                0..60,
            ),
            q in prop_oneof![0.0..=1.0, Just(0.0), Just(0.5), Just(1.0), Just(-1.0), Just(2.0), Just(f64::NAN)],
        ) {
            let walked = quantile_of_many(q, values.len(), |each| values.iter().for_each(|v| each(*v)));
            let selected = quantile(q, &mut values);
            prop_assert!(
                walked.to_bits() == selected.to_bits() || (walked.is_nan() && selected.is_nan()),
                "{walked} {selected}"
            );
        }
    }

    #[test]
    fn quantiles_of_numbers() {
        let check = |q: f64, values: &[f64], expected: f64| {
            let got = quantile(q, &mut values.to_vec());
            assert!(got == expected || (got.is_nan() && expected.is_nan()), "{q} of {values:?}: {got}");
        };
        check(0.5, &[3.0, 1.0, 2.0], 2.0);
        check(0.75, &[0.0, 1.0, 2.0, 3.0, 4.0], 3.0);
        check(0.5, &[1.0, 2.0], 1.5);
        check(1.0, &[1.0, f64::NAN], 1.0);
        check(0.0, &[1.0, f64::NAN], f64::NAN);
        check(-0.1, &[1.0], f64::NEG_INFINITY);
        check(1.1, &[1.0], f64::INFINITY);
        check(0.5, &[], f64::NAN);
    }

    #[test]
    fn classic_histograms() {
        let buckets =
            |pairs: &[(f64, f64)]| pairs.iter().map(|&(upper, count)| Classic { upper, count }).collect();
        let inf = f64::INFINITY;
        let mut b: Vec<Classic> = buckets(&[(0.1, 1.0), (0.2, 3.0), (inf, 4.0)]);
        assert_eq!(classic_quantile(0.5, &mut b), (0.1 + 0.1 * 0.5, None));
        assert_eq!(classic_quantile(1.0, &mut b).0, 0.2);
        let mut b: Vec<Classic> = buckets(&[(1.0, 5.0), (2.0, 3.0), (inf, 10.0)]);
        assert_eq!(
            classic_quantile(0.5, &mut b).1,
            Some(Lifted { min_bucket: 2.0, max_bucket: 2.0, max_diff: 2.0 })
        );
        assert!(classic_quantile(0.5, &mut buckets(&[(1.0, 5.0)])).0.is_nan());
        let mut b: Vec<Classic> = buckets(&[(1.0, 5.0), (2.0, 3.0), (4.0, 8.0), (inf, 10.0)]);
        assert_eq!(classic_fraction(0.0, 2.0, &mut b), 0.3, "fractions take shrinking counts as they are");
    }

    #[test]
    fn counts_that_are_no_number_are_below_every_rank() {
        let buckets = |pairs: &[(f64, f64)]| -> Vec<Classic> {
            pairs.iter().map(|(upper, count)| Classic { upper: *upper, count: *count }).collect()
        };
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (c, quantile) in [([nan; 4], 5.0), ([1.0, nan, 9.0, nan], 5.0), ([8.0, nan, 2.0, 10.0], 5.0)] {
            let mut b = buckets(&[(1.0, c[0]), (2.0, c[1]), (5.0, c[2]), (inf, c[3])]);
            assert_eq!(classic_quantile(0.5, &mut b).0, quantile, "{c:?}");
        }
        assert_eq!(classic_quantile(0.5, &mut buckets(&[(1.0, 1.0), (2.0, nan), (inf, 10.0)])).0, 2.0);
    }

    /// What `delta` makes of a gauge that falls.
    #[test]
    fn native_histograms_with_negative_counts() {
        use crate::model::{CounterResetHint, Span};
        let h = FloatHistogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: -15.0,
            sum: -30.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![-4.0, -3.0],
            negative_spans: Vec::new(),
            negative_buckets: Vec::new(),
            custom_values: Vec::new(),
        };
        let notes = Notes::default();
        assert_eq!(native_quantile(0.5, &h, "", &notes, &(0..1)), 2.0);
        let h = FloatHistogram { count: -7.0, positive_buckets: vec![0.0, -7.0], ..h };
        assert_eq!(native_quantile(0.99, &h, "", &notes, &(0..1)), 1.0);
    }
}
