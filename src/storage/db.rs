//! The parts of the storage and how they stand together.
//!
//! Locks are taken in this order: maintenance, index, shards (ascending), then any one of the small ones (unlogged
//! series, WAL, windows, ring, metadata, exemplars), which are never held while another is taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::api::{
    BlockStats, Cardinality, HeadMemory, SeriesRef, StorageError, StorageOptions, StorageStats,
};
use super::appender::Batch;
use super::block::Block;
use super::disk::{Disk, Lock};
use super::exemplars::ExemplarRing;
use super::head::{Head, SHARDS};
use super::index::{HeadIndex, SelectCache};
use super::late;
use super::maintain::Maintenance;
use super::metrics::StorageMetrics;
use super::tombstones::Deleted;
use super::wal::{FrameBuilder, Wal};
use crate::model::{LabelSets, METRIC_NAME, Metadata, Timestamp};

/// Memory of a series besides its labels and its samples: its slot, its place in the index, and what those who send it
/// remember of it …
const SERIES_BYTES: u64 = 220;
/// … and for each of its labels: the number of the pair, and its place in the pair's postings.
const LABEL_BYTES: u64 = 8;
/// A series is taken only if there is room for this much of it: it is yet to get its samples, which may be
/// incompressible. So many bytes were measured with ten labels and the largest open chunk, in the second of two windows.
pub const SERIES_BYTES_GROWN: u64 = 1024;
/// Samples out of order may take this part of the memory's bound, at so many bytes each.
const LATE_PART: u64 = 8;
const LATE_BYTES: u64 = 64;
/// But that many in any case.
const LATE_HELD_LEAST: u64 = 1024;
/// When nothing new was refused for so long, that is over.
const REFUSED_QUIET_MS: i64 = 60_000;
/// More metric families than this are not remembered.
pub(super) const FAMILIES_MAX: usize = 200_000;

/// The data directory, held by this process.
#[derive(Debug)]
pub(super) struct DataDir {
    pub path: PathBuf,
    pub _lock: Lock,
}

/// The series in memory by their labels, and which ids are free.
#[derive(Debug, Default)]
pub(super) struct SeriesIndex {
    pub labels: HeadIndex,
    pub free: Vec<u32>,
    pub next: u32,
    /// Generations of new series begin here: past all that the WAL may still mention.
    pub generation_min: u32,
}

/// Labels of series that the WAL does not have yet, as they came; their bytes are counted while they are held.
#[derive(Debug)]
pub(super) struct UnloggedSets {
    pub sets: LabelSets,
    bytes: u64,
    memory: Arc<UnloggedMemory>,
}

/// What all of them take, and memory for the next ones.
#[derive(Debug, Default)]
pub(super) struct UnloggedMemory {
    bytes: AtomicU64,
    spare: Mutex<Vec<LabelSets>>,
}

/// So many sets of labels are kept for their memory: those of two requests that bring many new series. Memory that was
/// given back in between would be cleared anew by the system, again and again while series come.
const SPARE_SETS: usize = 16;
/// … if they are not larger.
const SPARE_SETS_BYTES: usize = 128 << 10;

impl UnloggedMemory {
    /// Bytes of labels that are held.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// No sets yet, maybe with room for some.
    pub fn take(&self) -> LabelSets {
        lock(&self.spare).pop().unwrap_or_default()
    }

    /// Keeps the memory of sets that are not needed any more.
    pub fn give_back(&self, mut sets: LabelSets) {
        if sets.heap_bytes() <= SPARE_SETS_BYTES {
            sets.clear();
            let mut spare = lock(&self.spare);
            if spare.len() < SPARE_SETS {
                spare.push(sets);
            }
        }
    }
}

impl UnloggedSets {
    pub fn new(sets: LabelSets, memory: &Arc<UnloggedMemory>) -> Self {
        let bytes = sets.heap_bytes() as u64;
        memory.bytes.fetch_add(bytes, Ordering::Relaxed);
        UnloggedSets { sets, bytes, memory: Arc::clone(memory) }
    }
}

impl Drop for UnloggedSets {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.give_back(std::mem::take(&mut self.sets));
    }
}

/// How many had been refused when that was looked at last, and when there were more than before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    count: u64,
    last: Option<Timestamp>,
}

impl Refused {
    /// Notes how many have been refused by now: true when that begins, false when it is over.
    fn note(&mut self, count: u64, now: Timestamp) -> Option<bool> {
        if count > self.count {
            self.count = count;
            return self.last.replace(now).is_none().then_some(true);
        }
        self.last.take_if(|last| now.saturating_sub(*last) >= REFUSED_QUIET_MS).map(|_| false)
    }
}

