//! Bucket layouts: from spans to bounds, and from one resolution to a coarser one.

use std::fmt;
use std::sync::LazyLock;

use super::{FloatHistogram, Span};

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        write!(f, "{open}{},{}{close}:{}", GoFloat(self.lower), GoFloat(self.upper), GoFloat(self.count))
    }
}

/// A float as Go's `%g` prints it.
pub struct GoFloat(pub f64);

impl fmt::Display for GoFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        if v.is_nan() {
            return f.write_str("NaN");
        }
        if v.is_infinite() {
            return f.write_str(if v > 0.0 { "+Inf" } else { "-Inf" });
        }
        if v == 0.0 {
            return f.write_str(if v.is_sign_negative() { "-0" } else { "0" });
        }
        let scientific = format!("{v:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if (-4..6).contains(&exponent) {
            write!(f, "{v}")
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(f, "{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

/// 2 to the power of 1/2, 1/4, … 1/256. The first is not the float nearest to the root of two, as in the table of bounds that
/// Prometheus and its clients share: so bounds, and what is estimated from them, are the same to the last digit.
#[allow(clippy::approx_constant, reason = "it is not that constant")]
const ROOTS: [f64; 8] = [
    1.414_213_562_373_095,
    1.189_207_115_002_721,
    1.090_507_732_665_257_7,
    1.044_273_782_427_413_8,
    1.021_897_148_654_116_6,
    1.010_889_286_051_700_5,
    1.005_429_901_112_802_7,
    1.002_711_275_050_202_5,
];

/// By schema from 0: the bounds from 1 (inclusive) to 2. Every second one is that of the schema before; the others are the bound
/// before them times the root.
static FRACTIONS: LazyLock<Vec<Vec<f64>>> = LazyLock::new(|| {
    let mut all = vec![vec![1.0]];
    for root in ROOTS {
        let coarser = all.last().into_iter().flatten();
        all.push(coarser.flat_map(|bound| [*bound, bound * root]).collect());
    }
    all
});

/// The upper bound of bucket `index` in an exponential schema; the lower one is that of `index - 1`.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    // Schemas go from -4 to 8; the wider bounds here only keep the arithmetic in range whatever comes in.
    let (index, schema) = (i64::from(index), schema.clamp(-20, 40));
    if schema < 0 {
        let exponent = index << -schema;
        if exponent == 1024 {
            return f64::MAX;
        }
        return 2f64.powi(exponent.clamp(-2000, 2000) as i32);
    }
    let per_power = 1i64 << schema;
    let whole = index.div_euclid(per_power);
    let part = index.rem_euclid(per_power);
    if part == 0 {
        if whole == 1024 {
            return f64::MAX;
        }
        return 2f64.powi(whole.clamp(-2000, 2000) as i32);
    }
    // Split, so that bounds near the ends of the range neither overflow nor vanish early.
    let fraction = match FRACTIONS.get(schema as usize) {
        Some(fractions) => fractions[part as usize],
        None => (part as f64 / per_power as f64).exp2(),
    };
    let whole = whole.clamp(-2000, 2000) as i32;
    let half = whole / 2;
    fraction * 2f64.powi(half) * 2f64.powi(whole - half)
}

/// The index that bucket `index` of schema `from` has in the coarser schema `to`.
pub(super) fn coarser_index(index: i32, from: i32, to: i32) -> i32 {
    let shift = from.saturating_sub(to).clamp(0, 31) as u32;
    ((i64::from(index) - 1) >> shift) as i32 + 1
}

/// `(index, count)` of every bucket that the spans name, ascending.
pub(super) fn indexed<'a>(spans: &'a [Span], buckets: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut at: i32 = 0;
    let indices = spans.iter().flat_map(move |s| {
        let first = at.wrapping_add(s.offset);
        at = first.wrapping_add(s.length as i32);
        (0..s.length as i32).map(move |i| first.wrapping_add(i))
    });
    indices.zip(buckets.iter().copied())
}

/// Spans and buckets of these `(index, count)` pairs, which ascend strictly by index.
pub(super) fn layout(pairs: impl IntoIterator<Item = (i32, f64)>) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut buckets = Vec::new();
    let mut next = 0;
    for (index, count) in pairs {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        buckets.push(count);
        next = index.wrapping_add(1);
    }
    (spans, buckets)
}

/// The pairs of a layout in a coarser schema: neighbours that fall into one bucket are added.
pub(super) fn coarsen(pairs: impl Iterator<Item = (i32, f64)>, from: i32, to: i32) -> Vec<(i32, f64)> {
    let mut out: Vec<(i32, f64)> = Vec::new();
    for (index, count) in pairs {
        let index = coarser_index(index, from, to);
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => out.push((index, count)),
        }
    }
    out
}

