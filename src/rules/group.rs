//! A rule group and its evaluation at one time.
//!
//! [`Group::tick`] is the pure core: it reads no clock (but to measure), sends nothing and sleeps nowhere. What has to
//! be done afterwards, it says in [`TickOutput`]. A week of ticks is a loop over it.
//!
//! Source: Prometheus, `rules/group.go`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::alerting::{self, ALERTS, ALERTS_FOR_STATE, ActiveAlerts, Alerting, Circumstances};
use super::file::{GroupSpec, RuleKind, RuleSpec};
use super::metrics::{GroupMetrics, RuleMetrics};
use super::options::Settings;
use super::reads::Reads;
use super::recording::Recording;
use super::restore::{self, Restoring, SavedAlert};
use super::series::SeriesCache;
use super::view::{ActiveAlertView, AlertState, GroupView, RuleHealth, RuleView, RuleViewKind};
use crate::clock::Clock;
use crate::model::{Alert, Labels, Timestamp, stale_marker};
use crate::promql::{Engine, PointValue, QueryRequest, Selections, Value, VectorSample, parse_with};
use crate::state::Op;
use crate::storage::{Reader, Storage};
use crate::telemetry::Repeats;
use crate::template::QueryFn;

/// What groups work on.
#[derive(Clone, Debug)]
pub struct World {
    pub engine: Engine,
    pub storage: Storage,
    /// Measures how long evaluations take, and nothing else.
    pub clock: Clock,
    pub settings: Arc<Settings>,
}

/// What an evaluation asks to be done.
#[derive(Debug, Default)]
pub struct TickOutput {
    /// To be sent; see [`Group::unsent`].
    pub alerts: Vec<Alert>,
    /// To be made durable before the alerts are sent; see [`Group::unsaved`].
    pub save: Option<Op>,
    /// Rules that failed.
    pub failures: u64,
    /// Samples that were written, without staleness markers.
    pub samples: u64,
}

/// A group with the state of its rules.
#[derive(Debug)]
pub struct Group {
    shared: Arc<GroupShared>,
    rules: Vec<RuleRun>,
    /// Series of rules that are no more, to be marked stale.
    leftover: Vec<Labels>,
    /// The saved state is out of date.
    dirty: bool,
    /// What was said of samples that could not be read.
    partial: Repeats,
    last_evaluation: Option<Timestamp>,
    metrics: GroupMetrics,
    /// What several rules select; empty between ticks.
    selections: Selections,
    /// Of all rules, that nothing can be written; each rule has its own for the rest.
    unwritten: Repeats,
    unsaved: Repeats,
}

/// What evaluations change and views read.
#[derive(Debug)]
pub(super) struct GroupShared {
    pub spec: Arc<GroupSpec>,
    pub key: String,
    pub interval_ms: i64,
    rules: Vec<Mutex<RuleStatus>>,
    status: Mutex<GroupStatus>,
}

#[derive(Debug, Default)]
struct GroupStatus {
    evaluation_time: f64,
    last_evaluation: Option<Timestamp>,
}

#[derive(Debug)]
struct RuleStatus {
    health: RuleHealth,
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: Option<Timestamp>,
    active: ActiveAlerts,
}

/// What only the evaluation of a rule touches.
#[derive(Debug)]
struct RuleRun {
    reads: Reads,
    series: SeriesCache,
    kind: KindRun,
    troubles: Repeats,
}

#[derive(Debug)]
enum KindRun {
    Recording(Recording),
    Alerting(Alerting),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// A group whose rules begin with no state, or with what they `remember` of the time before a restart.
    #[must_use]
    pub fn new(spec: Arc<GroupSpec>, settings: &Settings, metrics: &RuleMetrics) -> Self {
        let interval_ms = spec.interval_ms.unwrap_or(settings.interval_ms).max(1);
        let key = spec.key();
        let rules = spec.rules.iter().map(RuleRun::new).collect();
        let statuses = spec.rules.iter().map(|_| Mutex::new(RuleStatus::new())).collect();
        let metrics = metrics.group(&key, interval_ms, spec.rules.len());
        let selections = Selections::of(spec.rules.iter().map(|r| &*r.expr));
        let shared = GroupShared {
            spec,
            key,
            interval_ms,
            rules: statuses,
            status: Mutex::new(GroupStatus::default()),
        };
        Group {
            shared: Arc::new(shared),
            rules,
            leftover: Vec::new(),
            dirty: false,
            partial: Repeats::default(),
            last_evaluation: None,
            metrics,
            selections,
            unwritten: Repeats::default(),
            unsaved: Repeats::default(),
        }
    }

