//! What handlers ask of the rest of the server.

use crate::exposition::FamilySet;
use crate::model::{Labels, Timestamp};
use crate::scrape::{DroppedTargetView, TargetView};

pub trait TargetsHandle: Send + Sync {
    fn targets(&self) -> Vec<TargetView>;
    fn dropped_targets(&self) -> Vec<DroppedTargetView>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordedMetric {
    pub name: String,
    pub value: f64,
    pub unit: String,
    pub labels: Labels,
    pub timestamp: Option<Timestamp>,
}

pub trait PushHandle: Send + Sync {
    fn remote_write(&self, body: &[u8], encoding: &str) -> Result<(), super::ApiError>;
    fn put(
        &self,
        group: &Labels,
        body: &[u8],
        replace_all: bool,
        content_type: &str,
        now: Timestamp,
    ) -> Result<(), super::ApiError>;
    fn delete(&self, group: &Labels) -> Result<(), super::ApiError>;
    fn record(&self, metrics: &[RecordedMetric], now: Timestamp) -> Result<(), super::ApiError>;
    /// The present values of what was recorded by JSON.
    fn recorded(&self) -> Vec<RecordedMetric>;
    fn families(&self) -> Vec<FamilySet>;
}
