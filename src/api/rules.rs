//! `/api/v1/rules` and `/api/v1/alerts`: what the rule groups say of themselves, in Prometheus's form.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::params::Params;
use super::state::ApiState;
use super::{json, time};
use crate::model::{Labels, Matcher};
use crate::rules::{ActiveAlertView, AlertState, GroupView, RuleHealth, RuleView, RuleViewKind};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RulesDto {
    groups: Vec<GroupDto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupDto {
    name: String,
    file: String,
    rules: Vec<RuleDto>,
    /// Seconds.
    interval: f64,
    limit: u64,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum RuleDto {
    Alerting(AlertingDto),
    Recording(RecordingDto),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertingDto {
    state: &'static str,
    name: String,
    query: String,
    /// Seconds.
    duration: f64,
    keep_firing_for: f64,
    labels: Labels,
    annotations: Labels,
    alerts: Vec<AlertDto>,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordingDto {
    name: String,
    query: String,
    labels: Labels,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertDto {
    labels: Labels,
    annotations: Labels,
    state: &'static str,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<String>,
    value: String,
}

#[derive(Serialize)]
struct AlertsDto {
    alerts: Vec<AlertDto>,
}

pub(super) async fn rules(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    let filter = Filter::from_params(&params)?;
    let mut groups: Vec<GroupView> = state.rules.groups();
    groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    let mut groups: Vec<GroupDto> = groups.into_iter().filter_map(|g| filter.group(g)).collect();
    let next = page(&mut groups, &params)?;
    Ok(json::success(&RulesDto { groups, group_next_token: next }))
}

pub(super) async fn alerts(State(state): State<Arc<ApiState>>) -> Response {
    let rules = state.rules.groups().into_iter().flat_map(|g| g.rules);
    let alerts = rules.flat_map(|r| match r.kind {
        RuleViewKind::Alerting { alerts, .. } => alerts.into_iter().map(alert_dto).collect(),
        RuleViewKind::Recording => Vec::new(),
    });
    json::success(&AlertsDto { alerts: alerts.collect() })
}

/// Other programs that alerts are sent to. There are none: they are routed and delivered in here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertmanagersDto {
    active_alertmanagers: [(); 0],
    dropped_alertmanagers: [(); 0],
}

pub(super) async fn alertmanagers() -> Response {
    json::success(&AlertmanagersDto { active_alertmanagers: [], dropped_alertmanagers: [] })
}

/// Which rules are asked for.
struct Filter {
    alerting: bool,
    recording: bool,
    files: Vec<String>,
    groups: Vec<String>,
    names: Vec<String>,
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl Filter {
    fn from_params(params: &Params) -> Result<Self, ApiError> {
        let (alerting, recording) = match params.get("type").to_ascii_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            other => return Err(ApiError::parameter("type", format_args!("not supported value {other:?}"))),
        };
        let all = |name: &str| params.all(name).map(str::to_owned).collect();
        Ok(Filter {
            alerting,
            recording,
            files: all("file[]"),
            groups: all("rule_group[]"),
            names: all("rule_name[]"),
            matchers: params.matchers()?,
            with_alerts: !params.switch("exclude_alerts")?,
        })
    }

    /// The group with the rules that are asked for; `None` if nothing of it is.
    fn group(&self, group: GroupView) -> Option<GroupDto> {
        let among = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        if !among(&self.files, &group.file) || !among(&self.groups, &group.name) {
            return None;
        }
        let rules: Vec<RuleDto> = group
            .rules
            .into_iter()
            .filter(|r| among(&self.names, &r.name))
            .filter(|r| match r.kind {
                RuleViewKind::Alerting { .. } => self.alerting,
                RuleViewKind::Recording => self.recording,
            })
            .filter(|r| self.labels_match(&r.labels))
            .map(|r| self.rule(r))
            .collect();
        let is_filtered =
            !(self.names.is_empty() && self.matchers.is_empty() && self.alerting && self.recording);
        if rules.is_empty() && is_filtered {
            return None;
        }
        Some(GroupDto {
            name: group.name,
            file: group.file,
            rules,
            interval: group.interval_ms as f64 / 1000.0,
            limit: group.limit,
            evaluation_time: group.evaluation_time,
            last_evaluation: time::rfc3339_or_zero(group.last_evaluation),
        })
    }

    fn labels_match(&self, labels: &Labels) -> bool {
        let all =
            |matchers: &Vec<Matcher>| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        self.matchers.is_empty() || self.matchers.iter().any(all)
    }

    fn rule(&self, rule: RuleView) -> RuleDto {
        let health = match rule.health {
            RuleHealth::Unknown => "unknown",
            RuleHealth::Ok => "ok",
            RuleHealth::Err => "err",
        };
        let last_evaluation = time::rfc3339_or_zero(rule.last_evaluation);
        match rule.kind {
            RuleViewKind::Recording => RuleDto::Recording(RecordingDto {
                name: rule.name,
                query: rule.query,
                labels: rule.labels,
                health,
                last_error: rule.last_error,
                evaluation_time: rule.evaluation_time,
                last_evaluation,
            }),
            RuleViewKind::Alerting { duration_ms, keep_firing_for_ms, annotations, alerts, state } => {
                RuleDto::Alerting(AlertingDto {
                    state: state_name(state),
                    name: rule.name,
                    query: rule.query,
                    duration: duration_ms as f64 / 1000.0,
                    keep_firing_for: keep_firing_for_ms as f64 / 1000.0,
                    labels: rule.labels,
                    annotations,
                    alerts: if self.with_alerts {
                        alerts.into_iter().map(alert_dto).collect()
                    } else {
                        Vec::new()
                    },
                    health,
                    last_error: rule.last_error,
                    evaluation_time: rule.evaluation_time,
                    last_evaluation,
                })
            }
        }
    }
}

/// Cuts the groups to `group_limit` from `group_next_token` on; the token of the rest, if there is one. A token
/// names the first group of its page.
fn page(groups: &mut Vec<GroupDto>, params: &Params) -> Result<Option<String>, ApiError> {
    let token = |g: &GroupDto| format!("{};{}", g.file, g.name);
    let limit = params.limit_opt("group_limit")?;
    let from = params.get("group_next_token");
    if !from.is_empty() {
        if limit.is_none() {
            return Err(ApiError::bad_data("group_limit needs to be present if group_next_token is given"));
        }
        let at = groups.iter().position(|g| token(g) == from).ok_or_else(|| {
            ApiError::parameter("group_next_token", format_args!("there is no group {from:?} any more"))
        })?;
        groups.drain(..at);
    }
    let Some(limit) = limit.filter(|n| *n > 0) else { return Ok(None) };
    let next = groups.get(limit).map(token);
    groups.truncate(limit);
    Ok(next)
}

fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Inactive => "inactive",
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}

fn alert_dto(alert: ActiveAlertView) -> AlertDto {
    AlertDto {
        labels: alert.labels,
        annotations: alert.annotations,
        state: state_name(alert.state),
        active_at: time::rfc3339(alert.active_at),
        keep_firing_since: alert.keep_firing_since.map(time::rfc3339),
        value: json::exponent_form(alert.value),
    }
}
