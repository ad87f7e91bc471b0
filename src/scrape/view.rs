//! What outsiders see of the targets: a copy of their state at one moment.

use crate::model::{Labels, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetHealth {
    Unknown,
    Up,
    Down,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    pub scrape_pool: String,
    /// Before relabelling, with the `__…` labels.
    pub discovered_labels: Labels,
    pub labels: Labels,
    pub scrape_url: String,
    pub global_url: String,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    pub last_scrape: Option<Timestamp>,
    /// Seconds.
    pub last_scrape_duration: f64,
    pub health: TargetHealth,
    pub scrape_interval_ms: i64,
    pub scrape_timeout_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DroppedTargetView {
    pub scrape_pool: String,
    pub discovered_labels: Labels,
}
