//! The pipeline as a state machine: `(state, event, now) -> (state, effects)`.
//!
//! Each event is a method that takes the time as `now`; [`Core::finish`] then runs what has fallen due and gives the
//! effects: what must be committed, as one transaction, and only then what must be sent. `groups.rs` holds the part
//! about aggregation groups, `escalation.rs` that about policies, `load.rs` the way back from the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::config::AlertmanagerConfig;
use super::entry::{Acknowledgement, Entry, NO_SENDER, Resolution, Statement, format_id, parse_id};
use super::groups::{AggregationGroup, StreamKey};
use super::log::LogEntry;
use super::metrics::{AlertsMetrics, ReasonLabel, StateLabel, StatusLabel};
use super::{AlertFilter, AlertRefusal, AlertView, AlertViewState, HistoryEvent, HistoryEventKind, NewAlert};
use crate::model::{Alert, Labels, Timestamp};
use crate::notify::{Notification, Settled};
use crate::state::{Op, Row, Table};

/// How long a resolved alert is still shown, in milliseconds.
const RESOLVED_KEPT_MS: i64 = 15 * 60_000;
/// The most labels of an alert; a series of the sources has far fewer.
const LABELS_MAX: usize = 128;
/// The most bytes of all label names and values, and the same of annotations.
const LABEL_BYTES_MAX: usize = 16 << 10;
const ANNOTATION_BYTES_MAX: usize = 64 << 10;

/// Limits of the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Alerts held at once. Resolved ones make room first; then new ones are refused.
    pub alerts_max: usize,
    /// Notifications that wait for their receivers. At the limit a group is told at a later flush, when there is
    /// room, what is true then; nothing that is in the outbox is thrown away.
    pub outbox_rows_max: usize,
    pub outbox_bytes_max: usize,
    /// Alerts in one message; a message says how many are left out.
    pub message_alerts_max: usize,
    /// How long history is kept, in milliseconds.
    pub history_kept_ms: i64,
    /// Events of history; beyond that the oldest go, whatever their age.
    pub history_rows_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            alerts_max: 50_000,
            outbox_rows_max: 20_000,
            outbox_bytes_max: 256 << 20,
            message_alerts_max: 10_000,
            history_kept_ms: 30 * 86_400_000,
            history_rows_max: 500_000,
        }
    }
}

/// What must be done about a change.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// To be made durable, all at once, before anything else.
    pub ops: Vec<Op>,
    /// Then to be sent. Their outbox rows are among `ops`.
    pub notifications: Vec<Notification>,
}

/// What falls due at a time. The order is that of things due at the same time: ends come first, so that a group tells
/// of them, and a group tells its own receiver before others are called in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// An alert that was not stated again ends.
    End(u64),
    Group(u64),
    Escalation(u64),
    /// A resolved alert is no longer shown.
    Forget(u64),
}

/// All state of the pipeline.
#[derive(Debug)]
pub struct Core {
    pub(super) config: Arc<AlertmanagerConfig>,
    pub(super) external_url: String,
    pub(super) limits: Limits,
    pub(super) metrics: AlertsMetrics,
    /// By fingerprint.
    pub(super) alerts: BTreeMap<u64, Entry>,
    pub(super) groups: BTreeMap<u64, AggregationGroup>,
    pub(super) group_ids: HashMap<(usize, Labels), u64>,
    pub(super) next_group: u64,
    pub(super) log: BTreeMap<String, LogEntry>,
    /// Log entries with firing alerts that no group looks after since the configuration changed.
    pub(super) orphans: BTreeSet<String>,
    /// Rows of the outbox: their stream and size.
    pub(super) outbox: BTreeMap<u64, (StreamKey, usize)>,
    pub(super) outbox_bytes: usize,
    pub(super) streams: HashMap<StreamKey, usize>,
    pub(super) next_notification: u64,
    pub(super) next_history: u64,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// Groups and receivers for which an escalation step was taken just now.
    pub(super) steps_due: BTreeSet<(u64, String)>,
    /// By [`AlertViewState`].
    pub(super) counts: [i64; 3],
    pub(super) dirty_alerts: BTreeSet<u64>,
    pub(super) dirty_log: BTreeSet<String>,
    pub(super) effects: Effects,
}

