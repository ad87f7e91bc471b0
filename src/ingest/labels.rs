//! What a label set must be to become a series.

use std::borrow::Cow;

use super::IngestLimits;
use crate::model::METRIC_NAME;

/// A label set that cannot be a series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("the series has no metric name")]
    NoMetricName,
    #[error("a label has an empty name")]
    EmptyName,
    #[error("label name {0:?} is not unique")]
    Duplicate(String),
    #[error("the series {metric:?} has {count} labels, more than the limit of {limit}")]
    TooMany { metric: String, count: usize, limit: usize },
    #[error("the label name {name:?} of {metric:?} has {len} bytes, more than the limit of {limit}")]
    NameTooLong { metric: String, name: String, len: usize, limit: usize },
    #[error("the value of label {name:?} of {metric:?} has {len} bytes, more than the limit of {limit}")]
    ValueTooLong { metric: String, name: String, len: usize, limit: usize },
}

/// Bounds of one label set; 0 means none.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelBounds {
    pub count: usize,
    pub name_bytes: usize,
    pub value_bytes: usize,
}

impl From<&IngestLimits> for LabelBounds {
    fn from(limits: &IngestLimits) -> Self {
        LabelBounds {
            count: limits.labels_per_series_max,
            name_bytes: limits.label_name_bytes_max,
            value_bytes: limits.label_value_bytes_max,
        }
    }
}

/// Checks pairs that are sorted by name. Empty values count as absent, but not for uniqueness.
pub(super) fn check_sorted<S: AsRef<str>>(pairs: &[(S, S)], bounds: LabelBounds) -> Result<(), LabelError> {
    for (i, (name, value)) in pairs.iter().enumerate() {
        let (name, value) = (name.as_ref(), value.as_ref());
        if name.is_empty() {
            return Err(LabelError::EmptyName);
        }
        if i > 0 && pairs[i - 1].0.as_ref() == name {
            return Err(LabelError::Duplicate(name.to_owned()));
        }
        if over(name.len(), bounds.name_bytes) || over(value.len(), bounds.value_bytes) {
            return Err(too_long(pairs, name, value, bounds));
        }
    }
    if over(pairs.len(), bounds.count) {
        return Err(LabelError::TooMany { metric: metric(pairs), count: pairs.len(), limit: bounds.count });
    }
    Ok(())
}

/// Checks that there is a metric name.
pub(super) fn check_named<S: AsRef<str>>(pairs: &[(S, S)]) -> Result<(), LabelError> {
    let named = pairs.iter().any(|(n, v)| n.as_ref() == METRIC_NAME && !v.as_ref().is_empty());
    if named { Ok(()) } else { Err(LabelError::NoMetricName) }
}

fn over(value: usize, bound: usize) -> bool {
    bound > 0 && value > bound
}

#[cold]
fn too_long<S: AsRef<str>>(pairs: &[(S, S)], name: &str, value: &str, bounds: LabelBounds) -> LabelError {
    let metric = metric(pairs);
    if over(name.len(), bounds.name_bytes) {
        let limit = bounds.name_bytes;
        return LabelError::NameTooLong { metric, name: short(name), len: name.len(), limit };
    }
    LabelError::ValueTooLong { metric, name: short(name), len: value.len(), limit: bounds.value_bytes }
}

/// The metric name, short enough for a message.
fn metric<S: AsRef<str>>(pairs: &[(S, S)]) -> String {
    pairs.iter().find(|(n, _)| n.as_ref() == METRIC_NAME).map_or(String::new(), |(_, v)| short(v.as_ref()))
}

fn short(text: &str) -> String {
    text.chars().take(50).collect()
}

/// Sorts pairs by name, keeping the order of equal names.
pub(super) fn sort_pairs(pairs: &mut [(Cow<'_, str>, Cow<'_, str>)]) {
    // Most senders sort; a check is cheaper than a sort.
    if !pairs.is_sorted_by(|a, b| a.0 <= b.0) {
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
    }
}
