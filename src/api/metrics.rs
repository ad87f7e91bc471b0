//! What this module counts of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Registry;

/// A route and how it was answered.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, such as `/api/v1/query`; `other` for a path without a route.
    pub handler: String,
    pub code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandlerLabels {
    pub handler: String,
}

/// Counters of the HTTP side.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    pub requests: Family<RequestLabels, Counter>,
    pub request_duration: Family<HandlerLabels, Histogram, fn() -> Histogram>,
    pub connections: Gauge,
    pub connections_timed_out: Counter,
    pub answers_given_up: Counter,
    pub bodies_too_large: Counter,
    pub panics: Counter,
    pub export_series: Gauge,
    pub export_series_dropped: Counter,
    pub federation_warnings: Counter,
}

impl ApiMetrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let duration: fn() -> Histogram =
            || Histogram::new([0.001, 0.005, 0.02, 0.1, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0]);
        let metrics = ApiMetrics {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(duration),
            connections: Gauge::default(),
            connections_timed_out: Counter::default(),
            answers_given_up: Counter::default(),
            bodies_too_large: Counter::default(),
            panics: Counter::default(),
            export_series: Gauge::default(),
            export_series_dropped: Counter::default(),
            federation_warnings: Counter::default(),
        };
        registry.register(
            "http_requests",
            "HTTP requests by route and status code",
            metrics.requests.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's header to the beginning of its answer",
            metrics.request_duration.clone(),
        );
        registry.register("http_connections", "Open HTTP connections", metrics.connections.clone());
        registry.register(
            "http_connections_timed_out",
            "Connections closed because the client sent or read too slowly",
            metrics.connections_timed_out.clone(),
        );
        registry.register(
            "http_answers_given_up",
            "Large answers dropped because their client did not read on for a minute",
            metrics.answers_given_up.clone(),
        );
        registry.register(
            "http_bodies_too_large",
            "Request bodies refused because of their size",
            metrics.bodies_too_large.clone(),
        );
        registry.register("http_panics", "Requests that ended in a panic", metrics.panics.clone());
        registry.register(
            "export_series",
            "Stored series on the last answer of /metrics",
            metrics.export_series.clone(),
        );
        registry.register(
            "export_series_dropped",
            "Stored series left out of /metrics because of its limit",
            metrics.export_series_dropped.clone(),
        );
        registry.register(
            "federation_warnings",
            "Answers of /federate and /metrics that lack samples because these could not be read",
            metrics.federation_warnings.clone(),
        );
        metrics
    }
}
