//! Samples that several uses of a selector read: decoded by the first, and kept as they are for the others.
//!
//! ```text
//! selection   series 0 1 2 3 | 4 5 6 7 | 8 9 …
//! groups      0: Mutex(Some) | 1: None | 2: None      the columns of a group hold its series one after the other
//! ```
//! A group is decoded under its own lock, so that of the threads that need it one does the work.
//!
//! **Invariant:** an answer is the same whether samples are kept or not. What is kept stands on the account of all
//! queries, is a small share of the limits, and gives way before a query is refused: then samples are decoded again.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::charge::{Account, add_below};
use crate::storage::{SampleSlices, Samples, Selection};

/// About so many samples are in a group: enough that allocating and locking do not show, few enough for a cache.
const SAMPLES_PER_GROUP: i64 = 2048;

/// At most so many series are in a group.
const SERIES_PER_GROUP: i64 = 64;

/// A guess: one sample in 15 s.
const INTERVAL_MS: i64 = 15_000;

/// What one query, or the queries of one tick, keep.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: AtomicU64,
    reused: AtomicU64,
}

impl Tally {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Samples that were taken without being decoded.
    pub fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }
}

/// On whose account samples are kept, and how many bytes at most.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub account: Arc<Account>,
    pub tally: Arc<Tally>,
    /// Of the tally.
    pub bytes_max: u64,
    /// Nothing more is kept once so much stands on the account.
    pub together_max: u64,
}

impl Room {
    /// Notes that so many bytes more are kept, if there is room for them.
    fn take(&self, bytes: u64) -> bool {
        if !add_below(&self.tally.bytes, bytes, self.bytes_max) {
            return false;
        }
        let added = self.account.add_below(bytes, self.together_max);
        if !added {
            self.tally.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        added
    }

    fn give_back(&self, bytes: u64) {
        self.tally.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.account.subtract(bytes);
    }
}

/// The decoded samples of a selection, as far as somebody has asked for them and there is room.
#[derive(Debug)]
pub(super) struct Kept {
    selection: Arc<Selection>,
    /// First and last time (ms).
    range: (i64, i64),
    per_group: usize,
    groups: Vec<Mutex<Option<Arc<Group>>>>,
    room: Room,
    /// Nothing more is kept.
    over: AtomicBool,
    /// About how many floats a group has.
    floats: AtomicUsize,
}

/// Some series of a selection, one after the other.
#[derive(Debug)]
struct Group {
    samples: Samples,
    /// Where each series ends among the floats and among the histograms.
    ends: Vec<(usize, usize)>,
    bytes: u64,
}

impl Group {
    fn series(&self, i: usize) -> SampleSlices<'_> {
        let (floats, histograms) = i.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        let end = self.ends[i];
        self.samples.stretch(floats..end.0, histograms..end.1)
    }
}

