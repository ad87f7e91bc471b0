//! `/api/v1/targets`, what is known of their metrics, and `/api/v1/scrape_pools`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::params::Params;
use super::state::ApiState;
use super::{json, time};
use crate::exposition::family_name;
use crate::model::{Labels, METRIC_NAME, Matcher, Metadata, format_duration_ms};
use crate::promql::parse_selector;
use crate::scrape::{TargetHealth, TargetView};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetsDto {
    active_targets: Vec<TargetDto>,
    dropped_targets: Vec<DroppedDto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetDto {
    discovered_labels: Labels,
    labels: Labels,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedDto {
    discovered_labels: Labels,
    scrape_pool: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolsDto {
    scrape_pools: BTreeSet<String>,
}

pub(super) async fn targets(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (active, dropped) = match params.get("state").to_ascii_lowercase().as_str() {
        "" | "any" => (true, true),
        "active" => (true, false),
        "dropped" => (false, true),
        other => {
            let reason = format_args!("{other:?} is none of active, dropped, any");
            return Err(ApiError::parameter("state", reason));
        }
    };
    let pool = params.get("scrapePool");
    let wanted = |name: &str| pool.is_empty() || name == pool;
    let mut answer =
        TargetsDto { active_targets: Vec::new(), dropped_targets: Vec::new(), dropped_target_counts: None };
    if active {
        let mut targets = state.targets.targets();
        targets.retain(|t| wanted(&t.scrape_pool));
        targets.sort_by(|a, b| (&a.scrape_pool, &a.scrape_url).cmp(&(&b.scrape_pool, &b.scrape_url)));
        answer.active_targets = targets.into_iter().map(target_dto).collect();
    }
    if dropped {
        let mut counts = BTreeMap::new();
        for target in state.targets.dropped_targets().into_iter().filter(|t| wanted(&t.scrape_pool)) {
            *counts.entry(target.scrape_pool.clone()).or_default() += 1;
            let discovered_labels = target.discovered_labels;
            answer.dropped_targets.push(DroppedDto { discovered_labels, scrape_pool: target.scrape_pool });
        }
        answer.dropped_target_counts = Some(counts);
    }
    Ok(json::success(&answer))
}

/// How far back a target's series are looked for.
const METADATA_MS: i64 = 300_000;

#[derive(Serialize)]
struct MetadataDto {
    target: Labels,
    /// Not said where the client names the metric.
    #[serde(skip_serializing_if = "String::is_empty")]
    metric: String,
    #[serde(rename = "type")]
    metric_type: &'static str,
    help: String,
    unit: String,
}

pub(super) async fn metadata(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    state.queries.clone().run(move |_| list_metadata(&state, &params)).await
}

/// What is known of the families of which each target has given samples of late.
fn list_metadata(state: &ApiState, params: &Params) -> Result<Response, ApiError> {
    let limit = params.limit_if_positive("limit")?;
    let wanted = params.get("metric");
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => parse_selector(text).map_err(|reason| ApiError::parameter("match_target", reason))?,
    };
    let reader = state.storage.reader();
    let known: HashMap<String, Metadata> = reader.metadata().into_iter().collect();
    let now = state.clock.now_ms();
    let mut answer = Vec::new();
    let mut targets = state.targets.targets();
    targets.sort_by(|a, b| a.labels.cmp(&b.labels));
    for labels in targets.into_iter().map(|t| t.labels) {
        if !matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or(""))) {
            continue;
        }
        let own: Vec<Matcher> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        let names = reader.label_values(METRIC_NAME, &own, now - METADATA_MS, now);
        let families: BTreeSet<&str> =
            names.iter().map(|name| family_name(name, |f| known.get(f).map(|m| m.metric_type))).collect();
        for family in families.into_iter().filter(|f| wanted.is_empty() || *f == wanted) {
            let Some(metadata) = known.get(family) else { continue };
            if answer.len() == limit {
                return Ok(json::success(&answer));
            }
            answer.push(MetadataDto {
                target: labels.clone(),
                metric: if wanted.is_empty() { family.to_owned() } else { String::new() },
                metric_type: metadata.metric_type.as_str(),
                help: metadata.help.clone(),
                unit: metadata.unit.clone(),
            });
        }
    }
    Ok(json::success(&answer))
}

pub(super) async fn scrape_pools(State(state): State<Arc<ApiState>>) -> Response {
    json::success(&PoolsDto {
        scrape_pools: state.targets.targets().into_iter().map(|t| t.scrape_pool).collect(),
    })
}

fn target_dto(target: TargetView) -> TargetDto {
    TargetDto {
        discovered_labels: target.discovered_labels,
        labels: target.labels,
        scrape_pool: target.scrape_pool,
        scrape_url: target.scrape_url,
        global_url: target.global_url,
        last_error: target.last_error,
        last_scrape: time::rfc3339_or_zero(target.last_scrape),
        last_scrape_duration: target.last_scrape_duration,
        health: match target.health {
            TargetHealth::Unknown => "unknown",
            TargetHealth::Up => "up",
            TargetHealth::Down => "down",
        },
        scrape_interval: format_duration_ms(target.scrape_interval_ms),
        scrape_timeout: format_duration_ms(target.scrape_timeout_ms),
    }
}
