//! Batches of samples on their way into the head: they are collected here, and [`commit`] takes them in.

mod commit;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::api::{AppendError, CommitStats, SampleValue, SeriesLimit, SeriesRef, StorageError};
use super::db::{Db, SeriesIndex, UnloggedSets, lock, read, write};
use super::exemplars::{Exemplar, ExemplarError};
use super::head::{SERIES_MAX, id_of};
use super::index::LabelsHash;
use super::wal::{FrameBuilder, LoggedSample};
use crate::model::{CounterResetHint, FloatHistogram, LabelSets, Labels, Timestamp};

/// A frame of the WAL that has become longer is ended and the batch goes on in another.
const FRAME_BYTES: usize = 32 << 20;
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
    /// See [`Appender::leave_out_histograms`].
    leaves_out_histograms: bool,
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

    /// An empty list for [`Appender::series_all`], maybe with the memory of one from before.
    #[must_use]
    pub fn label_sets(&self) -> LabelSets {
        self.db.unlogged_memory.take()
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
        if all_known {
            self.db.unlogged_memory.give_back(sets);
        } else {
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
            let sets = Arc::new(UnloggedSets::new(sets, &db.unlogged_memory));
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
        if exemplar.ts > self.max_valid {
            // It would keep out all that come before that time.
            self.db.count_exemplar(Err(ExemplarError::TooFarAhead));
            return Err(ExemplarError::TooFarAhead);
        }
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

    /// Where native histograms take half of the memory limit, the commit leaves those of this batch out and takes the rest,
    /// instead of refusing all of it: for a sender who will not come again with the same samples.
    pub fn leave_out_histograms(&mut self) {
        self.batch.leaves_out_histograms = true;
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
        self.leaves_out_histograms = false;
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

/// A histogram as it is kept: a staleness marker has nothing but its sum, whatever came with it. Nobody has checked that.
fn plain(h: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    if !h.is_stale_marker() {
        return h;
    }
    Arc::new(FloatHistogram { sum: h.sum, ..FloatHistogram::default() })
}
