//! A batch goes into the WAL and into the head.
//!
//! A commit takes the locks of all shards that the batch touches, drops what has no room, writes the rest to the WAL,
//! applies it, and lets go. So the order of the WAL is the order of memory for every series, a replay decides every
//! sample as it was decided here, and a reader, who holds the locks of all series that he selects at once, sees a batch
//! whole or not at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Batch, FRAME_BYTES};
use crate::model::{FloatHistogram, Timestamp};
use crate::storage::api::{AppendError, CommitStats, SampleValue, SeriesRef, StorageError};
use crate::storage::db::{Db, UnloggedSets, lock};
use crate::storage::head::{Guards, Refusal, id_of, shard_of};
use crate::storage::wal::LoggedSample;
use crate::storage::wal::pieces::{SECTION_ITEMS, histogram_bytes, pieces, sample_bytes, series_pieces};

/// Room for so many series that are not logged yet is kept: what a few senders at once make new. It is half a megabyte.
const UNLOGGED_KEPT: usize = 1 << 14;
/// What a series takes in a section besides its labels.
const SERIES_BYTES: usize = 16;

impl Db {
    pub(super) fn commit(&self, batch: &mut Batch, stats: &mut CommitStats) -> Result<(), StorageError> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        // Floats that are too many for the memory go to a file; these do not, and one may be as large as a request.
        if batch.has_histograms() && self.has_many_histograms(2) {
            if !batch.leaves_out_histograms {
                self.metrics.histogram_batches_refused.inc();
                return Err(StorageError::TooManyHistograms {
                    memory_bytes_max: self.options.memory_bytes_max,
                });
            }
            batch.leave_out_histograms(stats);
            self.metrics.histograms_refused.inc_by(stats.histograms_refused);
        }
        let mut shards = 0u64;
        let floats = batch.floats.iter().map(|s| s.0);
        let started = batch.started.iter().map(|s| s.series);
        let others = batch.exemplars.iter().map(|e| e.0).chain(batch.zeros.iter().map(|z| z.0));
        for series in floats.chain(batch.histograms.iter().map(|s| s.0)).chain(started).chain(others) {
            shards |= 1 << shard_of(id_of(series));
        }
        let mut guards = self.head.lock(shards);
        // Read under the locks: whoever seals moves it first and takes each lock then.
        let min_valid = self.min_valid.load(Ordering::Acquire);
        let mut newest = Timestamp::MIN;
        let late = self.late_bound();
        if !batch.zeros.is_empty() {
            stats.zeros += self.place_zeros(batch, &mut guards, min_valid);
        }

