//! `/api/v1/dashboard/…`: indicators, alerts that can be acknowledged and resolved, reports, and the state of it all.

mod alerts;
mod language;
mod metrics;
mod reports;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::ApiState;

/// The routes below `/api/v1/dashboard`.
pub(super) fn routes() -> Router<Arc<ApiState>> {
    Router::new()
        .route("/metrics", get(metrics::current).post(metrics::record))
        .route("/metrics/history", get(metrics::history))
        .route("/alerts", get(alerts::list).post(alerts::create))
        .route("/alerts/history", get(alerts::history))
        .route("/alerts/{id}", get(alerts::one))
        .route("/alerts/{id}/acknowledge", post(alerts::acknowledge))
        .route("/alerts/{id}/resolve", post(alerts::resolve))
        .route("/reports", get(reports::list).post(reports::generate))
        .route("/reports/latest", get(reports::latest))
        .route("/reports/{id}", get(reports::one))
        .route("/promql", get(language::language))
        .route("/status", get(status::status))
}
