//! Alerting rules: inactive, pending, firing, and what is sent of them.
//!
//! The state machine is pure: [`Alerting::update`] takes the result of the expression at a time and changes the active
//! alerts; [`due`] says which of them have to be sent.
//!
//! Source: Prometheus, `rules/alerting.go`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::file::{RuleKind, RuleSpec};
use super::options::Settings;
use super::restore::Restoring;
use super::series::SeriesCache;
use super::view::AlertState;
use crate::model::{Alert, Labels, LabelsBuilder, METRIC_NAME, Timestamp};
use crate::promql::{PointValue, VectorSample};
use crate::storage::Reader;
use crate::template::{AlertData, AlertTemplate, QueryFn, Value};

/// The series that says which alerts are active, and in which state.
pub const ALERTS: &str = "ALERTS";
/// The series whose value is since when an alert is active, in seconds.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERT_NAME: &str = "alertname";
const ALERT_STATE: &str = "alertstate";

/// How long a resolved alert is kept and sent again, so that a receiver that was away learns of it.
const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

/// How many resend intervals (or evaluation intervals, if those are longer) an alert stays valid without being sent again: two may fail.
const VALID_INTERVALS: i64 = 4;

/// An alert of a rule: pending, firing, or resolved a short time ago.
#[derive(Clone, Debug)]
pub(super) struct ActiveAlert {
    pub labels: Labels,
    pub annotations: Labels,
    /// `Inactive` means resolved.
    pub state: AlertState,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub keep_firing_since: Option<Timestamp>,
    pub last_sent_at: Option<Timestamp>,
    pub value: f64,
    /// Known from before a restart and not seen in a result since: nothing is concluded from its absence yet.
    pub unconfirmed: bool,
    series: Option<Arc<AlertSeries>>,
}

/// The labels of the series that are written for an alert.
#[derive(Debug)]
struct AlertSeries {
    pending: Labels,
    firing: Labels,
    for_state: Labels,
}

impl AlertSeries {
    fn of(alert: &Labels) -> Self {
        let mut b = LabelsBuilder::from(alert);
        let for_state = b.set(METRIC_NAME, ALERTS_FOR_STATE).build();
        let pending = b.set(METRIC_NAME, ALERTS).set(ALERT_STATE, "pending").build();
        let firing = b.set(ALERT_STATE, "firing").build();
        AlertSeries { pending, firing, for_state }
    }
}

impl ActiveAlert {
    pub fn new(labels: Labels, annotations: Labels, value: f64, active_at: Timestamp) -> Self {
        ActiveAlert {
            labels,
            annotations,
            state: AlertState::Pending,
            active_at,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            last_sent_at: None,
            value,
            unconfirmed: false,
            series: None,
        }
    }

    fn series(&mut self) -> Arc<AlertSeries> {
        Arc::clone(self.series.get_or_insert_with(|| Arc::new(AlertSeries::of(&self.labels))))
    }

    fn needs_sending(&self, ts: Timestamp, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending || self.unconfirmed {
            return false;
        }
        match self.last_sent_at {
            None => true,
            Some(sent) => self.resolved_at.is_some_and(|r| r > sent) || sent + resend_delay_ms < ts,
        }
    }
}

/// The active alerts of one rule, by labels.
pub(super) type ActiveAlerts = BTreeMap<Labels, ActiveAlert>;

/// What an alerting rule keeps between evaluations, besides its active alerts.
#[derive(Debug)]
pub(super) struct Alerting {
    /// Alert labels by those of the result; used when no label depends on the value.
    outputs: HashMap<Labels, Labels, RandomState>,
    labels_are_plain: bool,
    /// Set until what was known before a restart has been confirmed or given up.
    pub restoring: Option<Restoring>,
}

/// An element of the result, expanded.
pub(super) struct Candidate {
    labels: Labels,
    annotations: Labels,
    value: f64,
}

/// The circumstances of one evaluation.
pub(super) struct Circumstances<'a> {
    pub ts: Timestamp,
    pub settings: &'a Settings,
    pub reader: &'a Reader,
    pub limit: u64,
}

