//! Which series came lately: those that a remembered selection has not seen.

use std::collections::VecDeque;

use roaring::RoaringBitmap;

/// So many runs are remembered: 96 KiB. Whoever has seen less than they hold begins anew.
const RUNS_MAX: usize = 4096;

/// The ids of the series that came last, in their order. An id may come more than once: it is used again after its
/// series was removed.
#[derive(Debug, Default)]
pub struct Arrivals {
    runs: VecDeque<Run>,
    count: u64,
}

/// Ids that follow each other, up or down.
#[derive(Debug)]
struct Run {
    /// How many came before.
    before: u64,
    first: u32,
    last: u32,
}

impl Arrivals {
    pub fn note(&mut self, id: u32) {
        let extends = |r: &Run| {
            let (up, down) = (r.last.checked_add(1) == Some(id), r.last.checked_sub(1) == Some(id));
            (up && r.last >= r.first) || (down && r.last <= r.first)
        };
        match self.runs.back_mut() {
            Some(run) if extends(run) => run.last = id,
            _ => {
                if self.runs.len() == RUNS_MAX {
                    self.runs.pop_front();
                }
                self.runs.push_back(Run { before: self.count, first: id, last: id });
            }
        }
        self.count += 1;
    }

    /// How many have come.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The ids that came after the first `count`; `None` if that is too long ago.
    #[must_use]
    pub fn since(&self, count: u64) -> Option<RoaringBitmap> {
        let mut ids = RoaringBitmap::new();
        if count == self.count {
            return Some(ids);
        }
        let begin = self.runs.partition_point(|r| r.before <= count).checked_sub(1)?;
        for run in self.runs.range(begin..) {
            // In the first of the runs some may have been seen; it is shorter than an id is large.
            let seen = count.saturating_sub(run.before) as u32;
            if run.first <= run.last {
                ids.insert_range(run.first.saturating_add(seen)..=run.last);
            } else {
                ids.insert_range(run.last..=run.first.saturating_sub(seen));
            }
        }
        Some(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_came_since_is_what_was_noted(ids in proptest::collection::vec(0u32..12, 1..60)) {
            let mut arrivals = Arrivals::default();
            ids.iter().for_each(|id| arrivals.note(*id));
            for n in 0..=ids.len() {
                let want: RoaringBitmap = ids[n..].iter().copied().collect();
                prop_assert_eq!(arrivals.since(n as u64), Some(want));
            }
        }
    }

    #[test]
    fn what_is_too_long_ago_is_not_known() {
        let mut arrivals = Arrivals::default();
        (0..2 * RUNS_MAX as u32).for_each(|i| arrivals.note(i * 2));
        assert_eq!(arrivals.since(RUNS_MAX as u64 - 1), None);
        assert_eq!(arrivals.since(RUNS_MAX as u64).map(|ids| ids.len()), Some(RUNS_MAX as u64));
        assert_eq!(arrivals.runs.len(), RUNS_MAX);
    }
}
