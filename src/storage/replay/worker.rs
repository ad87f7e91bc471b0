//! The samples of some shards on their way into the head.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::RoaringBitmap;

use super::parts::Postponed;
use super::segment::{Loaded, Work};
use crate::model::{FloatHistogram, Timestamp};
use crate::storage::api::SeriesRef;
use crate::storage::db::Db;
use crate::storage::head::{Guards, first_of_run, id_of, run_of, shard_of};
use crate::storage::wal::LoggedSample;
use crate::storage::wal::frame::{self, Section};

/// What a worker has done with a segment.
#[derive(Debug)]
pub(super) struct Done {
    /// The time of the newest sample that was read, taken or not.
    pub newest: Timestamp,
    pub taken: u64,
    /// Samples whose series nothing names any more.
    pub unknown: u64,
    pub unknown_late: UnknownLate,
    pub out_of_order: u64,
    /// How many each window was given, by its start.
    pub windows: BTreeMap<Timestamp, u64>,
    /// Sections that cannot be read though their checksum is right.
    pub unreadable: u64,
    /// Series that have samples which were left for the next part.
    pub postponed: RoaringBitmap,
}

/// Samples that came late whose series nothing names any more. They are lost only if no mark says that they are in their
/// blocks: a series that had nothing else leaves the memory then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UnknownLate {
    /// Since the last mark that they are being put into blocks, and before it.
    since: u64,
    before: u64,
}

impl UnknownLate {
    pub fn add(&mut self, other: UnknownLate) {
        self.since += other.since;
        self.before += other.before;
    }

    pub fn all(self) -> u64 {
        self.since + self.before
    }

    fn mark(&mut self, done: bool) {
        if done {
            self.before = 0;
        } else {
            self.before += std::mem::take(&mut self.since);
        }
    }
}

/// Takes the samples of a segment that are of the shards whose bits are set. `unknown_late` is what there was before it.
/// Those that `postponed` leaves for later are not.
pub(super) fn take(
    db: &Db,
    segment: &Loaded,
    shards: u64,
    unknown_late: UnknownLate,
    postponed: Option<&Postponed>,
) -> Done {
    let mut worker = Worker {
        db,
        segment,
        shards,
        guards: db.head.lock(shards),
        queues: Queues::new(segment.work.len()),
        tally: Tally {
            db,
            min_valid: db.min_valid.load(Ordering::Relaxed),
            postponed,
            window: (Timestamp::MAX, Timestamp::MIN, 0),
            done: Done {
                newest: Timestamp::MIN,
                taken: 0,
                unknown: 0,
                unknown_late,
                out_of_order: 0,
                windows: BTreeMap::new(),
                unreadable: 0,
                postponed: RoaringBitmap::new(),
            },
        },
    };
    worker.guards.all().for_each(|shard| shard.sealer.as_they_are = true);
    for (i, work) in segment.work.iter().enumerate() {
        match work {
            Work::Floats(group) => {
                if worker.has_run(group.run) {
                    worker.queues.push(group.run, i as u32);
                }
            }
            Work::Section(place) => {
                if let Some(section) = segment.section(place) {
                    worker.section(section);
                    db.head.make_room();
                }
            }
        }
    }
    worker.all_waiting();
    worker.guards.all().for_each(|shard| shard.sealer.as_they_are = false);
    worker.tally.end_window();
    worker.tally.done
}

struct Worker<'a> {
    db: &'a Db,
    segment: &'a Loaded,
    shards: u64,
    guards: Guards<'a>,
    queues: Queues,
    tally: Tally<'a>,
}

