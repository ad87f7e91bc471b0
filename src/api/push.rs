//! Samples that come to us: remote write, and groups pushed as to the Pushgateway.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;

use super::body;
use super::error::{ApiError, ErrorKind, TextError};
use super::state::ApiState;
use crate::model::Labels;

/// Labels of a pushed group.
const GROUP_LABELS_MAX: usize = 64;

/// `POST /api/v1/write`
pub(super) async fn write(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, TextError> {
    check_write_type(body::text(&headers, header::CONTENT_TYPE))?;
    let encoding = match body::text(&headers, header::CONTENT_ENCODING) {
        "" | "snappy" => "snappy",
        "zstd" => "zstd",
        other => {
            let message = format!("Content-Encoding {other:?} cannot be read here; send snappy or zstd");
            return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message).into());
        }
    };
    let bytes = body::read_raw(body, state.limits.write_bytes_max, &state).await?;
    let pool = state.transfers.clone();
    pool.run(move |_| state.push.remote_write(&bytes, encoding)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remote write 1.0 is what we read: a sender of 2.0 falls back to it when it is told so by 415.
fn check_write_type(content_type: &str) -> Result<(), ApiError> {
    let media = body::media_type(content_type);
    let refuse = |why: String| Err(ApiError::new(ErrorKind::UnsupportedMediaType, why));
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return refuse(format!("Content-Type must be application/x-protobuf, not {content_type:?}"));
    }
    let proto = content_type.split(';').skip(1).find_map(|p| p.trim().strip_prefix("proto="));
    match proto {
        None | Some("prometheus.WriteRequest") => Ok(()),
        Some(other) => {
            refuse(format!("{other} is not taken here; send remote write 1.0 (prometheus.WriteRequest)"))
        }
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
    let group = group_labels(uri.path())?;
    let pool = state.transfers.clone();
    if method == Method::DELETE {
        pool.run(move |_| state.push.delete(&group)).await?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let bytes = body::read(&headers, body, state.limits.push_bytes_max, &state).await?;
    let content_type = body::text(&headers, header::CONTENT_TYPE).to_owned();
    let replace_all = method == Method::PUT;
    pool.run(move |_| state.push.put(&group, &bytes, replace_all, &content_type, state.clock.now_ms()))
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// The labels that the path of a group names: `/metrics/job/JOB/NAME/VALUE…`, where `NAME@base64` says that its
/// value is in base64 (the URL's alphabet, `=` alone meaning empty). Source: prometheus/pushgateway, README.
fn group_labels(path: &str) -> Result<Labels, ApiError> {
    let rest =
        path.strip_prefix("/metrics/").filter(|r| ["job/", "job@base64/"].iter().any(|j| r.starts_with(j)));
    let rest = rest.ok_or_else(|| {
        ApiError::not_found(format!("there is no {path} here; groups are at /metrics/job/JOB"))
    })?;
    let parts: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    if !parts.len().is_multiple_of(2) {
        return Err(ApiError::bad_data(format!("odd number of components in label path {rest:?}")));
    }
    if parts.len() / 2 > GROUP_LABELS_MAX {
        return Err(ApiError::bad_data(format!("more than {GROUP_LABELS_MAX} labels in the path")));
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in parts.chunks_exact(2) {
        let name = decode_percent(pair[0])?;
        let value = decode_percent(pair[1])?;
        let (name, value) = match name.strip_suffix("@base64") {
            Some(name) => (name.to_owned(), decode_base64(&value)?),
            None => (name, value),
        };
        if name.is_empty() || name.starts_with("__") {
            return Err(ApiError::bad_data(format!("improper label name {name:?}")));
        }
        if pairs.iter().any(|(n, _)| *n == name) {
            return Err(ApiError::bad_data(format!("label {name:?} is given twice")));
        }
        pairs.push((name, value));
    }
    if pairs.first().is_none_or(|(_, job)| job.is_empty()) {
        return Err(ApiError::bad_data("job name is required"));
    }
    Ok(Labels::from_pairs(pairs))
}

fn decode_percent(text: &str) -> Result<String, ApiError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::bad_data(format!("{text:?} is not UTF-8")))
}

fn decode_base64(text: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::bad_data(format!("{text:?} is not base64 of UTF-8 text"));
    let bare = text.trim_end_matches('=');
    let bytes =
        URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare)).map_err(|_| wrong())?;
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_paths_name_labels() {
        let check = |path: &str| group_labels(path).map(|l| l.to_string()).map_err(|e| e.message);
        for (path, labels) in [
            ("/metrics/job/some_job", r#"{job="some_job"}"#),
            ("/metrics/job/j/instance/i/", r#"{instance="i", job="j"}"#),
            ("/metrics/job@base64/L3Zhci90bXA", r#"{job="/var/tmp"}"#),
            ("/metrics/job/titan/name@base64/zqDPgc6_zrzOt864zrXPjc-C", r#"{job="titan", name="Προμηθεύς"}"#),
            ("/metrics/job/j/empty@base64/=", r#"{job="j"}"#),
            ("/metrics/job/j/path/a%2Fb", r#"{job="j", path="a/b"}"#),
        ] {
            assert_eq!(check(path).as_deref(), Ok(labels), "{path}");
        }
        for path in [
            "/metrics/job/",
            "/metrics/job",
            "/metrics/jobless/j",
            "/metrics/job/j/x",
            "/metrics/job/j/__name__/x",
            "/metrics/job/j/a/1/a/2",
            "/metrics/job@base64/!!",
            "/metrics/job/%ff",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn only_remote_write_1_is_taken() {
        for fine in ["", "application/x-protobuf", "application/x-protobuf;proto=prometheus.WriteRequest"] {
            assert_eq!(check_write_type(fine), Ok(()), "{fine}");
        }
        for wrong in ["application/json", "application/x-protobuf; proto=io.prometheus.write.v2.Request"] {
            assert_eq!(check_write_type(wrong).unwrap_err().kind, ErrorKind::UnsupportedMediaType, "{wrong}");
        }
    }
}
