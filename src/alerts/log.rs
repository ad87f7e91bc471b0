//! The notification log: what each receiver was told last of each group, and whether it must be told again.
//!
//! Source: alertmanager, `notify/notify.go` (`DedupStage`) and `nflog`.

use std::collections::BTreeSet;

use crate::model::{Labels, Timestamp};

/// What one integration of a receiver was told last of a group.
///
/// An entry without firing alerts says no more than no entry at all.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LogEntry {
    pub group_key: String,
    pub group_labels: Labels,
    pub receiver: String,
    pub integration: usize,
    /// Told by an escalation step rather than as the route's receiver.
    pub escalation: bool,
    /// Fingerprints of the alerts that it was told are firing.
    pub firing: BTreeSet<u64>,
    pub resolved: BTreeSet<u64>,
    pub at: Timestamp,
}

/// Why a receiver must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It knows nothing of the group yet.
    First,
    /// Alerts fire that it does not know of.
    Fired,
    /// Alerts have resolved; others go on firing.
    Resolved,
    /// Nothing fires any more.
    AllResolved,
    /// Nothing is new, but its last message is old.
    Repeat,
    /// An escalation step is due.
    Escalated,
}

impl Reason {
    /// As the message states it, in upstream's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::First => "first notification",
            Reason::Fired => "new alerts added",
            Reason::Resolved => "some alerts resolved",
            Reason::AllResolved => "all alerts resolved",
            Reason::Repeat => "repeat interval elapsed",
            Reason::Escalated => "escalation",
        }
    }
}

impl LogEntry {
    /// Names the entry of an integration.
    #[must_use]
    pub fn key(group_key: &str, receiver: &str, integration: usize, escalation: bool) -> String {
        let kind = if escalation { "escalation" } else { "webhook" };
        format!("{group_key}:{receiver}/{kind}/{integration}")
    }
}

/// Whether an integration must be told of a group whose alerts fire and have resolved like this.
/// `repeat_ms` is `None` for one that gets no reminders.
#[must_use]
pub fn needs_update(
    entry: Option<&LogEntry>,
    firing: &BTreeSet<u64>,
    resolved: &BTreeSet<u64>,
    send_resolved: bool,
    repeat_ms: Option<i64>,
    now: Timestamp,
) -> Option<Reason> {
    let Some(entry) = entry.filter(|e| !e.firing.is_empty()) else {
        return (!firing.is_empty()).then_some(Reason::First);
    };
    if !firing.is_subset(&entry.firing) {
        return Some(Reason::Fired);
    }
    if firing.is_empty() {
        // Also for one that is not told of it: the log must no longer say that something fires.
        return Some(Reason::AllResolved);
    }
    if send_resolved && !resolved.is_subset(&entry.resolved) {
        return Some(Reason::Resolved);
    }
    repeat_ms.is_some_and(|repeat| now - entry.at >= repeat).then_some(Reason::Repeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_as_upstream_does() {
        type Row = (Option<(&'static [u64], &'static [u64])>, &'static [u64], &'static [u64], bool, i64);
        let cases: [(Row, Option<Reason>); 11] = [
            ((None, &[], &[1], true, 0), None),
            ((None, &[1], &[], true, 0), Some(Reason::First)),
            ((Some((&[1], &[])), &[1], &[], true, 99), None),
            ((Some((&[1], &[])), &[1], &[], true, 100), Some(Reason::Repeat)),
            ((Some((&[1], &[])), &[1, 2], &[], true, 0), Some(Reason::Fired)),
            ((Some((&[1, 2], &[])), &[1], &[2], true, 0), Some(Reason::Resolved)),
            ((Some((&[1, 2], &[])), &[1], &[2], false, 0), None),
            ((Some((&[1, 2], &[2])), &[1], &[2], true, 0), None),
            ((Some((&[1], &[])), &[], &[1], false, 0), Some(Reason::AllResolved)),
            ((Some((&[], &[1])), &[], &[2], true, 0), None),
            ((Some((&[], &[1])), &[1], &[], true, 0), Some(Reason::First)),
        ];
        for ((entry, firing, resolved, send_resolved, now), expected) in cases {
            let set = |s: &[u64]| s.iter().copied().collect::<BTreeSet<u64>>();
            let entry =
                entry.map(|(f, r)| LogEntry { firing: set(f), resolved: set(r), ..LogEntry::default() });
            let reason =
                needs_update(entry.as_ref(), &set(firing), &set(resolved), send_resolved, Some(100), now);
            assert_eq!(reason, expected, "{entry:?} {firing:?} {resolved:?}");
        }
    }
}
