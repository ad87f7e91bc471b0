//! The handle: pushes, deletes, records, samples.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::families::FamilyNote;
use super::super::handle::Ingest;
use super::super::labels::LabelBounds;
use super::super::{IngestLimits, PushError};
use super::group::{Group, GroupView, PUSH_FAILURE_TIME, PUSH_TIME, read_families};
use super::record::{JsonMetric, RecordedMetric};
use super::rows::{self, Kept};
use crate::exposition::{FamilySet, Format, SeriesValue};
use crate::model::{Labels, Metadata, MetricType, Timestamp, stale_marker};
use crate::state::{Op, Scan, StateError, Store, Table};
use crate::storage::{AppendError, Appender, SeriesRef, StorageError};

const SOURCE: &str = "push";

/// What is pushed and stays. Cloning gives a handle to the same. Calls block on the state store's disk.
#[derive(Clone, Debug)]
pub struct Pushed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ingest: Ingest,
    store: Arc<dyn Store>,
    /// Held over a push's commit, so that the store and this agree on the order of pushes.
    state: Mutex<State>,
}

/// Whose a series is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Group(Labels),
    Recorded,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<Labels, Group>,
    recorded: BTreeMap<Labels, RecordedMetric>,
    owners: HashMap<Labels, Owner>,
    /// Series that have been sampled, and when last: what is written next must be later.
    sampled: HashMap<Labels, (SeriesRef, Timestamp)>,
}

