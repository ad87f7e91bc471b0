//! The newest samples, in memory: series in shards, each with its open chunk and the chunks that are full.
//!
//! A series has an id; 1024 consecutive ids share a shard, so that a batch, whose series were mostly created one after
//! the other, takes few locks. [`Head::lock`] takes the locks of all shards that a batch (or a selection) touches, in
//! ascending order, and holds them together: that makes a batch atomic for readers.
//!
//! **Invariant**: an id is only valid together with its generation, which changes when the series is dropped. Ids are
//! used again, references are not.

mod damaged;
mod late;
mod pages;
mod sealed;
mod series;

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use damaged::DamagedChunks;
pub use late::OutOfOrder;
use pages::{PageStore, Pages};
pub use sealed::{ChunkScratch, Sealer};
pub use series::{HeadPart, HeadSeries, Refusal};

use super::api::{SampleValue, SeriesRef};
use super::disk::Disk;
use super::wal::LoggedSample;
use crate::model::{FloatHistogram, Timestamp};
use crate::storage::chunk::histograms::heap_bytes as histogram_bytes;

/// How many shards there are; their set fits in a `u64`.
pub const SHARDS: usize = 64;
/// Ids that differ only in these low bits share a shard and an allocation.
const RUN_BITS: u32 = 10;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

const GENERATIONS_RUN_BITS: u32 = 16;
/// With 2^16 ids a run: room for 2^28 series.
const GENERATIONS_RUNS: usize = 1 << 12;

/// The most series that the head can hold.
pub const SERIES_MAX: usize = GENERATIONS_RUNS << GENERATIONS_RUN_BITS;

/// The id within a reference.
#[inline]
#[must_use]
pub fn id_of(series: SeriesRef) -> u32 {
    series.0 as u32
}

/// The generation within a reference.
#[inline]
#[must_use]
pub fn generation_of(series: SeriesRef) -> u32 {
    (series.0 >> 32) as u32
}

#[must_use]
pub fn reference(id: u32, generation: u32) -> SeriesRef {
    SeriesRef(u64::from(generation) << 32 | u64::from(id))
}

/// The run of an id: the ids whose series lie side by side, in one shard.
#[inline]
#[must_use]
pub fn run_of(id: u32) -> u32 {
    id >> RUN_BITS
}

/// The least id of a run.
#[must_use]
pub fn first_of_run(run: u32) -> u32 {
    run << RUN_BITS
}

/// The shard of an id.
#[inline]
#[must_use]
pub fn shard_of(id: u32) -> usize {
    run_of(id) as usize & (SHARDS - 1)
}

/// All series.
#[derive(Debug)]
pub struct Head {
    shards: Vec<Mutex<Shard>>,
    generations: Generations,
    pages: Arc<PageStore>,
    histogram_bytes: Arc<AtomicU64>,
}

/// Some of the series.
#[derive(Debug, Default)]
pub struct Shard {
    runs: Vec<Box<[HeadSeries]>>,
    pub sealer: Sealer,
    /// Memory of the full chunks of floats, without their values.
    pub chunk_bytes: u64,
    pub chunks: u64,
    /// Of all shards; see [`Head::histogram_bytes`].
    histogram_bytes: Arc<AtomicU64>,
}

impl Shard {
    /// The slot of an id that is in this shard.
    #[inline]
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&HeadSeries> {
        let run = self.runs.get((id >> (RUN_BITS + SHARD_BITS)) as usize)?;
        run.get(id as usize & ((1 << RUN_BITS) - 1))
    }

