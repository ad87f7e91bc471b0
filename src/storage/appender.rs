//! Batches of samples on their way into the head.
//!
//! A commit takes the locks of all shards that the batch touches, drops what has no room, writes the rest to the WAL,
//! applies it, and lets go. So the order of the WAL is the order of memory for every series, a replay decides every
//! sample as it was decided here, and a reader, who holds the locks of all series that he selects at once, sees a batch
//! whole or not at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::api::{AppendError, CommitStats, SampleValue, SeriesLimit, SeriesRef, StorageError};
use super::db::{Db, SeriesIndex, UnloggedSets, lock, read, write};
use super::exemplars::{Exemplar, ExemplarError};
use super::head::{Guards, Refusal, SERIES_MAX, id_of, shard_of};
use super::index::LabelsHash;
use super::wal::pieces::{SECTION_ITEMS, histogram_bytes, pieces, sample_bytes};
use super::wal::{FrameBuilder, LoggedSample};
use crate::model::{CounterResetHint, FloatHistogram, LabelSets, Labels, Timestamp};

/// A frame of the WAL that has become longer is ended and the batch goes on in another.
const FRAME_BYTES: usize = 32 << 20;
/// What a series takes in a section besides its labels.
const SERIES_BYTES: usize = 16;
/// Memory of a batch that was larger is given back.
const SPARE_SAMPLES: usize = 1 << 16;
const SPARE_BATCHES: usize = 8;

/// The samples of a batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    floats: Vec<(SeriesRef, Timestamp, u64)>,
    histograms: Vec<(SeriesRef, Timestamp, Arc<FloatHistogram>)>,
    /// Samples with a start time.
    started: Vec<LoggedSample>,
    /// Zeros that are wanted before the first sample of a series: a histogram if there is one, else a float.
    zeros: Vec<(SeriesRef, Timestamp, Option<Arc<FloatHistogram>>)>,
    /// Samples out of order, found at the commit.
    out_of_order: Vec<LoggedSample>,
    /// Each with the labels of its series.
    exemplars: Vec<(SeriesRef, Labels, Exemplar)>,
    frame: FrameBuilder,
    /// Frames that are full.
    frames: Vec<u8>,
    /// The sections of new series once more.
    series_again: FrameBuilder,
    /// Series whose labels this batch has to log.
    to_log: Vec<SeriesRef>,
    /// Memory to work in.
    lookups: Vec<Lookup>,
}

/// A label set that is looked up.
#[derive(Clone, Copy, Debug)]
struct Lookup {
    hash: LabelsHash,
    series: Result<SeriesRef, AppendError>,
}

/// Collects a batch of samples.
#[derive(Debug)]
pub struct Appender {
    db: Arc<Db>,
    batch: Batch,
    stats: CommitStats,
    min_valid: Timestamp,
    max_valid: Timestamp,
}

impl Appender {
    pub(super) fn new(db: &Arc<Db>) -> Self {
        Appender {
            batch: lock(&db.spare).pop().unwrap_or_default(),
            stats: CommitStats::default(),
            min_valid: match db.out_of_order_from() {
                Some(from) => from.min(db.min_valid.load(Ordering::Acquire)),
                None => db.min_valid.load(Ordering::Acquire),
            },
            max_valid: db.max_valid.load(Ordering::Acquire),
            db: Arc::clone(db),
        }
    }

