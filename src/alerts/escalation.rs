//! Escalation: whom to call in, and when, of an alert that keeps firing.
//!
//! A policy holds for an alert by way of a route that it takes. Each step counts from when the alert began to fire;
//! when it is due, its receiver is told in the group of that route, beside the route's own receiver: of every alert of
//! the group that it was called in for, and later that they have resolved. A step may name the route's own receiver: then
//! that is told of its group once more.

use super::HistoryEventKind;
use super::config::{EscalationPolicy, EscalationStep, Until};
use super::core::{Core, Timer};
use super::entry::{Entry, StepTaken};
use super::groups::AggregationGroup;
use crate::model::Timestamp;

impl Core {
    /// When the next step of an alert falls due; `None` if none will.
    pub(super) fn next_escalation_at(&self, entry: &Entry) -> Option<Timestamp> {
        self.next_step(entry).map(|(at, ..)| at)
    }

    /// The next step that is to be taken, when, and in which group.
    fn next_step<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Option<(Timestamp, u64, &'a EscalationPolicy, &'a EscalationStep)> {
        entry
            .groups
            .iter()
            .filter_map(|id| Some((*id, self.route(self.groups.get(id)?).policy.as_deref()?)))
            .filter(|(_, policy)| lasts(entry, policy))
            .flat_map(|(id, policy)| {
                policy
                    .steps
                    .iter()
                    .find(|step| !is_taken(entry, policy, step))
                    .map(|step| (entry.fired_at.saturating_add(step.after_ms), id, policy, step))
            })
            .min_by_key(|(at, ..)| *at)
    }

    /// Sees to it that the next step is taken in time.
    pub(super) fn watch_escalation(&mut self, fp: u64) {
        let Some(entry) = self.alerts.get(&fp) else { return };
        let Some(at) = self.next_escalation_at(entry) else { return };
        let Some(entry) = self.alerts.get_mut(&fp) else { return };
        if entry.step_timer.is_none_or(|before| before > at) {
            if let Some(before) = entry.step_timer.replace(at) {
                self.timers.remove(&(before, Timer::Escalation(fp)));
            }
            self.timers.insert((at, Timer::Escalation(fp)));
        }
    }

    pub(super) fn escalation_timer(&mut self, fp: u64, now: Timestamp) {
        if let Some(entry) = self.alerts.get_mut(&fp) {
            entry.step_timer = None;
        }
        while let Some(entry) = self.alerts.get(&fp)
            && let Some((_, id, policy, step)) = self.next_step(entry).filter(|(at, ..)| *at <= now)
            && let Some(group) = self.groups.get(&id)
        {
            let taken = StepTaken {
                policy: policy.name.clone(),
                after_ms: step.after_ms,
                receiver: step.receiver.clone(),
                group_key: group.key.as_ref().to_owned(),
            };
            let (receiver, group_key) = (taken.receiver.clone(), taken.group_key.clone());
            self.edit(fp, |entry| entry.steps.push(taken));
            self.record(fp, HistoryEventKind::Escalated, None, None, Some(&receiver), now);
            self.metrics.escalations.inc();
            if let Some(group) = self.groups.get_mut(&id) {
                group.escalated.insert(receiver.clone());
            }
            if !self.is_own_receiver(id, &receiver) {
                self.adopt_orphans(&group_key, &receiver);
            }
            self.steps_due.insert((id, receiver));
        }
        self.watch_escalation(fp);
    }

    /// Tells those who have just been called in; alerts of one group that were due together go in one message.
    pub(super) fn notify_escalated(&mut self, now: Timestamp) {
        for (id, receiver) in std::mem::take(&mut self.steps_due) {
            if self.is_own_receiver(id, &receiver) {
                self.tell_own_again(id, now);
            } else {
                self.tell_escalated(id, &receiver, true, now);
            }
            // For its reminder, and for another attempt if the outbox was full.
            self.touch_group(id, now);
        }
    }

    /// Whether an escalation to this receiver still runs for some alert of the group: then it gets reminders.
    pub(super) fn escalation_lasts(&self, group: &AggregationGroup, receiver: &str) -> bool {
        let Some(policy) = self.route(group).policy.as_deref() else { return false };
        group.members.iter().filter_map(|fp| self.alerts.get(fp)).any(|entry| {
            lasts(entry, policy)
                && entry.steps.iter().any(|s| s.receiver == receiver && *s.group_key == *group.key)
        })
    }
}

fn lasts(entry: &Entry, policy: &EscalationPolicy) -> bool {
    entry.is_active() && (policy.until == Until::Resolved || entry.acknowledged.is_none())
}

fn is_taken(entry: &Entry, policy: &EscalationPolicy, step: &EscalationStep) -> bool {
    entry
        .steps
        .iter()
        .any(|t| t.policy == policy.name && t.after_ms == step.after_ms && t.receiver == step.receiver)
}
