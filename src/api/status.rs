//! `/api/v1/status/…`: what the server is, how it was started, what it holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::params::Params;
use super::state::ApiState;
use super::{json, time};
use crate::model::METRIC_NAME;

/// Rows of each table of `status/tsdb` where the client names no limit.
const TSDB_ROWS: usize = 10;

/// The version of Prometheus whose API this is: clients choose their calls by it.
const API_VERSION: &str = "3.5.0";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildInfoDto {
    version: String,
    revision: String,
    branch: String,
    build_user: String,
    build_date: String,
    go_version: String,
}

pub(super) async fn buildinfo(State(state): State<Arc<ApiState>>) -> Response {
    let info = &state.info;
    json::success(&BuildInfoDto {
        version: format!("{API_VERSION}+streamgate-{}", info.version),
        revision: info.revision.clone(),
        branch: info.branch.clone(),
        build_user: info.build_user.clone(),
        build_date: info.build_date.clone(),
        go_version: info.rustc_version.clone(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfoDto {
    start_time: String,
    #[serde(rename = "CWD")]
    cwd: String,
    hostname: String,
    server_time: String,
    storage_retention: String,
    #[serde(rename = "GOMAXPROCS")]
    threads: usize,
}

pub(super) async fn runtimeinfo(State(state): State<Arc<ApiState>>) -> Response {
    json::success(&RuntimeInfoDto {
        start_time: time::rfc3339(state.info.started_at),
        cwd: state.info.working_directory.clone(),
        hostname: state.info.hostname.clone(),
        server_time: time::rfc3339(state.clock.now_ms()),
        storage_retention: state.info.storage_retention.clone(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

pub(super) async fn flags(State(state): State<Arc<ApiState>>) -> Response {
    json::success(&state.info.flags)
}

#[derive(Serialize)]
struct ConfigDto {
    yaml: String,
}

pub(super) async fn config(State(state): State<Arc<ApiState>>) -> Response {
    let yaml = state.live.borrow().yaml.clone();
    json::success(&ConfigDto { yaml })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TsdbDto {
    head_stats: HeadStatsDto,
    series_count_by_metric_name: Vec<CountDto>,
    label_value_count_by_label_name: Vec<CountDto>,
    series_count_by_label_value_pair: Vec<CountDto>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStatsDto {
    num_series: usize,
    num_label_pairs: usize,
}

#[derive(Serialize)]
struct CountDto {
    name: String,
    value: usize,
}

/// Counts over the series that have had a sample within the lookback or are in the present window.
pub(super) async fn tsdb(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.limit_opt("limit")? {
        Some(0) => return Err(ApiError::parameter("limit", "limit must be a positive number")),
        limit => limit.unwrap_or(TSDB_ROWS),
    };
    state.queries.clone().run(move |_| Ok(count_series(&state, limit))).await
}

fn count_series(state: &ApiState, limit: usize) -> Response {
    let to = state.clock.now_ms();
    let series = state.storage.reader().select(&[], to - 2 * 3_600_000, to);
    let mut by_pair: HashMap<(&str, &str), usize> = HashMap::new();
    for (name, value) in series.iter().flat_map(|s| s.labels()) {
        *by_pair.entry((name, value)).or_default() += 1;
    }
    let mut values: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in by_pair.keys() {
        *values.entry(name).or_default() += 1;
    }
    let names =
        by_pair.iter().filter(|((n, _), _)| *n == METRIC_NAME).map(|((_, v), n)| ((*v).to_owned(), *n));
    json::success(&TsdbDto {
        head_stats: HeadStatsDto { num_series: series.len(), num_label_pairs: by_pair.len() },
        series_count_by_metric_name: top(names, limit),
        label_value_count_by_label_name: top(values.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit),
        series_count_by_label_value_pair: top(
            by_pair.iter().map(|((n, v), c)| (format!("{n}={v}"), *c)),
            limit,
        ),
    })
}

/// The largest, then by name.
fn top(counts: impl Iterator<Item = (String, usize)>, limit: usize) -> Vec<CountDto> {
    let mut list: Vec<CountDto> = counts.map(|(name, value)| CountDto { name, value }).collect();
    list.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    list.truncate(limit);
    list
}
