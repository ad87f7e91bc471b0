//! Aggregation groups: when each is flushed, and whom a flush tells what.
//!
//! A flush goes through stages, in Alertmanager's order:
//!
//! 1. take the group's alerts as they are now;
//! 2. **muting**: what inhibition, time intervals and silences take away is taken away here, between the snapshot
//!    and dedup, in that order. None of the three exists yet: every alert passes;
//! 3. dedup by the notification log, for each integration;
//! 4. notify: write to the outbox and to the log, in one transaction;
//! 5. the same for receivers that were called in by escalation;
//! 6. resolved alerts leave the group; a group without alerts vanishes.
//!
//! Source: alertmanager, `dispatch/dispatch.go`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::core::{Core, Timer};
use super::log::{LogEntry, Reason, needs_update};
use super::route::Route;
use crate::model::{Labels, Timestamp};
use crate::notify::{Message, MessageAlert, Notification, Status};

/// Receiver, integration and group key: what is told to it arrives in order.
pub(super) type StreamKey = (Arc<str>, usize, Arc<str>);

/// The alerts of a route that have the same group labels.
#[derive(Debug)]
pub(super) struct AggregationGroup {
    pub route: usize,
    pub key: Arc<str>,
    pub labels: Labels,
    pub members: BTreeSet<u64>,
    /// Receivers that escalation has called in, now or in an earlier run of the server.
    pub escalated: BTreeSet<String>,
    /// The timer that is set.
    pub next_flush: Option<Timestamp>,
    pub last_flush: Option<Timestamp>,
}

/// What an integration of a group may be told of.
struct Snapshot<'a> {
    firing: &'a BTreeSet<u64>,
    resolved: &'a BTreeSet<u64>,
}

/// To whom, and in which role.
struct Address<'a> {
    group: u64,
    receiver: &'a str,
    escalation: bool,
    /// `None` for one that gets no reminders.
    repeat_ms: Option<i64>,
    /// A step is due: it is told even if it knows all.
    force: bool,
}

impl Core {
    pub(super) fn route(&self, group: &AggregationGroup) -> &Route {
        &self.config.routes.list[group.route]
    }

    /// Puts a firing alert into the groups of its routes.
    pub(super) fn join_groups(&mut self, fp: u64, now: Timestamp) {
        let Some(entry) = self.alerts.get(&fp) else { return };
        let (labels, starts_at) = (entry.labels.clone(), entry.starts_at);
        let config = Arc::clone(&self.config);
        for at in config.routes.of(&labels) {
            let route = &config.routes.list[at];
            let group_labels = route.group_labels(&labels);
            let id = match self.group_ids.get(&(at, group_labels.clone())) {
                Some(id) => *id,
                None => self.new_group(at, group_labels),
            };
            if let Some(entry) = self.alerts.get_mut(&fp)
                && !entry.groups.contains(&id)
            {
                entry.groups.push(id);
            }
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.members.insert(fp);
            if group.last_flush.is_some() {
                self.touch_group(id, now);
            } else {
                // An alert that has fired for longer than the wait, elsewhere, waits no more.
                let waited = starts_at.saturating_add(route.group_wait_ms) < now;
                self.flush_at(id, if waited { now } else { now + route.group_wait_ms });
            }
        }
    }

    fn new_group(&mut self, route: usize, labels: Labels) -> u64 {
        let id = self.next_group;
        self.next_group += 1;
        let key: Arc<str> = self.config.routes.list[route].group_key(&labels).into();
        self.group_ids.insert((route, labels.clone()), id);
        let group = AggregationGroup {
            route,
            key,
            labels,
            members: BTreeSet::new(),
            escalated: BTreeSet::new(),
            next_flush: None,
            last_flush: None,
        };
        self.groups.insert(id, group);
        id
    }

    /// Something in the group has changed: it is flushed at its next tick.
    pub(super) fn touch_group(&mut self, id: u64, now: Timestamp) {
        let Some(group) = self.groups.get(&id) else { return };
        if let Some(last) = group.last_flush {
            self.flush_at(id, next_tick(last, self.route(group).group_interval_ms, now));
        }
    }