    /// The series with these labels, made if it is new. The answer is worth keeping: with it,
    /// [`Appender::append`] takes no lock.
    ///
    /// # Errors
    /// [`AppendError::TooManySeries`].
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let hash = {
            let index = read(&self.db.index);
            let hash = index.labels.hash(labels.borrowed());
            if let Some(id) = index.labels.find_hashed(hash, labels.borrowed()) {
                return Ok(self.db.head.reference(id));
            }
            hash
        };
        let mut sets = LabelSets::with_capacity(1, labels.as_packed().len());
        sets.push_sorted(labels);
        let mut lookups = [Lookup { hash, series: Err(AppendError::UnknownSeries) }];
        self.create(sets, &mut lookups);
        lookups[0].series
    }

    /// The same for many at once, which costs less for each: the answers, in the order of `sets`, are put into
    /// `series`. Readers wait meanwhile if some are new, so let it be some hundreds.
    pub fn series_all(&mut self, sets: LabelSets, series: &mut Vec<Result<SeriesRef, AppendError>>) {
        let mut lookups = std::mem::take(&mut self.batch.lookups);
        lookups.clear();
        let mut all_known = true;
        {
            let index = read(&self.db.index);
            for labels in sets.iter() {
                let hash = index.labels.hash(labels);
                let found = index.labels.find_hashed(hash, labels);
                all_known &= found.is_some();
                let found = found.map(|id| self.db.head.reference(id));
                lookups.push(Lookup { hash, series: found.ok_or(AppendError::UnknownSeries) });
            }
        }
        if !all_known {
            self.create(sets, &mut lookups);
        }
        series.clear();
        series.extend(lookups.iter().map(|l| l.series));
        self.batch.lookups = lookups;
    }

    /// Makes the series of those sets that were not found.
    fn create(&mut self, sets: LabelSets, lookups: &mut [Lookup]) {
        let db = &*self.db;
        let number = match db.options.series_max {
            0 => SERIES_MAX,
            n => n.min(SERIES_MAX),
        } as u64;
        let logged = db.wal.is_none();
        let mut index = write(&db.index);
        let mut creation = db.head.creation(index.generation_min, logged);
        // As places in `sets`.
        let mut created: Vec<u32> = Vec::new();
        for (i, lookup) in lookups.iter_mut().enumerate() {
            if lookup.series.is_ok() {
                continue;
            }
            let labels = sets.get(i);
            // Somebody may have made it since, or it stands among the sets twice.
            if let Some(id) = index.labels.find_hashed(lookup.hash, labels) {
                lookup.series = Ok(db.head.reference(id));
                continue;
            }
            let full = index.labels.is_full() || index.labels.len() >= number;
            if full || db.is_out_of_memory(&index) {
                db.metrics.series_refused.inc();
                let memory = SeriesLimit::Memory(db.options.memory_bytes_max);
                let limit = if full { SeriesLimit::Number(index.labels.len()) } else { memory };
                lookup.series = Err(AppendError::TooManySeries(limit));
                continue;
            }
            let id = index.free_id();
            index.labels.insert_hashed(id, lookup.hash, labels);
            lookup.series = Ok(creation.create(id));
            created.push(i as u32);
        }
        index.labels.settle();
        drop(creation);
        self.stats.series_created += created.len() as u64;
        db.metrics.series.set(index.labels.len());
        if !logged && !created.is_empty() {
            // Before anybody else can find them: who logs a series first has to have its labels.
            let sets = Arc::new(UnloggedSets::new(sets, &db.unlogged_bytes));
            let mut unlogged = lock(&db.unlogged);
            unlogged.reserve(created.len());
            for i in created {
                if let Ok(series) = lookups[i as usize].series {
                    unlogged.insert(series, (Arc::clone(&sets), i));
                }
            }
        }
    }

    /// Adds a sample to the batch. Whether its series has room for it shows at the commit, which counts what it
    /// refuses. A sample with the time and value (by bits) of the newest one is ignored.
    ///
    /// # Errors
    /// [`AppendError::UnknownSeries`], [`AppendError::TooOld`] and [`AppendError::TooFarAhead`] show at once; the batch
    /// goes on.
    #[inline]
    pub fn append(&mut self, series: SeriesRef, ts: Timestamp, value: f64) -> Result<(), AppendError> {
        self.check(series, ts)?;
        self.batch.floats.push((series, ts, value.to_bits()));
        Ok(())
    }

    /// Adds a native histogram to the batch.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub fn append_histogram(
        &mut self,
        series: SeriesRef,
        ts: Timestamp,
        value: Arc<FloatHistogram>,
    ) -> Result<(), AppendError> {
        self.check(series, ts)?;
        self.batch.histograms.push((series, ts, plain(value)));
        Ok(())
    }

    /// Adds a sample with the time (ms) at which its series began to count from zero; 0 means that nobody knows.
    /// Within a batch these samples come after those without a start time.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub fn append_with_start(
        &mut self,
        series: SeriesRef,
        ts: Timestamp,
        start: Timestamp,
        value: SampleValue,
    ) -> Result<(), AppendError> {
        match value {
            SampleValue::Float(v) if start == 0 => self.append(series, ts, v),
            SampleValue::Histogram(h) if start == 0 => self.append_histogram(series, ts, h),
            value => self.append_among_started(series, ts, start, value),
        }
    }

    /// As [`Appender::append_with_start`], but a sample without a start time too keeps its place among those that have
    /// one: for a series that has both in one batch.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub fn append_among_started(
        &mut self,
        series: SeriesRef,
        ts: Timestamp,
        start: Timestamp,
        value: SampleValue,
    ) -> Result<(), AppendError> {
        self.check(series, ts)?;
        let value = match value {
            SampleValue::Histogram(h) => SampleValue::Histogram(plain(h)),
            float => float,
        };
        self.batch.started.push(LoggedSample { series, ts, start, value, out_of_order: false });
        Ok(())
    }

    /// Asks for a zero at `start` (ms), where a series began to count, before the samples of this batch: `layout`'s
    /// empty histogram, or the float 0. The commit leaves it out, and counts nothing, unless `start` is newer than the
    /// newest sample of the series and not too old for the head. One is added for each series: the earliest.
    pub fn append_zero(&mut self, series: SeriesRef, start: Timestamp, layout: Option<&FloatHistogram>) {
        let zero = layout.map(|h| {
            Arc::new(FloatHistogram {
                counter_reset_hint: CounterResetHint::Reset,
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                custom_values: h.custom_values.clone(),
                ..FloatHistogram::default()
            })
        });
        self.batch.zeros.push((series, start, zero));
    }

    /// Adds an exemplar of a series to the batch.
    ///
    /// # Errors
    /// When it is not taken; [`ExemplarError::Repeated`] is none that a sender should hear of.
    pub fn append_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<(), ExemplarError> {
        let labels = {
            let index = read(&self.db.index);
            if !self.db.head.is_current(series) {
                return Err(ExemplarError::Disabled);
            }
            index.labels.labels(id_of(series))
        };
        let checked = lock(&self.db.exemplars).check(&labels, &exemplar);
        match checked {
            Ok(()) => self.batch.exemplars.push((series, labels, exemplar)),
            Err(_) => self.db.count_exemplar(checked),
        }
        checked
    }

    #[inline]
    fn check(&mut self, series: SeriesRef, ts: Timestamp) -> Result<(), AppendError> {
        let refusal = if !self.db.head.is_current(series) {
            AppendError::UnknownSeries
        } else if ts < self.min_valid {
            AppendError::TooOld
        } else if ts > self.max_valid {
            AppendError::TooFarAhead
        } else {
            return Ok(());
        };
        self.stats.refuse(series, ts, refusal);
        Err(refusal)
    }

    /// How many samples are in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.floats.len() + self.batch.histograms.len() + self.batch.started.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the batch to the WAL and makes it visible. On return it survives a kill of the process.
    ///
    /// # Errors
    /// [`StorageError::Write`] when it cannot be written, [`StorageError::ReadOnly`] when nothing may be: nothing of
    /// it was taken.
    pub fn commit(mut self) -> Result<CommitStats, StorageError> {
        self.db.commit(&mut self.batch, &mut self.stats)?;
        Ok(self.stats)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let batch = &mut self.batch;
        if batch.floats.capacity() <= SPARE_SAMPLES && batch.frame.len() <= FRAME_BYTES / 32 {
            batch.clear();
            let mut spare = lock(&self.db.spare);
            if spare.len() < SPARE_BATCHES {
                spare.push(std::mem::take(batch));
            }
        }
    }
}