        // What has no room whatever else is in the batch is dropped; the rest goes to the WAL.
        let logs = self.wal.is_some();
        let (frame, to_log, out_of_order) = (&mut batch.frame, &mut batch.to_log, &mut batch.out_of_order);
        let mut long = false;
        frame.clear();
        frame.begin_floats();
        batch.floats.retain(|&(series, ts, bits)| {
            let slot = guards.shard(id_of(series)).and_then(|s| s.get_mut(id_of(series)));
            let checked = match slot {
                Some((slot, _)) if self.head.is_current(series) => {
                    let checked = if ts < min_valid { Err(None) } else { slot.check(ts, bits).map_err(Some) };
                    if checked.is_ok() && !slot.is_logged() {
                        slot.set_logged(true);
                        to_log.push(series);
                    }
                    checked
                }
                _ => {
                    stats.refuse(series, ts, AppendError::UnknownSeries);
                    return false;
                }
            };
            match checked {
                Ok(()) => {
                    newest = newest.max(ts);
                    if logs && !long {
                        frame.float(series, ts, bits);
                        long = frame.len() > FRAME_BYTES;
                    }
                    true
                }
                Err(why) => {
                    if late.takes(ts, why) {
                        let value = SampleValue::Float(f64::from_bits(bits));
                        out_of_order.push(LoggedSample { series, ts, start: 0, value, out_of_order: true });
                    } else {
                        note(stats, series, ts, late.reason(ts, why));
                    }
                    false
                }
            }
        });
        frame.end_floats();
        batch.histograms.retain(|(series, ts, h)| {
            let slot = guards.shard(id_of(*series)).and_then(|s| s.get_mut(id_of(*series)));
            let Some((slot, _)) = slot.filter(|_| self.head.is_current(*series)) else {
                stats.refuse(*series, *ts, AppendError::UnknownSeries);
                return false;
            };
            let checked =
                if *ts < min_valid { Err(None) } else { slot.check_histogram(*ts, h).map_err(Some) };
            match checked {
                Ok(()) => {
                    if !slot.is_logged() {
                        slot.set_logged(true);
                        to_log.push(*series);
                    }
                    newest = newest.max(*ts);
                    true
                }
                Err(why) => {
                    if late.takes(*ts, why) {
                        let (series, ts, value) = (*series, *ts, SampleValue::Histogram(Arc::clone(h)));
                        out_of_order.push(LoggedSample { series, ts, start: 0, value, out_of_order: true });
                    } else {
                        note(stats, *series, *ts, late.reason(*ts, why));
                    }
                    false
                }
            }
        });
        batch.started.retain(|s| {
            let slot = guards.shard(id_of(s.series)).and_then(|shard| shard.get_mut(id_of(s.series)));
            let Some((slot, _)) = slot.filter(|_| self.head.is_current(s.series)) else {
                stats.refuse(s.series, s.ts, AppendError::UnknownSeries);
                return false;
            };
            let checked = match &s.value {
                _ if s.ts < min_valid => Err(None),
                SampleValue::Float(v) => slot.check(s.ts, v.to_bits()).map_err(Some),
                SampleValue::Histogram(h) => slot.check_histogram(s.ts, h).map_err(Some),
            };
            match checked {
                Ok(()) => {
                    if !slot.is_logged() {
                        slot.set_logged(true);
                        to_log.push(s.series);
                    }
                    newest = newest.max(s.ts);
                    true
                }
                Err(why) => {
                    if late.takes(s.ts, why) {
                        out_of_order.push(LoggedSample { out_of_order: true, ..s.clone() });
                    } else {
                        note(stats, s.series, s.ts, late.reason(s.ts, why));
                    }
                    false
                }
            }
        });
        batch.check_out_of_order(&mut guards, stats);
        if !batch.exemplars.is_empty() {
            self.check_exemplars(batch, &mut guards);
        }
        if long {
            // So large a batch is rare: its samples are written once more, in several frames.
            batch.frame.clear();
            batch.log_floats_in_frames();
        }

        let mut position = match self.log(batch, newest) {
            Ok(position) => {
                if self.metrics.refusing.get() > 0 && position > 0 {
                    self.note_writing(None);
                }
                position
            }
            Err(error) => {
                for series in &batch.to_log {
                    if let Some((slot, _)) =
                        guards.shard(id_of(*series)).and_then(|s| s.get_mut(id_of(*series)))
                    {
                        slot.set_logged(false);
                    }
                }
                self.metrics.wal_write_failures.inc();
                self.note_writing(Some(&error));
                return Err(StorageError::Write(error.to_string()));
            }
        };