impl Core {
    /// Takes in what a rule or a client states, for each alert whether it fires and until when.
    pub fn receive(&mut self, alerts: Vec<Alert>, now: Timestamp) {
        for alert in alerts {
            let firing = !alert.is_resolved_at(now);
            let status = if firing { "firing" } else { "resolved" };
            self.metrics.received.get_or_create(&StatusLabel { status }).inc();
            if let Err(refusal) = self.receive_one(alert, now) {
                let reason = if matches!(refusal, AlertRefusal::TooMany(_)) { "limit" } else { "invalid" };
                let count = self.metrics.refused.get_or_create(&ReasonLabel { reason }).inc();
                // Whoever sends too much sends it again and again.
                if (count + 1).is_power_of_two() {
                    tracing::warn!(error = %refusal, "An alert was refused");
                }
            }
        }
    }

    fn receive_one(&mut self, alert: Alert, now: Timestamp) -> Result<(), AlertRefusal> {
        check_size(&alert.labels, &alert.annotations)?;
        let fp = alert.fingerprint();
        let timeout = alert.ends_at.is_none();
        let ends_at = alert.ends_at.unwrap_or(now + self.config.resolve_timeout_ms);
        let fires = ends_at > now;
        let statement = Statement { alert, ends_at, timeout };
        let Some(entry) = self.alerts.get_mut(&fp) else {
            if fires {
                self.make_room()?;
                self.fire(fp, statement, false, now);
            }
            return Ok(());
        };
        check_same(entry, &statement.alert.labels)?;
        if entry.is_active() && fires {
            if entry.merge(statement, now) {
                self.dirty_alerts.insert(fp);
            }
            self.watch_end(fp);
        } else if entry.is_active() {
            entry.ends_at = ends_at;
            entry.updated_at = now;
            entry.timeout = false;
            if !entry.pinned {
                self.resolve(fp, Resolution { at: now, ends_at, by: None, comment: None }, now);
            }
        } else if entry.held && fires {
            entry.ends_at = ends_at;
            entry.updated_at = now;
            self.watch_end(fp);
        } else if entry.held {
            entry.ends_at = ends_at;
            entry.updated_at = now;
            self.release(fp);
        } else if fires {
            self.fire(fp, statement, false, now);
        }
        Ok(())
    }

    /// Raises an alert that fires until a call resolves it. One that fires already is that alert from now on, with
    /// these annotations.
    ///
    /// # Errors
    /// When the labels are invalid or there are too many alerts.
    pub fn create(&mut self, new: NewAlert, now: Timestamp) -> Result<AlertView, AlertRefusal> {
        check_size(&new.labels, &new.annotations)?;
        if new.labels.get("alertname").is_none() {
            return Err(AlertRefusal::Invalid("the label alertname is missing".to_owned()));
        }
        let fp = new.labels.fingerprint();
        match self.alerts.get(&fp) {
            Some(entry) => check_same(entry, &new.labels)?,
            None => self.make_room()?,
        }
        let alert = Alert {
            labels: new.labels,
            annotations: new.annotations,
            starts_at: now,
            ends_at: None,
            updated_at: now,
            generator_url: new.generator_url,
        };
        if self.alerts.get(&fp).is_some_and(Entry::is_active) {
            self.edit(fp, |entry| {
                entry.pinned = true;
                entry.annotations = alert.annotations;
                if !alert.generator_url.is_empty() {
                    entry.generator_url = alert.generator_url;
                }
                entry.updated_at = now;
            });
        } else {
            // A rule may go on stating an alert that was resolved by hand; its statement still counts.
            let ends_at = self.alerts.get(&fp).filter(|e| e.held).map_or(NO_SENDER, |e| e.ends_at);
            self.fire(fp, Statement { alert, ends_at, timeout: true }, true, now);
        }
        self.view(fp).ok_or_else(|| AlertRefusal::NotFound(format_id(fp)))
    }

    /// Records that somebody looks after an alert, which ends its escalation unless its policy says otherwise.
    ///
    /// # Errors
    /// When there is no such alert, or it is acknowledged or resolved already.
    pub fn acknowledge(
        &mut self,
        id: &str,
        by: &str,
        comment: Option<&str>,
        now: Timestamp,
    ) -> Result<AlertView, AlertRefusal> {
        let fp = self.find(id)?;
        let refused = match self.alerts[&fp].state() {
            AlertViewState::Firing => None,
            AlertViewState::Acknowledged => Some("acknowledged"),
            AlertViewState::Resolved => Some("resolved"),
        };
        if let Some(state) = refused {
            return Err(AlertRefusal::WrongState { id: id.to_owned(), state });
        }
        let acknowledgement =
            Acknowledgement { by: by.to_owned(), comment: comment.map(str::to_owned), at: now };
        self.edit(fp, |entry| entry.acknowledged = Some(acknowledgement));
        self.record(fp, HistoryEventKind::Acknowledged, Some(by), comment, None, now);
        self.view(fp).ok_or_else(|| AlertRefusal::NotFound(id.to_owned()))
    }

