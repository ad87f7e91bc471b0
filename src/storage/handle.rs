//! The handle that the rest of the program holds.

use std::path::PathBuf;
use std::sync::Arc;

use super::api::{BlockStats, Cardinality, HeadMemory, StorageError, StorageOptions, StorageStats};
use super::appender::Appender;
use super::db::Db;
use super::delete::{Cleaned, SeriesDeleted};
use super::disk::RealDisk;
use super::import::{ImportOptions, Importer};
use super::inspect::Inspection;
use super::maintain::Maintained;
use super::metrics::StorageMetrics;
use super::progress::ReplayProgress;
use super::reader::Reader;
use crate::model::{Matcher, Metadata, Timestamp};

/// The ring. Cloning gives a handle to the same one; the data directory is let go when the last handle, appender and
/// reader is dropped.
#[derive(Clone, Debug)]
pub struct Storage {
    db: Arc<Db>,
}

impl Storage {
    /// Opens the data directory, replays what was not sealed, and is ready to append and read.
    ///
    /// # Errors
    /// When the directory cannot be used or another process holds it. Damaged files are none: they are set aside.
    pub fn open(options: StorageOptions) -> Result<Self, StorageError> {
        Storage::open_with(options, StorageMetrics::default())
    }

    /// As [`Storage::open`], counting in metrics that a registry knows.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_with(options: StorageOptions, metrics: StorageMetrics) -> Result<Self, StorageError> {
        Storage::open_watched(options, metrics, &ReplayProgress::default())
    }

    /// As [`Storage::open_with`], telling how far the replay of the WAL is.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_watched(
        options: StorageOptions,
        metrics: StorageMetrics,
        progress: &ReplayProgress,
    ) -> Result<Self, StorageError> {
        let db = Db::open(Arc::new(RealDisk), options, metrics, progress)?;
        Ok(Storage { db: Arc::new(db) })
    }

    /// As [`Storage::open`], on another disk.
    #[cfg(test)]
    pub(super) fn open_on(
        disk: Arc<dyn super::disk::Disk>,
        options: StorageOptions,
        metrics: StorageMetrics,
    ) -> Result<Self, StorageError> {
        Ok(Storage { db: Arc::new(Db::open(disk, options, metrics, &ReplayProgress::default())?) })
    }

    #[cfg(test)]
    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// A batch. Nothing is visible before [`Appender::commit`]; dropping it drops the batch.
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender::new(&self.db)
    }

    /// A consistent view: in one selection a batch is seen whole or not at all.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(&self.db)
    }

    /// Notes type, help and unit of a metric family. It is kept across restarts.
    pub fn set_metadata(&self, family: &str, metadata: Metadata) {
        self.db.set_metadata(family, metadata);
    }

    /// Turns the ring: seals what ended, lets fall off what retention does not keep, frees what is empty. To be called
    /// every few seconds with the time; it blocks, and appending and reading go on meanwhile.
    pub fn maintain(&self, now: Timestamp) -> Maintained {
        self.db.maintain(now)
    }

    /// What cannot wait for [`Storage::maintain`]: puts the WAL on the disk, with [`FsyncPolicy::Interval`], and makes
    /// room when memory or disk is short. To be called every second.
    ///
    /// [`FsyncPolicy::Interval`]: super::FsyncPolicy::Interval
    pub fn relieve(&self, now: Timestamp) {
        self.db.relieve(now);
    }

    /// Seals everything, the newest window included: before a copy of the data directory is made. Samples older than
    /// the newest are refused afterwards.
    ///
    /// # Errors
    /// When a block cannot be written; nothing is lost then.
    pub fn seal_all(&self) -> Result<(), StorageError> {
        self.db.seal_all().map_err(|e| StorageError::Write(e.to_string()))
    }

    /// Deletes the samples in `from..=to` (ms) of the series that any of the selectors selects. They are gone at once, for
    /// good, and also from what is sealed later; samples that come after the newest one of now are not meant.
    ///
    /// # Errors
    /// When it cannot be noted on the disk, or too much is noted already: then nothing is deleted.
    pub fn delete_series(
        &self,
        selectors: &[Vec<Matcher>],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<SeriesDeleted, StorageError> {
        self.db.delete_series(selectors, from, to)
    }

    /// Writes the blocks that have deleted samples anew, without them.
    ///
    /// # Errors
    /// When a block cannot be written; those before it are done then.
    pub fn clean_tombstones(&self) -> Result<Cleaned, StorageError> {
        self.db.clean_tombstones()
    }

    /// Makes a copy of all samples as of now in the folder `snapshots/NAME` of the data directory, which opens as a data
    /// directory; returns its path. `skip_head` leaves out what is only in memory and WAL. Appending and reading go on.
    /// A batch of samples older than the newest of their series, if it comes meanwhile, may be in the copy in part.
    ///
    /// # Errors
    /// When it cannot be written, or there is no data directory.
    pub fn snapshot(&self, name: &str, skip_head: bool) -> Result<PathBuf, StorageError> {
        self.db.snapshot(name, skip_head)
    }

    /// Begins an import of samples of any time. What is in memory is sealed: samples older than the newest are refused
    /// afterwards.
    ///
    /// # Errors
    /// When the directory cannot be written, or there is none.
    pub fn importer(&self, options: ImportOptions) -> Result<Importer, StorageError> {
        Importer::new(&self.db, options)
    }

    /// What the data directory holds. It looks at every series of every block.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        self.db.inspect()
    }

    /// Puts everything that was acknowledged on the disk. Dropping the last handle does so too.
    ///
    /// # Errors
    /// When syncing fails.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.db.flush()
    }

    /// Reads every block and compares every checksum; returns the files that are damaged.
    #[must_use]
    pub fn verify(&self) -> Vec<PathBuf> {
        let ring = self.db.ring();
        ring.blocks.iter().filter(|b| !b.verify()).map(|b| b.path().to_owned()).collect()
    }

    /// The blocks in which reading has met damage so far and that are not set aside yet.
    #[must_use]
    pub fn damaged_blocks(&self) -> Vec<PathBuf> {
        let ring = self.db.ring();
        ring.blocks.iter().filter(|b| b.is_damaged()).map(|b| b.path().to_owned()).collect()
    }

    /// Why samples are refused at the moment, if they are: most likely the disk is full.
    #[must_use]
    pub fn refusing(&self) -> Option<String> {
        super::db::lock(&self.db.refusing).clone()
    }

    /// How much is held. It looks at every series.
    #[must_use]
    pub fn stats(&self) -> StorageStats {
        self.db.stats()
    }

    /// What the head takes in memory, by part. It looks at every series and pair.
    #[must_use]
    pub fn head_memory(&self) -> HeadMemory {
        self.db.head_memory()
    }

    /// What each block holds, ascending in time.
    #[must_use]
    pub fn block_stats(&self) -> Vec<BlockStats> {
        self.db.block_stats()
    }

    /// The names and values with most series in the head, `limit` of each kind.
    #[must_use]
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        self.db.cardinality(limit)
    }

    /// How many exemplars are kept, of all series together; 0 keeps none. The newest stay.
    pub fn set_exemplars_max(&self, max: usize) {
        super::db::lock(&self.db.exemplars).set_max(max);
    }

    /// Whether exemplars are kept.
    #[must_use]
    pub fn keeps_exemplars(&self) -> bool {
        super::db::lock(&self.db.exemplars).is_enabled()
    }

    /// How much older (in ms) than the newest sample one may be that its series has a newer one of; 0 refuses them.
    pub fn set_out_of_order_window(&self, ms: i64) {
        self.db.out_of_order_ms.store(ms.max(0), std::sync::atomic::Ordering::Relaxed);
    }

    /// Samples before this time are only taken out of order: their window is sealed, or past retention.
    #[must_use]
    pub fn min_valid_ts(&self) -> Timestamp {
        self.db.min_valid.load(std::sync::atomic::Ordering::Acquire)
    }

    #[must_use]
    pub fn options(&self) -> &StorageOptions {
        &self.db.options
    }
}
