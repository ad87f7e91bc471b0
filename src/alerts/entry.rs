//! One alert as the pipeline knows it, and its row in the store.

use super::{AlertFilter, AlertView, AlertViewState};
use crate::model::{Alert, Labels, Timestamp};

/// The end of an alert of which no sender has stated one: it is only here because somebody created it by a call.
pub(super) const NO_SENDER: Timestamp = Timestamp::MIN;

/// An alert from its first firing until it is forgotten. What is not skipped is durable.
///
/// An *incarnation* is the time from firing to resolution; a label set that fires again begins a new one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Entry {
    pub labels: Labels,
    pub annotations: Labels,
    pub generator_url: String,
    /// When it began to fire, as its senders say.
    pub starts_at: Timestamp,
    /// When the pipeline saw it fire: the clock of escalation starts here.
    pub fired_at: Timestamp,
    /// When a sender last stated it.
    pub updated_at: Timestamp,
    /// When it ends unless it is stated again; [`NO_SENDER`] if nobody states it.
    pub ends_at: Timestamp,
    /// `ends_at` is only our timeout, so that any stated end goes before it.
    pub timeout: bool,
    /// Created by a call: it fires until a call resolves it, whatever senders say.
    pub pinned: bool,
    /// Resolved by a call while senders still state it as firing: nothing fires until they have stopped once.
    pub held: bool,
    pub acknowledged: Option<Acknowledgement>,
    pub resolved: Option<Resolution>,
    /// Receivers that were told that it fires.
    pub told: Vec<String>,
    /// Escalation steps taken in this incarnation.
    pub steps: Vec<StepTaken>,
    /// Resolved, and everyone concerned was told: it is only kept to be looked at.
    pub settled: bool,
    /// The groups that it is in.
    #[serde(skip)]
    pub groups: Vec<u64>,
    /// The timers that are set for it.
    #[serde(skip)]
    pub end_timer: Option<Timestamp>,
    #[serde(skip)]
    pub step_timer: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Acknowledgement {
    pub by: String,
    pub comment: Option<String>,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Resolution {
    /// When the pipeline resolved it.
    pub at: Timestamp,
    /// When it ended, as stated.
    pub ends_at: Timestamp,
    pub by: Option<String>,
    pub comment: Option<String>,
}

/// An escalation step that was taken.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StepTaken {
    pub policy: String,
    pub after_ms: i64,
    pub receiver: String,
    /// The group by whose route the policy holds.
    pub group_key: String,
}

/// A sender's statement with its end filled in.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub alert: Alert,
    pub ends_at: Timestamp,
    pub timeout: bool,
}

impl Entry {
    pub(super) fn is_active(&self) -> bool {
        self.resolved.is_none()
    }

    pub fn state(&self) -> AlertViewState {
        match (&self.resolved, &self.acknowledged) {
            (Some(_), _) => AlertViewState::Resolved,
            (None, Some(_)) => AlertViewState::Acknowledged,
            (None, None) => AlertViewState::Firing,
        }
    }

    /// Takes in a statement that an active alert goes on firing. The later statement's annotations win; so does its
    /// end, unless an earlier statement has an end of its own that is later. Returns whether anything durable
    /// changed: a mere prolongation is not, for after a restart every alert is given time to be stated again.
    ///
    /// Source: alertmanager, `types.Alert.Merge`.
    pub(super) fn merge(&mut self, new: Statement, now: Timestamp) -> bool {
        let mut changed = false;
        if new.alert.starts_at < self.starts_at {
            self.starts_at = new.alert.starts_at;
            changed = true;
        }
        if self.annotations != new.alert.annotations || self.generator_url != new.alert.generator_url {
            self.annotations = new.alert.annotations;
            self.generator_url = new.alert.generator_url;
            changed = true;
        }
        if self.ends_at <= new.ends_at || self.timeout {
            self.ends_at = new.ends_at;
            self.timeout = new.timeout;
        }
        self.updated_at = now;
        changed
    }

    pub(super) fn severity(&self) -> &str {
        self.labels.get("severity").unwrap_or("")
    }

    pub(super) fn passes(&self, filter: &AlertFilter) -> bool {
        passes(filter, &self.labels, self.state())
    }

    pub(super) fn view(&self, id: u64, next_escalation_at: Option<Timestamp>) -> AlertView {
        let acknowledged = self.acknowledged.as_ref();
        AlertView {
            id: format_id(id),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            state: self.state(),
            severity: self.severity().to_owned(),
            starts_at: self.starts_at,
            ends_at: self.resolved.as_ref().map(|r| r.ends_at),
            updated_at: self.updated_at,
            acknowledged_by: acknowledged.map(|a| a.by.clone()),
            acknowledged_at: acknowledged.map(|a| a.at),
            acknowledge_comment: acknowledged.and_then(|a| a.comment.clone()),
            resolved_by: self.resolved.as_ref().and_then(|r| r.by.clone()),
            generator_url: self.generator_url.clone(),
            receivers: self.told.clone(),
            escalation_steps_taken: u32::try_from(self.steps.len()).unwrap_or(u32::MAX),
            next_escalation_at,
        }
    }
}

/// Whether an alert with these labels, in this state, is asked for.
pub(super) fn passes(filter: &AlertFilter, labels: &Labels, state: AlertViewState) -> bool {
    let severity = labels.get("severity").unwrap_or("");
    (filter.states.is_empty() || filter.states.contains(&state))
        && (filter.severities.is_empty() || filter.severities.iter().any(|s| s == severity))
        && filter.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

/// An alert's id: its fingerprint in 16 hexadecimal digits.
pub(super) fn format_id(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

pub(super) fn parse_id(id: &str) -> Option<u64> {
    u64::from_str_radix(id, 16).ok().filter(|fp| format_id(*fp) == id)
}