impl Worker<'_> {
    fn has_run(&self, run: u32) -> bool {
        self.shards & 1 << shard_of(first_of_run(run)) != 0
    }

    /// Takes all groups that wait.
    fn all_waiting(&mut self) {
        for run in std::mem::take(&mut self.queues.runs) {
            self.waiting(run);
            // Nobody waits for the locks that this worker holds.
            self.db.head.make_room();
        }
    }

    /// Takes the groups of a run that wait.
    fn waiting(&mut self, run: u32) {
        let mut next = self.queues.take(run);
        while let Some(i) = next {
            if let Some(Work::Floats(group)) = self.segment.work.get(i as usize) {
                let bytes = &self.segment.bytes[group.bytes.start as usize..group.bytes.end as usize];
                let Some(shard) = self.guards.shard(first_of_run(run)) else { return };
                let tally = &mut self.tally;
                let whole = frame::each_float_from(bytes, group.from, |series, ts, bits| {
                    let Some(start) = tally.admit(series, ts) else { return };
                    let taken =
                        shard.with_series(id_of(series), |s, sealer| s.append(ts, bits, 0, start, sealer));
                    tally.count(taken == Some(Ok(())));
                });
                debug_assert!(whole.is_some(), "it was read when it was grouped");
            }
            next = self.queues.after(i);
        }
    }

    /// Takes those samples of a section that are of this worker's shards. Those of their runs that wait go before.
    fn section(&mut self, section: Section<'_>) {
        let whole = match section {
            Section::Floats(bytes) => {
                frame::each_float(bytes, |series, ts, bits| self.float(series, ts, bits))
            }
            Section::Histograms(bytes) => {
                frame::each_histogram(bytes, |series, ts, h| self.histogram(series, ts, &h))
            }
            Section::Samples(bytes) => frame::each_sample(bytes, |sample| self.sample(&sample)),
            Section::LateMark { done } => {
                self.all_waiting();
                self.tally.done.unknown_late.mark(done);
                for series in self.guards.all().flat_map(|shard| shard.iter_mut()) {
                    if done {
                        series.moved();
                    } else {
                        let _moving = series.move_late();
                    }
                }
                Some(())
            }
            _ => Some(()),
        };
        self.tally.done.unreadable += u64::from(whole.is_none());
    }

    /// Whether a series is of this worker's shards; what waits of its run has been taken then.
    fn comes_to(&mut self, series: SeriesRef) -> bool {
        let run = run_of(id_of(series));
        let mine = self.has_run(run);
        if mine && self.queues.is_waiting(run) {
            self.waiting(run);
        }
        mine
    }

    fn float(&mut self, series: SeriesRef, ts: Timestamp, bits: u64) {
        if !self.comes_to(series) {
            return;
        }
        let Some(start) = self.tally.admit(series, ts) else { return };
        let id = id_of(series);
        let shard = self.guards.shard(id);
        let taken = shard.and_then(|s| s.with_series(id, |s, sealer| s.append(ts, bits, 0, start, sealer)));
        self.tally.count(taken == Some(Ok(())));
    }

    fn histogram(&mut self, series: SeriesRef, ts: Timestamp, h: &Arc<FloatHistogram>) {
        if !self.comes_to(series) {
            return;
        }
        let Some(start) = self.tally.admit(series, ts) else { return };
        let id = id_of(series);
        let taken = self.guards.shard(id).and_then(|s| s.append_histogram(id, ts, h, 0, start));
        self.tally.count(taken == Some(Ok(())));
    }

    fn sample(&mut self, sample: &LoggedSample) {
        if !self.comes_to(sample.series) {
            return;
        }
        let min_valid = self.tally.min_valid;
        let shard = self.guards.shard(id_of(sample.series));
        if !sample.out_of_order {
            let Some(start) = self.tally.admit(sample.series, sample.ts) else { return };
            let taken = shard.and_then(|s| s.append(sample, start));
            self.tally.count(taken == Some(Ok(())));
            return;
        }
        let done = &mut self.tally.done;
        done.newest = done.newest.max(sample.ts);
        // Of a time that blocks answer for it may or may not be in them yet.
        let late = sample.ts < min_valid;
        if !self.db.head.is_current(sample.series) {
            done.unknown_late.since += 1;
            return;
        }
        if self.tally.postponed.is_some_and(|p| sample.ts >= p.from) {
            done.postponed.insert(id_of(sample.series));
            return;
        }
        done.out_of_order += 1;
        let taken = shard.and_then(|s| s.append_out_of_order(sample, min_valid)) == Some(Ok(()));
        done.taken += u64::from(taken);
        if taken && !late {
            *done.windows.entry(self.db.window_start(sample.ts)).or_default() += 1;
        }
    }
}