impl Pushed {
    /// Loads what was kept. A row that cannot be read is left where it is, and logged.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(ingest: Ingest, store: Arc<dyn Store>) -> Result<Self, StateError> {
        let mut state = State::default();
        for row in store.scan(Table::Pushed, &Scan::default())? {
            match rows::read(&row) {
                Some(Kept::Group(labels, group)) => state.insert_group(labels, group),
                Some(Kept::Metric(metric)) => state.insert_metric(metric),
                None => tracing::error!(key = %row.key, "a pushed group cannot be read and is left out"),
            }
        }
        let pushed = Pushed { inner: Arc::new(Inner { ingest, store, state: Mutex::new(state) }) };
        pushed.count(&pushed.lock());
        Ok(pushed)
    }

    /// Replaces a group (`replace_all`, a PUT) or its families of the pushed names (a POST), and samples it at once.
    /// A body whose `Content-Type` does not say OpenMetrics is read as text.
    ///
    /// # Errors
    /// When the body is malformed or contradicts what is kept, a limit is reached, or it cannot be made durable.
    pub fn put(
        &self,
        labels: &Labels,
        body: &[u8],
        replace_all: bool,
        content_type: Option<&str>,
        now: Timestamp,
    ) -> Result<(), PushError> {
        let result = self.try_put(labels, body, replace_all, content_type, now);
        if result.is_err() {
            self.inner.ingest.inner.metrics.batch_failed(SOURCE);
        }
        result
    }

    fn try_put(
        &self,
        labels: &Labels,
        body: &[u8],
        replace_all: bool,
        content_type: Option<&str>,
        now: Timestamp,
    ) -> Result<(), PushError> {
        let limits = self.inner.ingest.limits();
        if body.len() > limits.push_bytes_max {
            return Err(PushError::TooLarge { bytes: body.len(), limit: limits.push_bytes_max });
        }
        let format = match Format::from_content_type(content_type) {
            Ok(format) if format.is_openmetrics() => format,
            _ => Format::TextUtf8,
        };
        let families = read_families(format, body, labels, LabelBounds::from(limits));
        let mut state = self.lock();
        if !state.groups.contains_key(labels) && state.groups.len() >= limits.pushed_groups_max {
            return Err(PushError::Limit {
                what: "the number of pushed groups",
                limit: limits.pushed_groups_max,
            });
        }
        let checked = families.and_then(|families| state.check(labels, families, replace_all, limits));
        let new = match checked {
            Ok(families) => {
                let before = state.groups.get(labels);
                let push_failure_time = before.and_then(|g| g.push_failure_time);
                Group { families, push_time: Some(now), push_failure_time }
            }
            Err(e) => {
                if !matches!(e, PushError::Parse(_)) {
                    self.note_failure(&mut state, labels, now)?;
                }
                return Err(e);
            }
        };
        self.inner.store.commit(vec![rows::put_group(labels, &new, now)])?;
        let notes = new.families.iter().map(|(n, f)| (n.clone(), FamilyNote::from(f.metadata.clone())));
        self.note_families(notes);
        let gone = state.remove_group(labels);
        state.insert_group(labels.clone(), new);
        self.count(&state);
        let mut app = self.inner.ingest.storage().appender();
        for series in gone {
            if !state.owners.contains_key(&series) && !is_time_series(&series) {
                state.mark_stale(&mut app, &series, now);
            }
        }
        let view = state.groups.get(labels).map(|g| g.view(labels));
        for series in view.iter().flat_map(|v| v.families.iter().flat_map(|(_, f)| &f.series)) {
            self.append(&mut state, &mut app, series, now);
        }
        self.inner.ingest.inner.metrics.committed(&app.commit()?);
        Ok(())
    }

    /// Deletes a group and marks its series stale; false if there is none.
    ///
    /// # Errors
    /// When it cannot be made durable; then the group is still there.
    pub fn delete(&self, labels: &Labels, now: Timestamp) -> Result<bool, PushError> {
        let mut state = self.lock();
        if !state.groups.contains_key(labels) {
            return Ok(false);
        }
        self.inner.store.commit(vec![rows::delete_group(labels)])?;
        let gone = state.remove_group(labels);
        self.count(&state);
        let mut app = self.inner.ingest.storage().appender();
        for series in gone {
            state.mark_stale(&mut app, &series, now);
        }
        self.inner.ingest.inner.metrics.committed(&app.commit()?);
        Ok(true)
    }

    /// Records metrics: each becomes the current value of its name and labels, and is sampled at its own time. All of
    /// them or none.
    ///
    /// # Errors
    /// When one is invalid, older than the current value, or a limit is reached.
    pub fn record(&self, metrics: &[JsonMetric], now: Timestamp) -> Result<(), PushError> {
        let limits = self.inner.ingest.limits();
        if metrics.len() > limits.record_metrics_max {
            return Err(PushError::Limit {
                what: "the number of metrics in one call",
                limit: limits.record_metrics_max,
            });
        }
        let mut state = self.lock();
        let mut latest: BTreeMap<Labels, RecordedMetric> = BTreeMap::new();
        let mut samples = Vec::with_capacity(metrics.len());
        let mut written: HashMap<Labels, Timestamp> = HashMap::new();
        for metric in metrics {
            let mut checked = metric.check(limits, now)?;
            if state.owners.get(&checked.labels).is_some_and(|o| *o != Owner::Recorded) {
                return Err(PushError::Inconsistent(format!("{} is in a pushed group", checked.labels)));
            }
            let before = latest.get(&checked.labels).or_else(|| state.recorded.get(&checked.labels));
            let sampled = state.sampled.get(&checked.labels).map(|(_, ts)| *ts);
            let newest = before.map(|b| b.ts).max(sampled);
            if metric.timestamp.is_none() {
                // Two values of one moment both count; the later one must come out later.
                checked.ts = checked.ts.max(newest.map_or(i64::MIN, |ts| ts + 1));
            } else if let Some(before) = before
                && before.ts > checked.ts
            {
                return Err(PushError::Invalid(format!("{} has a newer value already", checked.labels)));
            }
            // A value of before the last sample is written just after it, or it could not be written at all.
            let last = written.get(&checked.labels).copied().max(sampled);
            let ts = checked.ts.max(last.map_or(i64::MIN, |ts| ts + 1));
            written.insert(checked.labels.clone(), ts);
            samples.push(SeriesValue { labels: checked.labels.clone(), value: checked.value, ts: Some(ts) });
            latest.insert(checked.labels.clone(), checked);
        }
        let added = latest.keys().filter(|l| !state.recorded.contains_key(*l)).count();
        if state.owners.len() + added > limits.pushed_series_max {
            return Err(PushError::Limit {
                what: "the number of pushed series",
                limit: limits.pushed_series_max,
            });
        }
        self.inner.store.commit(latest.values().map(rows::put_metric).collect())?;
        let notes = latest.values().map(|m| {
            let note =
                FamilyNote { metric_type: Some(MetricType::Gauge), help: None, unit: Some(m.unit.clone()) };
            (m.labels.metric_name().to_owned(), note)
        });
        self.note_families(notes);
        for metric in latest.into_values() {
            state.insert_metric(metric);
        }
        self.count(&state);
        let mut app = self.inner.ingest.storage().appender();
        for sample in &samples {
            self.append(&mut state, &mut app, sample, sample.ts.unwrap_or(now));
        }
        self.inner.ingest.inner.metrics.committed(&app.commit()?);
        self.inner.ingest.inner.metrics.taken("record", samples.len() as u64);
        Ok(())
    }

    /// Appends every current value at `now`; gives how many there are. To be called once per interval.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn sample_all(&self, now: Timestamp) -> Result<usize, StorageError> {
        let mut state = self.lock();
        let mut all: Vec<SeriesValue> = Vec::new();
        for (labels, group) in &state.groups {
            let view = group.view(labels);
            all.extend(view.families.iter().flat_map(|(_, f)| f.series.clone()));
        }
        // A metric recorded for a time to come is not written before it.
        let current = state.recorded.values().filter(|m| m.ts <= now);
        all.extend(current.map(|m| SeriesValue { labels: m.labels.clone(), value: m.value, ts: None }));
        let mut app = self.inner.ingest.storage().appender();
        for series in &all {
            self.append(&mut state, &mut app, series, now);
        }
        self.inner.ingest.inner.metrics.committed(&app.commit()?);
        self.inner.ingest.inner.metrics.taken(SOURCE, all.len() as u64);
        Ok(all.len())
    }

    /// The groups, by their labels.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupView> {
        self.lock().groups.iter().map(|(labels, group)| group.view(labels)).collect()
    }

    /// The current values of recorded metrics, by their labels.
    #[must_use]
    pub fn recorded(&self) -> Vec<RecordedMetric> {
        self.lock().recorded.values().cloned().collect()
    }

    /// Everything that is kept, for re-export: the groups with their times, and the recorded metrics as gauges.
    #[must_use]
    pub fn families(&self) -> FamilySet {
        let state = self.lock();
        let mut out = FamilySet::new();
        for (labels, group) in &state.groups {
            out.merge(&group.view(labels).families);
        }
        for metric in state.recorded.values() {
            let metadata =
                Metadata { metric_type: MetricType::Gauge, help: String::new(), unit: metric.unit.clone() };
            let series = SeriesValue { labels: metric.labels.clone(), value: metric.value, ts: None };
            out.add(metric.labels.metric_name(), &metadata, series);
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        let metrics = &self.inner.ingest.inner.metrics;
        metrics.pushed_groups.set(state.groups.len() as i64);
        metrics.pushed_series.set(state.owners.len() as i64);
    }

    fn note_families(&self, notes: impl Iterator<Item = (String, FamilyNote)>) {
        let ingest = &self.inner.ingest.inner;
        ingest.families.note(&ingest.storage, &ingest.limits, notes);
    }

    /// Notes that a push to the group was refused, making the group if need be.
    fn note_failure(&self, state: &mut State, labels: &Labels, now: Timestamp) -> Result<(), PushError> {
        let mut group = state.groups.get(labels).cloned().unwrap_or_default();
        group.push_failure_time = Some(now);
        let op: Op = rows::put_group(labels, &group, now);
        self.inner.store.commit(vec![op])?;
        state.groups.insert(labels.clone(), group);
        self.count(state);
        Ok(())
    }

    fn append(&self, state: &mut State, app: &mut Appender, series: &SeriesValue, ts: Timestamp) {
        let metrics = &self.inner.ingest.inner.metrics;
        let known = state.sampled.get(&series.labels).map(|(known, _)| *known);
        let mut result = known.map_or(Err(AppendError::UnknownSeries), |s| app.append(s, ts, series.value));
        let mut reference = known;
        if result == Err(AppendError::UnknownSeries) {
            result = app.series(&series.labels).and_then(|s| {
                reference = Some(s);
                app.append(s, ts, series.value)
            });
        }
        match (result, reference) {
            (Ok(()), Some(reference)) => {
                let entry = state.sampled.entry(series.labels.clone()).or_insert((reference, ts));
                *entry = (reference, entry.1.max(ts));
            }
            (Err(e), _) => metrics.reject_series(e),
            (Ok(()), None) => {}
        }
    }
}

