//! `/api/v1/admin/tsdb/…`: snapshots and deletions, with `--web.enable-admin-api`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use serde::Serialize;

use super::error::{ApiError, ErrorKind};
use super::json;
use super::params::Params;
use super::state::ApiState;
use crate::model::Timestamp;
use crate::storage::StorageError;

#[derive(Serialize)]
struct SnapshotDto {
    name: String,
}

/// A copy of all samples in the folder `snapshots` of the data directory; the answer is its name there.
pub(super) async fn snapshot(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    check_enabled(&state)?;
    let skip_head = go_bool(params.get("skip_head"))?;
    let name = snapshot_name(state.clock.now_ms());
    let storage = state.storage.clone();
    let name = state
        .admin
        .run(move |_| {
            storage.snapshot(&name, skip_head).map_err(|e| failed("snapshot", e))?;
            Ok(name)
        })
        .await?;
    Ok(json::success(&SnapshotDto { name }))
}

/// Deletes the samples of some series between two times.
pub(super) async fn delete_series(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    check_enabled(&state)?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let start = params.time_opt("start")?.unwrap_or(Timestamp::MIN);
    let end = params.time_opt("end")?.unwrap_or(Timestamp::MAX);
    let selectors = params.selectors()?;
    let storage = state.storage.clone();
    let done = state
        .admin
        .run(move |_| storage.delete_series(&selectors, start, end).map_err(|e| failed("delete series", e)))
        .await?;
    tracing::info!(
        selectors = ?params.all("match[]").collect::<Vec<_>>(), start, end,
        head_series = done.head_series, block_series = done.block_series, "Deleted samples"
    );
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Rewrites the blocks that have deleted samples.
pub(super) async fn clean_tombstones(State(state): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    check_enabled(&state)?;
    let storage = state.storage.clone();
    let done = state
        .admin
        .run(move |_| storage.clean_tombstones().map_err(|e| failed("clean tombstones", e)))
        .await?;
    tracing::info!(
        blocks_rewritten = done.blocks_rewritten,
        blocks_removed = done.blocks_removed,
        bytes_before = done.bytes_before,
        bytes_after = done.bytes_after,
        "Cleaned tombstones"
    );
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn check_enabled(state: &ApiState) -> Result<(), ApiError> {
    if state.enable_admin {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::AdminDisabled, "admin APIs disabled"))
}

/// The operator asked, so the operator sees why.
fn failed(what: &str, error: StorageError) -> ApiError {
    tracing::error!(what, %error, "An administrator's call failed");
    let kind = match error {
        StorageError::TooManyDeletions => ErrorKind::Conflict,
        _ => ErrorKind::Internal,
    };
    ApiError::new(kind, format!("{what}: {error}"))
}

/// A truth value as Go's `strconv.ParseBool` reads it; missing is false.
fn go_bool(text: &str) -> Result<bool, ApiError> {
    match text {
        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        other => {
            let reason =
                format!("unable to parse boolean: strconv.ParseBool: parsing {other:?}: invalid syntax");
            Err(ApiError::parameter("skip_head", reason))
        }
    }
}

/// The time and something that two calls within a second do not share, as Prometheus names snapshots.
fn snapshot_name(now: Timestamp) -> String {
    let time = DateTime::from_timestamp_millis(now).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
    format!("{time}-{:016x}", RandomState::new().hash_one(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_as_prometheus_names_them() {
        let (one, other) = (snapshot_name(1_795_550_049_126), snapshot_name(1_795_550_049_126));
        assert!(
            one.starts_with("20261124T195409Z-") && one.len() == "20261124T195409Z-0a356e5325aee8d6".len()
        );
        assert_ne!(one, other);
    }
}