    /// Ends an alert. One that its senders go on stating stays resolved until they have stopped once.
    ///
    /// # Errors
    /// When there is no such alert, or it is resolved already.
    pub fn resolve_by_call(
        &mut self,
        id: &str,
        by: &str,
        comment: Option<&str>,
        now: Timestamp,
    ) -> Result<AlertView, AlertRefusal> {
        let fp = self.find(id)?;
        if !self.alerts[&fp].is_active() {
            return Err(AlertRefusal::WrongState { id: id.to_owned(), state: "resolved" });
        }
        self.edit(fp, |entry| {
            entry.pinned = false;
            entry.held = entry.ends_at > now;
        });
        let resolution = Resolution {
            at: now,
            ends_at: now,
            by: Some(by.to_owned()),
            comment: comment.map(str::to_owned),
        };
        self.resolve(fp, resolution, now);
        self.watch_end(fp);
        self.view(fp).ok_or_else(|| AlertRefusal::NotFound(id.to_owned()))
    }

    /// Notifications that are done with leave the outbox.
    pub fn settled(&mut self, settled: Vec<Settled>) {
        for Settled { seq, .. } in settled {
            let Some((stream, bytes)) = self.outbox.remove(&seq) else { continue };
            self.outbox_bytes -= bytes;
            if let Some(count) = self.streams.get_mut(&stream) {
                *count -= 1;
                if *count == 0 {
                    self.streams.remove(&stream);
                }
            }
            self.effects.ops.push(Notification::delete(seq));
        }
    }

    /// From now on another configuration holds. Alerts, acknowledgements and the notification log stay; groups are
    /// made anew, and the log keeps them from telling again what was told.
    pub fn reload(&mut self, config: Arc<AlertmanagerConfig>, now: Timestamp) {
        self.config = config;
        self.rebuild_groups(now);
    }

    /// Forgets history that is older than the limit, and log entries that nothing refers to.
    pub fn clean_up(&mut self, now: Timestamp) {
        let before = now - self.limits.history_kept_ms;
        self.effects.ops.push(Op::DeleteBefore { table: Table::History, before });
        let alerts = &self.alerts;
        let stale: Vec<String> = self
            .log
            .iter()
            .filter(|(_, e)| !e.firing.iter().any(|fp| alerts.get(fp).is_some_and(|a| !a.settled)))
            .filter(|(_, e)| now - e.at > RESOLVED_KEPT_MS)
            .map(|(key, _)| key.clone())
            .collect();
        for key in stale {
            self.orphans.remove(&key);
            self.log.remove(&key);
            self.dirty_log.insert(key);
        }
    }

