//! Indicators: their present values, their course, and metrics recorded by a call.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::api::state::ApiState;
use crate::api::{body, json, query, time};
use crate::ingest::JsonMetric;
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp};
use crate::promql::{MatrixSeries, QueryRequest, Value};
use crate::reports::{IndicatorStatus, IndicatorView, ReportsError};

/// Points of a history where the client names no step; about the width of a chart.
const HISTORY_POINTS: i64 = 240;
/// A history looks back so far where the client names no start.
const HISTORY_MS: i64 = 3_600_000;
/// The shortest step that is chosen for the client.
const HISTORY_STEP_MIN_MS: i64 = 1_000;
/// Series of one history where the client names no limit.
const HISTORY_SERIES: usize = 100;

/// The present value of one indicator, or of a recorded metric that no indicator watches.
#[derive(Serialize)]
pub(super) struct IndicatorDto {
    name: String,
    labels: Labels,
    /// Null for NaN and infinities, which JSON does not have.
    value: f64,
    unit: String,
    #[serde(serialize_with = "time::serialize")]
    timestamp: Timestamp,
    status: IndicatorStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    critical: Option<String>,
    description: String,
    expr: String,
}

impl From<IndicatorView> for IndicatorDto {
    fn from(view: IndicatorView) -> Self {
        IndicatorDto {
            name: view.name,
            labels: view.labels,
            value: view.value,
            unit: view.unit,
            timestamp: view.timestamp,
            status: view.status,
            warning: view.warning,
            critical: view.critical,
            description: view.description,
            expr: view.expr,
        }
    }
}

pub(in crate::api) async fn current(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let names = params.list("name");
    let statuses = statuses(&params)?;
    let pool = state.queries.clone();
    let mut views = pool.run(move |_| Ok(present(&state))).await?;
    views.retain(|v| {
        (names.is_empty() || names.contains(&v.name)) && (statuses.is_empty() || statuses.contains(&v.status))
    });
    let truncated = views.len() > limit;
    views.truncate(limit);
    let dtos: Vec<IndicatorDto> = views.into_iter().map(IndicatorDto::from).collect();
    Ok(json::success_with(&dtos, &json::truncated(truncated, None)))
}

/// Every indicator, then the recorded metrics that no indicator of their name watches: without thresholds they are
/// healthy.
fn present(state: &ApiState) -> Vec<IndicatorView> {
    let now = state.clock.now_ms();
    let mut views = state.reports.indicators(now);
    let watched: HashSet<String> = views.iter().map(|v| v.name.clone()).collect();
    let recorded = state.pushed.recorded();
    let others = recorded.into_iter().filter(|m| !watched.contains(m.labels.metric_name()));
    views.extend(others.map(|metric| IndicatorView {
        name: metric.labels.metric_name().to_owned(),
        labels: metric.labels.without_metric_name(),
        value: metric.value,
        unit: metric.unit,
        timestamp: metric.ts,
        status: IndicatorStatus::Healthy,
        warning: None,
        critical: None,
        description: "Recorded by a call".to_owned(),
        expr: metric.labels.metric_name().to_owned(),
    }));
    views
}

fn statuses(params: &Params) -> Result<Vec<IndicatorStatus>, ApiError> {
    let one = |text: String| match text.as_str() {
        "healthy" => Ok(IndicatorStatus::Healthy),
        "warning" => Ok(IndicatorStatus::Warning),
        "critical" => Ok(IndicatorStatus::Critical),
        _ => {
            Err(ApiError::parameter("status", format_args!("{text:?} is none of healthy, warning, critical")))
        }
    };
    params.list("status").into_iter().map(one).collect()
}

#[derive(Serialize)]
struct HistoryDto {
    name: String,
    #[serde(serialize_with = "time::serialize")]
    from: Timestamp,
    #[serde(serialize_with = "time::serialize")]
    to: Timestamp,
    step_seconds: f64,
    series: Vec<SeriesDto>,
}

#[derive(Serialize)]
struct SeriesDto {
    labels: Labels,
    points: Vec<PointDto>,
}

#[derive(Serialize)]
struct PointDto {
    #[serde(serialize_with = "time::serialize")]
    timestamp: Timestamp,
    value: f64,
}

