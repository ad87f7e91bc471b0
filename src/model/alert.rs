//! What travels of an alert, from a rule or from outside to the alert pipeline.

use super::{Labels, Timestamp};

/// An alert as its sender states it; the same form for our rules and for alerts that are posted.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Identify the alert; `alertname` is among them.
    pub labels: Labels,
    pub annotations: Labels,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it ended, or when it counts as ended unless it is sent again; `None` means "never by itself".
    pub ends_at: Option<Timestamp>,
    /// When its sender stated this.
    pub updated_at: Timestamp,
    /// Where a reader sees what caused it.
    pub generator_url: String,
}

impl Alert {
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.labels.fingerprint()
    }

    /// The label `alertname`; empty if there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.labels.get("alertname").unwrap_or("")
    }

    #[must_use]
    pub fn is_resolved_at(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }
}
