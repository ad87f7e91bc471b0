//! All routes, and what every request passes.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{get, post, put};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use super::state::ApiState;
use super::{
    admin, cors, dashboard, exemplars, export, features, federate, held, lifecycle, page, push, query,
    request, rules, series, status, targets,
};

/// Every route of the server, below the route prefix if there is one.
pub fn router(state: ApiState) -> Router {
    let state = Arc::new(state);
    // Their texts are in the binary: nothing is held for whoever reads them.
    let pages = Router::new()
        .route("/", get(page::index))
        .route("/favicon.ico", get(page::favicon))
        .route("/query", get(page::query))
        .route("/graph", get(page::graph))
        .route("/licenses.md", get(page::licenses))
        .route("/assets/{name}", get(page::asset));
    let routes = Router::new()
        .route("/health", get(lifecycle::health))
        .route("/-/healthy", get(lifecycle::healthy))
        .route("/-/ready", get(lifecycle::ready))
        .route("/metrics", get(export::metrics))
        .route("/federate", get(federate::federate))
        .nest("/api/v1", prometheus())
        .merge(changing(&state))
        .route_layer(from_fn_with_state(Arc::clone(&state), held::hold))
        .merge(pages)
        .fallback(request::not_found)
        .method_not_allowed_fallback(request::method_not_allowed);
    let prefix = state.route_prefix.clone();
    let routes = if prefix.is_empty() {
        routes
    } else {
        let target = format!("{prefix}/");
        let redirect = get(move |_: Uri| std::future::ready(Redirect::temporary(&target)));
        Router::new()
            .route("/", redirect.clone())
            .route(&prefix, redirect)
            .nest(&format!("{prefix}/"), routes)
            .fallback(request::not_found)
    };
    // From the inside out: a panic becomes an answer before it is counted and compressed.
    routes
        .layer(request::panic_layer(state.metrics.clone()))
        .layer(from_fn_with_state(Arc::clone(&state), request::measure))
        .layer(from_fn(request::security_headers))
        .layer(from_fn_with_state(Arc::clone(&state), cors::cors))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        // Bodies are read with limits of their own.
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

/// Prometheus's own calls, which only read.
fn prometheus() -> Router<Arc<ApiState>> {
    Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parse).post(query::parse))
        .route("/labels", get(series::labels).post(series::labels))
        .route("/label/{name}/values", get(series::label_values))
        .route("/series", get(series::series).post(series::series))
        .route("/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/metadata", get(series::metadata))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(rules::alertmanagers))
        .route("/features", get(features::features))
        .route("/notifications", get(status::notifications))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::metadata))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/status/buildinfo", get(status::buildinfo))
        .route("/status/runtimeinfo", get(status::runtimeinfo))
        .route("/status/flags", get(status::flags))
        .route("/status/config", get(status::config))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/tsdb/blocks", get(status::tsdb_blocks))
        .route("/status/walreplay", get(status::walreplay))
}

/// What can change something: not for pages of other sites.
fn changing(state: &Arc<ApiState>) -> Router<Arc<ApiState>> {
    Router::new()
        .route("/-/reload", post(lifecycle::reload).put(lifecycle::reload))
        .route("/-/quit", post(lifecycle::quit).put(lifecycle::quit))
        .route("/metrics/{*group}", put(push::group).post(push::group).delete(push::group))
        .route("/api/v1/write", post(push::write))
        .route("/api/v1/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot))
        .route("/api/v1/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
        .route(
            "/api/v1/admin/tsdb/clean_tombstones",
            post(admin::clean_tombstones).put(admin::clean_tombstones),
        )
        .nest("/api/v1/dashboard", dashboard::routes())
        .route_layer(from_fn_with_state(Arc::clone(state), request::same_origin))
}
