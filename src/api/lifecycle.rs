//! `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`, and `/health`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use super::error::{ApiError, ErrorKind, TextError};
use super::json;
use super::readiness::PartState;
use super::state::{ApiState, Lifecycle};

pub(super) async fn healthy() -> &'static str {
    "StreamGate is healthy.\n"
}

pub(super) async fn ready(State(state): State<Arc<ApiState>>) -> Response {
    if state.readiness.is_ready() {
        return "StreamGate is ready.\n".into_response();
    }
    let waiting: Vec<String> = state
        .readiness
        .parts()
        .into_iter()
        .filter(|(_, s)| *s != PartState::Running)
        .map(|(name, s)| format!("{name} {}", part_text(&s)))
        .collect();
    let text = format!("Service Unavailable: {}\n", waiting.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

pub(super) async fn reload(State(state): State<Arc<ApiState>>) -> Result<Response, TextError> {
    let (reply, answer) = oneshot::channel();
    send(&state, Lifecycle::Reload(reply)).await?;
    let stopping = || ApiError::new(ErrorKind::Unavailable, "the server is stopping");
    match answer.await.map_err(|_| stopping())? {
        Ok(()) => Ok(StatusCode::OK.into_response()),
        Err(reason) => {
            // The operator asked, and the operator has to see what is wrong in the file.
            Err(ApiError::new(ErrorKind::Internal, format!("failed to reload config: {reason}")).into())
        }
    }
}

pub(super) async fn quit(State(state): State<Arc<ApiState>>) -> Result<Response, TextError> {
    send(&state, Lifecycle::Quit).await?;
    Ok("Requesting termination... Goodbye!".into_response())
}

async fn send(state: &ApiState, event: Lifecycle) -> Result<(), ApiError> {
    let Some(lifecycle) = &state.lifecycle else {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            "Lifecycle API is not enabled: start with --web.enable-lifecycle.",
        ));
    };
    lifecycle.send(event).await.map_err(|_| ApiError::new(ErrorKind::Unavailable, "the server is stopping"))
}

#[derive(Serialize)]
struct HealthDto {
    /// `healthy`, `starting`, `degraded` or `stopping`.
    status: &'static str,
    ready: bool,
    version: String,
    uptime_seconds: f64,
    parts: BTreeMap<&'static str, String>,
}

/// Liveness: it answers 200 as long as the process can answer at all, and says how the parts are.
pub(super) async fn health(State(state): State<Arc<ApiState>>) -> Response {
    let mut parts = state.readiness.parts();
    let ready = state.readiness.is_ready();
    // It answers queries all the same, so it is ready and yet degraded.
    if let Some(reason) = state.storage.refusing() {
        let refusing = PartState::Failed(format!("samples are refused: {reason}"));
        match parts.iter_mut().find(|(name, s)| *name == "storage" && *s == PartState::Running) {
            Some((_, part)) => *part = refusing,
            None => parts.push(("ingestion", refusing)),
        }
    }
    let has = |wanted: fn(&PartState) -> bool| parts.iter().any(|(_, s)| wanted(s));
    let status = if has(|s| *s == PartState::Stopping) {
        "stopping"
    } else if has(|s| matches!(s, PartState::Failed(_))) {
        "degraded"
    } else if ready {
        "healthy"
    } else {
        "starting"
    };
    json::success(&HealthDto {
        status,
        ready,
        version: state.info.version.clone(),
        uptime_seconds: (state.clock.now_ms() - state.info.started_at).max(0) as f64 / 1000.0,
        parts: parts.into_iter().map(|(name, s)| (name, part_text(&s))).collect(),
    })
}

fn part_text(state: &PartState) -> String {
    match state {
        PartState::Starting => "starting".into(),
        PartState::Running => "running".into(),
        PartState::Failed(reason) => format!("failed: {reason}"),
        PartState::Stopping => "stopping".into(),
    }
}