        let mut window = (Timestamp::MAX, Timestamp::MIN, 0u64);
        let mut in_window = |ts: Timestamp| -> Timestamp {
            if ts < window.0 || ts >= window.1 {
                if window.2 > 0 {
                    *lock(&self.windows).entry(window.0).or_default() += window.2;
                }
                let start = self.window_start(ts);
                window = (start, start.saturating_add(self.options.window_ms), 0);
            }
            window.2 += 1;
            window.0
        };
        let mut overtaken = Vec::new();
        for &(series, ts, bits) in &batch.floats {
            let start = in_window(ts);
            let id = id_of(series);
            let applied = guards
                .shard(id)
                .and_then(|shard| shard.with_series(id, |s, sealer| s.append(ts, bits, 0, start, sealer)));
            match applied {
                Some(Ok(())) => stats.samples += 1,
                Some(Err(why)) if late.takes(ts, Some(why)) => {
                    let value = SampleValue::Float(f64::from_bits(bits));
                    overtaken.push(LoggedSample { series, ts, start: 0, value, out_of_order: true });
                }
                Some(Err(why)) => note(stats, series, ts, late.reason(ts, Some(why))),
                None => stats.refuse(series, ts, AppendError::UnknownSeries),
            }
        }
        for (series, ts, h) in &batch.histograms {
            let start = in_window(*ts);
            let id = id_of(*series);
            let applied = guards.shard(id).and_then(|shard| shard.append_histogram(id, *ts, h, 0, start));
            match applied {
                Some(Ok(())) => stats.samples += 1,
                Some(Err(why)) if late.takes(*ts, Some(why)) => {
                    let (series, ts, value) = (*series, *ts, SampleValue::Histogram(Arc::clone(h)));
                    overtaken.push(LoggedSample { series, ts, start: 0, value, out_of_order: true });
                }
                Some(Err(why)) => note(stats, *series, *ts, late.reason(*ts, Some(why))),
                None => stats.refuse(*series, *ts, AppendError::UnknownSeries),
            }
        }
        for sample in &batch.started {
            let start = in_window(sample.ts);
            let applied = guards.shard(id_of(sample.series)).and_then(|shard| shard.append(sample, start));
            match applied {
                Some(Ok(())) => stats.samples += 1,
                Some(Err(why)) if late.takes(sample.ts, Some(why)) => {
                    overtaken.push(LoggedSample { out_of_order: true, ..sample.clone() });
                }
                Some(Err(why)) => note(stats, sample.series, sample.ts, late.reason(sample.ts, Some(why))),
                None => stats.refuse(sample.series, sample.ts, AppendError::UnknownSeries),
            }
        }
        self.apply_out_of_order(batch, &mut guards, min_valid, stats);
        for (_, labels, exemplar) in batch.exemplars.drain(..) {
            let taken = lock(&self.exemplars).add(&labels, exemplar);
            self.count_exemplar(taken);
        }
        if !overtaken.is_empty() {
            position = position.max(self.take_overtaken(batch, overtaken, &mut guards, min_valid, stats));
        }
        drop(guards);
        self.head.make_room();
        if window.2 > 0 {
            *lock(&self.windows).entry(window.0).or_default() += window.2;
        }
        self.max_ts.fetch_max(newest, Ordering::Relaxed);
        self.count(stats);
        if let (Some(wal), true) = (&self.wal, position > 0 || stats.repeated > 0)
            && wal.options().sync_each
        {
            // What is there already may have come with a batch whose sync failed.
            let position = if position > 0 { position } else { wal.position() };
            wal.sync_to(position).map_err(|e| {
                self.metrics.wal_sync_failures.inc();
                StorageError::Sync(e.to_string())
            })?;
        }
        Ok(())
    }

    /// Writes what the batch has for the WAL; returns the position after it, 0 if there was nothing.
    fn log(&self, batch: &mut Batch, newest: Timestamp) -> std::io::Result<u64> {
        let Some(wal) = &self.wal else { return Ok(0) };
        let histograms = std::mem::take(&mut batch.histograms);
        for some in pieces(&histograms, |(_, _, h)| histogram_bytes(h)) {
            batch.frame.histograms(some.iter().map(|(s, t, h)| (*s, *t, h)));
            batch.end_long_frame();
        }
        batch.histograms = histograms;
        let started = std::mem::take(&mut batch.started);
        for some in pieces(&started, sample_bytes) {
            batch.frame.samples(some);
            batch.end_long_frame();
        }
        batch.started = started;
        let out_of_order = std::mem::take(&mut batch.out_of_order);
        for some in pieces(&out_of_order, sample_bytes) {
            batch.frame.samples(some);
            batch.end_long_frame();
        }
        // Such a segment stays until it is certain that what it has for older blocks is in them: until a seal that
        // begins after now.
        let newest = if out_of_order.is_empty() {
            newest
        } else {
            newest.max(self.max_ts.load(Ordering::Relaxed).saturating_add(1))
        };
        batch.out_of_order = out_of_order;
        // Held to the end: the last of its labels are let go without a lock.
        let mut labels: Vec<(SeriesRef, (Arc<UnloggedSets>, u32))> = Vec::with_capacity(batch.to_log.len());
        if !batch.to_log.is_empty() {
            {
                let unlogged = lock(&self.unlogged);
                labels.extend(batch.to_log.iter().filter_map(|s| Some((*s, unlogged.get(s)?.clone()))));
            }
            // Texts have their lengths before them there as well, never in twice as many bytes.
            let bytes = |(_, (sets, i)): &(SeriesRef, (Arc<UnloggedSets>, u32))| {
                2 * sets.sets.get(*i as usize).as_packed().len() + SERIES_BYTES
            };
            let mut again = Vec::new();
            for some in series_pieces(&labels, bytes) {
                let at = batch.frame.len();
                batch.frame.series(some.iter().map(|(s, (sets, i))| (*s, sets.sets.get(*i as usize).iter())));
                batch.series_again.raw_series(&batch.frame.bytes()[at..], some.len());
                if batch.series_again.len() > FRAME_BYTES {
                    again.extend_from_slice(batch.series_again.finish());
                    batch.series_again.clear();
                }
                batch.end_long_frame();
            }
            // Named twice, in two frames: should one be damaged, it costs its own samples and not all of its series'.
            batch.end_frame();
            batch.frames.append(&mut again);
            if !batch.series_again.is_empty() {
                batch.frames.extend_from_slice(batch.series_again.finish());
                batch.series_again.clear();
            }
        }
        // After the series, which a replay has to know by then.
        if !batch.exemplars.is_empty() {
            let exemplars = std::mem::take(&mut batch.exemplars);
            for some in exemplars.chunks(SECTION_ITEMS) {
                batch.frame.exemplars(some.iter().map(|(s, _, e)| (*s, e)));
                batch.end_long_frame();
            }
            batch.exemplars = exemplars;
        }
        if batch.frame.is_empty() && batch.frames.is_empty() {
            return Ok(0);
        }
        let position = if batch.frames.is_empty() {
            wal.write(batch.frame.finish(), newest)?
        } else {
            batch.end_frame();
            wal.write(&batch.frames, newest)?
        };
        if !batch.to_log.is_empty() {
            let mut unlogged = lock(&self.unlogged);
            for series in &batch.to_log {
                unlogged.remove(series);
            }
            if unlogged.is_empty() && unlogged.capacity() > UNLOGGED_KEPT {
                unlogged.shrink_to_fit();
            }
        }
        Ok(position)
    }

    /// Puts the zeros that have room before the other samples of the batch; returns how many.
    fn place_zeros(&self, batch: &mut Batch, guards: &mut Guards<'_>, min_valid: Timestamp) -> u64 {
        let mut zeros = std::mem::take(&mut batch.zeros);
        zeros.sort_by_key(|(series, start, _)| (*series, *start));
        zeros.dedup_by_key(|(series, _, _)| *series);
        zeros.retain(|(series, start, _)| {
            let slot = guards.shard(id_of(*series)).and_then(|shard| shard.get_mut(id_of(*series)));
            let newest = slot.filter(|_| self.head.is_current(*series)).map(|(slot, _)| slot.last_ts());
            *start >= min_valid && newest.is_some_and(|newest| *start > newest)
        });
        let count = zeros.len() as u64;
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for (series, start, zero) in zeros {
            match zero {
                Some(zero) => histograms.push((series, start, zero)),
                None => floats.push((series, start, 0f64.to_bits())),
            }
        }
        batch.floats.splice(..0, floats);
        batch.histograms.splice(..0, histograms);
        count
    }

    /// Leaves those exemplars that the ring takes and whose series are there, and notes the series that have to be
    /// logged.
    fn check_exemplars(&self, batch: &mut Batch, guards: &mut Guards<'_>) {
        let to_log = &mut batch.to_log;
        let ring = lock(&self.exemplars);
        batch.exemplars.retain(|(series, labels, exemplar)| {
            let slot = guards.shard(id_of(*series)).and_then(|shard| shard.get_mut(id_of(*series)));
            let Some((slot, _)) = slot.filter(|_| self.head.is_current(*series)) else { return false };
            let taken = ring.check(labels, exemplar).is_ok();
            if taken && !slot.is_logged() {
                slot.set_logged(true);
                to_log.push(*series);
            }
            taken
        });
    }

    /// Which samples out of order are taken now.
    fn late_bound(&self) -> LateBound {
        let full = self.out_of_order_held.load(Ordering::Relaxed) >= self.late_held_max();
        LateBound { from: self.out_of_order_from(), full }
    }

    /// Applies the samples out of order that are in the WAL by now.
    fn apply_out_of_order(
        &self,
        batch: &Batch,
        guards: &mut Guards<'_>,
        min_valid: Timestamp,
        stats: &mut CommitStats,
    ) {
        let mut taken = 0;
        for s in &batch.out_of_order {
            let shard = guards.shard(id_of(s.series));
            match shard.and_then(|shard| shard.append_out_of_order(s, min_valid)) {
                Some(Ok(())) => {
                    taken += 1;
                    if s.ts >= min_valid {
                        *lock(&self.windows).entry(self.window_start(s.ts)).or_default() += 1;
                    }
                }
                Some(Err(why)) => note(stats, s.series, s.ts, Some(why)),
                None => stats.refuse(s.series, s.ts, AppendError::UnknownSeries),
            }
        }
        stats.samples += taken;
        stats.samples_out_of_order += taken;
        if taken > 0 {
            self.out_of_order_held.fetch_add(taken, Ordering::Relaxed);
            self.late_logged.store(true, Ordering::Release);
        }
    }

    /// Takes samples that others of their own batch have overtaken: a frame of their own, for the batch's says that
    /// they are in order. If it cannot be written they are refused. Returns the WAL's position after it.
    ///
    /// Which they are shows only when the others are applied, which are in the WAL by then: to know it before would cost
    /// every batch a look at which series it has twice. So a process that ends between the two writes leaves the first, of
    /// a batch that was not acknowledged. Readers see both or neither.
    fn take_overtaken(
        &self,
        batch: &mut Batch,
        overtaken: Vec<LoggedSample>,
        guards: &mut Guards<'_>,
        min_valid: Timestamp,
        stats: &mut CommitStats,
    ) -> u64 {
        let mut more = Batch { out_of_order: overtaken, ..std::mem::take(batch) };
        more.floats.clear();
        more.histograms.clear();
        more.started.clear();
        more.frame.clear();
        more.frames.clear();
        more.to_log.clear();
        more.check_out_of_order(guards, stats);
        let newest = more.out_of_order.iter().map(|s| s.ts).max().unwrap_or(Timestamp::MIN);
        let position = match self.log(&mut more, newest) {
            Ok(position) => {
                self.apply_out_of_order(&more, guards, min_valid, stats);
                position
            }
            Err(error) => {
                tracing::warn!(%error, "Samples out of order cannot be written to the WAL");
                self.metrics.wal_write_failures.inc();
                for s in &more.out_of_order {
                    stats.refuse(s.series, s.ts, AppendError::OutOfOrder);
                }
                0
            }
        };
        *batch = more;
        position
    }

    fn count(&self, stats: &CommitStats) {
        let m = &self.metrics;
        m.out_of_order_samples_appended.inc_by(stats.samples_out_of_order);
        m.samples_appended.inc_by(stats.samples);
        m.series_created.inc_by(stats.series_created);
        if stats.refused() > 0 {
            m.out_of_order_samples.inc_by(stats.out_of_order);
            m.duplicate_samples.inc_by(stats.duplicates);
            m.too_old_samples.inc_by(stats.too_old);
            m.too_far_ahead_samples.inc_by(stats.too_far_ahead);
        }
    }
}