fn is_time_series(labels: &Labels) -> bool {
    matches!(labels.metric_name(), PUSH_TIME | PUSH_FAILURE_TIME)
}

impl State {
    /// What the group would hold after a push of `families`, if that is consistent with all other groups.
    fn check(
        &self,
        labels: &Labels,
        families: BTreeMap<String, crate::exposition::Family>,
        replace_all: bool,
        limits: &IngestLimits,
    ) -> Result<BTreeMap<String, crate::exposition::Family>, PushError> {
        for (name, family) in &families {
            let metric_type = family.metadata.metric_type;
            let other = self.groups.iter().filter(|(l, _)| *l != labels).find_map(|(l, g)| {
                let other = g.families.get(name)?.metadata.metric_type;
                (other != metric_type).then_some((l, other))
            });
            if let Some((group, other)) = other {
                return Err(PushError::Inconsistent(format!(
                    "{name:?} is a {} here and a {} in group {group}",
                    metric_type.as_str(),
                    other.as_str()
                )));
            }
            for series in &family.series {
                match self.owners.get(&series.labels) {
                    None => {}
                    Some(Owner::Group(l)) if l == labels => {}
                    Some(Owner::Group(l)) => {
                        return Err(PushError::Inconsistent(format!(
                            "{} is in group {l} already",
                            series.labels
                        )));
                    }
                    Some(Owner::Recorded) => {
                        return Err(PushError::Inconsistent(format!(
                            "{} is a recorded metric",
                            series.labels
                        )));
                    }
                }
            }
        }
        let mut all = match self.groups.get(labels) {
            Some(before) if !replace_all => before.families.clone(),
            _ => BTreeMap::new(),
        };
        all.extend(families);
        let mut seen = std::collections::HashSet::new();
        for series in all.values().flat_map(|f| &f.series) {
            if !seen.insert(&series.labels) {
                return Err(PushError::Inconsistent(format!("{} is in two families", series.labels)));
            }
        }
        let others = self.owners.len() - self.groups.get(labels).map_or(0, Group::series_count);
        if others + seen.len() > limits.pushed_series_max {
            return Err(PushError::Limit {
                what: "the number of pushed series",
                limit: limits.pushed_series_max,
            });
        }
        Ok(all)
    }