/// Counts, and says which samples are to be taken.
struct Tally<'a> {
    db: &'a Db,
    min_valid: Timestamp,
    postponed: Option<&'a Postponed>,
    /// The window of the newest sample in order: its bounds, and how many it was given.
    window: (Timestamp, Timestamp, u64),
    done: Done,
}

impl Tally<'_> {
    /// The start of a sample's window, if the sample is to be taken: the head answers for its time and has its series.
    #[inline]
    fn admit(&mut self, series: SeriesRef, ts: Timestamp) -> Option<Timestamp> {
        self.done.newest = self.done.newest.max(ts);
        if ts < self.min_valid {
            return None;
        }
        if ts < self.window.0 || ts >= self.window.1 {
            self.end_window();
            let start = self.db.window_start(ts);
            self.window = (start, start.saturating_add(self.db.options.window_ms), 0);
        }
        if !self.db.head.is_current(series) {
            self.done.unknown += 1;
            return None;
        }
        if let Some(postponed) = self.postponed
            && self.postpones(postponed, id_of(series), ts)
        {
            return None;
        }
        Some(self.window.0)
    }

    /// Whether a sample is not for this part. A series takes none that is older than one which was left for the next:
    /// that one had overtaken it when both came, in one batch.
    fn postpones(&mut self, postponed: &Postponed, id: u32, ts: Timestamp) -> bool {
        if ts < postponed.from {
            return postponed.series.contains(id) || self.done.postponed.contains(id);
        }
        self.done.postponed.insert(id);
        true
    }

    /// Counts a sample that was admitted.
    #[inline]
    fn count(&mut self, taken: bool) {
        self.window.2 += u64::from(taken);
        self.done.taken += u64::from(taken);
    }

    fn end_window(&mut self) {
        if self.window.2 > 0 {
            *self.done.windows.entry(self.window.0).or_default() += self.window.2;
            self.window.2 = 0;
        }
    }
}

/// Work that waits, by run: lists through one vector.
#[derive(Debug)]
struct Queues {
    /// What follows each in its list, as place in the segment's work plus 1; 0 ends it.
    next: Vec<u32>,
    /// The first and the last of each run, plus 1; 0 if nothing waits.
    ends: Vec<(u32, u32)>,
    /// The runs for which something was pushed, in that order.
    runs: Vec<u32>,
}

impl Queues {
    fn new(work: usize) -> Self {
        Queues { next: vec![0; work], ends: Vec::new(), runs: Vec::new() }
    }

    fn push(&mut self, run: u32, i: u32) {
        let run_at = run as usize;
        if self.ends.len() <= run_at {
            self.ends.resize(run_at + 1, (0, 0));
        }
        match &mut self.ends[run_at] {
            (0, _) => {
                self.ends[run_at] = (i + 1, i + 1);
                self.runs.push(run);
            }
            (_, last) => {
                self.next[*last as usize - 1] = i + 1;
                *last = i + 1;
            }
        }
    }

    fn is_waiting(&self, run: u32) -> bool {
        self.ends.get(run as usize).is_some_and(|e| e.0 != 0)
    }

    /// Empties the list of a run; returns its first.
    fn take(&mut self, run: u32) -> Option<u32> {
        std::mem::take(self.ends.get_mut(run as usize)?).0.checked_sub(1)
    }

    /// What follows in its list.
    fn after(&self, i: u32) -> Option<u32> {
        self.next[i as usize].checked_sub(1)
    }
}
