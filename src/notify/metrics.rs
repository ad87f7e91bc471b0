//! What delivery says of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Receivers;
use crate::telemetry::Registry;

/// Names the destination of a notification.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Destination {
    pub integration: String,
    pub receiver: String,
}

/// The metrics of delivery; a clone counts the same.
#[derive(Clone, Debug)]
pub struct NotifyMetrics {
    pub attempts: Family<Destination, Counter>,
    pub failed: Family<Destination, Counter>,
    pub delivered: Family<Destination, Counter>,
    pub dropped: Family<Destination, Counter>,
    pub latency: Histogram,
    pub request_duration: Histogram,
    pub pending: Gauge,
}

/// From a local receiver that answers at once to one that was out for an hour.
const LATENCY_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];
const REQUEST_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 20.0];

impl NotifyMetrics {
    /// Adds them to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = NotifyMetrics {
            attempts: Family::default(),
            failed: Family::default(),
            delivered: Family::default(),
            dropped: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS),
            request_duration: Histogram::new(REQUEST_BUCKETS),
            pending: Gauge::default(),
        };
        registry.register(
            "notifications",
            "Attempts to deliver a notification, by receiver",
            metrics.attempts.clone(),
        );
        registry.register(
            "notifications_failed",
            "Attempts to deliver a notification that failed and will be repeated",
            metrics.failed.clone(),
        );
        registry.register(
            "notifications_delivered",
            "Notifications that a receiver has taken",
            metrics.delivered.clone(),
        );
        registry.register(
            "notifications_dropped",
            "Notifications given up: older than the limit, or their receiver is no longer configured",
            metrics.dropped.clone(),
        );
        registry.register(
            "notification_latency_seconds",
            "Time from the decision to notify until the receiver had taken the notification",
            metrics.latency.clone(),
        );
        registry.register(
            "notification_request_duration_seconds",
            "Duration of single attempts to deliver a notification",
            metrics.request_duration.clone(),
        );
        registry.register(
            "notifications_outbox_pending",
            "Notifications that wait in the outbox for their receiver",
            metrics.pending.clone(),
        );
        metrics
    }

    /// Shows a zero for every configured destination, so that the first failure is an increase.
    pub fn prepare(&self, receivers: &Receivers) {
        for receiver in receivers.values() {
            for integration in &receiver.integrations {
                let destination = Destination {
                    integration: integration.kind().to_owned(),
                    receiver: receiver.name.clone(),
                };
                for family in [&self.attempts, &self.failed, &self.delivered, &self.dropped] {
                    let _zero = family.get_or_create(&destination);
                }
            }
        }
    }
}
