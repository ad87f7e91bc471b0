//! Who is due now, and when the next one is: the pure part of delivery.
//!
//! A lane belongs to one integration of one receiver and has a few requests in flight; within it a stream belongs
//! to one group key and has at most one. A stream whose request failed waits with exponential back-off. While a
//! receiver seems to be down, its lane sends one request at a time; the first that is taken makes every stream of
//! the lane due that waited because of the outage, so that a receiver that is back has all within moments.
//!
//! Times here are milliseconds of a clock that never goes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Notification;

/// Requests in flight per integration, so that no group waits for a slow one, and no receiver is flooded.
const LANE_IN_FLIGHT_MAX: usize = 16;
/// The first pause after a failure, in milliseconds; each further one is twice as long.
const BACKOFF_FIRST_MS: i64 = 1_000;
/// The longest pause between two attempts, in milliseconds, and so how late a receiver that is back is noticed.
const BACKOFF_MAX_MS: i64 = 60_000;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The notification is done with: taken, or dropped for good.
    Settled { taken: bool },
    /// It must be sent again.
    Failed {
        /// The receiver as a whole seems to be unable, rather than unwilling to take this one.
        outage: bool,
        /// The receiver asks to be left alone for so long, in milliseconds.
        retry_after_ms: Option<i64>,
    },
}

/// Identifies a lane.
type LaneKey = (Arc<str>, usize);

#[derive(Debug, Default)]
pub struct Queue {
    lanes: BTreeMap<LaneKey, Lane>,
    len: usize,
}

#[derive(Debug, Default)]
struct Lane {
    streams: BTreeMap<Arc<str>, Stream>,
    /// Streams that wait and have nothing in flight, by when they are due.
    due: BTreeSet<(i64, Arc<str>)>,
    in_flight: usize,
    down: bool,
}

#[derive(Debug, Default)]
struct Stream {
    waiting: VecDeque<Arc<Notification>>,
    due_at: i64,
    in_flight: bool,
    failures: u32,
    /// The last failure was one of the receiver as a whole.
    outage: bool,
}

impl Queue {
    /// How many notifications are not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Takes a notification in. Those of one stream must come in order.
    pub fn push(&mut self, notification: Arc<Notification>, now: i64) {
        self.len += 1;
        let lane_key = (Arc::clone(&notification.receiver), notification.integration);
        let lane = self.lanes.entry(lane_key).or_default();
        let key = Arc::clone(&notification.group_key);
        let stream = lane.streams.entry(Arc::clone(&key)).or_default();
        if stream.waiting.is_empty() {
            stream.due_at = now;
            lane.due.insert((now, key));
        }
        stream.waiting.push_back(notification);
    }

    /// Everything that may be sent now, marked as in flight. Each must be reported to [`Queue::done`].
    pub fn take_due(&mut self, now: i64) -> Vec<Arc<Notification>> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            while lane.in_flight < lane.in_flight_max() {
                match lane.due.first() {
                    Some((at, _)) if *at <= now => {}
                    _ => break,
                }
                let Some((_, key)) = lane.due.pop_first() else { break };
                let Some(stream) = lane.streams.get_mut(&key) else { continue };
                let Some(notification) = stream.waiting.front() else { continue };
                stream.in_flight = true;
                lane.in_flight += 1;
                taken.push(Arc::clone(notification));
            }
        }
        taken
    }

    /// The end of an attempt. Returns how often this notification has failed in a row.
    pub fn done(&mut self, notification: &Notification, outcome: Outcome, now: i64) -> u32 {
        let lane_key = (Arc::clone(&notification.receiver), notification.integration);
        let Some(lane) = self.lanes.get_mut(&lane_key) else { return 0 };
        let key = Arc::clone(&notification.group_key);
        let Some(stream) = lane.streams.get_mut(&key).filter(|s| s.in_flight) else { return 0 };
        stream.in_flight = false;
        lane.in_flight -= 1;
        match outcome {
            Outcome::Settled { taken } => {
                self.len -= 1;
                stream.waiting.pop_front();
                stream.failures = 0;
                stream.outage = false;
                stream.due_at = now;
                if stream.waiting.is_empty() {
                    lane.streams.remove(&key);
                } else {
                    lane.due.insert((now, key));
                }
                if taken {
                    lane.receiver_is_back(now);
                }
                if lane.streams.is_empty() {
                    self.lanes.remove(&lane_key);
                }
                0
            }
            Outcome::Failed { outage, retry_after_ms } => {
                stream.failures = stream.failures.saturating_add(1);
                stream.outage = outage;
                let pause = backoff_ms(&key, stream.failures).max(retry_after_ms.unwrap_or(0));
                stream.due_at = now + pause.min(BACKOFF_MAX_MS);
                lane.due.insert((stream.due_at, key));
                lane.down |= outage;
                stream.failures
            }
        }
    }

    /// When [`Queue::take_due`] will next give something, unless an attempt ends or a push comes first.
    #[must_use]
    pub fn next_due(&self) -> Option<i64> {
        self.lanes
            .values()
            .filter(|lane| lane.in_flight < lane.in_flight_max())
            .filter_map(|lane| lane.due.first().map(|(at, _)| *at))
            .min()
    }
}

