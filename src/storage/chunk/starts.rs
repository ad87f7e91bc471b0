//! Start times beside the samples of one series: a list of steps, each in force from one sample's time until the next.
//!
//! ```text
//! column = number of steps: varint, then each:
//!          time as difference from the step before: signed, shape: u8, unless the shape is 0 its number: signed
//! shape    0: no start time | 1: always this one, the number is how long before the step's time it lies
//!          2: as long before each sample's own time as the number says
//! ```
//! A counter that keeps counting has one step for its whole life; so has one that starts anew before every sample, as
//! deltas do, if it is sampled at a regular interval.

use crate::model::Timestamp;
use crate::storage::coding::{Cursor, put_signed, put_varint};

/// How start times follow from the time of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    None,
    /// Always this one.
    At(Timestamp),
    /// So many ms before the sample.
    Before(i64),
}

impl Shape {
    fn start(self, ts: Timestamp) -> Timestamp {
        match self {
            Shape::None => 0,
            Shape::At(start) => start,
            Shape::Before(ms) => ts.wrapping_sub(ms),
        }
    }
}

/// The start times of a series' samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Ascending in time; before the first there is no start time.
    steps: Vec<(Timestamp, Shape)>,
    /// The time of the newest sample, if it made a step.
    fresh: Option<Timestamp>,
}

impl Starts {
    /// Notes the start time (0: none) of a sample that is newer than all before.
    pub fn push(&mut self, ts: Timestamp, start: Timestamp) {
        let fresh = self.fresh.take();
        match self.steps.last_mut() {
            Some((_, shape)) if shape.start(ts) == start => return,
            // One sample under it yet: it may as well have been of the other shape.
            Some((at, shape)) if fresh == Some(*at) && start != 0 && *shape != Shape::None => {
                let before = at.wrapping_sub(shape.start(*at));
                if ts.wrapping_sub(start) == before {
                    *shape = Shape::Before(before);
                    return;
                }
            }
            None if start == 0 => return,
            _ => {}
        }
        self.steps.push((ts, if start == 0 { Shape::None } else { Shape::At(start) }));
        self.fresh = Some(ts);
    }

    /// Whether no sample has a start time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<(Timestamp, Shape)>()
    }

    /// Forgets what only concerns samples before `before`.
    pub fn drop_before(&mut self, before: Timestamp) {
        let passed = self.steps.partition_point(|(at, _)| *at <= before);
        self.steps.drain(..passed.saturating_sub(1));
        if self.steps.first().is_some_and(|(_, shape)| *shape == Shape::None) {
            self.steps.remove(0);
        }
        self.steps.shrink_to_fit();
    }

    /// Appends the start times of samples at these ascending times.
    pub fn read(&self, ts: &[Timestamp], out: &mut Vec<Timestamp>) {
        let mut next = ts.first().map_or(0, |t| self.steps.partition_point(|(at, _)| at <= t));
        for t in ts {
            while self.steps.get(next).is_some_and(|(at, _)| at <= t) {
                next += 1;
            }
            out.push(next.checked_sub(1).map_or(0, |i| self.steps[i].1.start(*t)));
        }
    }

    /// Appends the start times of the samples that a column has from `from` on to its start times, which are only made
    /// once there is one.
    pub fn extend(&self, ts: &[Timestamp], from: usize, starts: &mut Vec<Timestamp>) {
        let new = &ts[from.min(ts.len())..];
        let last = new.last().copied().unwrap_or(Timestamp::MIN);
        let reaches = self.steps.first().is_some_and(|(at, _)| *at <= last);
        if !new.is_empty() && reaches {
            starts.resize(from, 0);
            self.read(new, starts);
        } else if !starts.is_empty() {
            starts.resize(ts.len(), 0);
        }
    }

    /// Appends the column.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.steps.len() as u64);
        let mut before = 0;
        for (at, shape) in &self.steps {
            put_signed(out, at.wrapping_sub(before));
            before = *at;
            match shape {
                Shape::None => out.push(0),
                Shape::At(start) => {
                    out.push(1);
                    put_signed(out, at.wrapping_sub(*start));
                }
                Shape::Before(ms) => {
                    out.push(2);
                    put_signed(out, *ms);
                }
            }
        }
    }

    /// Reads a column.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let n = cursor.count()?;
        let (mut steps, mut at) = (Vec::with_capacity(n), 0i64);
        for _ in 0..n {
            at = at.wrapping_add(cursor.signed()?);
            let shape = match cursor.u8()? {
                0 => Shape::None,
                1 => Shape::At(at.wrapping_sub(cursor.signed()?)),
                2 => Shape::Before(cursor.signed()?),
                _ => return None,
            };
            if steps.last().is_some_and(|(last, _)| *last >= at) {
                return None;
            }
            steps.push((at, shape));
        }
        Some(Starts { steps, fresh: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Samples with start times as they come: none, one for long, one before each, anything.
    fn samples() -> impl Strategy<Value = Vec<(Timestamp, Timestamp)>> {
        let run = (0u8..4, 1i64..100_000, 1usize..20, any::<i64>());
        (proptest::collection::vec(run, 0..8), -1_000_000i64..1_000_000).prop_map(|(runs, first)| {
            let (mut ts, mut all) = (first, Vec::new());
            for (kind, interval, n, any) in runs {
                let begin = ts;
                for i in 0..n {
                    ts += interval;
                    let start = match kind {
                        0 => 0,
                        1 => begin,
                        2 => ts - interval,
                        _ => any.wrapping_mul(i as i64),
                    };
                    all.push((ts, start));
                }
            }
            all
        })
    }

    proptest! {
        #[test]
        fn start_times_come_back(all in samples(), cut in 0usize..100, from in 0usize..100) {
            let mut starts = Starts::default();
            all.iter().for_each(|(ts, start)| starts.push(*ts, *start));
            let (ts, expected): (Vec<_>, Vec<_>) = all.iter().copied().unzip();
            let mut bytes = Vec::new();
            starts.encode(&mut bytes);
            let again = Starts::decode(&bytes).unwrap();
            let mut out = Vec::new();
            again.read(&ts, &mut out);
            prop_assert_eq!(&out, &expected);
            // From anywhere on, and once the older ones are gone.
            let from = from.min(ts.len());
            out.clear();
            again.read(&ts[from..], &mut out);
            prop_assert_eq!(&out, &expected[from..]);
            let cut = cut.min(ts.len());
            if let Some(before) = ts.get(cut) {
                starts.drop_before(*before);
                out.clear();
                starts.read(&ts[cut..], &mut out);
                prop_assert_eq!(&out, &expected[cut..]);
            }
            out.clear();
            again.extend(&ts, 0, &mut out);
            prop_assert!(out.is_empty() && expected.iter().all(|s| *s == 0) || out == expected);
        }

        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(starts) = Starts::decode(&bytes) {
                starts.read(&[1, 2, 3], &mut Vec::new());
            }
        }
    }

    #[test]
    fn regular_start_times_are_one_step() {
        for start_of in [|_: i64| 777, |ts: i64| ts - 15_000] {
            let mut starts = Starts::default();
            (1..1000).for_each(|i| starts.push(i * 15_000, start_of(i * 15_000)));
            assert_eq!(starts.steps.len(), 1);
        }
    }
}