impl FloatHistogram {
    /// Bounds of positive bucket `index`.
    fn positive_bounds(&self, index: i32) -> (f64, f64) {
        if !self.has_custom_buckets() {
            let below = exponential_bound(index.saturating_sub(1), self.schema);
            return (below, exponential_bound(index, self.schema));
        }
        let bound = |i: i32| usize::try_from(i).ok().and_then(|i| self.custom_values.get(i)).copied();
        let lower = if index <= 0 { f64::NEG_INFINITY } else { bound(index - 1).unwrap_or(f64::INFINITY) };
        (lower, bound(index).unwrap_or(f64::INFINITY))
    }

    /// The buckets above zero (all of them if the bounds are custom), ascending.
    pub fn positive(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.positive_spans, &self.positive_buckets).map(|(index, count)| {
            let (lower, upper) = self.positive_bounds(index);
            Bucket { lower, upper, lower_inclusive: lower == f64::NEG_INFINITY, upper_inclusive: true, count }
        })
    }

    /// The buckets below zero, from the zero bucket downwards.
    pub fn negative(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.negative_spans, &self.negative_buckets).map(|(index, count)| {
            let (inner, outer) = self.positive_bounds(index);
            Bucket { lower: -outer, upper: -inner, lower_inclusive: true, upper_inclusive: false, count }
        })
    }

    #[must_use]
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// All buckets, ascending; the zero bucket only if it is populated.
    #[must_use]
    pub fn all_buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self.negative().collect();
        all.reverse();
        if self.zero_count > 0.0 {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive());
        all
    }

    /// Drops empty buckets, and the spans that become empty by it.
    pub fn compact(&mut self) {
        let compacted = |spans: &[Span], buckets: &[f64]| {
            let dense = !buckets.contains(&0.0)
                && spans.iter().all(|s| s.length != 0)
                && spans.iter().skip(1).all(|s| s.offset != 0);
            (!dense).then(|| layout(indexed(spans, buckets).filter(|(_, c)| *c != 0.0)))
        };
        if let Some((spans, buckets)) = compacted(&self.positive_spans, &self.positive_buckets) {
            (self.positive_spans, self.positive_buckets) = (spans, buckets);
        }
        if let Some((spans, buckets)) = compacted(&self.negative_spans, &self.negative_buckets) {
            (self.negative_spans, self.negative_buckets) = (spans, buckets);
        }
    }

    /// Lowers the resolution of an exponential histogram; does nothing if `schema` is not coarser.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.has_custom_buckets() || schema >= self.schema {
            return;
        }
        let from = self.schema;
        let positive = coarsen(indexed(&self.positive_spans, &self.positive_buckets), from, schema);
        let negative = coarsen(indexed(&self.negative_spans, &self.negative_buckets), from, schema);
        (self.positive_spans, self.positive_buckets) = layout(positive);
        (self.negative_spans, self.negative_buckets) = layout(negative);
        self.schema = schema;
    }

    /// How many samples this counts as, in units of 16 bytes as Prometheus's sample limit does.
    #[must_use]
    pub fn size_in_samples(&self) -> u64 {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let floats = self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len();
        ((184 + 8 * spans + 8 * floats) / 16) as u64
    }
}

/// `{count:…, sum:…, (lower,upper]:count, …}`, as Prometheus prints a histogram.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", GoFloat(self.count), GoFloat(self.sum))?;
        let mut negative: Vec<Bucket> = self.negative().filter(|b| b.count != 0.0).collect();
        negative.reverse();
        for b in negative {
            write!(f, ", {b}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for b in self.positive().filter(|b| b.count != 0.0) {
            write!(f, ", {b}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_prometheus_and_ascend() {
        assert_eq!(exponential_bound(3, 1), 2.828_427_124_746_19);
        assert_eq!(exponential_bound(-1, 1), 0.707_106_781_186_547_5);
        assert_eq!(exponential_bound(3, 3), 1.296_839_554_651_009_6);
        assert_eq!(exponential_bound(355, 8), 2.0 * 1.307_416_445_934_677);
        assert_eq!(exponential_bound(1024 << 8, 8), f64::MAX);
        for schema in -4..=8 {
            let bounds: Vec<f64> = (-300..300).map(|i| exponential_bound(i, schema)).collect();
            assert!(bounds.windows(2).all(|b| b[0] < b[1] || b[0] == 0.0 || b[0] >= f64::MAX), "{schema}");
        }
    }
}
