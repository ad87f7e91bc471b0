//! What holds for all rules.

use std::sync::Arc;

use crate::model::Labels;

/// What the configuration says of all groups. Defaults are Prometheus's.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `global.evaluation_interval`, for groups that name none.
    pub interval_ms: i64,
    /// `global.rule_query_offset`
    pub query_offset_ms: i64,
    /// `global.external_labels`
    pub external_labels: Labels,
    /// `--web.external-url`
    pub external_url: Arc<str>,
    /// `--rules.alert.resend-delay`: an alert that keeps its state is sent again after so long.
    pub resend_delay_ms: i64,
    /// `--rules.alert.for-outage-tolerance`: after a longer outage the `for` clocks start anew.
    pub outage_tolerance_ms: i64,
    /// `--rules.alert.for-grace-period`: after a restart, a rule whose `for` is at least this long does not fire sooner than this.
    pub for_grace_period_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            interval_ms: 60_000,
            query_offset_ms: 0,
            external_labels: Labels::empty(),
            external_url: "".into(),
            resend_delay_ms: 60_000,
            outage_tolerance_ms: 3_600_000,
            for_grace_period_ms: 600_000,
        }
    }
}
