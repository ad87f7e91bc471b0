//! Alerts: what there is, what has been, and what people do about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::alerts::{
    AlertFilter, AlertView, AlertViewState, HistoryEvent, HistoryEventKind, HistoryQuery, NewAlert,
};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::api::state::ApiState;
use crate::api::{body, json, time};
use crate::model::{Labels, Timestamp};
use crate::promql::parse_selector;

/// Longest text of an alert that a call creates, in bytes, and of a comment.
const TEXT_BYTES_MAX: usize = 4_096;
/// Labels of an alert that a call creates.
const LABELS_MAX: usize = 64;

#[derive(Serialize)]
struct AlertDto {
    id: String,
    labels: Labels,
    annotations: Labels,
    state: AlertViewState,
    severity: String,
    #[serde(serialize_with = "time::serialize")]
    starts_at: Timestamp,
    #[serde(serialize_with = "time::serialize_option", skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(serialize_with = "time::serialize")]
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
    #[serde(serialize_with = "time::serialize_option", skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledge_comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_by: Option<String>,
    generator_url: String,
    receivers: Vec<String>,
    escalation_steps_taken: u32,
    #[serde(serialize_with = "time::serialize_option", skip_serializing_if = "Option::is_none")]
    next_escalation_at: Option<Timestamp>,
}

impl From<AlertView> for AlertDto {
    fn from(view: AlertView) -> Self {
        AlertDto {
            id: view.id,
            labels: view.labels,
            annotations: view.annotations,
            state: view.state,
            severity: view.severity,
            starts_at: view.starts_at,
            ends_at: view.ends_at,
            updated_at: view.updated_at,
            acknowledged_by: view.acknowledged_by,
            acknowledged_at: view.acknowledged_at,
            acknowledge_comment: view.acknowledge_comment,
            resolved_by: view.resolved_by,
            generator_url: view.generator_url,
            receivers: view.receivers,
            escalation_steps_taken: view.escalation_steps_taken,
            next_escalation_at: view.next_escalation_at,
        }
    }
}

/// `state`, `severity` (both may repeat or be lists) and `matcher` or `match[]`, each with matchers in braces or bare.
fn filter(params: &Params) -> Result<AlertFilter, ApiError> {
    let one_state = |text: String| match text.as_str() {
        "firing" => Ok(AlertViewState::Firing),
        "acknowledged" => Ok(AlertViewState::Acknowledged),
        "resolved" => Ok(AlertViewState::Resolved),
        _ => Err(ApiError::parameter(
            "state",
            format_args!("{text:?} is none of firing, acknowledged, resolved"),
        )),
    };
    let mut matchers = Vec::new();
    for name in ["matcher", "matcher[]", "match[]", "filter", "filter[]"] {
        for text in params.all(name).filter(|t| !t.is_empty()) {
            let braced =
                if text.trim_start().starts_with('{') { text.to_owned() } else { format!("{{{text}}}") };
            matchers.extend(parse_selector(&braced).map_err(|e| ApiError::parameter(name, e))?);
        }
    }
    Ok(AlertFilter {
        states: params.list("state").into_iter().map(one_state).collect::<Result<_, _>>()?,
        severities: params.list("severity"),
        matchers,
    })
}

pub(in crate::api) async fn list(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let mut alerts = state.alerts.list(filter(&params)?).await;
    alerts.sort_by(|a, b| b.starts_at.cmp(&a.starts_at).then_with(|| a.id.cmp(&b.id)));
    let truncated = alerts.len() > limit;
    alerts.truncate(limit);
    let dtos: Vec<AlertDto> = alerts.into_iter().map(AlertDto::from).collect();
    Ok(json::success_with(&dtos, &json::truncated(truncated, None)))
}

pub(in crate::api) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    match state.alerts.get(&id).await {
        Some(alert) => Ok(json::success(&AlertDto::from(alert))),
        None => Err(ApiError::not_found(format!("there is no alert with id {id:?}"))),
    }
}

#[derive(Serialize)]
struct HistoryDto {
    events: Vec<EventDto>,
    /// `cursor` of the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct EventDto {
    #[serde(serialize_with = "time::serialize")]
    at: Timestamp,
    alert_id: String,
    kind: HistoryEventKind,
    labels: Labels,
    annotations: Labels,
    severity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver: Option<String>,
}