/// The sealed part of the ring.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// Ascending in time; their ranges do not overlap.
    pub blocks: Arc<Vec<Arc<Block>>>,
    /// The blocks answer for the time before, the head from here on.
    pub sealed_until: Timestamp,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { blocks: Arc::default(), sealed_until: Timestamp::MIN }
    }
}

#[derive(Debug)]
pub(super) struct Db {
    pub options: StorageOptions,
    pub disk: Arc<dyn Disk>,
    pub dir: Option<DataDir>,
    pub head: Head,
    pub index: RwLock<SeriesIndex>,
    /// What patterns selected in the index and in those of the blocks.
    pub selects: SelectCache,
    /// The labels of series that the WAL does not have yet: which of the sets that were made series together.
    pub unlogged: Mutex<HashMap<SeriesRef, (Arc<UnloggedSets>, u32), foldhash::fast::RandomState>>,
    pub unlogged_memory: Arc<UnloggedMemory>,
    pub wal: Option<Wal>,
    pub ring: RwLock<Ring>,
    pub metadata: RwLock<BTreeMap<String, Metadata>>,
    pub exemplars: Mutex<ExemplarRing>,
    /// What is deleted of the head's series; the blocks have their own.
    pub deleted: RwLock<Arc<Deleted>>,
    /// Deletions of the time before this are known by blocks alone: [`Tombstones::known_until`]. The minimum: of none.
    ///
    /// [`Tombstones::known_until`]: super::tombstones::Tombstones::known_until
    pub deletions_known_until: AtomicI64,
    /// The times that blocks which were set aside since the start answered for.
    pub gaps: RwLock<Vec<(Timestamp, Timestamp)>>,
    /// Samples before this are refused. It moves before a window is sealed.
    pub min_valid: AtomicI64,
    /// Samples after this are refused.
    pub max_valid: AtomicI64,
    /// Samples before this are past retention, whatever else is taken.
    pub oldest: AtomicI64,
    /// How much older than the newest sample one may be that its series has a newer one of.
    pub out_of_order_ms: AtomicI64,
    /// How many samples out of order the head holds, and as of when it is maintained at most.
    pub out_of_order_held: AtomicU64,
    /// Whether the WAL has samples out of order that no mark says to be in blocks.
    pub late_logged: AtomicBool,
    /// The time of the newest sample.
    pub max_ts: AtomicI64,
    /// How many samples the head was given in each window, by the window's start.
    pub windows: Mutex<BTreeMap<Timestamp, u64>>,
    /// Bytes of the samples in the head, as last counted: chunks that are full, and those that are not.
    pub chunk_bytes: AtomicU64,
    pub open_bytes: AtomicU64,
    /// When memory alone is short, before this there is no use in looking for room again.
    pub relieve_from: AtomicI64,
    /// That new series are refused.
    pub refused_series: Mutex<Refused>,
    /// That native histograms are.
    pub refused_histograms: Mutex<Refused>,
    /// Why the last batch could not be written, until one can be.
    pub refusing: Mutex<Option<String>>,
    pub maintenance: Mutex<Maintenance>,
    pub metrics: StorageMetrics,
    /// Batches whose memory is used again.
    pub spare: Mutex<Vec<Batch>>,
}

