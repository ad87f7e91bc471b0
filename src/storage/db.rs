//! The parts of the storage and how they stand together.
//!
//! Locks are taken in this order: maintenance, index, shards (ascending), then any one of the small ones (unlogged
//! series, WAL, windows, ring, metadata), which are never held while another is taken.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::api::{Cardinality, SeriesRef, StorageError, StorageOptions, StorageStats};
use super::appender::Batch;
use super::block::Block;
use super::head::{Head, SHARDS};
use super::index::HeadIndex;
use super::maintain::Maintenance;
use super::metrics::StorageMetrics;
use super::wal::{FrameBuilder, Wal};
use crate::model::{Labels, METRIC_NAME, Metadata, Timestamp};

/// More metric families than this are not remembered.
pub(super) const FAMILIES_MAX: usize = 200_000;

/// The data directory, held by this process.
#[derive(Debug)]
pub(super) struct DataDir {
    pub path: PathBuf,
    /// Locked as long as it is open.
    pub _lock: Option<File>,
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
    pub dir: Option<DataDir>,
    pub head: Head,
    pub index: RwLock<SeriesIndex>,
    /// The labels of series that the WAL does not have yet.
    pub unlogged: Mutex<HashMap<SeriesRef, Labels, foldhash::fast::RandomState>>,
    pub wal: Option<Wal>,
    pub ring: RwLock<Ring>,
    pub metadata: RwLock<BTreeMap<String, Metadata>>,
    /// Samples before this are refused. It moves before a window is sealed.
    pub min_valid: AtomicI64,
    /// Samples after this are refused.
    pub max_valid: AtomicI64,
    /// The time of the newest sample.
    pub max_ts: AtomicI64,
    /// How many samples the head was given in each window, by the window's start.
    pub windows: Mutex<BTreeMap<Timestamp, u64>>,
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
            Some(wal) => wal.sync().map_err(|e| StorageError::Sync(e.to_string())),
            None => Ok(()),
        }
    }

    pub fn stats(&self) -> StorageStats {
        let ring = self.ring();
        let mut stats = StorageStats {
            wal_bytes: self.wal.as_ref().map_or(0, Wal::bytes),
            wal_segments: self.wal.as_ref().map_or(0, |w| w.segments() as u64),
            blocks: ring.blocks.len() as u64,
            block_bytes: ring.blocks.iter().map(|b| b.bytes()).sum(),
            block_samples: ring.blocks.iter().map(|b| b.footer().samples).sum(),
            min_ts: ring.blocks.iter().map(|b| b.footer().ts.0).min(),
            ..StorageStats::default()
        };
        {
            let index = read(&self.index);
            stats.series = index.labels.len();
            stats.label_pairs = index.labels.pair_count() as u64;
        }
        for i in 0..SHARDS {
            let shard = self.head.lock_shard(i);
            stats.head_chunks += shard.chunks;
            stats.head_bytes += shard.chunk_bytes;
            for series in shard.iter() {
                stats.head_samples += series.samples();
                stats.head_bytes += series.open_bytes() as u64;
                if let Some(first) = series.first_ts() {
                    stats.min_ts = Some(stats.min_ts.map_or(first, |m| m.min(first)));
                }
            }
        }
        let max = self.max_ts.load(Ordering::Relaxed);
        stats.max_ts = (max != Timestamp::MIN).then_some(max);
        stats
    }

    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let index = read(&self.index);
        let labels = &index.labels;
        let mut out = Cardinality::default();
        for name in labels.names() {
            let (mut values, mut bytes) = (0, 0);
            for (value, series) in labels.values(name) {
                values += 1;
                bytes += value.len() as u64 * series;
                if name == METRIC_NAME {
                    out.series_by_metric.push((value.to_owned(), series));
                }
                out.series_by_pair.push((format!("{name}={value}"), series));
            }
            out.values_by_label.push((name.to_owned(), values));
            out.bytes_by_label.push((name.to_owned(), bytes));
            // Not all pairs at once: there may be millions.
            top(&mut out.series_by_pair, limit);
        }
        for list in [&mut out.series_by_metric, &mut out.values_by_label, &mut out.bytes_by_label] {
            top(list, limit);
        }
        out
    }
}

fn top(list: &mut Vec<(String, u64)>, limit: usize) {
    list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list.truncate(limit);
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "The WAL could not be synced at the end");
        }
    }
}
