//! What the uses of equal matchers need, and what is therefore asked of storage once for several of them.
//!
//! ```text
//! uses of x          range                    asked for one of the first two
//! rate(x[5m])        |              ~~~~~|
//! x offset 1m        |             ~~~~~ |    range, and kept decoded   |             ~~~~~~|
//! max_over_time(     |                   |
//!   x[1h] offset 1d) |~~~                |    by itself
//! ```

use std::cmp::Reverse;
use std::sync::Arc;

use super::kept::{CurrentGroup, Kept, Own, Reuse};
use crate::storage::{Need, SampleSlices, Samples, Selection};

/// Which samples of its series one use of a selector reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// First and last time (ms).
    pub range: (i64, i64),
    pub need: Need,
}

/// What is to be selected, and for what part of that time samples are worth keeping decoded: for how many uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub select: Use,
    pub keep: Option<((i64, i64), usize)>,
}

fn len((from, to): (i64, i64)) -> i128 {
    i128::from(to) - i128::from(from) + 1
}

fn union(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}

impl Use {
    /// Whether a selection of this, which another use may share, costs that one little more than its own.
    fn is_near(self, other: Use) -> bool {
        let (own, together) = (len(other.range), len(union(self.range, other.range)));
        match (self.need, other.need) {
            // At least half of it is selected anyway.
            (Need::Window, Need::Window) => 2 * (together - len(self.range)) <= own,
            // The newest sample is found fast by itself; among few others as fast.
            (Need::Window, Need::Newest) => together <= 2 * own,
            (Need::Newest, _) => self == other,
        }
    }
}

/// So many different uses of equal matchers are looked at together, for each is compared with the others whenever one of them
/// comes; what is told of after them is read by itself.
const DIFFERENT_MAX: usize = 64;

/// The uses of equal matchers that are to come: which there are, and how many of each.
#[derive(Debug, Default)]
pub(super) struct Uses(Vec<(Use, usize)>);

impl Uses {
    /// Tells of one that is to come.
    pub fn add(&mut self, what: Use) {
        match self.0.iter_mut().find(|(u, _)| *u == what) {
            Some((_, count)) => *count += 1,
            None => {
                if self.0.len() < DIFFERENT_MAX {
                    self.0.push((what, 1));
                }
            }
        }
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What to ask for when `own` comes.
    pub fn asked(&self, own: Use) -> Asked {
        if !self.0.iter().any(|(u, _)| *u == own) {
            return Asked { select: own, keep: None };
        }
        let mut left = self.0.clone();
        left.sort_by_key(|(u, _)| (Reverse(len(u.range)), u.need == Need::Newest));
        while let Some((first, _)) = left.first().copied() {
            let mut select = first;
            let (mut near, mut rest) = (Vec::new(), Vec::new());
            for (u, count) in left {
                if select.is_near(u) {
                    select.range = union(select.range, u.range);
                    near.push((u, count));
                } else {
                    rest.push((u, count));
                }
            }
            if near.iter().any(|(u, _)| *u == own) {
                return Asked { select, keep: worth_keeping(&near) };
            }
            left = rest;
        }
        Asked { select: own, keep: None }
    }
}

/// The time that enough of the uses read, longest first: keeping samples costs half as much as decoding them, about.
fn worth_keeping(uses: &[(Use, usize)]) -> Option<((i64, i64), usize)> {
    let mut best = (0, None);
    let (mut range, mut read) = (uses.last()?.0.range, 0);
    for (u, count) in uses.iter().rev() {
        range = union(range, u.range);
        read += len(u.range) * *count as i128;
        let saved = 2 * read - 3 * len(range);
        if saved > best.0 {
            best = (saved, Some(range));
        }
    }
    let range = best.1?;
    let within = uses.iter().filter(|(u, _)| union(range, u.range) == range);
    Some((range, within.map(|(_, count)| count).sum()))
}

/// What was selected for some uses.
#[derive(Debug)]
pub(super) struct Selected {
    what: Use,
    selection: Arc<Selection>,
    kept: Option<Arc<Kept>>,
    /// How many uses of what is kept are to come.
    left: usize,
}

impl Selected {
    pub fn new(what: Use, selection: Arc<Selection>) -> Self {
        Selected { what, selection, kept: None, left: 0 }
    }

    /// With samples that are kept for so many uses.
    #[must_use]
    pub fn keeping(self, kept: Arc<Kept>, left: usize) -> Self {
        Selected { kept: Some(kept), left, ..self }
    }

    /// Whether it has all that is asked for.
    pub fn serves(&self, other: Use) -> bool {
        let within = union(self.what.range, other.range) == self.what.range;
        (within && self.what.need == Need::Window) || self.what == other
    }

