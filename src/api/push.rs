//! Samples that come to us: remote write, and groups pushed as to the Pushgateway.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::body;
use super::error::{ApiError, ErrorKind, TextError};
use super::state::ApiState;
use crate::exposition::remote_write::Encoding;
use crate::ingest::{IngestError, RemoteWriteStats, RemoteWriteVersion, group_labels};

/// `POST /api/v1/write`
pub(super) async fn write(State(state): State<Arc<ApiState>>, headers: HeaderMap, body: Body) -> Response {
    let version = match write_version(body::text(&headers, header::CONTENT_TYPE)) {
        Ok(version) => version,
        Err(error) => return TextError(error).into_response(),
    };
    let (stats, result) = match take(&state, &headers, body, version).await {
        Ok(Ok(stats)) => (stats, Ok(StatusCode::NO_CONTENT)),
        Ok(Err(IngestError::Partial { rejected, reason, stats })) => {
            (stats, Err(ApiError::from(IngestError::Partial { rejected, reason, stats })))
        }
        Ok(Err(error)) => (RemoteWriteStats::default(), Err(error.into())),
        Err(error) => (RemoteWriteStats::default(), Err(error)),
    };
    let answer = result.map_err(TextError).into_response();
    if version == RemoteWriteVersion::V1 {
        return answer;
    }
    // How much was taken, whatever the status: by these a sender knows that 2.0 was understood.
    let written = [
        ("x-prometheus-remote-write-samples-written", stats.samples.to_string()),
        ("x-prometheus-remote-write-histograms-written", stats.histograms.to_string()),
        ("x-prometheus-remote-write-exemplars-written", stats.exemplars.to_string()),
    ];
    (written, answer).into_response()
}

/// Reads and stores a request of remote write.
async fn take(
    state: &Arc<ApiState>,
    headers: &HeaderMap,
    body: Body,
    version: RemoteWriteVersion,
) -> Result<Result<RemoteWriteStats, IngestError>, ApiError> {
    let encoding = body::text(headers, header::CONTENT_ENCODING);
    let encoding = Encoding::from_header(Some(encoding)).ok_or_else(|| {
        let message = format!("Content-Encoding {encoding:?} cannot be read here; send snappy or zstd");
        ApiError::new(ErrorKind::UnsupportedMediaType, message)
    })?;
    let bytes = body::read_raw(body, state.limits.write_bytes_max, state).await?;
    let ingest = state.ingest.clone();
    state.transfers.run(move |_| Ok(ingest.remote_write(&bytes, encoding, version))).await
}

/// The message that a `Content-Type` names, 1.0 if it names none. A sender falls back to another when it is told by 415.
fn write_version(content_type: &str) -> Result<RemoteWriteVersion, ApiError> {
    let media = body::media_type(content_type);
    let refuse = |why: String| Err(ApiError::new(ErrorKind::UnsupportedMediaType, why));
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return refuse(format!("Content-Type must be application/x-protobuf, not {content_type:?}"));
    }
    let proto = content_type.split(';').skip(1).find_map(|p| p.trim().strip_prefix("proto="));
    match proto {
        None | Some("prometheus.WriteRequest") => Ok(RemoteWriteVersion::V1),
        Some("io.prometheus.write.v2.Request") => Ok(RemoteWriteVersion::V2),
        Some(other) => refuse(format!(
            "{other} is not taken here; send prometheus.WriteRequest or io.prometheus.write.v2.Request"
        )),
    }
}

/// `PUT`, `POST` and `DELETE /metrics/job/…`
pub(super) async fn group(
    State(state): State<Arc<ApiState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, TextError> {
    // The raw path (below the prefix): a value may hold an escaped slash.
    let path = uri.path();
    let group =
        path.strip_prefix("/metrics/").filter(|g| g.starts_with("job/") || g.starts_with("job@base64/"));
    let not_found =
        || ApiError::not_found(format!("there is no {path} here; groups are at /metrics/job/JOB"));
    let group = group_labels(group.ok_or_else(not_found)?).map_err(ApiError::from)?;
    let pool = state.transfers.clone();
    if method == Method::DELETE {
        pool.run(move |_| Ok(state.pushed.delete(&group, state.clock.now_ms())?)).await?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let content_type = body::text(&headers, header::CONTENT_TYPE).to_owned();
    check_push_type(&content_type)?;
    let bytes = body::read(&headers, body, state.limits.push_bytes_max, &state).await?;
    let replace_all = method == Method::PUT;
    let work = move |_| {
        let content_type = (!content_type.is_empty()).then_some(content_type.as_str());
        Ok(state.pushed.put(&group, &bytes, replace_all, content_type, state.clock.now_ms())?)
    };
    pool.run(work).await?;
    Ok(StatusCode::OK.into_response())
}

/// Clients may push anything as text, but protobuf, which some send unless told otherwise, is none.
fn check_push_type(content_type: &str) -> Result<(), ApiError> {
    if body::media_type(content_type).eq_ignore_ascii_case("application/vnd.google.protobuf") {
        let message = "protobuf is not read here; push the text format (text/plain; version=0.0.4)";
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_not_pushed() {
        for fine in ["", "text/plain; version=0.0.4", "application/x-www-form-urlencoded"] {
            assert_eq!(check_push_type(fine), Ok(()), "{fine}");
        }
        let delimited =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        assert_eq!(check_push_type(delimited).unwrap_err().kind, ErrorKind::UnsupportedMediaType);
    }

    #[test]
    fn both_messages_of_remote_write_are_taken() {
        let (v1, v2) = (RemoteWriteVersion::V1, RemoteWriteVersion::V2);
        for (content_type, expected) in [
            ("", v1),
            ("application/x-protobuf", v1),
            ("application/x-protobuf;proto=prometheus.WriteRequest", v1),
            ("application/x-protobuf; proto=io.prometheus.write.v2.Request", v2),
        ] {
            assert_eq!(write_version(content_type), Ok(expected), "{content_type}");
        }
        for wrong in ["application/json", "application/x-protobuf; proto=io.prometheus.write.v3.Request"] {
            assert_eq!(write_version(wrong).unwrap_err().kind, ErrorKind::UnsupportedMediaType, "{wrong}");
        }
    }
}