impl From<HistoryEvent> for EventDto {
    fn from(event: HistoryEvent) -> Self {
        EventDto {
            at: event.at,
            alert_id: event.alert_id,
            kind: event.kind,
            labels: event.labels,
            annotations: event.annotations,
            severity: event.severity,
            by: event.by,
            comment: event.comment,
            receiver: event.receiver,
        }
    }
}

pub(in crate::api) async fn history(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limits = &state.limits;
    let limit = match params.limit_opt("limit")? {
        None => limits.page_default,
        Some(0) => limits.page_max,
        Some(n) => n.min(limits.page_max),
    };
    let cursor = params.get("cursor");
    if !(cursor.is_empty() || HistoryQuery::is_cursor(cursor)) {
        return Err(ApiError::parameter("cursor", format_args!("{cursor:?} is no `next` of a page")));
    }
    let query = HistoryQuery {
        filter: filter(&params)?,
        from: params.time_opt("start")?,
        to: params.time_opt("end")?,
        cursor: (!cursor.is_empty()).then(|| cursor.to_owned()),
        limit,
    };
    let page = state.alerts.history(query).await?;
    let events = page.events.into_iter().map(EventDto::from).collect();
    Ok(json::success(&HistoryDto { events, next: page.next }))
}

/// An alert as a client raises it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateDto {
    title: String,
    message: String,
    severity: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

pub(in crate::api) async fn create(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let dto: CreateDto = body::read_json(&headers, body, &state).await?;
    let alert = state.alerts.create(new_alert(dto)?).await?;
    Ok(json::success(&AlertDto::from(alert)))
}

fn new_alert(dto: CreateDto) -> Result<NewAlert, ApiError> {
    let CreateDto { title, message, severity, mut labels } = dto;
    for (name, text) in [("title", &title), ("severity", &severity)] {
        if text.trim().is_empty() {
            return Err(ApiError::bad_data(format!("{name} must not be empty")));
        }
    }
    let long = |text: &str| text.len() > TEXT_BYTES_MAX;
    if long(&title) || long(&message) || long(&severity) || labels.iter().any(|(n, v)| long(n) || long(v)) {
        return Err(ApiError::bad_data(format!("a text is longer than the limit of {TEXT_BYTES_MAX} bytes")));
    }
    if labels.len() > LABELS_MAX {
        return Err(ApiError::bad_data(format!("{} labels; the limit is {LABELS_MAX}", labels.len())));
    }
    for (name, value) in [("alertname", &title), ("severity", &severity)] {
        if labels.insert(name.to_owned(), value.clone()).is_some_and(|old| old != *value) {
            return Err(ApiError::bad_data(format!(
                "the label {name:?} contradicts what is given beside labels"
            )));
        }
    }
    if let Some(wrong) = labels.keys().find(|n| n.is_empty() || n.starts_with("__")) {
        return Err(ApiError::bad_data(format!("invalid label name {wrong:?}")));
    }
    Ok(NewAlert {
        labels: Labels::from_pairs(labels),
        annotations: Labels::from_pairs([("summary", message)]),
        generator_url: String::new(),
    })
}

/// Who did it, and what they say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionDto {
    by: String,
    #[serde(default)]
    comment: Option<String>,
}

impl ActionDto {
    async fn read(headers: &HeaderMap, body: Body, state: &ApiState) -> Result<Self, ApiError> {
        let action: ActionDto = body::read_json(headers, body, state).await?;
        if action.by.trim().is_empty() {
            return Err(ApiError::bad_data("by must not be empty: say who does this"));
        }
        let longest = action.by.len().max(action.comment.as_ref().map_or(0, String::len));
        if longest > TEXT_BYTES_MAX {
            return Err(ApiError::bad_data(format!(
                "a text is longer than the limit of {TEXT_BYTES_MAX} bytes"
            )));
        }
        Ok(action)
    }
}

pub(in crate::api) async fn acknowledge(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let ActionDto { by, comment } = ActionDto::read(&headers, body, &state).await?;
    let alert = state.alerts.acknowledge(&id, &by, comment.as_deref()).await?;
    Ok(json::success(&AlertDto::from(alert)))
}

pub(in crate::api) async fn resolve(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let ActionDto { by, comment } = ActionDto::read(&headers, body, &state).await?;
    let alert = state.alerts.resolve(&id, &by, comment.as_deref()).await?;
    Ok(json::success(&AlertDto::from(alert)))
}