    /// Runs everything that is due at `now`, and gives the effects of this and of all calls since the last time.
    pub fn finish(&mut self, now: Timestamp) -> Effects {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::End(fp) => self.end_timer(fp, now),
                Timer::Group(id) => self.group_timer(id, now),
                Timer::Escalation(fp) => self.escalation_timer(fp, now),
                Timer::Forget(fp) => self.forget(fp, now),
            }
        }
        self.notify_escalated(now);
        self.metrics.groups.set(i64::try_from(self.groups.len()).unwrap_or(i64::MAX));
        for (state, count) in ["firing", "acknowledged", "resolved"].into_iter().zip(self.counts) {
            self.metrics.alerts.get_or_create(&StateLabel { state }).set(count);
        }
        for fp in std::mem::take(&mut self.dirty_alerts) {
            let key = format_id(fp);
            self.effects.ops.push(match self.alerts.get(&fp) {
                Some(entry) => put(Table::Alerts, key, entry.updated_at, entry),
                None => Op::Delete { table: Table::Alerts, key },
            });
        }
        for key in std::mem::take(&mut self.dirty_log) {
            self.effects.ops.push(match self.log.get(&key) {
                Some(entry) => put(Table::NotificationLog, key, entry.at, entry),
                None => Op::Delete { table: Table::NotificationLog, key },
            });
        }
        std::mem::take(&mut self.effects)
    }

    pub(super) fn history_rows_max(&self) -> usize {
        self.limits.history_rows_max
    }

    /// When [`Core::finish`] will next have something to do by itself.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The alerts that pass the filter, newest first.
    #[must_use]
    pub fn list(&self, filter: &AlertFilter) -> Vec<AlertView> {
        let mut views: Vec<AlertView> = self
            .alerts
            .iter()
            .filter(|(_, entry)| entry.passes(filter))
            .map(|(fp, entry)| entry.view(*fp, self.next_escalation_at(entry)))
            .collect();
        views.sort_by(|a, b| (b.starts_at, &a.id).cmp(&(a.starts_at, &b.id)));
        views
    }

    /// The alert with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<AlertView> {
        self.view(parse_id(id)?)
    }

    fn view(&self, fp: u64) -> Option<AlertView> {
        let entry = self.alerts.get(&fp)?;
        Some(entry.view(fp, self.next_escalation_at(entry)))
    }

    fn find(&self, id: &str) -> Result<u64, AlertRefusal> {
        parse_id(id)
            .filter(|fp| self.alerts.contains_key(fp))
            .ok_or_else(|| AlertRefusal::NotFound(id.to_owned()))
    }

    /// Changes an entry durably and keeps count of states.
    pub(super) fn edit(&mut self, fp: u64, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.alerts.get_mut(&fp) else { return };
        self.counts[entry.state() as usize] -= 1;
        change(entry);
        self.counts[entry.state() as usize] += 1;
        self.dirty_alerts.insert(fp);
    }

    /// Begins an incarnation.
    fn fire(&mut self, fp: u64, statement: Statement, pinned: bool, now: Timestamp) {
        let Statement { alert, ends_at, timeout } = statement;
        if !self.alerts.contains_key(&fp) {
            self.counts[AlertViewState::Firing as usize] += 1;
            self.alerts.insert(fp, Entry { labels: alert.labels, ..Entry::default() });
        }
        self.edit(fp, |entry| {
            *entry = Entry {
                labels: entry.labels.clone(),
                annotations: alert.annotations,
                generator_url: alert.generator_url,
                starts_at: alert.starts_at,
                fired_at: now,
                updated_at: now,
                ends_at,
                timeout,
                pinned,
                // Receivers that have not yet heard that it had resolved still believe that it fires.
                told: if entry.settled { Vec::new() } else { std::mem::take(&mut entry.told) },
                groups: std::mem::take(&mut entry.groups),
                end_timer: entry.end_timer,
                step_timer: entry.step_timer,
                ..Entry::default()
            };
        });
        self.record(fp, HistoryEventKind::Fired, None, None, None, now);
        self.watch_end(fp);
        self.join_groups(fp, now);
        self.watch_escalation(fp);
    }

    /// Ends an incarnation.
    fn resolve(&mut self, fp: u64, resolution: Resolution, now: Timestamp) {
        let (by, comment) = (resolution.by.clone(), resolution.comment.clone());
        self.edit(fp, |entry| entry.resolved = Some(resolution));
        self.record(fp, HistoryEventKind::Resolved, by.as_deref(), comment.as_deref(), None, now);
        let groups = self.alerts.get(&fp).map(|e| e.groups.clone()).unwrap_or_default();
        for group in &groups {
            self.touch_group(*group, now);
        }
        self.tell_orphans(fp, now);
        if groups.is_empty() {
            self.settle(fp);
        }
    }

    /// Senders have stopped stating an alert that was resolved by a call: it may fire again.
    fn release(&mut self, fp: u64) {
        self.edit(fp, |entry| entry.held = false);
        self.watch_forget(fp);
    }

    /// Everyone was told that it has resolved.
    pub(super) fn settle(&mut self, fp: u64) {
        self.edit(fp, |entry| entry.settled = true);
        self.watch_forget(fp);
    }

    /// Sees to it that the alert's end is noticed. Timers that come too early are simply set again, so that an alert
    /// that is stated every few seconds costs no timer each time.
    pub(super) fn watch_end(&mut self, fp: u64) {
        let Some(entry) = self.alerts.get_mut(&fp) else { return };
        let waits = (entry.is_active() && !entry.pinned) || entry.held;
        if waits && entry.end_timer.is_none_or(|at| at > entry.ends_at) {
            if let Some(before) = entry.end_timer.replace(entry.ends_at) {
                self.timers.remove(&(before, Timer::End(fp)));
            }
            self.timers.insert((entry.ends_at, Timer::End(fp)));
        }
    }

    fn end_timer(&mut self, fp: u64, now: Timestamp) {
        let Some(entry) = self.alerts.get_mut(&fp) else { return };
        entry.end_timer = None;
        let ends_at = entry.ends_at;
        if ends_at > now {
            self.watch_end(fp);
        } else if entry.is_active() && !entry.pinned {
            self.resolve(fp, Resolution { at: now, ends_at, by: None, comment: None }, now);
        } else if entry.held {
            self.release(fp);
        }
    }

    pub(super) fn watch_forget(&mut self, fp: u64) {
        let Some(entry) = self.alerts.get(&fp) else { return };
        if let (Some(resolved), true, false) = (&entry.resolved, entry.settled, entry.held) {
            self.timers.insert((resolved.at + RESOLVED_KEPT_MS, Timer::Forget(fp)));
        }
    }

    fn forget(&mut self, fp: u64, now: Timestamp) {
        let Some(entry) = self.alerts.get(&fp) else { return };
        let due = entry.resolved.as_ref().is_some_and(|r| r.at + RESOLVED_KEPT_MS <= now);
        if due && entry.settled && !entry.held {
            self.remove(fp);
        }
    }

    fn remove(&mut self, fp: u64) {
        let Some(entry) = self.alerts.remove(&fp) else { return };
        self.counts[entry.state() as usize] -= 1;
        self.dirty_alerts.insert(fp);
        for (at, timer) in [(entry.end_timer, Timer::End(fp)), (entry.step_timer, Timer::Escalation(fp))] {
            if let Some(at) = at {
                self.timers.remove(&(at, timer));
            }
        }
    }

    /// Makes room for one more alert: the one that has been resolved and told the longest goes.
    fn make_room(&mut self) -> Result<(), AlertRefusal> {
        if self.alerts.len() < self.limits.alerts_max {
            return Ok(());
        }
        let oldest = self
            .alerts
            .iter()
            .filter(|(_, e)| e.settled && !e.held)
            .min_by_key(|(_, e)| e.resolved.as_ref().map(|r| r.at))
            .map(|(fp, _)| *fp);
        match oldest {
            Some(fp) => {
                self.remove(fp);
                Ok(())
            }
            None => Err(AlertRefusal::TooMany(self.limits.alerts_max)),
        }
    }

    pub(super) fn record(
        &mut self,
        fp: u64,
        kind: HistoryEventKind,
        by: Option<&str>,
        comment: Option<&str>,
        receiver: Option<&str>,
        now: Timestamp,
    ) {
        let Some(entry) = self.alerts.get(&fp) else { return };
        let event = HistoryEvent {
            at: now,
            alert_id: format_id(fp),
            kind,
            labels: entry.labels.clone(),
            annotations: entry.annotations.clone(),
            severity: entry.severity().to_owned(),
            by: by.map(str::to_owned),
            comment: comment.map(str::to_owned),
            receiver: receiver.map(str::to_owned),
        };
        // Within one millisecond the order of events is that of keys.
        let key = format!("{:016x}-{}", self.next_history, event.alert_id);
        self.next_history += 1;
        self.effects.ops.push(put(Table::History, key, now, &event));
    }
}