    /// The slot of an id that is in this shard, and what encodes the shard's chunks.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<(&mut HeadSeries, &mut Sealer)> {
        let run = self.runs.get_mut((id >> (RUN_BITS + SHARD_BITS)) as usize)?;
        Some((run.get_mut(id as usize & ((1 << RUN_BITS) - 1))?, &mut self.sealer))
    }

    /// Appends to a series of this shard, counting the chunks that become full.
    #[inline]
    pub fn with_series<R>(
        &mut self,
        id: u32,
        f: impl FnOnce(&mut HeadSeries, &mut Sealer) -> (R, Option<usize>),
    ) -> Option<R> {
        let (series, sealer) = self.get_mut(id)?;
        let (result, sealed_bytes) = f(series, sealer);
        if let Some(bytes) = sealed_bytes {
            self.chunks += 1;
            self.chunk_bytes += bytes as u64;
        }
        Some(result)
    }

    /// Appends a sample of any kind; `None` if its series has no slot.
    pub fn append(&mut self, sample: &LoggedSample, window_start: Timestamp) -> Option<Result<(), Refusal>> {
        let (id, ts, start) = (id_of(sample.series), sample.ts, sample.start);
        match &sample.value {
            SampleValue::Float(v) => {
                self.with_series(id, |s, sealer| s.append(ts, v.to_bits(), start, window_start, sealer))
            }
            SampleValue::Histogram(h) => self.append_histogram(id, ts, h, start, window_start),
        }
    }

    /// Appends a histogram; `None` if its series has no slot.
    pub fn append_histogram(
        &mut self,
        id: u32,
        ts: Timestamp,
        h: &Arc<FloatHistogram>,
        start: Timestamp,
        window_start: Timestamp,
    ) -> Option<Result<(), Refusal>> {
        let grown = self.get_mut(id)?.0.append_histogram(ts, h, start, window_start);
        Some(grown.map(|bytes| {
            // Fewer, as when a short one follows a long one, wrap round.
            self.histogram_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }))
    }

    /// Puts a sample beside its series that is older than the series' newest one, or than `min_valid`: the blocks
    /// answer for the time before. `None` if its series has no slot.
    pub fn append_out_of_order(
        &mut self,
        sample: &LoggedSample,
        min_valid: Timestamp,
    ) -> Option<Result<(), Refusal>> {
        let (series, _) = self.get_mut(id_of(sample.series))?;
        let taken = series.append_out_of_order(sample.ts, sample.start, &sample.value, min_valid);
        if let (Ok(()), SampleValue::Histogram(h)) = (taken, &sample.value) {
            self.histogram_bytes.fetch_add(histogram_bytes(h) as u64, Ordering::Relaxed);
        }
        Some(taken)
    }

    /// All slots, also those of no series.
    pub fn iter(&self) -> impl Iterator<Item = &HeadSeries> {
        self.runs.iter().flat_map(|r| r.iter())
    }

    /// All slots, also those of no series.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut HeadSeries> {
        self.runs.iter_mut().flat_map(|r| r.iter_mut())
    }

    /// Drops what ends before `before` in all series.
    pub fn drop_before(&mut self, before: Timestamp) {
        for series in self.runs.iter_mut().flat_map(|r| r.iter_mut()) {
            let (chunks, bytes) = series.drop_before(before);
            self.chunks -= chunks;
            self.chunk_bytes -= bytes;
        }
        self.sealer.forget_pages();
    }

    /// The slot of an id, made if it is not there yet.
    pub fn slot(&mut self, id: u32) -> &mut HeadSeries {
        let run = (id >> (RUN_BITS + SHARD_BITS)) as usize;
        while self.runs.len() <= run {
            self.runs.push(Box::default());
        }
        if self.runs[run].is_empty() {
            self.runs[run] = (0..1 << RUN_BITS).map(|_| HeadSeries::default()).collect();
        }
        &mut self.runs[run][id as usize & ((1 << RUN_BITS) - 1)]
    }
}

/// The locks of some shards, held together.
#[derive(Debug)]
pub struct Guards<'a> {
    guards: Vec<MutexGuard<'a, Shard>>,
    /// Where in `guards` each shard is.
    at: [u8; SHARDS],
}

impl Guards<'_> {
    /// All shards whose locks are held.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.guards.iter_mut().map(|g| &mut **g)
    }

    /// The shard of an id, if its lock is held.
    #[inline]
    pub fn shard(&mut self, id: u32) -> Option<&mut Shard> {
        self.guards.get_mut(usize::from(self.at[shard_of(id)])).map(|g| &mut **g)
    }
}

impl Head {
    /// An empty head. Full chunks beyond so many bytes go to files in a directory, one for each window.
    #[must_use]
    pub fn new(place: Option<(&Arc<dyn Disk>, &Path)>, window_ms: i64, full_chunk_bytes_max: u64) -> Self {
        let pages = Arc::new(PageStore::new(place, window_ms, full_chunk_bytes_max));
        let histogram_bytes = Arc::new(AtomicU64::new(0));
        let shard = || Shard {
            sealer: Sealer::new(Arc::clone(&pages)),
            histogram_bytes: Arc::clone(&histogram_bytes),
            ..Shard::default()
        };
        let shards = (0..SHARDS).map(|_| Mutex::new(shard())).collect();
        Head { shards, generations: Generations::default(), pages, histogram_bytes }
    }

    /// Bytes of native histograms: as last counted, and what has come since.
    #[must_use]
    pub fn histogram_bytes(&self) -> u64 {
        self.histogram_bytes.load(Ordering::Relaxed)
    }

    /// Sets what [`Head::histogram_bytes`] begins with.
    pub fn set_histogram_bytes(&self, bytes: u64) {
        self.histogram_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of the values of full chunks that are in memory.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.pages.memory_bytes()
    }