    pub(super) fn shared(&self) -> Arc<GroupShared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn metrics(&self) -> &GroupMetrics {
        &self.metrics
    }

    /// Evaluates all rules in order, each seeing what those before it wrote. What several of them select is
    /// selected and decoded once.
    pub fn tick(&mut self, ts: Timestamp, world: &World) -> TickOutput {
        let started = world.clock.monotonic();
        let shared = Arc::clone(&self.shared);
        let mut out = TickOutput::default();
        let offset = shared.spec.query_offset_ms.unwrap_or(world.settings.query_offset_ms);
        let query_ts = ts - offset;
        let expressions = shared.spec.rules.iter().map(|r| &*r.expr);
        world.engine.foresee(&mut self.selections, expressions, query_ts);
        let mut reader = world.storage.reader();
        // Rules whose samples wait to be written: one batch serves as many rules as do not read each other's results.
        let mut waiting: Vec<usize> = Vec::new();
        for i in 0..self.rules.len() {
            let reads = &self.rules[i].reads;
            if waiting.iter().any(|w| shared.spec.rules[*w].writes().any(|name| reads.may_read(name))) {
                self.write(&mut waiting, query_ts, world, &mut out);
                reader = world.storage.reader();
            }
            let rule_started = world.clock.monotonic();
            self.metrics.evaluations.inc();
            self.rules[i].series.begin();
            let result = self.evaluate(i, ts, query_ts, world, &reader, &mut out);
            let seconds = (world.clock.monotonic() - rule_started).as_secs_f64();
            self.metrics.evaluation_duration_seconds.observe(seconds);
            let mut status = lock(&shared.rules[i]);
            status.evaluation_time = seconds;
            status.last_evaluation = Some(ts);
            match result {
                Ok(()) => {
                    status.health = RuleHealth::Ok;
                    status.last_error = None;
                    waiting.push(i);
                }
                Err(error) => {
                    let rule = &shared.spec.rules[i].name;
                    if let Some(repeated) = self.rules[i].troubles.say(&error, ts) {
                        tracing::warn!(
                            group = shared.key,
                            rule,
                            error,
                            repeated,
                            "a rule cannot be evaluated"
                        );
                    }
                    status.health = RuleHealth::Err;
                    status.last_error = Some(error);
                    self.rules[i].series.abandon();
                    self.metrics.evaluation_failures.inc();
                    out.failures += 1;
                }
            }
        }
        // As in a query, what could be read counts; the rule has nobody to tell.
        if let Some(note) = reader.partial_note()
            && let Some(repeated) = self.partial.say(note, ts)
        {
            tracing::warn!(
                group = shared.key,
                note,
                repeated,
                "rules were evaluated without some of their samples"
            );
        }
        self.selections.forget_all();
        self.write(&mut waiting, query_ts, world, &mut out);
        self.end_leftover(query_ts, world);
        self.last_evaluation = Some(query_ts);
        if self.dirty {
            self.dirty = false;
            out.save = Some(restore::to_op(&shared.key, &self.saved(&world.settings), ts));
        }
        let seconds = (world.clock.monotonic() - started).as_secs_f64();
        self.metrics.iterations.inc();
        self.metrics.last_duration_seconds.set(seconds);
        self.metrics.last_evaluation_timestamp_seconds.set(ts as f64 / 1000.0);
        self.metrics.last_evaluation_samples.set(out.samples as i64);
        let mut status = lock(&shared.status);
        status.evaluation_time = seconds;
        status.last_evaluation = Some(ts);
        out
    }