impl Alerting {
    pub fn new(spec: &RuleSpec, restoring: Option<Restoring>) -> Self {
        let labels_are_plain = match &spec.kind {
            RuleKind::Alerting { label_templates, .. } => {
                label_templates.iter().all(|t| t.as_plain().is_some())
            }
            RuleKind::Recording => true,
        };
        Alerting { outputs: HashMap::default(), labels_are_plain, restoring }
    }

    /// Expands labels and annotations of the result. A text that fails to expand becomes its error.
    pub fn candidates(
        &mut self,
        spec: &RuleSpec,
        samples: Vec<VectorSample>,
        settings: &Settings,
        ts: Timestamp,
        query: &QueryFn<'_>,
    ) -> Result<Vec<Candidate>, String> {
        let RuleKind::Alerting { annotations, label_templates, annotation_templates, .. } = &spec.kind else {
            return Ok(Vec::new());
        };
        if self.outputs.len() > 2 * samples.len() + 16 {
            self.outputs.clear();
        }
        let mut seen =
            std::collections::HashSet::with_capacity_and_hasher(samples.len(), RandomState::default());
        let mut candidates = Vec::with_capacity(samples.len());
        for sample in samples {
            let value = match &sample.value {
                PointValue::Float(v) => *v,
                PointValue::Histogram(_) => 0.0,
            };
            let data = Value::Object(Arc::new(AlertData {
                labels: sample.labels.clone(),
                external_labels: settings.external_labels.clone(),
                external_url: Arc::clone(&settings.external_url),
                value,
                now: ts,
            }));
            let expand = |template: &AlertTemplate| match template.as_plain() {
                Some(plain) => plain.to_owned(),
                None => template.expand(&data, query, &settings.external_url, ts).unwrap_or_else(|e| {
                    tracing::warn!(rule = spec.name, error = %e, "an alert's template cannot be expanded");
                    format!("<error expanding template: error executing template __alert_{}: {e}>", spec.name)
                }),
            };
            let cached = self.outputs.get(&sample.labels).filter(|_| self.labels_are_plain);
            let labels = match cached {
                Some(labels) => labels.clone(),
                None => {
                    let mut builder = LabelsBuilder::from(&sample.labels);
                    builder.remove(METRIC_NAME);
                    for ((name, _), template) in spec.labels.iter().zip(label_templates) {
                        builder.set(name, &expand(template));
                    }
                    let labels = builder.set(ALERT_NAME, &spec.name).build();
                    if self.labels_are_plain {
                        self.outputs.insert(sample.labels.clone(), labels.clone());
                    }
                    labels
                }
            };
            if !seen.insert(labels.clone()) {
                return Err(
                    "vector contains metrics with the same labelset after applying alert labels".into()
                );
            }
            let texts: Vec<String> = annotation_templates.iter().map(expand).collect();
            let pairs =
                annotations.iter().zip(&texts).map(|((name, _), text)| (name.as_str(), text.as_str()));
            candidates.push(Candidate { labels, annotations: Labels::from_sorted(pairs), value });
        }
        Ok(candidates)
    }