/// Which samples out of order are taken.
#[derive(Clone, Copy, Debug)]
struct LateBound {
    /// `None`: none.
    from: Option<Timestamp>,
    /// As many are held as may be.
    full: bool,
}

impl LateBound {
    /// Whether a sample that has no room in order is taken; `why` as in [`note`].
    fn takes(self, ts: Timestamp, why: Option<Refusal>) -> bool {
        matches!(why, None | Some(Refusal::OutOfOrder))
            && self.from.is_some_and(|from| ts >= from)
            && !self.full
    }

    /// What one that is not taken is refused for.
    fn reason(self, ts: Timestamp, why: Option<Refusal>) -> Option<Refusal> {
        match why {
            // There is a window, and it is older.
            Some(Refusal::OutOfOrder) if self.from.is_some_and(|from| ts < from) => None,
            why => why,
        }
    }
}

impl Batch {
    /// Leaves those samples out of order whose time is free, and notes the series that have to be logged.
    fn check_out_of_order(&mut self, guards: &mut Guards<'_>, stats: &mut CommitStats) {
        let to_log = &mut self.to_log;
        self.out_of_order.retain(|s| {
            let slot = guards.shard(id_of(s.series)).and_then(|shard| shard.get_mut(id_of(s.series)));
            let Some((slot, _)) = slot else {
                stats.refuse(s.series, s.ts, AppendError::UnknownSeries);
                return false;
            };
            match slot.check_out_of_order(s.ts, &s.value) {
                Ok(()) => {
                    if !slot.is_logged() {
                        slot.set_logged(true);
                        to_log.push(s.series);
                    }
                    true
                }
                Err(why) => {
                    note(stats, s.series, s.ts, Some(why));
                    false
                }
            }
        });
    }