/// Locks, whoever panicked while holding it: what is guarded is changed by single assignments.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Db {
    /// The start of the window of a time.
    pub fn window_start(&self, ts: Timestamp) -> Timestamp {
        ts.div_euclid(self.options.window_ms).saturating_mul(self.options.window_ms)
    }

    /// From when on samples are taken that are older than their series' newest; `None` if none are.
    pub fn out_of_order_from(&self) -> Option<Timestamp> {
        let window = self.out_of_order_ms.load(Ordering::Relaxed);
        let newest = self.max_ts.load(Ordering::Acquire);
        let oldest = self.oldest.load(Ordering::Acquire);
        (window > 0).then(|| newest.saturating_sub(window).max(oldest))
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Ring {
        read(&self.ring).clone()
    }

    pub fn set_metadata(&self, family: &str, metadata: Metadata) {
        if self.options.read_only || read(&self.metadata).get(family) == Some(&metadata) {
            return;
        }
        {
            let mut all = write(&self.metadata);
            if all.len() >= FAMILIES_MAX && !all.contains_key(family) {
                return;
            }
            all.insert(family.to_owned(), metadata.clone());
        }
        if let Some(wal) = &self.wal {
            let mut frame = FrameBuilder::default();
            frame.metadata([(family, &metadata)]);
            if let Err(error) = wal.write(frame.finish(), Timestamp::MIN) {
                // It is only help for readers, stated again at the next scrape after a restart.
                tracing::warn!(family, %error, "Metadata of a metric cannot be written to the WAL");
            }
        }
    }

    /// Puts everything that was acknowledged on the disk.
    pub fn flush(&self) -> Result<(), StorageError> {
        match &self.wal {
            Some(wal) => wal.sync().map_err(|e| {
                self.metrics.wal_sync_failures.inc();
                StorageError::Sync(e.to_string())
            }),
            None => Ok(()),
        }
    }

    /// Bytes of memory that series and their newest samples take, about.
    pub fn memory_bytes(&self, index: &SeriesIndex) -> u64 {
        let samples = self.chunk_bytes.load(Ordering::Relaxed) + self.open_bytes.load(Ordering::Relaxed);
        let labels = &index.labels;
        let series = labels.len() * SERIES_BYTES + labels.entries() * LABEL_BYTES + labels.text_bytes();
        let unlogged = self.unlogged_memory.bytes();
        series + unlogged + self.selects.bytes() + samples + self.head.histogram_bytes()
    }

    /// What it will be once the series have grown, and while they are written to a block.
    pub fn memory_bytes_grown(&self, index: &SeriesIndex) -> u64 {
        let grown = index.labels.len() * SERIES_BYTES_GROWN;
        self.memory_bytes(index).max(grown) + index.labels.seal_bytes()
    }

    /// Whether there is no memory for one more series.
    pub fn is_out_of_memory(&self, index: &SeriesIndex) -> bool {
        let bound = self.options.memory_bytes_max;
        bound > 0 && self.memory_bytes_grown(index) >= bound
    }

    /// Whether native histograms take more than this part of the memory's bound.
    pub fn has_many_histograms(&self, part: u64) -> bool {
        let bound = self.options.memory_bytes_max;
        bound > 0 && self.head.histogram_bytes() > bound / part
    }

    /// How many samples out of order may be held.
    pub fn late_held_max(&self) -> u64 {
        match self.options.memory_bytes_max {
            0 => late::HELD_MAX,
            bound => (bound / LATE_PART / LATE_BYTES).clamp(LATE_HELD_LEAST, late::HELD_MAX),
        }
    }

    /// Says in the log that new series, or native histograms, are refused, once, and that this is over when it has been for a
    /// while.
    pub fn note_refused(&self, now: Timestamp) {
        let histograms = self.metrics.histogram_batches_refused.get() + self.metrics.histograms_refused.get();
        let noted = lock(&self.refused_histograms).note(histograms, now);
        match noted {
            Some(true) => tracing::error!(
                memory_bytes = self.head.histogram_bytes(),
                limit_bytes = self.options.memory_bytes_max,
                "Native histograms are refused: those in memory take half of the limit on it. Scrapes are taken without theirs \
                 (hint: raise --storage.memory-limit, or scrape fewer of them)"
            ),
            Some(false) => tracing::info!("Native histograms have not been refused for a minute"),
            None => {}
        }
        let series = self.metrics.series_refused.get();
        let noted = lock(&self.refused_series).note(series, now);
        match noted {
            Some(true) => {
                let index = read(&self.index);
                tracing::error!(
                    series = index.labels.len(),
                    memory_bytes = self.memory_bytes(&index),
                    limit_bytes = self.options.memory_bytes_max,
                    "New series are refused, those that are known go on: the limit on the memory for series is reached \
                     (hint: raise --storage.memory-limit, or look in /api/v1/status/tsdb for the label whose values keep changing)"
                );
            }
            Some(false) => tracing::info!("New series have not been refused for a minute"),
            None => {}
        }
    }

    /// Notes whether batches can be written; the log says when that changes.
    pub fn note_writing(&self, failure: Option<&io::Error>) {
        let mut refusing = lock(&self.refusing);
        match failure {
            None => {
                if refusing.take().is_some() {
                    tracing::info!("Samples can be written again");
                }
            }
            Some(error) => {
                let reason = error.to_string();
                if refusing.is_none() {
                    tracing::error!(reason, "Samples cannot be written: they are refused until that passes");
                }
                *refusing = Some(reason);
            }
        }
        self.metrics.refusing.set(u64::from(refusing.is_some()));
    }

    pub fn stats(&self) -> StorageStats {
        let ring = self.ring();
        let mut stats = StorageStats {
            wal_bytes: self.wal.as_ref().map_or(0, Wal::bytes),
            wal_segments: self.wal.as_ref().map_or(0, |w| w.segments() as u64),
            blocks: ring.blocks.len() as u64,
            block_bytes: ring.blocks.iter().map(|b| b.bytes()).sum(),
            block_samples: ring.blocks.iter().map(|b| b.footer().samples).sum(),
            min_ts: ring.blocks.iter().filter(|b| b.footer().samples > 0).map(|b| b.footer().ts.0).min(),
            memory_limit_bytes: self.options.memory_bytes_max,
            damaged: self.metrics.damaged.get(),
            damaged_bytes: self.metrics.damaged_bytes.get(),
            damaged_uncounted: self.metrics.damaged_uncounted.get(),
            lost_samples: self.metrics.lost_samples.get(),
            ..StorageStats::default()
        };
        {
            let index = read(&self.index);
            stats.series = index.labels.len();
            stats.label_pairs = index.labels.pair_count() as u64;
            stats.memory_bytes = self.memory_bytes(&index);
        }
        stats.head_bytes = self.head.page_bytes();
        for i in 0..SHARDS {
            let shard = self.head.lock_shard(i);
            stats.head_chunks += shard.chunks;
            stats.head_bytes += shard.chunk_bytes;
            for series in shard.iter() {
                stats.head_samples += series.samples();
                stats.head_bytes += series.open_bytes() as u64;
                stats.head_min_ts = stats.head_min_ts.into_iter().chain(series.first_ts()).min();
            }
        }
        // The open chunk of a series may still have what a block answers for.
        stats.head_min_ts = stats.head_min_ts.map(|t| t.max(ring.sealed_until));
        stats.min_ts = stats.min_ts.into_iter().chain(stats.head_min_ts).min();
        let max = self.max_ts.load(Ordering::Relaxed);
        stats.max_ts = (max != Timestamp::MIN).then_some(max);
        stats
    }

    pub fn head_memory(&self) -> HeadMemory {
        let mut memory = HeadMemory { pages: self.head.page_bytes(), ..HeadMemory::default() };
        read(&self.index).labels.add_memory(&mut memory);
        for i in 0..SHARDS {
            let shard = self.head.lock_shard(i);
            memory.full_chunks += shard.chunk_bytes;
            for series in shard.iter() {
                memory.slots += size_of_val(series) as u64;
                memory.open_chunks += series.open_bytes() as u64;
            }
        }
        memory
    }

    pub fn block_stats(&self) -> Vec<BlockStats> {
        let of = |b: &Arc<Block>| BlockStats {
            path: b.path().to_owned(),
            identity: b.footer().identity(),
            range: b.footer().range,
            ts: b.footer().ts,
            series: b.footer().series,
            samples: b.footer().samples,
            chunks: b.footer().chunks,
            bytes: b.bytes(),
            data_bytes: b.footer().data_bytes,
            deleted_series: b.deleted().map_or(0, |d| d.series()),
        };
        self.ring().blocks.iter().map(of).collect()
    }

    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let index = read(&self.index);
        let labels = &index.labels;
        let (mut metrics, mut pairs) = (Top::new(limit), Top::new(limit));
        let (mut by_values, mut by_bytes) = (Top::new(limit), Top::new(limit));
        for name in labels.names() {
            let (mut values, mut bytes) = (0, 0);
            for (value, series) in labels.values(name) {
                values += 1;
                bytes += value.len() as u64 * series;
                if name == METRIC_NAME {
                    metrics.add(series, || value.to_owned());
                }
                pairs.add(series, || format!("{name}={value}"));
            }
            by_values.add(values, || name.to_owned());
            by_bytes.add(bytes, || name.to_owned());
        }
        Cardinality {
            series_by_metric: metrics.finish(),
            values_by_label: by_values.finish(),
            bytes_by_label: by_bytes.finish(),
            series_by_pair: pairs.finish(),
        }
    }
}

/// The names with the largest numbers. A name is only made when its number is large enough: there may be millions.
struct Top {
    limit: usize,
    /// The least of them on top; of equal numbers the last name is the least.
    heap: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
}

impl Top {
    fn new(limit: usize) -> Self {
        Top { limit, heap: BinaryHeap::new() }
    }

    fn add(&mut self, n: u64, name: impl FnOnce() -> String) {
        if self.heap.len() < self.limit {
            self.heap.push(Reverse((n, Reverse(name()))));
        } else if let Some(mut least) = self.heap.peek_mut()
            && n >= least.0.0
        {
            let new = (n, Reverse(name()));
            if new > least.0 {
                *least = Reverse(new);
            }
        }
    }

    /// Descending; equal ones by name.
    fn finish(self) -> Vec<(String, u64)> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse((n, Reverse(name)))| (name, n)).collect()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "The WAL could not be synced at the end");
        }
    }
}
