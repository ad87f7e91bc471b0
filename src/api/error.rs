//! From what went wrong to a status code, Prometheus's `errorType` and a text that may be shown. Nothing else in
//! the crate knows a status code of an error.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::json;
use crate::alerts::AlertRefusal;
use crate::exposition::remote_write::DecompressError;
use crate::ingest::{IngestError, PushError};
use crate::promql::{ParseError, QueryError};
use crate::reports::ReportsError;
use crate::state::StateError;

/// What kind of thing went wrong; decides the status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong.
    BadData,
    /// The request came from another site's page, or the call is switched off.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// None of the formats that the client takes can be written.
    NotAcceptable,
    /// The thing is not in a state in which this can be done.
    Conflict,
    /// The body is larger than its limit.
    TooLarge,
    /// The body's type or encoding is none that this call reads.
    UnsupportedMediaType,
    /// The query cannot be answered.
    Execution,
    /// The client sent its request too slowly.
    RequestTimeout,
    /// A limit on how much is done at once is reached.
    Unavailable,
    Timeout,
    /// The calls for administrators are switched off; Prometheus answers 500.
    AdminDisabled,
    /// The client went away.
    Canceled,
    Internal,
}

impl ErrorKind {
    /// The status code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ErrorKind::Unavailable | ErrorKind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            // "Client closed request", a code that no registry lists but that Prometheus and nginx use.
            ErrorKind::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            ErrorKind::Internal | ErrorKind::AdminDisabled => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// `errorType` of the envelope: only words that Prometheus's clients know.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        match self {
            ErrorKind::BadData
            | ErrorKind::Forbidden
            | ErrorKind::MethodNotAllowed
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::UnsupportedMediaType => "bad_data",
            ErrorKind::NotFound => "not_found",
            ErrorKind::NotAcceptable => "not_acceptable",
            ErrorKind::Execution => "execution",
            ErrorKind::Unavailable | ErrorKind::AdminDisabled => "unavailable",
            ErrorKind::Timeout | ErrorKind::RequestTimeout => "timeout",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Internal => "internal",
        }
    }
}

