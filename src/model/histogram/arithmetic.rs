//! Sums, differences and comparisons of histograms, whatever their layouts.
//!
//! Two exponential histograms meet at the coarser schema and the wider zero bucket; two with custom bounds meet at
//! the bounds that both have. An exponential one and one with custom bounds do not meet at all.
//!
//! Source: Prometheus, `model/histogram/float_histogram.go`.

use super::buckets::{coarsen, indexed, layout};
use super::{CounterResetHint, FloatHistogram, Span};

/// An exponential histogram and one with custom bounds were to be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct SchemaMismatch;

/// What happened on the way of a sum or difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One side said "reset", the other "not reset".
    pub reset_collision: bool,
    /// The custom bounds differed, and what both have was taken.
    pub bounds_reconciled: bool,
}

/// One step of Kahan-Babuska-Neumaier summation: `(sum, compensation)` with `add` added.
///
/// Source: Neumaier 1974; Prometheus, `util/kahansum`.
#[inline]
#[must_use]
pub fn kahan_add(add: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + add;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let lost = if sum.abs() >= add.abs() { (sum - total) + add } else { (add - total) + sum };
    (total, compensation + lost)
}

impl FloatHistogram {
    /// Multiplies every count and the sum.
    pub fn scale(&mut self, factor: f64) {
        self.for_each_number(|v| *v *= factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides every count and the sum. Dividing by zero leaves no buckets.
    pub fn divide(&mut self, divisor: f64) {
        self.for_each_number(|v| *v /= divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    fn for_each_number(&mut self, mut f: impl FnMut(&mut f64)) {
        f(&mut self.zero_count);
        f(&mut self.count);
        f(&mut self.sum);
        self.positive_buckets.iter_mut().for_each(&mut f);
        self.negative_buckets.iter_mut().for_each(&mut f);
    }

    /// Whether a count or the sum is infinite.
    #[must_use]
    pub fn has_overflow(&self) -> bool {
        let numbers = [self.zero_count, self.count, self.sum];
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        numbers.iter().chain(buckets).any(|v| v.is_infinite())
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// When one has custom bounds and the other has not; `self` is then unchanged.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, SchemaMismatch> {
        self.combine(other, 1.0, None)
    }

    /// Subtracts `other`.
    ///
    /// # Errors
    /// As [`FloatHistogram::add`].
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Combined, SchemaMismatch> {
        self.combine(other, -1.0, None)
    }

    /// Adds `other`, collecting what rounding loses in `compensation`, which starts as `None`.
    ///
    /// # Errors
    /// As [`FloatHistogram::add`].
    pub fn add_compensated(
        &mut self,
        other: &FloatHistogram,
        compensation: &mut Option<FloatHistogram>,
    ) -> Result<Combined, SchemaMismatch> {
        let c = compensation.get_or_insert_with(|| {
            let mut c = self.clone();
            c.for_each_number(|v| *v = 0.0);
            c
        });
        self.combine(other, 1.0, Some(c))
    }

    fn combine(
        &mut self,
        other: &FloatHistogram,
        sign: f64,
        mut compensation: Option<&mut FloatHistogram>,
    ) -> Result<Combined, SchemaMismatch> {
        if self.has_custom_buckets() != other.has_custom_buckets() {
            return Err(SchemaMismatch);
        }
        let mut combined = Combined { reset_collision: self.meet_hint(other), bounds_reconciled: false };
        let mut other = std::borrow::Cow::Borrowed(other);
        if self.has_custom_buckets() {
            if self.custom_values != other.custom_values {
                combined.bounds_reconciled = true;
                let bounds = common_bounds(&self.custom_values, &other.custom_values);
                self.map_to_bounds(&bounds);
                other.to_mut().map_to_bounds(&bounds);
                if let Some(c) = compensation.as_deref_mut() {
                    c.map_to_bounds(&bounds);
                }
            }
        } else {
            if self.zero_threshold != other.zero_threshold {
                let own = self.clone();
                let threshold = common_threshold(&own, &other);
                self.widen_zero_bucket(threshold, &own);
                if let Some(c) = compensation.as_deref_mut() {
                    c.widen_zero_bucket(threshold, &own);
                }
                if other.zero_threshold != threshold {
                    let before = other.clone().into_owned();
                    other.to_mut().widen_zero_bucket(threshold, &before);
                }
            }
            if other.schema < self.schema {
                self.reduce_resolution(other.schema);
                if let Some(c) = compensation.as_deref_mut() {
                    c.reduce_resolution(other.schema);
                }
            } else if other.schema > self.schema {
                let schema = self.schema;
                other.to_mut().reduce_resolution(schema);
            }
        }
        self.same_layout(&other, compensation.as_deref_mut());
        match compensation {
            None => {
                self.zero_count += sign * other.zero_count;
                self.count += sign * other.count;
                self.sum += sign * other.sum;
                let add = |to: &mut [f64], spans: &[Span], from_spans: &[Span], from: &[f64]| {
                    each_shared(spans, from_spans, from, |i, v| to[i] += sign * v);
                };
                add(
                    &mut self.positive_buckets,
                    &self.positive_spans,
                    &other.positive_spans,
                    &other.positive_buckets,
                );
                add(
                    &mut self.negative_buckets,
                    &self.negative_spans,
                    &other.negative_spans,
                    &other.negative_buckets,
                );
            }
            Some(c) => {
                let step = |sum: &mut f64, comp: &mut f64, v: f64| {
                    (*sum, *comp) = kahan_add(sign * v, *sum, *comp);
                };
                step(&mut self.zero_count, &mut c.zero_count, other.zero_count);
                step(&mut self.count, &mut c.count, other.count);
                step(&mut self.sum, &mut c.sum, other.sum);
                each_shared(&self.positive_spans, &other.positive_spans, &other.positive_buckets, |i, v| {
                    step(&mut self.positive_buckets[i], &mut c.positive_buckets[i], v);
                });
                each_shared(&self.negative_spans, &other.negative_spans, &other.negative_buckets, |i, v| {
                    step(&mut self.negative_buckets[i], &mut c.negative_buckets[i], v);
                });
            }
        }
        Ok(combined)
    }

    /// What the sum of two knows about resets; tells whether they contradict each other.
    fn meet_hint(&mut self, other: &FloatHistogram) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        match (self.counter_reset_hint, other.counter_reset_hint) {
            (a, b) if a == b => false,
            (Gauge, _) => false,
            (Unknown, other) if other != Gauge => false,
            (_, Gauge) => {
                self.counter_reset_hint = Gauge;
                false
            }
            (_, Unknown) => {
                self.counter_reset_hint = Unknown;
                false
            }
            _ => {
                self.counter_reset_hint = Unknown;
                true
            }
        }
    }

    /// Extends this layout (and that of `compensation`, which is the same) so that it has every bucket of `other`.
    fn same_layout(&mut self, other: &FloatHistogram, compensation: Option<&mut FloatHistogram>) {
        let extend = |spans: &mut Vec<Span>,
                      buckets: &mut Vec<f64>,
                      comp: Option<(&mut Vec<Span>, &mut Vec<f64>)>,
                      wanted: &[Span]| {
            if spans == wanted {
                return;
            }
            let ones = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
            let zeros = vec![0.0; ones(wanted)];
            let all: Vec<(i32, f64)> =
                missing(indexed(spans, buckets).collect(), indexed(wanted, &zeros).map(|(i, _)| i));
            if let Some((comp_spans, comp_buckets)) = comp {
                let with = missing(
                    indexed(comp_spans, comp_buckets).collect(),
                    indexed(wanted, &zeros).map(|(i, _)| i),
                );
                (*comp_spans, *comp_buckets) = layout(with);
            }
            (*spans, *buckets) = layout(all);
        };
        let (positive, negative) = match compensation {
            None => (None, None),
            Some(c) => (
                Some((&mut c.positive_spans, &mut c.positive_buckets)),
                Some((&mut c.negative_spans, &mut c.negative_buckets)),
            ),
        };
        extend(&mut self.positive_spans, &mut self.positive_buckets, positive, &other.positive_spans);
        extend(&mut self.negative_spans, &mut self.negative_buckets, negative, &other.negative_spans);
    }

    /// Moves the counts into the buckets that `bounds` (a subset of the custom bounds) leave.
    fn map_to_bounds(&mut self, bounds: &[f64]) {
        let mut counts = vec![0.0; bounds.len() + 1];
        for (index, count) in indexed(&self.positive_spans, &self.positive_buckets) {
            let upper = usize::try_from(index).ok().and_then(|i| self.custom_values.get(i));
            let to = upper.map_or(bounds.len(), |u| bounds.partition_point(|b| b < u));
            counts[to] += count;
        }
        self.positive_spans = vec![Span { offset: 0, length: counts.len() as u32 }];
        self.positive_buckets = counts;
        self.custom_values = bounds.to_vec();
    }

    /// Moves into the zero bucket what lies inside `threshold`, by the bounds of `layout_of` (this histogram, or the
    /// one that it compensates). No populated bucket of it lies across the threshold.
    fn widen_zero_bucket(&mut self, threshold: f64, layout_of: &FloatHistogram) {
        if layout_of.zero_threshold >= threshold {
            self.zero_threshold = threshold;
            return;
        }
        let schema = layout_of.schema;
        let mut zero = self.zero_count;
        let mut split = |spans: &[Span], buckets: &[f64]| {
            let inside = |i: i32| super::buckets::exponential_bound(i.saturating_sub(1), schema) < threshold;
            let mut kept = Vec::new();
            for (index, count) in indexed(spans, buckets) {
                if inside(index) { zero += count } else { kept.push((index, count)) }
            }
            layout(kept)
        };
        let positive = split(&self.positive_spans, &self.positive_buckets);
        let negative = split(&self.negative_spans, &self.negative_buckets);
        (self.positive_spans, self.positive_buckets) = positive;
        (self.negative_spans, self.negative_buckets) = negative;
        self.zero_count = zero;
        self.zero_threshold = threshold;
    }

    /// The least threshold from `threshold` up that no populated bucket lies across.
    fn fitting_threshold(&self, mut threshold: f64) -> f64 {
        loop {
            let across = |b: &super::Bucket| {
                let (lower, upper) = if b.upper <= 0.0 { (-b.upper, -b.lower) } else { (b.lower, b.upper) };
                (b.count != 0.0 && lower < threshold && upper > threshold).then_some(upper)
            };
            match self.positive().chain(self.negative()).find_map(|b| across(&b)) {
                Some(wider) => threshold = wider,
                None => return threshold,
            }
        }
    }

    /// Whether the counter that this histogram is was reset after `before`.
    #[must_use]
    pub fn is_reset_after(&self, before: &FloatHistogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < before.count || self.has_custom_buckets() != before.has_custom_buckets() {
            return true;
        }
        if self.has_custom_buckets() {
            if self.custom_values == before.custom_values {
                return shrank(indexed_positive(before), indexed_positive(self));
            }
            let bounds = common_bounds(&self.custom_values, &before.custom_values);
            let (mut now, mut before) = (self.clone(), before.clone());
            now.map_to_bounds(&bounds);
            before.map_to_bounds(&bounds);
            return shrank(indexed_positive(&before), indexed_positive(&now));
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        let mut widened = std::borrow::Cow::Borrowed(before);
        if self.zero_threshold != before.zero_threshold {
            if before.fitting_threshold(self.zero_threshold) != self.zero_threshold {
                return true;
            }
            widened.to_mut().widen_zero_bucket(self.zero_threshold, before);
        }
        if self.zero_count < widened.zero_count {
            return true;
        }
        let coarse =
            |spans: &[Span], buckets: &[f64]| coarsen(indexed(spans, buckets), widened.schema, self.schema);
        shrank(coarse(&widened.positive_spans, &widened.positive_buckets), indexed_positive(self))
            || shrank(
                coarse(&widened.negative_spans, &widened.negative_buckets),
                indexed(&self.negative_spans, &self.negative_buckets).collect(),
            )
    }

    /// Whether both say the same: schema, bounds, counts (NaN equals NaN) and sum; empty spans do not matter.
    #[must_use]
    pub fn same_as(&self, other: &FloatHistogram) -> bool {
        let same = |a: f64, b: f64| a == b || a.to_bits() == b.to_bits();
        let all = |a: Vec<(i32, f64)>, b: Vec<(i32, f64)>| {
            a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && same(x.1, y.1))
        };
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.custom_values == other.custom_values
            && (self.has_custom_buckets()
                || (self.zero_threshold == other.zero_threshold && same(self.zero_count, other.zero_count)))
            && all(indexed_positive(self), indexed_positive(other))
            && all(
                indexed(&self.negative_spans, &self.negative_buckets).collect(),
                indexed(&other.negative_spans, &other.negative_buckets).collect(),
            )
    }
}

fn indexed_positive(h: &FloatHistogram) -> Vec<(i32, f64)> {
    indexed(&h.positive_spans, &h.positive_buckets).collect()
}

/// The zero threshold that suits both.
fn common_threshold(a: &FloatHistogram, b: &FloatHistogram) -> f64 {
    let mut threshold = a.zero_threshold.max(b.zero_threshold);
    loop {
        let fits_a = if a.zero_threshold < threshold { a.fitting_threshold(threshold) } else { threshold };
        let fits_both = if b.zero_threshold < fits_a { b.fitting_threshold(fits_a) } else { fits_a };
        if fits_both == threshold {
            return threshold;
        }
        threshold = fits_both;
    }
}

/// The bounds that both lists have; both ascend.
fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|v| b.binary_search_by(|w| w.total_cmp(v)).is_ok()).collect()
}

/// Whether a count of `before` is larger than the one of the same index in `now`, or not zero where `now` has none: a
/// negative count that is gone is a reset to Prometheus too.
fn shrank(before: Vec<(i32, f64)>, now: Vec<(i32, f64)>) -> bool {
    let mut now = now.into_iter().peekable();
    before.into_iter().any(|(index, count)| {
        while now.peek().is_some_and(|(i, _)| *i < index) {
            now.next();
        }
        now.peek().filter(|(i, _)| *i == index).map_or(count != 0.0, |(_, current)| count > *current)
    })
}

/// `pairs` with a zero for each of `wanted` that they lack.
fn missing(pairs: Vec<(i32, f64)>, wanted: impl Iterator<Item = i32>) -> Vec<(i32, f64)> {
    let mut out = Vec::with_capacity(pairs.len());
    let mut pairs = pairs.into_iter().peekable();
    for index in wanted {
        while let Some(p) = pairs.next_if(|(i, _)| *i < index) {
            out.push(p);
        }
        out.push(pairs.next_if(|(i, _)| *i == index).unwrap_or((index, 0.0)));
    }
    out.extend(pairs);
    out
}

/// Calls `f` with the place in `spans` and the value for each bucket of `from`; `spans` has them all.
fn each_shared(spans: &[Span], from_spans: &[Span], from: &[f64], mut f: impl FnMut(usize, f64)) {
    if spans == from_spans {
        from.iter().enumerate().for_each(|(i, v)| f(i, *v));
        return;
    }
    let total = spans.iter().map(|s| s.length as usize).sum();
    let places = vec![0.0; total];
    let mut places = indexed(spans, &places).map(|(i, _)| i).enumerate();
    for (index, value) in indexed(from_spans, from) {
        if let Some((place, _)) = places.by_ref().find(|(_, i)| *i == index) {
            f(place, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(schema: i32, offset: i32, buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count: buckets.iter().sum(),
            sum: 1.0,
            positive_spans: vec![Span { offset, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram { custom_values: bounds.to_vec(), schema: -53, ..exponential(0, 0, buckets) }
    }

    #[test]
    fn different_layouts_are_united() {
        let mut a = exponential(0, 0, &[1.0, 2.0]);
        a.add(&exponential(0, 3, &[5.0])).unwrap();
        assert_eq!(indexed_positive(&a), [(0, 1.0), (1, 2.0), (3, 5.0)]);
        assert_eq!(a.count, 8.0);
        a.subtract(&exponential(1, 1, &[1.0, 1.0])).unwrap();
        assert_eq!(indexed_positive(&a), [(0, 1.0), (1, 0.0), (3, 5.0)]);
    }

    #[test]
    fn the_coarser_schema_wins() {
        let mut a = exponential(1, 1, &[1.0, 2.0, 3.0]);
        a.add(&exponential(0, 1, &[10.0])).unwrap();
        assert_eq!(a.schema, 0);
        assert_eq!(indexed_positive(&a), [(1, 13.0), (2, 3.0)]);
    }

    #[test]
    fn custom_bounds_meet_at_what_both_have() {
        let mut a = custom(&[2.0, 4.0, 6.0], &[1.0, 2.0, 5.0, 7.0]);
        let done = a.add(&custom(&[1.0, 2.0, 6.0], &[1.0, 1.0, 1.0, 1.0])).unwrap();
        assert!(done.bounds_reconciled);
        assert_eq!(a.custom_values, [2.0, 6.0]);
        assert_eq!(a.positive_buckets, [3.0, 8.0, 8.0]);
        assert_eq!(a.add(&exponential(0, 0, &[1.0])), Err(SchemaMismatch));
    }

    #[test]
    fn resets_are_seen_by_bucket_and_by_hint() {
        let a = exponential(0, 0, &[1.0, 2.0]);
        let mut b = exponential(0, 0, &[3.0, 1.0]);
        assert!(b.is_reset_after(&a));
        b.counter_reset_hint = CounterResetHint::NotReset;
        assert!(!b.is_reset_after(&a));
        assert!(!exponential(0, 0, &[1.0, 2.0, 1.0]).is_reset_after(&a));
        assert!(exponential(1, 0, &[3.0, 2.0, 1.0]).is_reset_after(&a));
        let negative = exponential(0, 0, &[-2.0, -1.0]);
        assert!(exponential(0, 1, &[-1.0]).is_reset_after(&negative));
        assert!(!exponential(0, 0, &[0.0, -1.0]).is_reset_after(&negative));
        let narrow = custom(&[2.0, 4.0, 6.0], &[1.0, 2.0, 5.0, 7.0]);
        assert!(custom(&[2.0, 3.0, 4.0, 6.0], &[1.0, 0.0, 1.0, 5.0, 8.0]).is_reset_after(&narrow));
    }

    #[test]
    fn a_wider_zero_bucket_swallows_what_it_covers() {
        let mut a = exponential(0, 0, &[1.0, 2.0]);
        let b = FloatHistogram { zero_threshold: 0.75, zero_count: 1.0, ..FloatHistogram::default() };
        a.add(&b).unwrap();
        assert_eq!((a.zero_threshold, a.zero_count), (1.0, 2.0));
        assert_eq!(indexed_positive(&a), [(1, 2.0)]);
    }
}