    fn evaluate(
        &mut self,
        i: usize,
        ts: Timestamp,
        query_ts: Timestamp,
        world: &World,
        reader: &Reader,
        out: &mut TickOutput,
    ) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let spec = &shared.spec.rules[i];
        let limit = shared.spec.limit;
        let samples = vector(world, &spec.query, &spec.expr, query_ts, reader, Some(&self.selections))?;
        let run = &mut self.rules[i];
        match &mut run.kind {
            KindRun::Recording(recording) => recording.state(spec, samples, limit, &mut run.series),
            KindRun::Alerting(alerting) => {
                let query = |text: &str| template_query(world, text, ts, reader);
                let query: &QueryFn<'_> = &query;
                let candidates = alerting.candidates(spec, samples, &world.settings, ts, query)?;
                let at = Circumstances { ts, settings: &world.settings, reader, limit };
                let mut status = lock(&shared.rules[i]);
                let changed = alerting.update(spec, &mut status.active, candidates, &at, &mut run.series);
                self.dirty |= *changed.as_ref().unwrap_or(&true);
                changed?;
                let interval = shared.interval_ms;
                alerting::due(spec, &mut status.active, ts, interval, &world.settings, &mut out.alerts);
                Ok(())
            }
        }
    }

    /// Writes what the `waiting` rules have stated, as one batch.
    fn write(&mut self, waiting: &mut Vec<usize>, ts: Timestamp, world: &World, out: &mut TickOutput) {
        if waiting.is_empty() {
            return;
        }
        let mut appender = world.storage.appender();
        let mut failed: Vec<(usize, String)> = Vec::new();
        for i in waiting.iter().copied() {
            self.shared.spec.rules[i].writes().for_each(|name| self.selections.forget(name));
            let (written, error) = self.rules[i].series.write(&mut appender, ts);
            out.samples += written;
            failed.extend(error.map(|e| (i, e.to_string())));
        }
        let committed = appender.commit().map_err(|e| e.to_string());
        if let Err(error) = &committed {
            failed = waiting.iter().map(|i| (*i, error.clone())).collect();
            if let Some(repeated) = self.unwritten.say(error, ts) {
                let (group, rules) = (&self.shared.key, failed.len());
                tracing::warn!(group, rules, error, repeated, "samples of rules were not written");
            }
        }
        for (i, error) in failed {
            if committed.is_ok()
                && let Some(repeated) = self.rules[i].troubles.say(&error, ts)
            {
                let (group, rule) = (&self.shared.key, &self.shared.spec.rules[i].name);
                tracing::warn!(group, rule, error, repeated, "samples of a rule were not written");
            }
            let mut status = lock(&self.shared.rules[i]);
            status.health = RuleHealth::Err;
            status.last_error = Some(error);
        }
        waiting.clear();
    }

    /// Marks series of rules that are no more as stale, unless another rule of the group writes them now.
    fn end_leftover(&mut self, ts: Timestamp, world: &World) {
        if self.leftover.is_empty() {
            return;
        }
        let live: std::collections::HashSet<&Labels> =
            self.rules.iter().flat_map(|r| r.series.live()).collect();
        let gone: Vec<Labels> = self.leftover.iter().filter(|l| !live.contains(l)).cloned().collect();
        self.leftover.clear();
        mark_stale(&gone, ts, &world.storage);
    }

    /// The name and error of the first rule whose last evaluation failed.
    pub(super) fn first_error(&self) -> Option<(String, String)> {
        let rules = self.shared.spec.rules.iter().zip(&self.shared.rules);
        rules.filter_map(|(spec, status)| Some((spec.name.clone(), lock(status).last_error.clone()?))).next()
    }

    /// Says that the alerts of the evaluation at `ts` were not taken: they are due again at the next.
    pub fn unsent(&mut self, ts: Timestamp) {
        for rule in &self.shared.rules {
            alerting::unsent(&mut lock(rule).active, ts);
        }
    }

    /// Says that the state could not be saved, for what reason: it is to be saved at the next evaluation.
    pub fn unsaved(&mut self, error: &str, ts: Timestamp) {
        self.dirty = true;
        if let Some(repeated) = self.unsaved.say(error, ts) {
            let group = &self.shared.key;
            tracing::warn!(
                group,
                error,
                repeated,
                "the state of a rule group cannot be saved; it is tried again"
            );
        }
    }

    /// What a restart has to know.
    pub(super) fn saved(&self, settings: &Settings) -> Vec<SavedAlert> {
        let rules = self.shared.spec.rules.iter().zip(&self.shared.rules);
        rules
            .flat_map(|(spec, status)| {
                let status = lock(status);
                if status.active.is_empty() {
                    return Vec::new();
                }
                let url = alerting::generator_url(&settings.external_url, &spec.text);
                restore::saved(spec, &status.active, &url)
            })
            .collect()
    }

    /// Takes over saved alerts of rules with the same names; gives back those that no rule here may know.
    pub(super) fn adopt(&mut self, alerts: Vec<SavedAlert>) -> Vec<SavedAlert> {
        let mut rest = Vec::new();
        for alert in alerts {
            let rules = &self.shared.spec.rules;
            let at = rules.iter().position(|r| {
                let labels = r.labels.iter();
                r.is_alerting() && r.name == alert.rule && plain_labels_fit(r, labels, &alert.labels)
            });
            match at {
                Some(i) => {
                    let active = alert.to_active();
                    lock(&self.shared.rules[i]).active.entry(alert.labels).or_insert(active);
                    self.dirty = true;
                }
                None => rest.push(alert),
            }
        }
        rest
    }

    /// Takes over the state of the rules of `old` that are the same here: after a reload. What nothing here takes over
    /// is marked stale at the next evaluation; alerts of rules that are gone are given back.
    pub(super) fn inherit(&mut self, old: Group, settings: &Settings) -> Vec<SavedAlert> {
        let mut rest = Vec::new();
        self.last_evaluation = old.last_evaluation;
        self.leftover = old.leftover;
        let mut taken = vec![false; self.rules.len()];
        let olds = old.shared.spec.rules.iter().zip(old.rules).zip(&old.shared.rules);
        for ((spec, run), status) in olds {
            let rules = &self.shared.spec.rules;
            let same = |i: &usize| !taken[*i] && same_rule(&rules[*i], spec);
            let Some(i) = (0..rules.len()).find(same) else {
                self.leftover.extend(run.series.live().cloned());
                let url = alerting::generator_url(&settings.external_url, &spec.text);
                rest.extend(restore::saved(spec, &lock(status).active, &url));
                continue;
            };
            taken[i] = true;
            let mut mine = lock(&self.shared.rules[i]);
            *mine = std::mem::replace(&mut lock(status), RuleStatus::new());
            self.rules[i].series = run.series;
            if let (KindRun::Alerting(new), KindRun::Alerting(before)) = (&mut self.rules[i].kind, run.kind) {
                new.restoring = before.restoring;
            }
        }
        self.dirty = true;
        rest
    }

    /// Marks all series of the group as stale: it is evaluated no more.
    pub(super) fn end(self, storage: &Storage) {
        let Some(last) = self.last_evaluation else { return };
        let mut gone = self.leftover;
        gone.extend(self.rules.iter().flat_map(|r| r.series.live().cloned()));
        // Right after the last sample, so that a group of another name may write the same series later.
        mark_stale(&gone, last + 1, storage);
    }
}

