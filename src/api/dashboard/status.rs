//! One look at everything: how many indicators are how well, which alerts there are, and what that makes in all.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::alerts::{AlertFilter, AlertView, AlertViewState};
use crate::api::error::ApiError;
use crate::api::state::ApiState;
use crate::api::{json, time};
use crate::model::Timestamp;
use crate::reports::{IndicatorStatus, IndicatorView};
use crate::rules::RuleHealth;
use crate::scrape::TargetHealth;

#[derive(Serialize)]
struct StatusDto {
    /// The worst of the indicators and of the alerts that are not resolved.
    status: IndicatorStatus,
    #[serde(serialize_with = "time::serialize")]
    timestamp: Timestamp,
    indicators: IndicatorTotals,
    alerts: AlertTotals,
    targets: TargetTotals,
    rules: RuleTotals,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct IndicatorTotals {
    total: usize,
    healthy: usize,
    warning: usize,
    critical: usize,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct AlertTotals {
    total: usize,
    by_state: BTreeMap<&'static str, usize>,
    /// Of those that are not resolved. An alert without severity counts under `none`.
    by_severity: BTreeMap<String, usize>,
}

#[derive(Default, Serialize)]
struct TargetTotals {
    total: usize,
    up: usize,
    down: usize,
    unknown: usize,
}

#[derive(Default, Serialize)]
struct RuleTotals {
    groups: usize,
    total: usize,
    healthy: usize,
    failing: usize,
}

pub(in crate::api) async fn status(State(state): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let alerts = state.alerts.list(AlertFilter::default()).await;
    let pool = state.queries.clone();
    let now = state.clock.now_ms();
    let indicators = pool
        .run({
            let state = Arc::clone(&state);
            move |_| Ok(state.reports.indicators(now))
        })
        .await?;
    let mut targets = TargetTotals::default();
    for target in state.targets.targets() {
        targets.total += 1;
        match target.health {
            TargetHealth::Up => targets.up += 1,
            TargetHealth::Down => targets.down += 1,
            TargetHealth::Unknown => targets.unknown += 1,
        }
    }
    let mut rules = RuleTotals::default();
    for group in state.rules.groups() {
        rules.groups += 1;
        rules.total += group.rules.len();
        rules.failing += group.rules.iter().filter(|r| r.health == RuleHealth::Err).count();
        rules.healthy += group.rules.iter().filter(|r| r.health == RuleHealth::Ok).count();
    }
    Ok(json::success(&StatusDto {
        status: overall(&indicators, &alerts),
        timestamp: now,
        indicators: count_indicators(&indicators),
        alerts: count_alerts(&alerts),
        targets,
        rules,
    }))
}

fn count_indicators(indicators: &[IndicatorView]) -> IndicatorTotals {
    let mut totals = IndicatorTotals { total: indicators.len(), ..IndicatorTotals::default() };
    for indicator in indicators {
        match indicator.status {
            IndicatorStatus::Healthy => totals.healthy += 1,
            IndicatorStatus::Warning => totals.warning += 1,
            IndicatorStatus::Critical => totals.critical += 1,
        }
    }
    totals
}

fn count_alerts(alerts: &[AlertView]) -> AlertTotals {
    let mut totals = AlertTotals { total: alerts.len(), ..AlertTotals::default() };
    totals.by_state = [("firing", 0), ("acknowledged", 0), ("resolved", 0)].into();
    for alert in alerts {
        let state = match alert.state {
            AlertViewState::Firing => "firing",
            AlertViewState::Acknowledged => "acknowledged",
            AlertViewState::Resolved => "resolved",
        };
        *totals.by_state.entry(state).or_default() += 1;
        if alert.state != AlertViewState::Resolved {
            let severity = if alert.severity.is_empty() { "none" } else { &alert.severity };
            *totals.by_severity.entry(severity.to_owned()).or_default() += 1;
        }
    }
    totals
}

fn overall(indicators: &[IndicatorView], alerts: &[AlertView]) -> IndicatorStatus {
    let open = alerts.iter().filter(|a| a.state != AlertViewState::Resolved);
    let of_alerts = open.map(crate::reports::alert_status).max();
    let of_indicators = indicators.iter().map(|i| i.status).max();
    of_alerts.max(of_indicators).unwrap_or(IndicatorStatus::Healthy)
}
