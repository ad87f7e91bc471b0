//! Request bodies: read within a size and a time, decompressed within the same size, decoded with clear errors.

use std::io::Read as _;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::error::{ApiError, ErrorKind};
use super::state::ApiState;
use crate::ingest::{BudgetFull, Charge};

/// Why this long without a byte ends a request: a client that sends at all sends more often.
const STALL: Duration = Duration::from_secs(30);
/// Of a body that was refused for its size, so much is still read and thrown away: a client that writes it all before
/// it reads would else see a broken connection instead of the reason.
const DRAIN_BYTES_MAX: usize = 512 * 1024 * 1024;
/// The longest that a refused body is read.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(60);
/// Of what a `Content-Length` promises, at most this much is set aside before it has arrived.
const PREALLOCATE_BYTES_MAX: u64 = 1024 * 1024;
/// What a byte of gzip can stand for, at most.
const GZIP_RATIO_MAX: usize = 1032;

/// A body, which counts for the memory of requests until it is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    bytes: Bytes,
    charge: Charge,
}

impl std::ops::Deref for HeldBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<BudgetFull> for ApiError {
    fn from(full: BudgetFull) -> Self {
        ApiError::new(ErrorKind::Unavailable, full.to_string())
    }
}

/// The whole body as it came, still compressed.
///
/// # Errors
/// 503 when all bodies together are too large, 413 when it is larger than `limit`, 408 when it comes too slowly, 400 when the connection broke.
pub async fn read_raw(mut body: Body, limit: usize, state: &ApiState) -> Result<HeldBytes, ApiError> {
    let mut charge = state.ingest.budget().charge();
    let too_large = || {
        state.metrics.bodies_too_large.inc();
        ApiError::new(ErrorKind::TooLarge, format!("the body is larger than the limit of {limit} bytes"))
    };
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        tokio::spawn(drain(body));
        return Err(too_large());
    }
    let all = async {
        let mut whole = BytesMut::with_capacity(announced.min(PREALLOCATE_BYTES_MAX) as usize);
        loop {
            let frame = tokio::time::timeout(STALL, body.frame()).await.map_err(|_| too_slow())?;
            let Some(frame) = frame else { return Ok(whole.freeze()) };
            let frame = frame.map_err(|e| ApiError::bad_data(format!("the body could not be read: {e}")))?;
            if let Ok(data) = frame.into_data() {
                if whole.len() + data.len() > limit {
                    return Err(too_large());
                }
                charge.grow_to(whole.len() + data.len())?;
                whole.extend_from_slice(&data);
            }
        }
    };
    let read = tokio::time::timeout(state.limits.body_timeout, all).await.unwrap_or_else(|_| Err(too_slow()));
    if read.as_ref().is_err_and(|e| e.kind == ErrorKind::TooLarge) {
        tokio::spawn(drain(body));
    }
    read.map(|bytes| HeldBytes { bytes, charge })
}

/// Reads and throws away, while the refusal is on its way.
async fn drain(mut body: Body) {
    let all = async {
        let mut rest = DRAIN_BYTES_MAX;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(STALL, body.frame()).await {
            rest = rest.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if rest == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIME_MAX, all).await.is_err() {
        tracing::debug!("a refused body did not end in time");
    }
}

fn too_slow() -> ApiError {
    ApiError::new(ErrorKind::RequestTimeout, "the body came too slowly")
}

/// The whole body, decompressed if it is gzip.
///
/// # Errors
/// As [`read_raw`]; also 415 for another encoding and 400 for broken gzip.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    state: &ApiState,
) -> Result<HeldBytes, ApiError> {
    let mut raw = read_raw(body, limit, state).await?;
    match text(headers, header::CONTENT_ENCODING).to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(raw),
        "gzip" | "x-gzip" => {
            let mut whole = Vec::new();
            // Before it is known: what it may come to, at most.
            raw.charge.grow_to(raw.bytes.len().saturating_mul(GZIP_RATIO_MAX).min(limit))?;
            flate2::read::MultiGzDecoder::new(&raw[..])
                .take(limit as u64 + 1)
                .read_to_end(&mut whole)
                .map_err(|e| ApiError::bad_data(format!("the body is no valid gzip: {e}")))?;
            if whole.len() > limit {
                state.metrics.bodies_too_large.inc();
                let message = format!("the decompressed body is larger than the limit of {limit} bytes");
                return Err(ApiError::new(ErrorKind::TooLarge, message));
            }
            raw.bytes = Bytes::from(whole);
            Ok(raw)
        }
        other => Err(ApiError::new(
            ErrorKind::UnsupportedMediaType,
            format!("Content-Encoding {other:?} cannot be read here; send gzip or none"),
        )),
    }
}

/// The whole body, decoded from a JSON object. The type must be stated: a form on another site's page can send any text, but
/// not this type without asking first.
///
/// # Errors
/// As [`read`]; also 415 for another type and 400 with line and column for what is no fitting JSON.
pub async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    state: &ApiState,
) -> Result<T, ApiError> {
    let bytes = read_json_bytes(headers, body, state).await?;
    // Decoding would also take a list of the fields' values.
    if first_byte(&bytes).is_some_and(|b| b != b'{') {
        return Err(ApiError::bad_data("the body is not as expected: it must be a JSON object"));
    }
    decode_json(&bytes)
}

/// The first byte that is no white space.
#[must_use]
pub fn first_byte(json: &[u8]) -> Option<u8> {
    json.iter().copied().find(|b| !b.is_ascii_whitespace())
}

/// As [`read_json`], before decoding.
///
/// # Errors
/// As [`read`]; also 415 for another type.
pub async fn read_json_bytes(
    headers: &HeaderMap,
    body: Body,
    state: &ApiState,
) -> Result<HeldBytes, ApiError> {
    let content_type = text(headers, header::CONTENT_TYPE);
    if !media_type(content_type).eq_ignore_ascii_case("application/json") {
        return Err(ApiError::new(
            ErrorKind::UnsupportedMediaType,
            format!("Content-Type must be application/json, not {content_type:?}"),
        ));
    }
    read(headers, body, state.limits.json_bytes_max, state).await
}

/// Decodes JSON.
///
/// # Errors
/// 400 with line and column.
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| ApiError::bad_data(format!("the body is not as expected: {e}")))
}

/// A header as text; empty if it is missing or no text.
#[must_use]
pub fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").trim()
}

/// `text/plain; version=0.0.4` without its parameters.
#[must_use]
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}