    /// Sees to it that the group is flushed at `at` or before.
    fn flush_at(&mut self, id: u64, at: Timestamp) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.next_flush.is_some_and(|next| next <= at) {
            return;
        }
        if let Some(before) = group.next_flush.replace(at) {
            self.timers.remove(&(before, Timer::Group(id)));
        }
        self.timers.insert((at, Timer::Group(id)));
    }

    pub(super) fn group_timer(&mut self, id: u64, now: Timestamp) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.next_flush = None;
        group.last_flush = Some(now);
        let complete = self.flush(id, now);
        let Some(group) = self.groups.get(&id) else { return };
        let route = self.route(group);
        // Ticks at which nothing can happen are not waited for: the next is that of the earliest reminder.
        let at = if complete { self.repeat_due(id) } else { Some(now) };
        if let Some(at) = at {
            let at = next_tick(now, route.group_interval_ms, at);
            self.flush_at(id, at);
        }
    }

    /// When somebody must be reminded that the group still fires.
    fn repeat_due(&self, id: u64) -> Option<Timestamp> {
        let group = self.groups.get(&id)?;
        let route = self.route(group);
        let main = (route.receiver.as_str(), false);
        let escalated = group.escalated.iter().map(|r| (r.as_str(), true));
        std::iter::once(main)
            .chain(escalated)
            .filter(|(receiver, escalation)| !escalation || self.escalation_lasts(group, receiver))
            .flat_map(|(receiver, escalation)| {
                let count = self.config.receivers.get(receiver).map_or(0, |r| r.integrations.len());
                (0..count).map(move |i| LogEntry::key(&group.key, receiver, i, escalation))
            })
            .filter_map(|key| self.log.get(&key).filter(|e| !e.firing.is_empty()))
            .map(|entry| entry.at.saturating_add(route.repeat_interval_ms))
            .min()
    }

    /// Tells everyone what is new in a group. Returns false if something could not be told now.
    fn flush(&mut self, id: u64, now: Timestamp) -> bool {
        let Some(group) = self.groups.get(&id) else { return true };
        let active = |fp: &u64| self.alerts.get(fp).is_some_and(|e| e.is_active());
        let (firing, resolved): (BTreeSet<u64>, BTreeSet<u64>) =
            group.members.iter().copied().partition(active);
        let route = self.route(group);
        let (receiver, repeat_ms) = (route.receiver.clone(), route.repeat_interval_ms);
        let escalated: Vec<String> = group.escalated.iter().filter(|r| **r != receiver).cloned().collect();

        // A step that was taken a moment ago is told here, once.
        let force = self.steps_due.remove(&(id, receiver.clone()));
        let address =
            Address { group: id, receiver: &receiver, escalation: false, repeat_ms: Some(repeat_ms), force };
        let mut complete = self.tell(&address, &Snapshot { firing: &firing, resolved: &resolved }, now);
        for receiver in &escalated {
            let force = self.steps_due.remove(&(id, receiver.clone()));
            complete &= self.tell_escalated(id, receiver, force, now);
        }
        if complete {
            self.leave(id, &resolved);
        }
        complete
    }

    /// Tells the route's own receiver, as a step of escalation asks for. It goes on in its own role: nobody hears of
    /// the same group twice.
    pub(super) fn tell_own_again(&mut self, id: u64, now: Timestamp) -> bool {
        let Some(group) = self.groups.get(&id) else { return true };
        let active = |fp: &u64| self.alerts.get(fp).is_some_and(|e| e.is_active());
        let (firing, resolved): (BTreeSet<u64>, BTreeSet<u64>) =
            group.members.iter().copied().partition(active);
        let route = self.route(group);
        let (receiver, repeat_ms) = (route.receiver.clone(), Some(route.repeat_interval_ms));
        let address = Address { group: id, receiver: &receiver, escalation: false, repeat_ms, force: true };
        self.tell(&address, &Snapshot { firing: &firing, resolved: &resolved }, now)
    }

    /// Whether this is the group's own receiver, told without any escalation.
    pub(super) fn is_own_receiver(&self, id: u64, receiver: &str) -> bool {
        self.groups.get(&id).is_some_and(|group| self.route(group).receiver == receiver)
    }

    /// Tells a receiver that escalation has called in, other than the route's own.
    pub(super) fn tell_escalated(&mut self, id: u64, receiver: &str, force: bool, now: Timestamp) -> bool {
        let Some(group) = self.groups.get(&id) else { return true };
        let count = self.config.receivers.get(receiver).map_or(0, |r| r.integrations.len());
        // Those that it was called in for, and those that it still believes to fire from an earlier incarnation.
        let believed = |fp: &u64| {
            (0..count)
                .filter_map(|i| self.log.get(&LogEntry::key(&group.key, receiver, i, true)))
                .any(|entry| entry.firing.contains(fp))
        };
        let called = |fp: &u64| {
            let steps = self.alerts.get(fp).map(|e| e.steps.as_slice()).unwrap_or_default();
            steps.iter().any(|s| s.receiver == receiver && *s.group_key == *group.key)
        };
        let concerned = group.members.iter().copied().filter(|fp| called(fp) || believed(fp));
        let (firing, resolved): (BTreeSet<u64>, BTreeSet<u64>) =
            concerned.partition(|fp| self.alerts.get(fp).is_some_and(|e| e.is_active()));
        let lasts = self.escalation_lasts(group, receiver);
        let repeat_ms = lasts.then_some(self.route(group).repeat_interval_ms);
        let address = Address { group: id, receiver, escalation: true, repeat_ms, force };
        self.tell(&address, &Snapshot { firing: &firing, resolved: &resolved }, now)
    }

    /// Dedup and notify. Returns false if the outbox is full.
    fn tell(&mut self, address: &Address<'_>, snapshot: &Snapshot<'_>, now: Timestamp) -> bool {
        let Some(receiver) = self.config.receivers.get(address.receiver).cloned() else { return true };
        let Some(group) = self.groups.get(&address.group) else { return true };
        let (group_key, group_labels) = (Arc::clone(&group.key), group.labels.clone());
        let name: Arc<str> = receiver.name.as_str().into();
        let mut complete = true;
        for (i, integration) in receiver.integrations.iter().enumerate() {
            let log_key = LogEntry::key(&group_key, &receiver.name, i, address.escalation);
            let stream: StreamKey = (Arc::clone(&name), i, Arc::clone(&group_key));
            let reason = needs_update(
                self.log.get(&log_key),
                snapshot.firing,
                snapshot.resolved,
                integration.send_resolved,
                address.repeat_ms,
                now,
            );
            let reason = match reason {
                None | Some(Reason::Repeat) if address.force && !snapshot.firing.is_empty() => {
                    Reason::Escalated
                }
                // It has not even taken the last message.
                Some(Reason::Repeat) if self.streams.contains_key(&stream) => continue,
                Some(reason) => reason,
                None => continue,
            };
            let mut told: Vec<u64> = snapshot.firing.iter().copied().collect();
            if integration.send_resolved {
                told.extend(snapshot.resolved);
            }
            if !told.is_empty() {
                let body = self.message(
                    &receiver.name,
                    &group_key,
                    &group_labels,
                    reason,
                    told,
                    integration.webhook.max_alerts,
                );
                if !self.enqueue(stream, body, now) {
                    complete = false;
                    continue;
                }
                tracing::debug!(receiver = %receiver.name, group_key = %group_key, ?reason, "Notification decided");
            }
            let entry = LogEntry {
                group_key: group_key.as_ref().to_owned(),
                group_labels: group_labels.clone(),
                receiver: receiver.name.clone(),
                integration: i,
                escalation: address.escalation,
                firing: snapshot.firing.clone(),
                resolved: snapshot.resolved.clone(),
                at: now,
            };
            self.log.insert(log_key.clone(), entry);
            self.dirty_log.insert(log_key);
            for fp in snapshot.firing {
                if self.alerts.get(fp).is_some_and(|e| !e.told.contains(&receiver.name)) {
                    self.edit(*fp, |entry| entry.told.push(receiver.name.clone()));
                }
            }
        }
        complete
    }

    /// The message about these alerts, in Alertmanager's order.
    fn message(
        &self,
        receiver: &str,
        group_key: &str,
        group_labels: &Labels,
        reason: Reason,
        told: Vec<u64>,
        max_alerts: usize,
    ) -> Vec<u8> {
        let mut entries: Vec<_> = told.iter().filter_map(|fp| Some((*fp, self.alerts.get(fp)?))).collect();
        entries.sort_by(|(_, a), (_, b)| upstream_order(&a.labels, &b.labels));
        let alerts: Vec<MessageAlert> = entries
            .into_iter()
            .map(|(fingerprint, e)| MessageAlert {
                status: if e.is_active() { Status::Firing } else { Status::Resolved },
                labels: e.labels.clone(),
                annotations: e.annotations.clone(),
                starts_at: e.starts_at,
                ends_at: e.resolved.as_ref().map_or(0, |r| r.ends_at),
                generator_url: e.generator_url.clone(),
                fingerprint,
            })
            .collect();
        let limit = self.limits.message_alerts_max;
        let message = Message {
            receiver,
            reason: reason.as_str(),
            group_key,
            group_labels,
            external_url: &self.external_url,
            alerts: &alerts,
        };
        message.to_json(if max_alerts == 0 { limit } else { max_alerts.min(limit) })
    }

    /// Writes a message to the outbox. Returns false if there is no room.
    fn enqueue(&mut self, stream: StreamKey, body: Vec<u8>, now: Timestamp) -> bool {
        let room = self.outbox.len() < self.limits.outbox_rows_max
            && self.outbox_bytes + body.len() <= self.limits.outbox_bytes_max.max(body.len());
        if !room {
            if self.metrics.outbox_full.inc().is_multiple_of(1000) {
                tracing::error!(
                    rows = self.outbox.len(), bytes = self.outbox_bytes, receiver = %stream.0,
                    "The outbox is full: notifications are put off until receivers take what waits"
                );
            }
            return false;
        }
        let seq = self.next_notification;
        self.next_notification += 1;
        // Sequence numbers begin anew when the outbox was empty at a start; what has happened so far, and the message
        // itself, tell two notifications of one millisecond apart.
        let identity = format!("{}/{}/{}@{now}+{}", stream.0, stream.1, stream.2, self.next_history);
        let hash = identity
            .bytes()
            .chain(body.iter().copied())
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let notification = Notification {
            seq,
            receiver: Arc::clone(&stream.0),
            integration: stream.1,
            group_key: Arc::clone(&stream.2),
            created_at: now,
            idempotency_key: format!("{hash:016x}{seq:016x}"),
            body: Bytes::from(body),
        };
        self.effects.ops.push(notification.put());
        self.outbox_add(&notification);
        self.effects.notifications.push(notification);
        true
    }

    /// Counts a row of the outbox.
    pub(super) fn outbox_add(&mut self, notification: &Notification) {
        let stream: StreamKey = (
            Arc::clone(&notification.receiver),
            notification.integration,
            Arc::clone(&notification.group_key),
        );
        *self.streams.entry(stream.clone()).or_default() += 1;
        self.outbox_bytes += notification.body.len();
        self.outbox.insert(notification.seq, (stream, notification.body.len()));
    }

    /// Resolved alerts leave their group; an empty group vanishes.
    fn leave(&mut self, id: u64, resolved: &BTreeSet<u64>) {
        for fp in resolved {
            if let Some(group) = self.groups.get_mut(&id) {
                group.members.remove(fp);
            }
            let Some(entry) = self.alerts.get_mut(fp) else { continue };
            entry.groups.retain(|g| g != &id);
            if entry.groups.is_empty() {
                self.settle(*fp);
            }
        }
        if self.groups.get(&id).is_some_and(|g| g.members.is_empty()) {
            self.remove_group(id);
        }
    }

    fn remove_group(&mut self, id: u64) {
        let Some(group) = self.groups.remove(&id) else { return };
        if let Some(at) = group.next_flush {
            self.timers.remove(&(at, Timer::Group(id)));
        }
        let receiver = self.config.routes.list[group.route].receiver.as_str();
        let told =
            std::iter::once((receiver, false)).chain(group.escalated.iter().map(|r| (r.as_str(), true)));
        for (receiver, escalation) in told {
            let count = self.config.receivers.get(receiver).map_or(0, |r| r.integrations.len());
            for i in 0..count {
                let key = LogEntry::key(&group.key, receiver, i, escalation);
                if self.log.get(&key).is_some_and(|e| e.firing.is_empty()) {
                    self.log.remove(&key);
                    self.dirty_log.insert(key);
                }
            }
        }
        self.group_ids.remove(&(group.route, group.labels));
    }

    /// Makes all groups anew from the alerts, after a start or a change of the configuration.
    pub(super) fn rebuild_groups(&mut self, now: Timestamp) {
        self.timers.retain(|(_, timer)| !matches!(timer, Timer::Group(_) | Timer::Escalation(_)));
        self.groups.clear();
        self.group_ids.clear();
        self.steps_due.clear();
        let mut members: Vec<u64> = Vec::new();
        for (fp, entry) in &mut self.alerts {
            entry.groups.clear();
            entry.step_timer = None;
            if !entry.settled {
                members.push(*fp);
            }
        }
        for fp in &members {
            self.join_groups(*fp, now);
        }
        // Who was called in by escalation, and who was told and has no group any more.
        self.orphans.clear();
        let mut by_key: std::collections::HashMap<Arc<str>, Vec<u64>> = std::collections::HashMap::new();
        for (id, group) in &self.groups {
            by_key.entry(Arc::clone(&group.key)).or_default().push(*id);
        }
        self.change_roles(&by_key);
        for (log_key, entry) in &self.log {
            let ids = by_key.get(entry.group_key.as_str()).map(Vec::as_slice).unwrap_or_default();
            let mut found = false;
            for id in ids {
                let Some(group) = self.groups.get_mut(id) else { continue };
                if entry.escalation {
                    group.escalated.insert(entry.receiver.clone());
                    found = true;
                } else {
                    found |= self.config.routes.list[group.route].receiver == entry.receiver;
                }
            }
            if !found && !entry.firing.is_empty() {
                self.orphans.insert(log_key.clone());
            }
        }
        for fp in &members {
            let Some(entry) = self.alerts.get(fp) else { continue };
            for step in &entry.steps {
                for id in by_key.get(step.group_key.as_str()).into_iter().flatten() {
                    if let Some(group) = self.groups.get_mut(id) {
                        group.escalated.insert(step.receiver.clone());
                    }
                }
            }
            self.watch_escalation(*fp);
        }
        // Some may have resolved just before, and were to be told by the group that is gone.
        let ended: BTreeSet<u64> = self
            .orphans
            .iter()
            .filter_map(|key| self.log.get(key))
            .flat_map(|entry| entry.firing.iter().copied())
            .filter(|fp| self.alerts.get(fp).is_none_or(|e| !e.is_active()))
            .collect();
        for fp in ended {
            self.tell_orphans(fp, now);
        }
    }

    /// Whom escalation had called in and who is now the route's own receiver, or the other way round, keeps what it
    /// was told, in its new role: it is neither told again, nor twice of the end.
    fn change_roles(&mut self, by_key: &std::collections::HashMap<Arc<str>, Vec<u64>>) {
        let mut changes: Vec<(String, String)> = Vec::new();
        for (log_key, entry) in &self.log {
            let Some(ids) = by_key.get(entry.group_key.as_str()) else { continue };
            let own = ids.iter().any(|id| self.is_own_receiver(*id, &entry.receiver));
            let called_in = || {
                let steps = entry.firing.iter().filter_map(|fp| self.alerts.get(fp)).flat_map(|e| &e.steps);
                steps.into_iter().any(|s| s.receiver == entry.receiver && s.group_key == entry.group_key)
            };
            if own == entry.escalation && (own || called_in()) {
                let key =
                    LogEntry::key(&entry.group_key, &entry.receiver, entry.integration, !entry.escalation);
                changes.push((log_key.clone(), key));
            }
        }
        for (from, to) in changes {
            self.change_role(&from, to);
        }
    }

    /// A receiver that was the route's own before the configuration changed is called in by escalation.
    pub(super) fn adopt_orphans(&mut self, group_key: &str, receiver: &str) {
        let count = self.config.receivers.get(receiver).map_or(0, |r| r.integrations.len());
        for i in 0..count {
            let from = LogEntry::key(group_key, receiver, i, false);
            if self.orphans.remove(&from) {
                self.change_role(&from, LogEntry::key(group_key, receiver, i, true));
            }
        }
    }

    fn change_role(&mut self, from: &str, to: String) {
        let Some(mut entry) = self.log.remove(from) else { return };
        entry.escalation = !entry.escalation;
        if let Some(other) = self.log.get(&to) {
            entry.firing.extend(&other.firing);
            entry.at = entry.at.max(other.at);
        }
        self.log.insert(to.clone(), entry);
        self.dirty_log.extend([from.to_owned(), to]);
    }

    /// Tells receivers that no group looks after any more that an alert has resolved, of which they were told that it
    /// fires.
    pub(super) fn tell_orphans(&mut self, fp: u64, now: Timestamp) {
        let keys: Vec<String> = self
            .orphans
            .iter()
            .filter(|key| self.log.get(*key).is_some_and(|e| e.firing.contains(&fp)))
            .cloned()
            .collect();
        for key in keys {
            let Some(entry) = self.log.get(&key).cloned() else { continue };
            let integration = self
                .config
                .receivers
                .get(&entry.receiver)
                .and_then(|r| r.integrations.get(entry.integration))
                .filter(|i| i.send_resolved && self.alerts.contains_key(&fp))
                .cloned();
            if let Some(integration) = integration {
                let max_alerts = integration.webhook.max_alerts;
                let body = self.message(
                    &entry.receiver,
                    &entry.group_key,
                    &entry.group_labels,
                    Reason::AllResolved,
                    vec![fp],
                    max_alerts,
                );
                let stream: StreamKey =
                    (entry.receiver.as_str().into(), entry.integration, entry.group_key.as_str().into());
                self.enqueue(stream, body, now);
            }
            if let Some(entry) = self.log.get_mut(&key) {
                entry.firing.remove(&fp);
                if entry.firing.is_empty() {
                    self.log.remove(&key);
                    self.orphans.remove(&key);
                }
            }
            self.dirty_log.insert(key);
        }
    }
}