fn lock(group: &Mutex<Option<Arc<Group>>>) -> MutexGuard<'_, Option<Arc<Group>>> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// For the samples of the selection with a time in `range` (ms); none is decoded yet.
    pub fn new(selection: &Arc<Selection>, range: (i64, i64), room: Room) -> Arc<Self> {
        let expected = range.1.saturating_sub(range.0) / INTERVAL_MS + 1;
        let per_group = (SAMPLES_PER_GROUP / expected).clamp(1, SERIES_PER_GROUP) as usize;
        let groups = (0..selection.len().div_ceil(per_group)).map(|_| Mutex::default()).collect();
        let kept = Arc::new(Kept {
            selection: Arc::clone(selection),
            range,
            per_group,
            groups,
            room,
            over: AtomicBool::default(),
            floats: AtomicUsize::default(),
        });
        kept.room.account.register(&kept);
        kept
    }

    pub fn is_of(&self, tally: &Arc<Tally>) -> bool {
        Arc::ptr_eq(&self.room.tally, tally)
    }

    /// Whether samples of this range would be among them.
    pub fn covers(&self, range: (i64, i64)) -> bool {
        self.range.0 <= range.0 && self.range.1 >= range.1
    }

    /// Frees what is kept; who reads it at the moment may go on. Nothing more is kept.
    pub fn give_up(&self) {
        // Whoever decodes a group at the moment puts it where the loop finds it, or sees this.
        self.over.store(true, Ordering::Relaxed);
        for group in &self.groups {
            let freed = lock(group).take();
            self.room.give_back(freed.map_or(0, |g| g.bytes));
        }
    }

    /// A group, and whether it was decoded just now; `None` if it is not there and is not to be.
    fn group(&self, number: usize, fills: bool) -> Option<(Arc<Group>, bool)> {
        let mut group = lock(&self.groups[number]);
        if let Some(group) = &*group {
            return Some((Arc::clone(group), false));
        }
        if !fills || self.over.load(Ordering::Relaxed) {
            return None;
        }
        let decoded = Arc::new(self.decode(number));
        if self.room.take(decoded.bytes) {
            *group = Some(Arc::clone(&decoded));
        } else {
            self.over.store(true, Ordering::Relaxed);
        }
        Some((decoded, true))
    }

    fn decode(&self, number: usize) -> Group {
        let series = number * self.per_group..((number + 1) * self.per_group).min(self.selection.len());
        let mut samples = Samples::default();
        let floats = self.floats.load(Ordering::Relaxed);
        samples.ts.reserve(floats);
        samples.vs.reserve(floats);
        let mut ends = Vec::with_capacity(series.len());
        for i in series {
            self.selection.read(i, self.range.0, self.range.1, &mut samples);
            ends.push((samples.ts.len(), samples.hist_ts.len()));
        }
        self.floats.store(samples.ts.len(), Ordering::Relaxed);
        let columns = [&samples.ts, &samples.starts, &samples.hist_ts, &samples.hist_starts];
        let slots = columns.iter().map(|c| c.capacity()).sum::<usize>();
        let slots = slots + samples.vs.capacity() + samples.hists.capacity() + 2 * ends.capacity();
        let in_histograms = samples.hists.iter().map(|h| h.size_in_samples()).sum::<u64>();
        Group { samples, ends, bytes: 8 * slots as u64 + 16 * in_histograms }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// One use of what is kept.
#[derive(Debug)]
pub(super) struct Reuse {
    kept: Arc<Kept>,
    /// Whether others come after it, for whom it keeps what it decodes.
    fills: bool,
}

/// What a reader of series after series has of its own.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// For samples that are read by themselves.
    pub samples: Samples,
    pub group: CurrentGroup,
}

/// The group that was read from last.
#[derive(Debug, Default)]
pub(super) struct CurrentGroup {
    group: Option<(usize, Arc<Group>)>,
    decoded_here: bool,
}

impl Reuse {
    pub fn new(kept: Arc<Kept>, fills: bool) -> Self {
        Reuse { kept, fills }
    }

    /// The samples of one series in `from..=to` (ms), within what is kept; `None` if they have to be decoded.
    pub fn read<'g>(
        &self,
        series: usize,
        (from, to): (i64, i64),
        current: &'g mut CurrentGroup,
    ) -> Option<SampleSlices<'g>> {
        let kept = &self.kept;
        let (number, place) = (series / kept.per_group, series % kept.per_group);
        if current.group.as_ref().is_none_or(|(n, _)| *n != number) {
            current.group = None;
            let (group, decoded_here) = kept.group(number, self.fills)?;
            *current = CurrentGroup { group: Some((number, group)), decoded_here };
        }
        let (_, group) = current.group.as_ref()?;
        let samples = group.series(place);
        let samples = if kept.range == (from, to) { samples } else { samples.within(from, to) };
        if !current.decoded_here {
            kept.room.tally.reused.fetch_add(samples.len() as u64, Ordering::Relaxed);
        }
        Some(samples)
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
