//! What outsiders see of the rules: a copy of their state at one moment.

use crate::model::{Labels, Timestamp};

#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    pub name: String,
    /// The rule file; `shipped:NAME` for those in the binary.
    pub file: String,
    pub interval_ms: i64,
    pub limit: u64,
    /// Seconds that the last evaluation took.
    pub evaluation_time: f64,
    /// `None` before the first evaluation.
    pub last_evaluation: Option<Timestamp>,
    pub rules: Vec<RuleView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleHealth {
    Unknown,
    Ok,
    Err,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RuleView {
    pub name: String,
    pub query: String,
    pub labels: Labels,
    pub health: RuleHealth,
    pub last_error: Option<String>,
    pub evaluation_time: f64,
    pub last_evaluation: Option<Timestamp>,
    pub kind: RuleViewKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuleViewKind {
    Recording,
    Alerting {
        duration_ms: i64,
        keep_firing_for_ms: i64,
        annotations: Labels,
        alerts: Vec<ActiveAlertView>,
        state: AlertState,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    Inactive,
    Pending,
    Firing,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ActiveAlertView {
    pub labels: Labels,
    pub annotations: Labels,
    pub state: AlertState,
    pub active_at: Timestamp,
    /// The expired condition is kept firing since then.
    pub keep_firing_since: Option<Timestamp>,
    pub value: f64,
}
