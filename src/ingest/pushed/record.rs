//! Metrics recorded one by one.

use super::super::labels::{LabelBounds, check_named, check_sorted};
use super::super::{IngestLimits, PushError};
use crate::model::{Labels, METRIC_NAME, Timestamp};

/// A metric as it is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonMetric {
    pub name: String,
    pub value: f64,
    /// Such as `percent`; empty if it has none.
    pub unit: String,
    pub labels: Labels,
    /// In ms; `None` means now.
    pub timestamp: Option<Timestamp>,
}

/// The current value of a recorded metric.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedMetric {
    /// With the metric name.
    pub labels: Labels,
    pub value: f64,
    pub unit: String,
    /// When the value was measured, in ms.
    pub ts: Timestamp,
}

impl JsonMetric {
    /// Checks the metric against the limits; a missing time is `now`.
    pub(super) fn check(&self, limits: &IngestLimits, now: Timestamp) -> Result<RecordedMetric, PushError> {
        let name = &self.name;
        if self.labels.get(METRIC_NAME).is_some() {
            return Err(PushError::Invalid(format!("the labels of {name:?} must not name the metric again")));
        }
        let labels = self.labels.with(METRIC_NAME, name);
        let pairs: Vec<(&str, &str)> = labels.iter().collect();
        check_named(&pairs)
            .and_then(|()| check_sorted(&pairs, LabelBounds::from(limits)))
            .map_err(|e| PushError::Invalid(e.to_string()))?;
        if self.unit.len() > limits.label_name_bytes_max {
            let limit = limits.label_name_bytes_max;
            return Err(PushError::Invalid(format!("the unit of {name:?} has more than {limit} bytes")));
        }
        let ts = self.timestamp.unwrap_or(now);
        if ts > now.saturating_add(limits.record_ahead_ms_max) {
            let ahead = limits.record_ahead_ms_max / 1000;
            return Err(PushError::Invalid(format!(
                "the time of {name:?} is more than {ahead} s in the future"
            )));
        }
        Ok(RecordedMetric { labels, value: self.value, unit: self.unit.clone(), ts })
    }
}
