//! What the rule engine says of itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::telemetry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabel {
    rule_group: String,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// The counters and gauges of all rule groups. Cloning gives handles to the same ones.
#[derive(Clone, Debug)]
pub struct RuleMetrics {
    evaluations: Family<GroupLabel, Counter>,
    evaluation_failures: Family<GroupLabel, Counter>,
    iterations: Family<GroupLabel, Counter>,
    iterations_missed: Family<GroupLabel, Counter>,
    last_duration_seconds: Family<GroupLabel, FloatGauge>,
    interval_seconds: Family<GroupLabel, FloatGauge>,
    last_evaluation_timestamp_seconds: Family<GroupLabel, FloatGauge>,
    rules: Family<GroupLabel, Gauge>,
    last_evaluation_samples: Family<GroupLabel, Gauge>,
    pub(super) evaluation_duration_seconds: Histogram,
    pub(super) alerts_undelivered: Counter,
}

/// The metrics of one group.
#[derive(Clone, Debug)]
pub(super) struct GroupMetrics {
    pub evaluations: Counter,
    pub evaluation_failures: Counter,
    pub iterations: Counter,
    pub iterations_missed: Counter,
    pub last_duration_seconds: FloatGauge,
    pub last_evaluation_timestamp_seconds: FloatGauge,
    pub last_evaluation_samples: Gauge,
    pub evaluation_duration_seconds: Histogram,
}

impl RuleMetrics {
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = RuleMetrics {
            evaluations: Family::default(),
            evaluation_failures: Family::default(),
            iterations: Family::default(),
            iterations_missed: Family::default(),
            last_duration_seconds: Family::default(),
            interval_seconds: Family::default(),
            last_evaluation_timestamp_seconds: Family::default(),
            rules: Family::default(),
            last_evaluation_samples: Family::default(),
            evaluation_duration_seconds: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            alerts_undelivered: Counter::default(),
        };
        let m = metrics.clone();
        registry.register("rule_evaluations", "Evaluations of rules", m.evaluations);
        registry.register(
            "rule_evaluation_failures",
            "Evaluations of rules that failed",
            m.evaluation_failures,
        );
        registry.register("rule_group_iterations", "Evaluations of rule groups that were due", m.iterations);
        registry.register(
            "rule_group_iterations_missed",
            "Evaluations of rule groups that were left out because the one before took too long",
            m.iterations_missed,
        );
        registry.register(
            "rule_group_last_duration_seconds",
            "How long the last evaluation of a rule group took",
            m.last_duration_seconds,
        );
        registry.register("rule_group_interval_seconds", "The interval of a rule group", m.interval_seconds);
        registry.register(
            "rule_group_last_evaluation_timestamp_seconds",
            "When a rule group was evaluated last",
            m.last_evaluation_timestamp_seconds,
        );
        registry.register("rule_group_rules", "The number of rules in a rule group", m.rules);
        registry.register(
            "rule_group_last_evaluation_samples",
            "Samples that the last evaluation of a rule group wrote",
            m.last_evaluation_samples,
        );
        registry.register(
            "rule_evaluation_duration_seconds",
            "How long evaluations of single rules take",
            m.evaluation_duration_seconds,
        );
        registry.register(
            "rule_alerts_undelivered",
            "Alerts that the alert pipeline did not take in time; they are sent again",
            m.alerts_undelivered,
        );
        metrics
    }

    pub(super) fn group(&self, key: &str, interval_ms: i64, rules: usize) -> GroupMetrics {
        let label = GroupLabel { rule_group: key.to_owned() };
        self.interval_seconds.get_or_create(&label).set(interval_ms as f64 / 1000.0);
        self.rules.get_or_create(&label).set(rules as i64);
        GroupMetrics {
            evaluations: self.evaluations.get_or_create(&label).clone(),
            evaluation_failures: self.evaluation_failures.get_or_create(&label).clone(),
            iterations: self.iterations.get_or_create(&label).clone(),
            iterations_missed: self.iterations_missed.get_or_create(&label).clone(),
            last_duration_seconds: self.last_duration_seconds.get_or_create(&label).clone(),
            last_evaluation_timestamp_seconds: self
                .last_evaluation_timestamp_seconds
                .get_or_create(&label)
                .clone(),
            last_evaluation_samples: self.last_evaluation_samples.get_or_create(&label).clone(),
            evaluation_duration_seconds: self.evaluation_duration_seconds.clone(),
        }
    }

    /// Forgets a group that is gone.
    pub(super) fn remove_group(&self, key: &str) {
        let label = GroupLabel { rule_group: key.to_owned() };
        self.evaluations.remove(&label);
        self.evaluation_failures.remove(&label);
        self.iterations.remove(&label);
        self.iterations_missed.remove(&label);
        self.last_duration_seconds.remove(&label);
        self.interval_seconds.remove(&label);
        self.last_evaluation_timestamp_seconds.remove(&label);
        self.rules.remove(&label);
        self.last_evaluation_samples.remove(&label);
    }
}