pub(in crate::api) async fn history(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let name = params.get("name").to_owned();
    if name.is_empty() {
        return Err(ApiError::parameter("name", "which indicator or metric is missing"));
    }
    let limit = match params.limit_opt("limit")? {
        None => HISTORY_SERIES,
        Some(0) => usize::MAX,
        Some(n) => n,
    };
    let to = params.time_opt("end")?.unwrap_or_else(|| state.clock.now_ms());
    let from = params.time_opt("start")?.unwrap_or(to - HISTORY_MS);
    if to < from {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let chosen = ((to - from) / HISTORY_POINTS).max(HISTORY_STEP_MIN_MS);
    let step_ms = params.duration_opt("step")?.unwrap_or(chosen);
    query::check_grid(from, to, step_ms, state.limits.query_steps_max)?;
    // The grid ends at `to`, so that the newest value is on it.
    let from = to - (to - from) / step_ms * step_ms;
    let pool = state.queries.clone();
    pool.run(move |cancelled| {
        let mut request = QueryRequest::range(from, to, step_ms);
        request.cancelled = cancelled;
        let mut series = course(&state, &name, &request)?;
        let truncated = series.len() > limit;
        series.truncate(limit);
        let series = series.into_iter().map(series_dto).collect();
        let dto = HistoryDto { name, from, to, step_seconds: step_ms as f64 / 1000.0, series };
        Ok(json::success_with(&dto, &json::truncated(truncated, None)))
    })
    .await
}

/// The course of an indicator, else of the stored metric with this name.
fn course(state: &ApiState, name: &str, request: &QueryRequest) -> Result<Vec<MatrixSeries>, ApiError> {
    match state.reports.history(name, request.start, request.end, request.step_ms) {
        Err(ReportsError::UnknownIndicator(_)) => {}
        answer => return Ok(answer?),
    }
    // A name is looked up, never evaluated: it is no place for an expression.
    let matcher = Matcher::equal(METRIC_NAME, name);
    let lookback = state.engine.options().lookback_ms;
    if state.storage.reader().select(&[matcher], request.start - lookback, request.end).is_empty() {
        return Err(ApiError::not_found(format!("there is no indicator and no metric named {name:?}")));
    }
    let mut text = b"{__name__=".to_vec();
    json::write_str(&mut text, name);
    text.push(b'}');
    let text = String::from_utf8_lossy(&text).into_owned();
    match query::evaluate(state, &text, request)?.value {
        Value::Matrix(series) => Ok(series),
        _ => Ok(Vec::new()),
    }
}

fn series_dto(series: MatrixSeries) -> SeriesDto {
    let points =
        series.floats.iter().map(|(timestamp, value)| PointDto { timestamp: *timestamp, value: *value });
    SeriesDto { labels: series.labels.without_metric_name(), points: points.collect() }
}

/// A metric as a client records it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordDto {
    name: String,
    value: f64,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    timestamp: Option<TimeDto>,
}

/// RFC 3339, or Unix seconds as a number or in a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "timestamp must be an RFC 3339 string or Unix seconds")]
enum TimeDto {
    Seconds(f64),
    Text(String),
}

#[derive(Serialize)]
struct RecordedDto {
    recorded: usize,
}

pub(in crate::api) async fn record(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json_bytes(&headers, body, &state).await?;
    let is_list = body::first_byte(&bytes) == Some(b'[');
    let list: Vec<RecordDto> =
        if is_list { body::decode_json(&bytes)? } else { vec![body::decode_json(&bytes)?] };
    if list.is_empty() {
        return Err(ApiError::bad_data("the list of metrics is empty"));
    }
    let metrics = list
        .into_iter()
        .enumerate()
        .map(|(i, dto)| {
            check(dto).map_err(|e| if is_list { ApiError::bad_data(format!("metric {i}: {e}")) } else { e })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let recorded = metrics.len();
    let pool = state.transfers.clone();
    pool.run(move |_| Ok(state.pushed.record(&metrics, state.clock.now_ms())?)).await?;
    Ok(json::success(&RecordedDto { recorded }))
}

/// What can be seen before the metric meets those that are kept.
fn check(dto: RecordDto) -> Result<JsonMetric, ApiError> {
    let RecordDto { name, value, unit, labels, timestamp } = dto;
    if name.is_empty() {
        return Err(ApiError::bad_data("name must not be empty"));
    }
    if let Some(wrong) = labels.keys().find(|n| n.is_empty() || n.starts_with("__")) {
        return Err(ApiError::bad_data(format!("invalid label name {wrong:?}")));
    }
    let timestamp = match timestamp {
        None => None,
        Some(TimeDto::Seconds(seconds)) => Some(
            time::seconds_to_ms(seconds)
                .ok_or_else(|| ApiError::bad_data(format!("timestamp {seconds} is no valid time")))?,
        ),
        Some(TimeDto::Text(text)) => Some(
            time::parse_time(&text)
                .ok_or_else(|| ApiError::bad_data(format!("timestamp {text:?} is no valid time")))?,
        ),
    };
    Ok(JsonMetric { name, value, unit, labels: Labels::from_pairs(labels), timestamp })
}