impl Lane {
    fn in_flight_max(&self) -> usize {
        if self.down { 1 } else { LANE_IN_FLIGHT_MAX }
    }

    fn receiver_is_back(&mut self, now: i64) {
        if !std::mem::take(&mut self.down) {
            return;
        }
        for (key, stream) in &mut self.streams {
            if stream.outage && !stream.in_flight && stream.due_at > now {
                self.due.remove(&(stream.due_at, Arc::clone(key)));
                self.due.insert((now, Arc::clone(key)));
                stream.due_at = now;
            }
        }
    }
}

/// The pause after the `failures`-th failure in a row: doubling, three quarters to all of it by a hash of the
/// identity, so that the streams of a receiver do not return in step.
fn backoff_ms(group_key: &str, failures: u32) -> i64 {
    let full = BACKOFF_FIRST_MS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX_MS);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(failures);
    for byte in group_key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    full - (hash >> 32) as i64 % (full / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Outcome = Outcome::Failed { outage: true, retry_after_ms: None };
    const REFUSED: Outcome = Outcome::Failed { outage: false, retry_after_ms: None };
    const TAKEN: Outcome = Outcome::Settled { taken: true };

    fn notification(seq: u64, receiver: &str, group: &str) -> Arc<Notification> {
        Arc::new(Notification {
            seq,
            receiver: receiver.into(),
            integration: 0,
            group_key: group.into(),
            created_at: 0,
            idempotency_key: seq.to_string(),
            body: bytes::Bytes::new(),
        })
    }

    fn seqs(taken: &[Arc<Notification>]) -> Vec<u64> {
        taken.iter().map(|n| n.seq).collect()
    }

    #[test]
    fn a_stream_keeps_its_order_and_streams_do_not_wait_for_each_other() {
        let mut queue = Queue::default();
        for (seq, receiver, group) in [(1, "a", "g"), (2, "a", "g"), (3, "a", "h"), (4, "b", "g")] {
            queue.push(notification(seq, receiver, group), 0);
        }
        let first = queue.take_due(0);
        assert_eq!(seqs(&first), [1, 3, 4]);
        assert!(queue.take_due(0).is_empty());
        queue.done(&first[0], REFUSED, 0);
        queue.done(&first[1], TAKEN, 0);
        assert!(queue.take_due(700).is_empty(), "the stream waits, and 2 behind 1");
        let again = queue.take_due(1_000);
        assert_eq!(seqs(&again), [1]);
        queue.done(&again[0], TAKEN, 1_000);
        assert_eq!(seqs(&queue.take_due(1_000)), [2]);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        for failures in 1..40 {
            let full = (1_000_i64 << (failures - 1).min(20)).min(60_000);
            let pause = backoff_ms("{}:{}", failures as u32);
            assert!(pause > full * 3 / 4 - 1 && pause <= full, "{failures}: {pause}");
        }
        assert_ne!(backoff_ms("a", 9), backoff_ms("b", 9));
    }

    #[test]
    fn a_receiver_that_is_down_is_probed_and_has_all_when_it_is_back() {
        let mut queue = Queue::default();
        for seq in 0..50 {
            queue.push(notification(seq, "a", &format!("g{seq}")), 0);
        }
        let mut now = 0;
        let first = queue.take_due(now);
        assert_eq!(first.len(), LANE_IN_FLIGHT_MAX);
        for n in &first {
            queue.done(n, DOWN, now);
        }
        for _ in 0..200 {
            now = now.max(queue.next_due().unwrap());
            let probe = queue.take_due(now);
            assert_eq!(probe.len(), 1);
            queue.done(&probe[0], DOWN, now);
        }
        assert!(now < 30 * 60_000);
        now = now.max(queue.next_due().unwrap());
        let probe = queue.take_due(now);
        queue.done(&probe[0], TAKEN, now);
        let mut rest = 49;
        while rest > 0 {
            let taken = queue.take_due(now);
            assert!(!taken.is_empty(), "all are due at once");
            for n in &taken {
                queue.done(n, TAKEN, now);
                rest -= 1;
            }
        }
        assert_eq!((queue.len(), queue.next_due()), (0, None));
        assert!(queue.lanes.is_empty(), "nothing is kept of a lane without work");
    }

    #[test]
    fn one_refused_message_does_not_hold_up_its_lane() {
        let mut queue = Queue::default();
        queue.push(notification(1, "a", "poison"), 0);
        let poison = queue.take_due(0);
        queue.done(&poison[0], REFUSED, 0);
        for seq in 2..20 {
            queue.push(notification(seq, "a", &format!("g{seq}")), 10);
        }
        let taken = queue.take_due(10);
        assert_eq!(taken.len(), LANE_IN_FLIGHT_MAX);
        queue.done(&taken[0], TAKEN, 10);
        assert_eq!(queue.take_due(10).len(), 1, "the refused one keeps its pause");
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause() {
        let mut queue = Queue::default();
        queue.push(notification(1, "a", "g"), 0);
        let n = queue.take_due(0);
        queue.done(&n[0], Outcome::Failed { outage: true, retry_after_ms: Some(20_000) }, 0);
        assert_eq!(queue.next_due(), Some(20_000));
    }
}