/// An answer other than the one that was asked for. As a response it is the JSON envelope; [`ApiError::into_text`]
/// makes it plain text, for calls outside the JSON API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub kind: ErrorKind,
    /// Fit to be shown to whoever asked.
    pub message: String,
    /// What of an expression is wrong, for an editor to mark it.
    pub place: Option<Box<ParseError>>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError { kind, message: message.into(), place: None }
    }

    pub fn bad_data(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::BadData, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::NotFound, message)
    }

    /// A parameter that cannot be used, in Prometheus's words.
    pub fn parameter(name: &str, reason: impl fmt::Display) -> Self {
        ApiError::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    /// Something of ours failed: the reason goes to the log, not to the client.
    pub fn internal(what: &str, reason: impl fmt::Display) -> Self {
        tracing::error!(what, %reason, "a request failed");
        ApiError::new(ErrorKind::Internal, format!("{what} failed; the log says why"))
    }

    /// This error as plain text.
    #[must_use]
    pub fn into_text(self) -> Response {
        let mut text = self.message;
        text.push('\n');
        let plain = (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        (self.kind.status(), [plain], text).into_response()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(64 + self.message.len());
        body.extend_from_slice(br#"{"status":"error","errorType":""#);
        body.extend_from_slice(self.kind.error_type().as_bytes());
        body.extend_from_slice(br#"","error":"#);
        json::write_str(&mut body, &self.message);
        if let Some(error) = &self.place {
            write_place(&mut body, error);
        }
        body.push(b'}');
        json::response(self.kind.status(), body)
    }
}

/// `,"range":{…},"hint":"…"`: bytes of the expression from `start` to before `end`, line and column from 1.
fn write_place(body: &mut Vec<u8>, error: &ParseError) {
    let ParseError { pos, line, column, hint, .. } = error;
    let range = format!(
        ",\"range\":{{\"start\":{},\"end\":{},\"line\":{line},\"column\":{column}}}",
        pos.start, pos.end
    );
    body.extend_from_slice(range.as_bytes());
    if let Some(hint) = hint {
        body.extend_from_slice(b",\"hint\":");
        json::write_str(body, hint);
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Execution(_)
            | QueryError::TooManySamples { .. }
            | QueryError::TooMuchMemory { .. }
            | QueryError::TooMuchMemoryTogether { .. }
            | QueryError::TooManySeries { .. } => ErrorKind::Execution,
            QueryError::Timeout => ErrorKind::Timeout,
            QueryError::Cancelled => ErrorKind::Canceled,
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        ApiError { place: Some(Box::new(error.clone())), ..ApiError::parameter("query", error) }
    }
}

impl From<AlertRefusal> for ApiError {
    fn from(refusal: AlertRefusal) -> Self {
        let kind = match &refusal {
            AlertRefusal::NotFound(_) => ErrorKind::NotFound,
            AlertRefusal::WrongState { .. } => ErrorKind::Conflict,
            AlertRefusal::Invalid(_) => ErrorKind::BadData,
            AlertRefusal::TooMany(_) => ErrorKind::Unavailable,
            AlertRefusal::Store(reason) => return ApiError::internal("storing the alert's state", reason),
        };
        ApiError::new(kind, refusal.to_string())
    }
}

/// The disk is full, or fails: the sender may try again. Storage logs when that begins, and not each request.
fn not_stored(what: &dyn fmt::Display, why: &dyn fmt::Display) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, format!("{what}: {why}"))
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match &error {
            IngestError::Decompress(DecompressError::TooLarge { .. }) => {
                ApiError::new(ErrorKind::TooLarge, error.to_string())
            }
            IngestError::Decompress(_) | IngestError::Partial { .. } => ApiError::bad_data(error.to_string()),
            IngestError::Wire(inner) => ApiError::bad_data(format!("{error}: {inner}")),
            // A sender tries again after a 503, which is what should happen here.
            IngestError::Busy(_) => ApiError::new(ErrorKind::Unavailable, error.to_string()),
            IngestError::Storage(inner) => not_stored(&error, inner),
        }
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match &error {
            PushError::TooLarge { .. } => ApiError::new(ErrorKind::TooLarge, error.to_string()),
            PushError::Parse(_)
            | PushError::Invalid(_)
            | PushError::Inconsistent(_)
            | PushError::Limit { .. } => ApiError::bad_data(error.to_string()),
            PushError::State(inner) => not_stored(&error, inner),
            PushError::Storage(inner) => not_stored(&error, inner),
        }
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        ApiError::internal("reading the state store", error)
    }
}

impl From<ReportsError> for ApiError {
    fn from(error: ReportsError) -> Self {
        match error {
            ReportsError::UnknownIndicator(_) => ApiError::not_found(error.to_string()),
            ReportsError::Query { name, source } => {
                let inner = ApiError::from(source);
                ApiError::new(inner.kind, format!("indicator {name}: {inner}"))
            }
            ReportsError::Store(inner) => inner.into(),
            ReportsError::Decode(_) | ReportsError::Interrupted => {
                ApiError::internal("making the report", error)
            }
        }
    }
}

/// An [`ApiError`] that is answered as plain text, for handlers outside the JSON API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError(pub ApiError);

impl From<ApiError> for TextError {
    fn from(error: ApiError) -> Self {
        TextError(error)
    }
}

impl IntoResponse for TextError {
    fn into_response(self) -> Response {
        self.0.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_errors_have_prometheus_codes() {
        for (error, status, kind) in [
            (QueryError::Execution("x".into()), 422, "execution"),
            (QueryError::TooManySamples { limit: 5 }, 422, "execution"),
            (QueryError::Timeout, 503, "timeout"),
            (QueryError::Cancelled, 499, "canceled"),
        ] {
            let error = ApiError::from(error);
            assert_eq!((error.kind.status().as_u16(), error.kind.error_type()), (status, kind));
        }
    }

    #[test]
    fn what_is_inside_stays_inside() {
        let error = ApiError::from(AlertRefusal::Store("disk I/O error in secret.db".into()));
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(!error.message.contains("secret.db"));
    }
}
