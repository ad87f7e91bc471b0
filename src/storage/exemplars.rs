//! Exemplars: samples that name a trace, in a ring of a fixed number for all series.
//!
//! Each series takes them in the order of their times. The newest is remembered by series, so that one that is scraped
//! again and again is kept once. They are in the WAL and in its checkpoints; no block has them.

use std::collections::{HashMap, VecDeque};

use super::api::SeriesRef;
use super::db::{Db, lock, read};
use crate::model::{Labels, Matcher, Timestamp};

/// Characters that the names and values of an exemplar's labels may have together, as OpenMetrics says.
pub const LABEL_CHARS_MAX: usize = 128;

/// An exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own, not those of its series; perhaps empty.
    pub labels: Labels,
    pub value: f64,
    pub ts: Timestamp,
}

impl Exemplar {
    /// Whether it is the same, bit for bit.
    fn is(&self, other: &Exemplar) -> bool {
        self.ts == other.ts && self.value.to_bits() == other.value.to_bits() && self.labels == other.labels
    }
}

/// Why an exemplar is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExemplarError {
    #[error("exemplar storage is disabled")]
    Disabled,
    /// It is there already.
    #[error("duplicate exemplar")]
    Repeated,
    #[error("out of order exemplar")]
    OutOfOrder,
    /// Further ahead of the clock than is sensible.
    #[error("exemplar too far in the future")]
    TooFarAhead,
    #[error("label length for exemplar exceeds maximum of {LABEL_CHARS_MAX} UTF-8 characters")]
    LabelLength,
}

/// The exemplars of all series, oldest taken first.
#[derive(Debug, Default)]
pub(super) struct ExemplarRing {
    max: usize,
    /// How many were ever taken.
    taken: u64,
    ring: VecDeque<(Labels, Exemplar)>,
    series: HashMap<Labels, OfSeries, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct OfSeries {
    newest: Exemplar,
    count: usize,
}

impl ExemplarRing {
    pub fn new(max: usize) -> Self {
        ExemplarRing { max, ..ExemplarRing::default() }
    }

    pub fn is_enabled(&self) -> bool {
        self.max > 0
    }

