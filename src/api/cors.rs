//! Which pages of other origins may read the API (`--web.cors.origin`), in Prometheus's headers. Source: Prometheus,
//! `util/httputil` and the answers of a running one.
//!
//! They stand on Prometheus's own calls that read. What changes something is not for pages of other sites, whatever the
//! flag says, and of what only this server has they may read nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::state::ApiState;
use crate::model::GoRegex;

/// The paths below `/api/v1/` whose answers say nothing to other origins.
const OURS: [&str; 3] = ["dashboard", "admin", "write"];

pub(super) async fn cors(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let path = path.strip_prefix(state.route_prefix.as_str()).unwrap_or(path);
    let Some(call) = path.strip_prefix("/api/v1/") else { return next.run(request).await };
    let is_ours = OURS.contains(&call.split('/').next().unwrap_or(""));
    let asks = *request.method() == Method::OPTIONS && !call.starts_with("dashboard");
    if is_ours && !asks {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if asks { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    if asks || response.status() != StatusCode::NOT_FOUND {
        allow(response.headers_mut(), origin, &state.cors_origin);
    }
    response
}

/// The headers for a page of `origin`; which origins may read is `allowed`.
fn allow(headers: &mut HeaderMap, origin: Option<HeaderValue>, allowed: &GoRegex) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.filter(|o| !o.is_empty()) else { return };
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if allowed.pattern() == ".*" {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else if origin.to_str().is_ok_and(|o| allowed.is_match(o)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}