/// The order of alerts in a message: by job, then instance, those without last; then those with fewer labels first;
/// then by the first label name, in order, that one of them lacks or at which they differ.
///
/// Source: alertmanager, `types.AlertSlice.Less`, and prometheus/common, `model.LabelSet.Before`.
fn upstream_order(a: &Labels, b: &Labels) -> Ordering {
    for name in ["job", "instance"] {
        let order = match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len()).then_with(|| {
        let differs = a.iter().zip(b.iter()).find(|(a, b)| a != b);
        // The set that lacks the smaller of the two names comes first.
        differs.map_or(Ordering::Equal, |((a_name, a_value), (b_name, b_value))| {
            b_name.cmp(a_name).then(a_value.cmp(b_value))
        })
    })
}

/// The first tick of a group at or after `at`; ticks come each `interval` after `last`.
fn next_tick(last: Timestamp, interval: i64, at: Timestamp) -> Timestamp {
    let since = at.saturating_sub(last).max(1);
    let ticks = (since + interval - 1) / interval;
    last.saturating_add(ticks.saturating_mul(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_of_a_message_come_in_upstreams_order() {
        let ordered = [
            &[("alertname", "L"), ("instance", "2"), ("job", "y")][..],
            &[("alertname", "M"), ("instance", "1"), ("job", "z")],
            &[("alertname", "K"), ("job", "z")],
            &[("alertname", "A"), ("instance", "1")],
            &[("alertname", "N"), ("zone", "b")],
            &[("alertname", "N"), ("app", "a")],
            &[("alertname", "N"), ("app", "b")],
            &[("alertname", "A"), ("app", "x"), ("zone", "a")],
        ]
        .map(|pairs| Labels::from_pairs(pairs.iter().copied()));
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(upstream_order(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
    }
}
