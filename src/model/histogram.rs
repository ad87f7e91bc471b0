//! Native histograms as values. All counts are floats: an integer histogram is one whose counts are whole.
//!
//! `buckets` knows the layouts (spans, bounds, schemas), `arithmetic` adds, subtracts and compares histograms of
//! different layouts, `trim` cuts a histogram at a bound.

mod arithmetic;
mod buckets;
mod trim;

pub use arithmetic::{Combined, SchemaMismatch, kahan_add};
pub use buckets::{Bucket, GoFloat};

/// A run of consecutive buckets: `offset` from the end of the span before (absolute in the first), `length` buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// What is known about a counter reset between the histogram before and this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A native histogram with absolute (not delta-encoded) bucket counts.
///
/// `schema` is -4..=8 for exponential buckets and -53 for custom bounds, which then stand in `custom_values`
/// (strictly ascending, without +Inf). The sum of the spans' lengths equals the length of the buckets beside them.
///
/// Source: Prometheus, `model/histogram/float_histogram.go`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}

/// The schema that marks custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

impl FloatHistogram {
    /// Whether the bucket bounds are custom ones.
    #[must_use]
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether this is a staleness marker: then `sum` is the stale NaN.
    #[must_use]
    pub fn is_stale_marker(&self) -> bool {
        super::is_stale_marker(self.sum)
    }
}