    /// For the next use. The last one of what is kept has it alone, so that it is freed with it.
    pub fn take(&mut self, range: (i64, i64)) -> Found {
        let selection = Arc::clone(&self.selection);
        let Some(kept) = self.kept.take_if(|k| k.covers(range)) else {
            return Found { selection, reuse: None };
        };
        self.left = self.left.saturating_sub(1);
        let fills = self.left > 0;
        if fills {
            self.kept = Some(Arc::clone(&kept));
        }
        Found { selection, reuse: Some(Reuse::new(kept, fills)) }
    }
}

/// The series of a selector, for one use of it.
#[derive(Debug)]
pub(super) struct Found {
    pub selection: Arc<Selection>,
    reuse: Option<Reuse>,
}

impl Found {
    /// Found for one use alone.
    pub fn alone(selection: Arc<Selection>) -> Self {
        Found { selection, reuse: None }
    }

    /// The samples of one series in `from..=to` (ms), which lies within the use's range.
    #[inline]
    pub fn read<'s>(&self, series: usize, from: i64, to: i64, own: &'s mut Own) -> SampleSlices<'s> {
        let Own { samples, group } = own;
        if let Some(kept) = self.kept(series, (from, to), group) {
            return kept;
        }
        samples.clear();
        self.selection.read(series, from, to, samples);
        samples.slices()
    }

    /// As [`Found::read`], in columns of their own.
    #[inline]
    pub fn read_own<'s>(&self, series: usize, from: i64, to: i64, own: &'s mut Own) -> &'s mut Samples {
        let Own { samples, group } = own;
        samples.clear();
        match self.kept(series, (from, to), group) {
            Some(kept) => *samples = kept.into(),
            None => self.selection.read(series, from, to, samples),
        }
        samples
    }

    /// The same, if they are decoded already.
    #[inline]
    pub fn kept<'g>(
        &self,
        series: usize,
        range: (i64, i64),
        group: &'g mut CurrentGroup,
    ) -> Option<SampleSlices<'g>> {
        self.reuse.as_ref()?.read(series, range, group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, to: i64) -> Use {
        Use { range: (from, to), need: Need::Window }
    }

    fn newest(from: i64, to: i64) -> Use {
        Use { range: (from, to), need: Need::Newest }
    }

    #[test]
    fn near_uses_ask_for_all_that_they_need() {
        let check = |uses: &[Use], own: Use, select: Use, keep: Option<((i64, i64), usize)>| {
            let mut told = Uses::default();
            uses.iter().for_each(|u| told.add(*u));
            assert_eq!(told.asked(own), Asked { select, keep }, "{own:?} of {uses:?}");
        };
        let (short, long) = (window(951, 1000), window(401, 1000));
        check(&[short, short], short, short, Some(((951, 1000), 2)));
        check(&[short], short, short, None);
        // One that nobody told of.
        check(&[short, short], long, long, None);
        // All that is short lies within what is long, but that alone is not worth keeping it.
        check(&[short, long], short, long, None);
        check(&[short, long, short], short, long, Some(((951, 1000), 2)));
        check(&[long, short, long], short, long, Some(((401, 1000), 3)));
        // Shifted by less than a half, and by more.
        let (shifted, further, apart) = (window(941, 990), window(926, 975), window(921, 970));
        check(&[short, shifted], shifted, window(941, 1000), Some(((941, 1000), 2)));
        check(&[short, further], further, window(926, 1000), None);
        check(&[short, apart], short, short, None);
        check(&[short, apart, apart], apart, apart, Some(((921, 970), 2)));
        // Newest samples are found by themselves, unless few others are read anyway.
        let now = newest(951, 1000);
        check(&[now, now], now, now, Some(((951, 1000), 2)));
        check(&[now, short], now, short, Some(((951, 1000), 2)));
        check(&[now, long], now, now, None);
        check(&[now, newest(941, 990)], now, now, None);
        let ever = window(i64::MIN, i64::MAX);
        check(&[ever, ever, now], ever, ever, Some(((i64::MIN, i64::MAX), 2)));
    }

    #[test]
    fn only_so_many_different_uses_are_looked_at() {
        let mut uses = Uses::default();
        let apart = |i: usize| window(i as i64 * 1000, i as i64 * 1000 + 9);
        (0..100_000).for_each(|i| uses.add(apart(i)));
        (0..100_000).for_each(|_| uses.add(apart(3)));
        assert_eq!(uses.0.len(), DIFFERENT_MAX);
        assert_eq!(uses.asked(apart(3)).keep, Some((apart(3).range, 100_001)));
        assert_eq!(uses.asked(apart(99_999)), Asked { select: apart(99_999), keep: None });
    }

    #[test]
    fn a_selection_serves_what_lies_within_it() {
        let serves = |what: Use, other| Selected::new(what, Arc::default()).serves(other);
        assert!(serves(window(30, 100), window(30, 100)) && serves(window(30, 100), newest(60, 100)));
        assert!(!serves(window(30, 100), window(29, 100)) && !serves(window(30, 100), newest(30, 101)));
        assert!(serves(newest(50, 100), newest(50, 100)));
        assert!(!serves(newest(50, 100), newest(51, 100)) && !serves(newest(50, 100), window(50, 100)));
    }
}
