//! What is answered while the data is still being read: that we live, how far we are, and "come back later".

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::error::{ApiError, ErrorKind};
use super::json;
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::storage::{ReplayProgress, ReplayState};

/// When to ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// What the routes of the start know.
pub struct Starting {
    pub replay: ReplayProgress,
    pub clock: Clock,
    pub started_at: Timestamp,
    pub version: String,
    /// As of [`ApiState`](super::ApiState).
    pub route_prefix: String,
}

/// The routes while the server starts: health, readiness, the progress of the replay, and 503 for all else.
pub fn starting_router(starting: Starting) -> Router {
    let prefix = starting.route_prefix.clone();
    let routes = Router::new()
        .route("/-/healthy", get(super::lifecycle::healthy))
        .route("/-/ready", get(not_ready))
        .route("/health", get(health))
        .route("/api/v1/status/walreplay", get(walreplay))
        .fallback(later)
        .with_state(Arc::new(starting));
    if prefix.is_empty() { routes } else { Router::new().nest(&format!("{prefix}/"), routes).fallback(later) }
}

async fn not_ready(State(starting): State<Arc<Starting>>) -> Response {
    let text = format!("Service Unavailable: storage starting, {}\n", progress(&starting));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response()
}

fn progress(starting: &Starting) -> String {
    let status = starting.replay.status();
    match status.state {
        ReplayState::Waiting => "opening the data directory".to_owned(),
        ReplayState::InProgress => {
            format!("reading WAL segment {} of {} to {}", status.current, status.min, status.max)
        }
        ReplayState::Done => "the WAL is read".to_owned(),
    }
}

async fn later(uri: Uri) -> Result<Response, Infallible> {
    let message = "the server is starting: it reads its data; try again soon";
    let error = ApiError::new(ErrorKind::Unavailable, message);
    let mut response = if uri.path().contains("/api/") { error.into_response() } else { error.into_text() };
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    Ok(response)
}

#[derive(Serialize)]
struct HealthDto {
    status: &'static str,
    ready: bool,
    version: String,
    uptime_seconds: f64,
    parts: std::collections::BTreeMap<&'static str, String>,
}

async fn health(State(starting): State<Arc<Starting>>) -> Response {
    let since = Duration::from_millis((starting.clock.now_ms() - starting.started_at).max(0).unsigned_abs());
    json::success(&HealthDto {
        status: "starting",
        ready: false,
        version: starting.version.clone(),
        uptime_seconds: since.as_secs_f64(),
        parts: [("storage", format!("starting: {}", progress(&starting)))].into(),
    })
}

#[derive(Serialize)]
struct WalReplayDto {
    min: u64,
    max: u64,
    current: u64,
    state: &'static str,
}

async fn walreplay(State(starting): State<Arc<Starting>>) -> Response {
    replay_status(&starting.replay)
}

/// The answer of `/api/v1/status/walreplay`.
pub(super) fn replay_status(replay: &ReplayProgress) -> Response {
    let status = replay.status();
    json::success(&WalReplayDto {
        min: status.min,
        max: status.max,
        current: status.current,
        state: match status.state {
            ReplayState::Waiting => "waiting",
            ReplayState::InProgress => "in progress",
            ReplayState::Done => "done",
        },
    })
}
