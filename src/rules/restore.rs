//! What alerting rules remember over a restart.
//!
//! Two things are kept. Firing and lately resolved alerts stand in the state store, one row per group, written before
//! an alert is sent: so an alert that fired before a kill and is over afterwards is told to be resolved. Since when an
//! alert is pending stands in the series `ALERTS_FOR_STATE`, as in Prometheus.
//!
//! Source: Prometheus, `Group.RestoreForState` in `rules/group.go`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::alerting::{ALERTS_FOR_STATE, ActiveAlert, ActiveAlerts, Circumstances};
use super::file::RuleSpec;
use super::view::AlertState;
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp, is_stale_marker};
use crate::state::{Op, Row, Scan, StateError, Store, Table};
use crate::storage::Samples;

/// Successful evaluations before absence from the result means that an alert has ended: recording rules and scrapes come first.
const EVALUATIONS_MIN: u32 = 2;

/// An outage after which samples from before it are still within the lookback.
const SHORT_OUTAGE_MS: i64 = 300_000;

/// After a longer outage, how long targets have for their first scrape.
const SETTLE_MS: i64 = 60_000;

/// An alert as it is kept in the state store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedAlert {
    /// The name of its rule.
    pub rule: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub keep_firing_since: Option<Timestamp>,
    /// As text, because JSON has no NaN.
    pub value: String,
    pub generator_url: String,
}

impl SavedAlert {
    pub fn of(rule: &RuleSpec, alert: &ActiveAlert, generator_url: &str) -> Self {
        SavedAlert {
            rule: rule.name.clone(),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            active_at: alert.active_at,
            fired_at: alert.fired_at,
            resolved_at: alert.resolved_at,
            keep_firing_since: alert.keep_firing_since,
            value: alert.value.to_string(),
            generator_url: generator_url.to_owned(),
        }
    }

    /// The alert as it was, to be confirmed by the rule's result if it was firing.
    pub fn to_active(&self) -> ActiveAlert {
        let value = self.value.parse().unwrap_or(f64::NAN);
        let mut alert =
            ActiveAlert::new(self.labels.clone(), self.annotations.clone(), value, self.active_at);
        alert.fired_at = self.fired_at;
        alert.resolved_at = self.resolved_at;
        alert.keep_firing_since = self.keep_firing_since;
        alert.unconfirmed = self.resolved_at.is_none();
        alert.state = if self.resolved_at.is_some() { AlertState::Inactive } else { AlertState::Firing };
        alert
    }
}

/// What is worth keeping of the active alerts of a rule: all but the pending ones.
pub(super) fn saved(rule: &RuleSpec, active: &ActiveAlerts, generator_url: &str) -> Vec<SavedAlert> {
    let kept = active.values().filter(|a| a.state != AlertState::Pending);
    kept.map(|a| SavedAlert::of(rule, a, generator_url)).collect()
}

/// The row of a group; none when there is nothing to keep.
pub(super) fn to_op(group_key: &str, alerts: &[SavedAlert], ts: Timestamp) -> Op {
    if alerts.is_empty() {
        return Op::Delete { table: Table::Rules, key: group_key.to_owned() };
    }
    let body = serde_json::to_vec(alerts).expect("strings and numbers have a JSON form");
    Op::Put { table: Table::Rules, row: Row { key: group_key.to_owned(), ts, body } }
}

/// All that is kept, by group. A row that cannot be read is left out and reported.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn load(store: &dyn Store) -> Result<HashMap<String, Vec<SavedAlert>>, StateError> {
    let mut groups = HashMap::new();
    for row in store.scan(Table::Rules, &Scan::default())? {
        match serde_json::from_slice(&row.body) {
            Ok(alerts) => {
                groups.insert(row.key, alerts);
            }
            Err(e) => {
                tracing::warn!(group = row.key, error = %e, "the saved alerts of a rule group cannot be read")
            }
        }
    }
    Ok(groups)
}

/// The first evaluations of an alerting rule after a start.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    evaluations: u32,
    first: Option<Timestamp>,
    /// What `ALERTS_FOR_STATE` says, read once: by labels, when it was written last and since when the alert was active.
    known: Option<HashMap<Labels, (Timestamp, Timestamp)>>,
}

impl Restoring {
    /// Since when an alert that appears now is active: now, unless it was active before the restart.
    pub fn active_since(
        &mut self,
        spec: &RuleSpec,
        for_state: &Labels,
        for_ms: i64,
        at: &Circumstances<'_>,
    ) -> Timestamp {
        let ts = at.ts;
        let Some((down_at, active_at)) = self.known(spec, at).get(for_state).copied() else { return ts };
        let remaining_ms = for_ms - (down_at - active_at);
        let grace_ms = at.settings.for_grace_period_ms;
        if remaining_ms <= 0 {
            // It was firing: so it does again.
            active_at
        } else if for_ms >= grace_ms && remaining_ms < grace_ms {
            // It fires when the grace period is over.
            ts + grace_ms - for_ms
        } else {
            // The outage does not count. (Prometheus starts a `for` below the grace period anew.)
            active_at + (ts - down_at)
        }
    }

    /// Notes a successful evaluation; whether it was the last that needed care.
    pub fn is_over(&mut self, spec: &RuleSpec, at: &Circumstances<'_>) -> bool {
        self.evaluations += 1;
        let first = *self.first.get_or_insert(at.ts);
        if self.evaluations < EVALUATIONS_MIN {
            // What this evaluation writes must not be taken for what was known before it.
            self.known(spec, at);
            return false;
        }
        let newest = self.known(spec, at).values().map(|(t, _)| *t).max();
        let short = newest.is_some_and(|t| first - t <= SHORT_OUTAGE_MS);
        short || at.ts - first >= SETTLE_MS
    }

    fn known(&mut self, spec: &RuleSpec, at: &Circumstances<'_>) -> &HashMap<Labels, (Timestamp, Timestamp)> {
        self.known.get_or_insert_with(|| {
            let matchers = [
                Matcher::equal(METRIC_NAME, ALERTS_FOR_STATE),
                Matcher::equal("alertname", spec.name.as_str()),
            ];
            let from = at.ts - at.settings.outage_tolerance_ms;
            let mut known = HashMap::new();
            let mut samples = Samples::default();
            for series in at.reader.select(&matchers, from, at.ts) {
                samples.clear();
                series.read(from, at.ts, &mut samples);
                if let (Some(t), Some(v)) = (samples.ts.last(), samples.vs.last())
                    && !is_stale_marker(*v)
                    && v.is_finite()
                {
                    known.insert(series.labels().clone(), (*t, (*v * 1000.0) as Timestamp));
                }
            }
            known
        })
    }
}
