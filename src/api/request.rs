//! What holds for every request before and after its handler: where it may come from, what is counted, what a panic
//! and a missing route answer.

use std::any::Any;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::body;
use super::error::{ApiError, ErrorKind};
use super::metrics::{ApiMetrics, HandlerLabels, RequestLabels};
use super::state::ApiState;

/// Counts the request and its time under its route's pattern.
pub(super) async fn measure(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let handler = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", |p| p.as_str().strip_prefix(state.route_prefix.as_str()).unwrap_or(p.as_str()));
    let handler = handler.to_owned();
    let begun_at = state.clock.monotonic();
    let response = next.run(request).await;
    let took = state.clock.monotonic().saturating_sub(begun_at);
    let code = response.status().as_u16();
    state
        .metrics
        .request_duration
        .get_or_create(&HandlerLabels { handler: handler.clone() })
        .observe(took.as_secs_f64());
    state.metrics.requests.get_or_create(&RequestLabels { handler, code }).inc();
    response
}

/// Refuses requests that change something and that a page of another site has sent. Browsers state the page's
/// origin; programs do not state one.
pub(super) async fn same_origin(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && is_foreign(request.headers(), request.uri(), &state.external_url) {
        let message = "a request that changes something cannot come from a page of another site; \
                       behind a proxy, set --web.external-url to the address that browsers see";
        return ApiError::new(ErrorKind::Forbidden, message).into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap, uri: &Uri, external_url: &str) -> bool {
    let origin = body::text(headers, header::ORIGIN);
    if origin.is_empty() {
        return false;
    }
    let authority =
        |url: &str| url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or("").to_owned());
    let Some(from) = authority(origin) else {
        // `null`: a sandboxed or local page.
        return true;
    };
    let host = body::text(headers, header::HOST);
    // HTTP/2 names the host in the target instead of a header.
    let host = if host.is_empty() { uri.authority().map_or("", |a| a.as_str()) } else { host };
    !from.eq_ignore_ascii_case(host)
        && !authority(external_url).is_some_and(|a| a.eq_ignore_ascii_case(&from))
}

/// Answers are what their type says, and no other site may frame the page.
pub(super) async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    response
}

/// What a panic in a handler becomes: an answer without its text, which goes to the log.
pub(super) fn panic_layer(
    metrics: ApiMetrics,
) -> CatchPanicLayer<impl Fn(Box<dyn Any + Send>) -> Response + Clone> {
    CatchPanicLayer::custom(move |panic: Box<dyn Any + Send>| {
        metrics.panics.inc();
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        ApiError::internal("answering the request", text.unwrap_or("panic")).into_response()
    })
}

/// A path that no route has.
pub(super) async fn not_found(request: Request) -> Response {
    let path = request.uri().path();
    let error = ApiError::not_found(format!("there is no {path} here"));
    if is_json_path(path) { error.into_response() } else { error.into_text() }
}

/// A route that does not take the method. Axum adds `Allow`.
pub(super) async fn method_not_allowed(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let error = ApiError::new(ErrorKind::MethodNotAllowed, format!("{path} does not take {method}"));
    if is_json_path(path) { error.into_response() } else { error.into_text() }
}

fn is_json_path(path: &str) -> bool {
    path.contains("/api/") || path.ends_with("/health")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;
    use crate::telemetry;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let metrics = ApiMetrics::register(&mut telemetry::new_registry());
        async fn handler() -> &'static str {
            std::panic::panic_any("a bug")
        }
        let app: Router = Router::new().route("/", get(handler)).layer(panic_layer(metrics.clone()));
        let answer = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), metrics.panics.get()), (500, 1));
    }

    #[test]
    fn pages_of_other_sites_are_foreign() {
        let check = |origin: Option<&str>, host: &str, external: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_foreign(&headers, &Uri::from_static("/x"), external)
        };
        assert!(!check(None, "a:9090", ""));
        assert!(!check(Some("http://a:9090"), "a:9090", ""));
        assert!(!check(Some("https://mon.example"), "127.0.0.1:9090", "https://mon.example/gate"));
        assert!(check(Some("http://evil.example"), "a:9090", "https://mon.example"));
        assert!(check(Some("http://a:9091"), "a:9090", ""));
        assert!(check(Some("null"), "a:9090", ""));
    }
}