impl Batch {
    fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
        self.started.clear();
        self.zeros.clear();
        self.out_of_order.clear();
        self.exemplars.clear();
        self.frame.clear();
        self.frames.clear();
        self.series_again.clear();
        self.to_log.clear();
        self.lookups.clear();
    }

    /// Ends the frame if it is long.
    fn end_long_frame(&mut self) {
        if self.frame.len() > FRAME_BYTES {
            self.end_frame();
        }
    }

    fn has_histograms(&self) -> bool {
        let is_histogram = |s: &LoggedSample| matches!(s.value, SampleValue::Histogram(_));
        !self.histograms.is_empty() || self.started.iter().any(is_histogram)
    }

    fn end_frame(&mut self) {
        if !self.frame.is_empty() {
            self.frames.extend_from_slice(self.frame.finish());
            self.frame.clear();
        }
    }
}

impl SeriesIndex {
    fn free_id(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Db {
    fn commit(&self, batch: &mut Batch, stats: &mut CommitStats) -> Result<(), StorageError> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        // Floats that are too many for the memory go to a file; these do not, and one may be as large as a request.
        if batch.has_histograms() && self.has_many_histograms(2) {
            self.metrics.histogram_batches_refused.inc();
            return Err(StorageError::TooManyHistograms { memory_bytes_max: self.options.memory_bytes_max });
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
        if !batch.to_log.is_empty() {
            let labels: Vec<(SeriesRef, (Arc<UnloggedSets>, u32))> = {
                let unlogged = lock(&self.unlogged);
                batch.to_log.iter().filter_map(|s| Some((*s, unlogged.get(s)?.clone()))).collect()
            };
            // Texts have their lengths before them there as well, never in twice as many bytes.
            let bytes = |(_, (sets, i)): &(SeriesRef, (Arc<UnloggedSets>, u32))| {
                2 * sets.sets.get(*i as usize).as_packed().len() + SERIES_BYTES
            };
            let mut again = Vec::new();
            for some in pieces(&labels, bytes) {
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
            if unlogged.is_empty() && unlogged.capacity() > SECTION_ITEMS {
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

/// A histogram as it is kept: a staleness marker has nothing but its sum, whatever came with it. Nobody has checked that.
fn plain(h: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    if !h.is_stale_marker() {
        return h;
    }
    Arc::new(FloatHistogram { sum: h.sum, ..FloatHistogram::default() })
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
