//! The buckets of a native histogram with their bounds.

use crate::model::{FloatHistogram, Span};

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

/// All buckets in ascending order, empty ones too.
pub(super) fn buckets(histogram: &FloatHistogram) -> impl Iterator<Item = Bucket> {
    let custom = histogram.has_custom_buckets();
    let bound = |index: i32| {
        if custom { custom_bound(&histogram.custom_values, index) } else { exponential_bound(histogram.schema, index) }
    };
    let one = |index: i32, count: f64, negative: bool| {
        let (lower, upper) = if negative { (-bound(index), -bound(index - 1)) } else { (bound(index - 1), bound(index)) };
        let (lower_inclusive, upper_inclusive) = if custom { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count }
    };
    let mut all: Vec<Bucket> = indexed(&histogram.negative_spans, &histogram.negative_buckets)
        .map(|(index, count)| one(index, count, true))
        .collect();
    all.reverse();
    if !custom && histogram.zero_count != 0.0 {
        let threshold = histogram.zero_threshold;
        all.push(Bucket {
            lower: -threshold,
            upper: threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: histogram.zero_count,
        });
    }
    all.extend(indexed(&histogram.positive_spans, &histogram.positive_buckets).map(|(i, c)| one(i, c, false)));
    all.into_iter()
}

/// The counts with the index that the spans give them.
fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indices = spans.iter().flat_map(move |span| {
        let from = next.saturating_add(span.offset);
        next = from.saturating_add_unsigned(span.length);
        from..next
    });
    indices.zip(counts.iter().copied())
}

/// The upper bound of bucket `index`: `2^(index * 2^-schema)`.
fn exponential_bound(schema: i32, index: i32) -> f64 {
    let schema = schema.clamp(-9, 52);
    if schema < 0 {
        let exponent = i64::from(index) << -schema;
        if exponent == 1024 {
            return f64::MAX;
        }
        return f64::exp2(exponent.clamp(-1100, 1100) as f64);
    }
    // Whole powers of two stay exact; only the fraction between them is rounded.
    let per_octave = 1i64 << schema;
    let (octave, fraction) = (i64::from(index).div_euclid(per_octave), i64::from(index).rem_euclid(per_octave));
    if octave == 1024 && fraction == 0 {
        return f64::MAX;
    }
    f64::exp2(octave.clamp(-1100, 1100) as f64) * f64::exp2(fraction as f64 / per_octave as f64)
}

/// The upper bound of custom bucket `index`; infinite outside the list.
fn custom_bound(bounds: &[f64], index: i32) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(i) => bounds.get(i).copied().unwrap_or(f64::INFINITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_two() {
        for (schema, index, bound) in
            [(0, 0, 1.0), (0, 3, 8.0), (0, -1, 0.5), (-1, 1, 4.0), (1, 2, 2.0), (0, 1024, f64::MAX), (-4, 1, 65536.0)]
        {
            assert_eq!(exponential_bound(schema, index), bound, "schema {schema}, index {index}");
        }
        assert!((exponential_bound(3, 1) - 1.090_507_732_665_257_7).abs() < 1e-15);
    }

    #[test]
    fn custom_bounds_begin_and_end_at_infinity() {
        let histogram = FloatHistogram {
            schema: -53,
            custom_values: vec![1.0, 2.5],
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 2.0, 3.0],
            ..FloatHistogram::default()
        };
        let bounds: Vec<_> = buckets(&histogram).map(|b| (b.lower, b.upper, b.lower_inclusive)).collect();
        assert_eq!(bounds, [(f64::NEG_INFINITY, 1.0, true), (1.0, 2.5, false), (2.5, f64::INFINITY, false)]);
    }
}
