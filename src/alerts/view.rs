//! What the API sees of the pipeline, and what it can ask of it.

use crate::model::{Labels, Matcher, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertViewState {
    Firing,
    Acknowledged,
    Resolved,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AlertView {
    /// The fingerprint in 16 hexadecimal digits.
    pub id: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub state: AlertViewState,
    /// The label `severity`; empty if there is none.
    pub severity: String,
    /// Milliseconds here; the API writes RFC 3339.
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledge_comment: Option<String>,
    pub resolved_by: Option<String>,
    pub generator_url: String,
    /// Receivers that have been told that it fires.
    pub receivers: Vec<String>,
    /// Steps of its escalation policy that were taken.
    pub escalation_steps_taken: u32,
    /// When the next step falls due; `None` if none will.
    pub next_escalation_at: Option<Timestamp>,
}

/// Which alerts; an empty list means "any".
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    pub states: Vec<AlertViewState>,
    pub severities: Vec<String>,
    pub matchers: Vec<Matcher>,
}

/// An alert that a person or a program raises by the API: it fires until it is resolved by a call.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAlert {
    pub labels: Labels,
    pub annotations: Labels,
    pub generator_url: String,
}

/// Why the pipeline did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertRefusal {
    #[error("there is no alert with id {0}")]
    NotFound(String),
    #[error("the alert {id} is {state} already")]
    WrongState { id: String, state: &'static str },
    #[error("{0}")]
    Invalid(String),
    #[error("the limit of {0} alerts is reached")]
    TooMany(usize),
    #[error("the alert state cannot be stored: {0}")]
    Store(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryEventKind {
    Fired,
    Acknowledged,
    Escalated,
    Resolved,
}

/// One change of an alert's state.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HistoryEvent {
    pub at: Timestamp,
    pub alert_id: String,
    pub kind: HistoryEventKind,
    pub labels: Labels,
    pub annotations: Labels,
    pub severity: String,
    /// Who acknowledged or resolved it; `None` for what the pipeline does itself.
    pub by: Option<String>,
    pub comment: Option<String>,
    /// The receiver of an escalation.
    pub receiver: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    pub filter: AlertFilter,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// The `next` of the page before.
    pub cursor: Option<String>,
    pub limit: usize,
}

impl HistoryQuery {
    /// Whether a client's text is a cursor that a page gave.
    #[must_use]
    pub fn is_cursor(text: &str) -> bool {
        super::history::is_cursor(text)
    }
}

/// Events, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryPage {
    pub events: Vec<HistoryEvent>,
    /// Asks for the next page; `None` on the last.
    pub next: Option<String>,
}