    fn insert_group(&mut self, labels: Labels, group: Group) {
        for series in group.series() {
            self.owners.insert(series.labels.clone(), Owner::Group(labels.clone()));
        }
        self.groups.insert(labels, group);
    }

    /// Removes a group; gives its series, the two times included.
    fn remove_group(&mut self, labels: &Labels) -> Vec<Labels> {
        let Some(group) = self.groups.remove(labels) else { return Vec::new() };
        for series in group.series() {
            self.owners.remove(&series.labels);
        }
        let view = group.view(labels);
        view.families.iter().flat_map(|(_, f)| f.series.iter().map(|s| s.labels.clone())).collect()
    }

    fn insert_metric(&mut self, metric: RecordedMetric) {
        self.owners.insert(metric.labels.clone(), Owner::Recorded);
        self.recorded.insert(metric.labels.clone(), metric);
    }

    /// Ends a series after its newest sample.
    fn mark_stale(&mut self, app: &mut Appender, labels: &Labels, now: Timestamp) {
        let (series, ts) = match self.sampled.remove(labels) {
            Some((series, sampled)) => (series, now.max(sampled + 1)),
            None => match app.series(labels) {
                Ok(series) => (series, now),
                Err(_) => return,
            },
        };
        // What is refused has left the ring or has a newer sample: nothing is left to end.
        let _ = app.append(series, ts, stale_marker());
    }
}
