//! Reports: those that were made, and one made now.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::api::state::ApiState;
use crate::api::{body, json, time};
use crate::model::{Labels, Timestamp, format_duration_ms};
use crate::reports::{IndicatorStatus, Recommendation, Report, ReportAlert, ReportIndicator, ReportSummary};

/// The periods that can be asked for.
const PERIODS: [(&str, i64); 4] =
    [("1h", 3_600_000), ("24h", 86_400_000), ("7d", 7 * 86_400_000), ("30d", 30 * 86_400_000)];

/// A period as it is asked for, else as Prometheus writes a duration.
fn period_text(ms: i64) -> String {
    let named = PERIODS.iter().find(|(_, m)| *m == ms);
    named.map_or_else(|| format_duration_ms(ms), |(name, _)| (*name).to_owned())
}

#[derive(Serialize)]
struct SummaryDto {
    id: String,
    #[serde(serialize_with = "time::serialize")]
    generated_at: Timestamp,
    period: String,
    status: IndicatorStatus,
    summary: String,
}

impl From<ReportSummary> for SummaryDto {
    fn from(report: ReportSummary) -> Self {
        SummaryDto {
            id: report.id,
            generated_at: report.generated_at,
            period: period_text(report.period_ms),
            status: report.status,
            summary: report.summary,
        }
    }
}

#[derive(Serialize)]
struct ReportDto {
    id: String,
    #[serde(serialize_with = "time::serialize")]
    generated_at: Timestamp,
    period: String,
    #[serde(serialize_with = "time::serialize")]
    from: Timestamp,
    #[serde(serialize_with = "time::serialize")]
    to: Timestamp,
    status: IndicatorStatus,
    summary: String,
    /// Each with its trend; a trend is null where there are too few samples.
    indicators: Vec<ReportIndicator>,
    alerts: Vec<AlertDto>,
    recommendations: Vec<Recommendation>,
}

#[derive(Serialize)]
struct AlertDto {
    id: String,
    name: String,
    severity: String,
    state: String,
    labels: Labels,
    #[serde(serialize_with = "time::serialize")]
    fired_at: Timestamp,
    #[serde(serialize_with = "time::serialize_option", skip_serializing_if = "Option::is_none")]
    resolved_at: Option<Timestamp>,
}

impl From<Report> for ReportDto {
    fn from(report: Report) -> Self {
        ReportDto {
            id: report.id,
            generated_at: report.generated_at,
            period: period_text(report.period_ms),
            from: report.from,
            to: report.to,
            status: report.status,
            summary: report.summary,
            indicators: report.indicators,
            alerts: report.alerts.into_iter().map(AlertDto::from).collect(),
            recommendations: report.recommendations,
        }
    }
}

impl From<ReportAlert> for AlertDto {
    fn from(alert: ReportAlert) -> Self {
        AlertDto {
            id: alert.id,
            name: alert.name,
            severity: alert.severity,
            state: alert.state,
            labels: alert.labels,
            fired_at: alert.fired_at,
            resolved_at: alert.resolved_at,
        }
    }
}

pub(in crate::api) async fn list(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = match params.limit_opt("limit")? {
        None => state.limits.page_default,
        Some(0) => state.limits.page_max,
        Some(n) => n.min(state.limits.page_max),
    };
    let pool = state.queries.clone();
    let reports = pool.run(move |_| Ok(state.reports.list(limit)?)).await?;
    Ok(json::success(&reports.into_iter().map(SummaryDto::from).collect::<Vec<_>>()))
}

pub(in crate::api) async fn latest(State(state): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let pool = state.queries.clone();
    match pool.run(move |_| Ok(state.reports.latest()?)).await? {
        Some(report) => Ok(json::success(&ReportDto::from(report))),
        None => Err(ApiError::not_found("no report has been made yet")),
    }
}

pub(in crate::api) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let pool = state.queries.clone();
    let wanted = id.clone();
    match pool.run(move |_| Ok(state.reports.get(&wanted)?)).await? {
        Some(report) => Ok(json::success(&ReportDto::from(report))),
        None => Err(ApiError::not_found(format!("there is no report with id {id:?}"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateDto {
    period: String,
}

pub(in crate::api) async fn generate(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let dto: GenerateDto = body::read_json(&headers, body, &state).await?;
    let Some((_, period_ms)) = PERIODS.iter().find(|(name, _)| *name == dto.period) else {
        return Err(ApiError::bad_data(format!("period {:?} is none of 1h, 24h, 7d, 30d", dto.period)));
    };
    let report = state.reports.generate(*period_ms).await?;
    Ok(json::success(&ReportDto::from(report)))
}