fn put<T: serde::Serialize>(table: Table, key: String, ts: Timestamp, value: &T) -> Op {
    let body = serde_json::to_vec(value).expect("rows are made of strings, numbers and lists of them");
    Op::Put { table, row: Row { key, ts, body } }
}

fn check_size(labels: &Labels, annotations: &Labels) -> Result<(), AlertRefusal> {
    let bytes = |l: &Labels| l.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
    let refuse = |why: String| Err(AlertRefusal::Invalid(why));
    if labels.is_empty() {
        refuse("an alert needs at least one label".to_owned())
    } else if labels.iter().chain(annotations.iter()).any(|(name, _)| name.is_empty()) {
        refuse("a label name is empty".to_owned())
    } else if labels.len() > LABELS_MAX || annotations.len() > LABELS_MAX {
        refuse(format!("an alert has more than {LABELS_MAX} labels or annotations"))
    } else if bytes(labels) > LABEL_BYTES_MAX {
        refuse(format!("the labels of an alert have more than {LABEL_BYTES_MAX} bytes"))
    } else if bytes(annotations) > ANNOTATION_BYTES_MAX {
        refuse(format!("the annotations of an alert have more than {ANNOTATION_BYTES_MAX} bytes"))
    } else {
        Ok(())
    }
}

/// Two label sets with one fingerprint would be one alert.
fn check_same(entry: &Entry, labels: &Labels) -> Result<(), AlertRefusal> {
    if entry.labels == *labels {
        return Ok(());
    }
    Err(AlertRefusal::Invalid(format!("{labels} has the fingerprint of {}", entry.labels)))
}
