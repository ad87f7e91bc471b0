//! `/api/v1/targets` and `/api/v1/scrape_pools`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::params::Params;
use super::state::ApiState;
use super::{json, time};
use crate::model::{Labels, format_duration_ms};
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