    /// Brings the active alerts up to date with the result and states their series. True if what a restart has to know
    /// has changed.
    pub fn update(
        &mut self,
        spec: &RuleSpec,
        active: &mut ActiveAlerts,
        candidates: Vec<Candidate>,
        at: &Circumstances<'_>,
        series: &mut SeriesCache,
    ) -> Result<bool, String> {
        let RuleKind::Alerting { for_ms, keep_firing_for_ms, .. } = &spec.kind else { return Ok(false) };
        let ts = at.ts;
        let mut changed = false;
        let mut present =
            std::collections::HashSet::with_capacity_and_hasher(candidates.len(), RandomState::default());
        for candidate in candidates {
            present.insert(candidate.labels.clone());
            match active.get_mut(&candidate.labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = candidate.value;
                    alert.annotations = candidate.annotations;
                    alert.unconfirmed = false;
                }
                before => {
                    changed |= before.is_some();
                    let Candidate { labels, annotations, value } = candidate;
                    let mut alert = ActiveAlert::new(labels.clone(), annotations, value, ts);
                    if let Some(restoring) = &mut self.restoring {
                        let for_state = &alert.series().for_state;
                        alert.active_at = restoring.active_since(spec, for_state, *for_ms, at);
                    }
                    active.insert(labels, alert);
                }
            }
        }
        if let Some(restoring) = &mut self.restoring
            && restoring.is_over(spec, at)
        {
            // An alert that is not in the result now has ended.
            for alert in active.values_mut() {
                alert.unconfirmed = false;
            }
            self.restoring = None;
        }
        let mut stated = 0u64;
        let mut gone = Vec::new();
        for (labels, alert) in active.iter_mut() {
            if present.contains(labels) {
                changed |= alert.keep_firing_since.take().is_some();
            } else {
                if alert.unconfirmed {
                    continue;
                }
                let keeps_firing = alert.state == AlertState::Firing && *keep_firing_for_ms > 0 && {
                    changed |= alert.keep_firing_since.is_none();
                    ts - *alert.keep_firing_since.get_or_insert(ts) < *keep_firing_for_ms
                };
                let forgotten = alert.resolved_at.is_some_and(|r| ts - r > RESOLVED_RETENTION_MS);
                if alert.state == AlertState::Pending || forgotten {
                    changed |= forgotten;
                    gone.push(labels.clone());
                    continue;
                }
                if !keeps_firing {
                    if alert.state == AlertState::Firing {
                        alert.state = AlertState::Inactive;
                        alert.resolved_at = Some(ts);
                        changed = true;
                    }
                    continue;
                }
            }
            stated += 1;
            if alert.state == AlertState::Pending && ts - alert.active_at >= *for_ms {
                alert.state = AlertState::Firing;
                alert.fired_at = Some(ts);
                changed = true;
            }
            let of = alert.series();
            let state_series = if alert.state == AlertState::Firing { &of.firing } else { &of.pending };
            series.state(state_series.clone(), PointValue::Float(1.0));
            let since = PointValue::Float(alert.active_at.div_euclid(1000) as f64);
            series.state(of.for_state.clone(), since);
        }
        for labels in gone {
            active.remove(&labels);
        }
        if at.limit > 0 && stated > at.limit {
            active.clear();
            return Err(format!("exceeded limit of {} with {stated} alerts", at.limit));
        }
        Ok(changed)
    }
}

/// What has to be sent of `active` at `ts`; it counts as sent from now on (see [`unsent`]).
pub(super) fn due(
    spec: &RuleSpec,
    active: &mut ActiveAlerts,
    ts: Timestamp,
    interval_ms: i64,
    settings: &Settings,
    out: &mut Vec<Alert>,
) {
    let mut url = None;
    for alert in active.values_mut().filter(|a| a.needs_sending(ts, settings.resend_delay_ms)) {
        alert.last_sent_at = Some(ts);
        let url = url.get_or_insert_with(|| generator_url(&settings.external_url, &spec.text));
        out.push(message(alert, ts, interval_ms, settings, url.clone()));
    }
}

/// Takes back that `alerts` were sent: they are due again at the next evaluation.
pub(super) fn unsent(active: &mut ActiveAlerts, ts: Timestamp) {
    for alert in active.values_mut().filter(|a| a.last_sent_at == Some(ts)) {
        alert.last_sent_at = None;
    }
}

/// The alert as it travels.
pub(super) fn message(
    alert: &ActiveAlert,
    ts: Timestamp,
    interval_ms: i64,
    settings: &Settings,
    generator_url: String,
) -> Alert {
    let valid_ms = VALID_INTERVALS * interval_ms.max(settings.resend_delay_ms);
    Alert {
        labels: with_external(&alert.labels, &settings.external_labels),
        annotations: alert.annotations.clone(),
        starts_at: alert.fired_at.unwrap_or(alert.active_at),
        ends_at: Some(alert.resolved_at.unwrap_or(ts + valid_ms)),
        updated_at: ts,
        generator_url,
    }
}

/// External labels never replace those of the alert.
fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    let mut builder = LabelsBuilder::from(external);
    for (name, value) in labels {
        builder.set(name, value);
    }
    builder.build()
}

/// Where a reader sees the expression's result as a table.
pub(super) fn generator_url(external_url: &str, query: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    format!("{}/graph?g0.expr={encoded}&g0.tab=1", external_url.trim_end_matches('/'))
}