    /// Changes how many are kept; the newest stay.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.ring.len() > max {
            self.drop_oldest();
        }
        self.ring.shrink_to_fit();
    }

    /// Whether an exemplar of this series would be taken.
    pub fn check(&self, series: &Labels, exemplar: &Exemplar) -> Result<(), ExemplarError> {
        if self.max == 0 {
            return Err(ExemplarError::Disabled);
        }
        let chars: usize = exemplar.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if chars > LABEL_CHARS_MAX {
            return Err(ExemplarError::LabelLength);
        }
        match self.series.get(series).map(|s| &s.newest) {
            Some(newest) if newest.is(exemplar) => Err(ExemplarError::Repeated),
            Some(newest)
                if exemplar.ts < newest.ts || (exemplar.ts == newest.ts && exemplar.value < newest.value) =>
            {
                Err(ExemplarError::OutOfOrder)
            }
            _ => Ok(()),
        }
    }

    /// Adds an exemplar, dropping the oldest of all if the ring is full.
    pub fn add(&mut self, series: &Labels, exemplar: Exemplar) -> Result<(), ExemplarError> {
        self.check(series, &exemplar)?;
        if self.ring.len() >= self.max {
            self.drop_oldest();
        }
        match self.series.get_mut(series) {
            Some(of) => {
                of.newest = exemplar.clone();
                of.count += 1;
            }
            None => {
                self.series.insert(series.clone(), OfSeries { newest: exemplar.clone(), count: 1 });
            }
        }
        self.ring.push_back((series.clone(), exemplar));
        self.taken += 1;
        Ok(())
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    fn drop_oldest(&mut self) {
        let Some((series, _)) = self.ring.pop_front() else { return };
        if let Some(of) = self.series.get_mut(&series) {
            of.count -= 1;
            if of.count == 0 {
                self.series.remove(&series);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// In the order in which they were taken.
    pub fn iter(&self) -> impl Iterator<Item = &(Labels, Exemplar)> {
        self.ring.iter()
    }

    fn select(
        &self,
        selectors: &[Vec<Matcher>],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let matches = |labels: &Labels, s: &Vec<Matcher>| {
            s.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let wanted = self.series.keys().filter(|l| selectors.iter().any(|s| matches(l, s)));
        let mut found: HashMap<&Labels, Vec<Exemplar>> = wanted.map(|l| (l, Vec::new())).collect();
        for (series, exemplar) in &self.ring {
            if exemplar.ts >= from
                && exemplar.ts <= to
                && let Some(of) = found.get_mut(series)
            {
                of.push(exemplar.clone());
            }
        }
        let mut found: Vec<(Labels, Vec<Exemplar>)> =
            found.into_iter().filter(|(_, e)| !e.is_empty()).map(|(l, e)| (l.clone(), e)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

impl Db {
    /// See [`Reader::exemplars`](super::Reader::exemplars).
    pub fn select_exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        lock(&self.exemplars).select(selectors, from, to)
    }

    /// The exemplars of series that are in memory, for a checkpoint.
    pub fn exemplars_to_keep(&self) -> Vec<(SeriesRef, Exemplar)> {
        let all: Vec<(Labels, Exemplar)> = lock(&self.exemplars).iter().cloned().collect();
        let index = read(&self.index);
        let known = |(labels, exemplar): (Labels, Exemplar)| {
            Some((self.head.reference(index.labels.find(&labels)?), exemplar))
        };
        all.into_iter().filter_map(known).collect()
    }

    /// Counts what happened to an exemplar.
    pub fn count_exemplar(&self, taken: Result<(), ExemplarError>) {
        match taken {
            Ok(()) => {
                self.metrics.exemplars_appended.inc();
            }
            Err(ExemplarError::OutOfOrder) => {
                self.metrics.exemplars_out_of_order.inc();
            }
            Err(ExemplarError::LabelLength | ExemplarError::TooFarAhead) => {
                self.metrics.exemplars_dropped.inc();
            }
            Err(ExemplarError::Repeated | ExemplarError::Disabled) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(i: u8) -> Labels {
        Labels::from_pairs([("__name__", "m"), ("id", &i.to_string())])
    }

    fn exemplar(ts: Timestamp, value: f64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value, ts }
    }

    proptest! {
        /// Against a list of all that were taken, of which the last `max` stay.
        #[test]
        fn the_newest_stay(ops in proptest::collection::vec((0u8..4, 0i64..30, 0u8..3), 0..60), max in 1usize..8, then in 1usize..8) {
            let mut ring = ExemplarRing::new(max);
            let mut model: Vec<(u8, Exemplar)> = Vec::new();
            for (s, ts, v) in ops {
                let e = exemplar(ts, f64::from(v));
                let begin = model.len().saturating_sub(max);
                let newest = model[begin..].iter().rev().find(|(of, _)| *of == s).map(|(_, e)| e.clone());
                let expected = match newest {
                    Some(n) if n == e => Err(ExemplarError::Repeated),
                    Some(n) if (e.ts, e.value) < (n.ts, n.value) => Err(ExemplarError::OutOfOrder),
                    _ => Ok(()),
                };
                prop_assert_eq!(ring.add(&series(s), e.clone()), expected);
                if expected.is_ok() {
                    model.push((s, e));
                }
            }
            ring.set_max(then);
            let left = &model[model.len().saturating_sub(then.min(max))..];
            prop_assert_eq!(ring.len(), left.len());
            for s in 0..4 {
                let m = vec![vec![Matcher::equal("id", s.to_string())]];
                let found = ring.select(&m, 5, 20);
                let own = |(of, e): &&(u8, Exemplar)| *of == s && (5..=20).contains(&e.ts);
                let expected: Vec<Exemplar> = left.iter().filter(own).map(|(_, e)| e.clone()).collect();
                prop_assert_eq!(found.into_iter().flat_map(|(_, e)| e).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let mut ring = ExemplarRing::new(0);
        assert_eq!(ring.add(&series(1), exemplar(1, 1.0)), Err(ExemplarError::Disabled));
        ring.set_max(2);
        let long = Exemplar { labels: Labels::from_pairs([("a", "é".repeat(128))]), ..exemplar(1, 1.0) };
        assert_eq!(ring.add(&series(1), long), Err(ExemplarError::LabelLength));
        let fits = Exemplar { labels: Labels::from_pairs([("a", "é".repeat(127))]), ..exemplar(1, 1.0) };
        assert_eq!(ring.add(&series(1), fits), Ok(()));
    }
}
