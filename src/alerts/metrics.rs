//! What the pipeline says of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    pub state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabel {
    pub status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

/// The metrics of the pipeline; a clone counts the same.
#[derive(Clone, Debug)]
pub struct AlertsMetrics {
    pub alerts: Family<StateLabel, Gauge>,
    pub received: Family<StatusLabel, Counter>,
    pub refused: Family<ReasonLabel, Counter>,
    pub groups: Gauge,
    pub escalations: Counter,
    pub outbox_full: Counter,
    pub commits: Counter,
    pub commits_failed: Counter,
    pub rows_unreadable: Counter,
}

impl AlertsMetrics {
    /// Adds them to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = AlertsMetrics {
            alerts: Family::default(),
            received: Family::default(),
            refused: Family::default(),
            groups: Gauge::default(),
            escalations: Counter::default(),
            outbox_full: Counter::default(),
            commits: Counter::default(),
            commits_failed: Counter::default(),
            rows_unreadable: Counter::default(),
        };
        for state in ["firing", "acknowledged", "resolved"] {
            let _zero = metrics.alerts.get_or_create(&StateLabel { state });
        }
        for status in ["firing", "resolved"] {
            let _zero = metrics.received.get_or_create(&StatusLabel { status });
        }
        for reason in ["invalid", "limit"] {
            let _zero = metrics.refused.get_or_create(&ReasonLabel { reason });
        }
        registry.register("alerts", "Alerts that the pipeline holds, by state", metrics.alerts.clone());
        registry.register(
            "alerts_received",
            "Alerts that rules and clients have sent, repetitions included",
            metrics.received.clone(),
        );
        registry.register("alerts_refused", "Alerts that were not taken in", metrics.refused.clone());
        registry.register("alert_groups", "Aggregation groups with alerts in them", metrics.groups.clone());
        registry.register("escalations", "Escalation steps taken", metrics.escalations.clone());
        registry.register(
            "notifications_delayed_outbox_full",
            "Notifications put off to the next flush of their group because the outbox is full",
            metrics.outbox_full.clone(),
        );
        registry.register(
            "alert_state_commits",
            "Transactions that made a change of alert state durable",
            metrics.commits.clone(),
        );
        registry.register(
            "alert_state_commits_failed",
            "Transactions of alert state that failed and will be repeated",
            metrics.commits_failed.clone(),
        );
        registry.register(
            "alert_state_rows_unreadable",
            "Rows of alert state that were passed over at start because they cannot be read",
            metrics.rows_unreadable.clone(),
        );
        metrics
    }
}