    /// Writes full chunks to their files if too many are in memory. To be called after samples were appended, when no
    /// lock of a shard is held any more that somebody may wait for.
    pub fn make_room(&self) {
        self.pages.make_room();
    }

    /// Keeps the full chunks' files open as long as the answer lives: freeing a large one takes a while.
    #[must_use]
    pub fn hold_files(&self) -> Vec<Arc<Pages>> {
        self.pages.all()
    }

    /// Locks the shards whose bits are set, in ascending order.
    #[must_use]
    pub fn lock(&self, shards: u64) -> Guards<'_> {
        let mut guards =
            Guards { guards: Vec::with_capacity(shards.count_ones() as usize), at: [u8::MAX; SHARDS] };
        for (i, shard) in self.shards.iter().enumerate() {
            if shards & 1 << i != 0 {
                guards.at[i] = guards.guards.len() as u8;
                guards.guards.push(shard.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
        guards
    }

    /// Locks the shard of one id.
    pub fn lock_one(&self, id: u32) -> MutexGuard<'_, Shard> {
        self.lock_shard(shard_of(id))
    }

    /// Locks one shard.
    pub fn lock_shard(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the series that `series` was made for is still there.
    #[inline]
    #[must_use]
    pub fn is_current(&self, series: SeriesRef) -> bool {
        let generation = generation_of(series);
        generation != 0 && self.generations.get(id_of(series)) == generation
    }

    /// The reference of the series with this id.
    #[must_use]
    pub fn reference(&self, id: u32) -> SeriesRef {
        reference(id, self.generations.get(id))
    }

    /// Makes the slots of new series, which get no generation below `generation_min`. The caller holds the index's lock
    /// for writing, so that nobody else makes or drops a series meanwhile.
    #[must_use]
    pub fn creation(&self, generation_min: u32, logged: bool) -> Creation<'_> {
        Creation { head: self, shard: None, generation_min: generation_min.max(1), logged }
    }

    /// Makes the slot of a series that the WAL names; generation 0 makes every reference to the id stale.
    pub fn restore(&self, id: u32, generation: u32) {
        let mut shard = self.lock_one(id);
        let slot = shard.slot(id);
        *slot = HeadSeries::default();
        slot.set_logged(true);
        self.generations.set(id, generation);
    }

    /// Frees the slot of a series; references to it are stale from now on.
    pub fn drop_series(&self, shard: &mut Shard, id: u32) {
        self.generations.set(id, self.generations.get(id).wrapping_add(1).max(1));
        *shard.slot(id) = HeadSeries::default();
    }
}

/// Makes slots; as long as ids have the shard of the one before, its lock is kept.
#[derive(Debug)]
pub struct Creation<'a> {
    head: &'a Head,
    shard: Option<(usize, MutexGuard<'a, Shard>)>,
    generation_min: u32,
    logged: bool,
}

impl Creation<'_> {
    /// Makes the slot of a new series.
    pub fn create(&mut self, id: u32) -> SeriesRef {
        let number = shard_of(id);
        // Let go first: locks of several shards are only taken in ascending order.
        drop(self.shard.take_if(|(held, _)| *held != number));
        let (_, shard) = self.shard.get_or_insert_with(|| (number, self.head.lock_shard(number)));
        let slot = shard.slot(id);
        *slot = HeadSeries::default();
        slot.set_logged(self.logged);
        let generations = &self.head.generations;
        let generation = generations.get(id).max(self.generation_min);
        generations.set(id, generation);
        reference(id, generation)
    }
}

/// The generation of each id, readable without a lock.
#[derive(Debug)]
struct Generations {
    runs: Box<[OnceLock<Box<[AtomicU32]>>]>,
}

impl Default for Generations {
    fn default() -> Self {
        Generations { runs: (0..GENERATIONS_RUNS).map(|_| OnceLock::new()).collect() }
    }
}

impl Generations {
    /// 0 if the id was never used.
    #[inline]
    fn get(&self, id: u32) -> u32 {
        let run = self.runs.get((id >> GENERATIONS_RUN_BITS) as usize).and_then(OnceLock::get);
        run.map_or(0, |r| r[id as usize & ((1 << GENERATIONS_RUN_BITS) - 1)].load(Ordering::Acquire))
    }

    fn set(&self, id: u32, generation: u32) {
        if let Some(run) = self.runs.get((id >> GENERATIONS_RUN_BITS) as usize) {
            let run = run.get_or_init(|| (0..1 << GENERATIONS_RUN_BITS).map(|_| AtomicU32::new(0)).collect());
            run[id as usize & ((1 << GENERATIONS_RUN_BITS) - 1)].store(generation, Ordering::Release);
        }
    }
}