    /// Takes native histograms out, but for staleness markers, which are small.
    fn leave_out_histograms(&mut self, stats: &mut CommitStats) {
        let mut is_left_out = |series, ts, h: &FloatHistogram| {
            let out = !h.is_stale_marker();
            if out {
                stats.refuse(series, ts, AppendError::TooManyHistograms);
            }
            out
        };
        self.histograms.retain(|(series, ts, h)| !is_left_out(*series, *ts, h));
        self.started.retain(|s| match &s.value {
            SampleValue::Histogram(h) => !is_left_out(s.series, s.ts, h),
            SampleValue::Float(_) => true,
        });
        self.zeros.retain(|(_, _, layout)| layout.is_none());
    }

    fn log_floats_in_frames(&mut self) {
        let floats = std::mem::take(&mut self.floats);
        // A sample takes at most 30 bytes.
        for some in floats.chunks(FRAME_BYTES / 30) {
            self.frame.begin_floats();
            some.iter().for_each(|(s, t, bits)| self.frame.float(*s, *t, *bits));
            self.frame.end_floats();
            self.end_frame();
        }
        self.floats = floats;
    }
}

/// Counts a sample that has no room; `None` stands for one before the head.
fn note(stats: &mut CommitStats, series: SeriesRef, ts: Timestamp, why: Option<Refusal>) {
    match why {
        Some(Refusal::Repeated) => stats.repeated += 1,
        Some(Refusal::Duplicate) => stats.refuse(series, ts, AppendError::DuplicateTimestamp),
        Some(Refusal::OutOfOrder) => stats.refuse(series, ts, AppendError::OutOfOrder),
        None => stats.refuse(series, ts, AppendError::TooOld),
    }
}