fn mark_stale(series: &[Labels], ts: Timestamp, storage: &Storage) {
    let mut appender = storage.appender();
    for labels in series {
        // A series that is gone, or that has newer samples, needs no marker.
        if let Ok(series) = appender.series(labels) {
            let _ = appender.append(series, ts, stale_marker());
        }
    }
    if let Err(error) = appender.commit() {
        tracing::warn!(%error, "staleness markers of rules that are gone were not written");
    }
}

/// As in Prometheus: rules are the same over a reload when name and labels are.
fn same_rule(a: &RuleSpec, b: &RuleSpec) -> bool {
    a.is_alerting() == b.is_alerting() && a.name == b.name && a.labels == b.labels
}

/// Whether an alert with these labels can come from the rule, as far as labels that are no templates tell.
fn plain_labels_fit<'a>(
    rule: &RuleSpec,
    labels: impl Iterator<Item = &'a (String, String)>,
    alert: &Labels,
) -> bool {
    let RuleKind::Alerting { label_templates, .. } = &rule.kind else { return false };
    labels.zip(label_templates).all(|((name, _), template)| match template.as_plain() {
        Some(plain) => name == "alertname" || alert.get(name).unwrap_or("") == plain,
        None => true,
    })
}

/// The result of a rule's expression as a vector; a scalar is a vector of one element without labels.
fn vector(
    world: &World,
    query: &str,
    expr: &crate::promql::ast::Expr,
    ts: Timestamp,
    reader: &Reader,
    selections: Option<&Selections>,
) -> Result<Vec<VectorSample>, String> {
    let request = QueryRequest::instant(ts);
    let result = match selections {
        Some(selections) => world.engine.evaluate_sharing(query, expr, &request, reader, selections),
        None => world.engine.evaluate(query, expr, &request, reader),
    };
    match result.map_err(|e| e.to_string())?.value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar { ts, value } => {
            Ok(vec![VectorSample { labels: Labels::empty(), ts, value: PointValue::Float(value) }])
        }
        Value::String { .. } | Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// The function `query` of templates.
fn template_query(
    world: &World,
    text: &str,
    ts: Timestamp,
    reader: &Reader,
) -> Result<Vec<(Labels, f64)>, String> {
    let expr = parse_with(text, world.engine.options().features).map_err(|e| e.to_string())?;
    let samples = vector(world, text, &expr, ts, reader, None)?;
    let float = |v: PointValue| match v {
        PointValue::Float(v) => v,
        PointValue::Histogram(_) => 0.0,
    };
    Ok(samples.into_iter().map(|s| (s.labels, float(s.value))).collect())
}

impl RuleStatus {
    fn new() -> Self {
        RuleStatus {
            health: RuleHealth::Unknown,
            last_error: None,
            evaluation_time: 0.0,
            last_evaluation: None,
            active: ActiveAlerts::new(),
        }
    }
}

impl RuleRun {
    fn new(spec: &RuleSpec) -> Self {
        let kind = match &spec.kind {
            RuleKind::Recording => KindRun::Recording(Recording::default()),
            RuleKind::Alerting { .. } => KindRun::Alerting(Alerting::new(spec, Some(Restoring::default()))),
        };
        let reads = if spec.has_queries_in_templates() { Reads::anything() } else { Reads::of(&spec.expr) };
        RuleRun { reads, series: SeriesCache::default(), kind, troubles: Repeats::default() }
    }
}

impl RuleSpec {
    /// The names of the metrics that the rule writes.
    fn writes(&self) -> impl Iterator<Item = &str> {
        let names = match self.kind {
            RuleKind::Recording => [Some(self.name.as_str()), None],
            RuleKind::Alerting { .. } => [Some(ALERTS), Some(ALERTS_FOR_STATE)],
        };
        names.into_iter().flatten()
    }

    fn has_queries_in_templates(&self) -> bool {
        let RuleKind::Alerting { annotations, .. } = &self.kind else { return false };
        self.labels.iter().chain(annotations).any(|(_, v)| v.contains("query"))
    }
}

impl GroupShared {
    /// The hash that spreads groups over their interval.
    pub fn hash(&self) -> u64 {
        Labels::from_pairs([("name", &self.spec.name), ("file", &self.spec.file)]).fingerprint()
    }

    pub fn view(&self) -> GroupView {
        let status = lock(&self.status);
        let rules = self.spec.rules.iter().zip(&self.rules);
        GroupView {
            name: self.spec.name.clone(),
            file: self.spec.file.clone(),
            interval_ms: self.interval_ms,
            limit: self.spec.limit,
            evaluation_time: status.evaluation_time,
            last_evaluation: status.last_evaluation,
            rules: rules.map(|(spec, status)| lock(status).view(spec)).collect(),
        }
    }
}

impl RuleStatus {
    fn view(&self, spec: &RuleSpec) -> RuleView {
        RuleView {
            name: spec.name.clone(),
            query: spec.text.clone(),
            labels: spec.label_set(),
            health: self.health,
            last_error: self.last_error.clone(),
            evaluation_time: self.evaluation_time,
            last_evaluation: self.last_evaluation,
            kind: match &spec.kind {
                RuleKind::Recording => RuleViewKind::Recording,
                RuleKind::Alerting { for_ms, keep_firing_for_ms, annotations, .. } => {
                    RuleViewKind::Alerting {
                        duration_ms: *for_ms,
                        keep_firing_for_ms: *keep_firing_for_ms,
                        annotations: Labels::from_pairs(annotations.iter().map(|(n, v)| (n, v))),
                        alerts: self.alerts(),
                        state: self.active.values().map(|a| a.state).max().unwrap_or(AlertState::Inactive),
                    }
                }
            },
        }
    }

    /// Pending and firing alerts.
    fn alerts(&self) -> Vec<ActiveAlertView> {
        let active = self.active.values().filter(|a| a.state != AlertState::Inactive);
        active
            .map(|a| ActiveAlertView {
                labels: a.labels.clone(),
                annotations: a.annotations.clone(),
                state: a.state,
                active_at: a.active_at,
                keep_firing_since: a.keep_firing_since,
                value: a.value,
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
