//! Plain values that every other module speaks in: labels, matchers, samples, histograms, alerts, durations.
//!
//! Invariant: no I/O, no clock, no task and no lock in here; a value of this module means the same on every
//! machine and at every time. Times are milliseconds since the Unix epoch ([`Timestamp`]).
//!
//! Reading order: [`Labels`], [`Matcher`], [`Timestamp`] and the staleness marker, [`FloatHistogram`], [`Alert`].

mod alert;
mod duration;
mod histogram;
mod labels;
mod matcher;
mod metadata;
mod regex;
mod sample;

pub use alert::Alert;
pub use duration::{DurationError, format_duration_ms, parse_duration_ms};
pub use histogram::{
    Bucket, CUSTOM_BUCKETS_SCHEMA, Combined, CounterResetHint, FloatHistogram, GoFloat, SchemaMismatch, Span,
    kahan_add,
};
pub use labels::{
    LabelSets, Labels, LabelsBuilder, LabelsRef, METRIC_NAME, is_legacy_label_name, is_legacy_metric_name,
};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetricType};
pub use regex::{GoRegex, RegexError};
pub use sample::{STALE_NAN_BITS, Timestamp, is_stale_marker, stale_marker};
