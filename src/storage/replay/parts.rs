//! A WAL that does not fit into the memory limit is replayed in parts.
//!
//! The head of the process that wrote it may have had more memory, or the disk was full and nothing could be sealed. So at
//! the end of each segment a replay asks what the running head asks (`maintain`): is memory short, and would a block of
//! what is before some time help? From there on samples since that time are left out. At the end of the WAL, all samples
//! before it are in the head; they are sealed as ever, the WAL is shortened, series that have nothing more to come leave the
//! memory, and the directory is opened once more. Each part is a whole start by itself, so the process may end at any
//! moment of it.
//!
//! What this does not free is the memory of series that go on.

use std::io;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::model::Timestamp;
use crate::storage::api::{StorageError, StorageOptions};
use crate::storage::db::{Db, lock, read};
use crate::storage::disk::Disk;
use crate::storage::metrics::StorageMetrics;
use crate::storage::progress::ReplayProgress;
use crate::storage::wal::log::Segment;

/// Which part of a replay it is.
#[derive(Clone, Copy, Debug)]
pub struct ReplayPart {
    /// Damage is counted by the first alone.
    pub is_first: bool,
    /// It leaves samples for the next where the memory is short.
    pub is_bounded: bool,
}

/// What a part leaves for the next.
#[derive(Clone, Debug, Default)]
pub struct Postponed {
    /// Samples since then.
    pub from: Timestamp,
    /// The series that have some which are in the head not even in part.
    pub series: RoaringBitmap,
}

/// What was found in the WAL's directory.
#[derive(Debug, Default)]
pub struct Replayed {
    pub segments: Vec<Segment>,
    /// The number of the segment to come.
    pub next: u64,
    pub postponed: Option<Postponed>,
}

impl Db {
    /// Opens the directory, in as many parts as its WAL needs to be within the memory limit.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: StorageOptions,
        metrics: StorageMetrics,
        progress: &ReplayProgress,
    ) -> Result<Self, StorageError> {
        let is_bounded = options.memory_bytes_max > 0 && !options.read_only;
        let mut part = ReplayPart { is_first: true, is_bounded };
        loop {
            let (db, postponed) =
                Db::open_part(Arc::clone(&disk), options.clone(), metrics.clone(), progress, part)?;
            part.is_first = false;
            let Some(postponed) = postponed else {
                db.warn_if_over_limit();
                return Ok(db);
            };
            match db.seal_part(&postponed) {
                Ok(sealed) => part.is_bounded = sealed,
                Err(error) => {
                    metrics.seal_failures.inc();
                    tracing::error!(%error, "What of the WAL was replayed cannot be sealed; all of it is taken into memory, past the limit");
                    part.is_bounded = false;
                }
            }
        }
    }

    /// What the rest of the replay has to leave out, if memory is short.
    pub(super) fn postpone(&self) -> Option<Postponed> {
        self.count_full_chunks();
        if self.holds_many_late() {
            // Many of those in the WAL are in blocks, as a mark in the WAL has said since.
            self.count_out_of_order();
        }
        let from = self.early_cut(self.options.now.unwrap_or(Timestamp::MAX))?;
        tracing::warn!(
            since = from,
            memory_bytes = self.memory_bytes(&read(&self.index)),
            limit_bytes = self.options.memory_bytes_max,
            "The WAL does not fit into the memory limit at once: what is older is sealed first, then the rest is replayed \
             (hint: if that takes too long, raise --storage.memory-limit)"
        );
        Some(Postponed { from, series: RoaringBitmap::new() })
    }

    /// Puts all that is before the postponed samples into a block; returns whether there was anything.
    fn seal_part(&self, postponed: &Postponed) -> io::Result<bool> {
        let Some(dir) = &self.dir else { return Ok(false) };
        let mut memory = lock(&self.maintenance);
        let sealed = self.seal(&dir.path, postponed.from, &mut memory)?;
        // In the next part these would be there again, for the checkpoint names all that are left.
        let ended = read(&self.index).labels.live() - &postponed.series;
        self.remove_series(&ended.iter().collect::<Vec<u32>>(), |s| s.is_empty());
        self.shorten_wal(&dir.path, &mut memory)?;
        Ok(sealed)
    }

    fn warn_if_over_limit(&self) {
        let index = read(&self.index);
        if self.is_out_of_memory(&index) {
            tracing::warn!(
                series = index.labels.len(),
                memory_bytes = self.memory_bytes(&index),
                limit_bytes = self.options.memory_bytes_max,
                "The series of the WAL take as much memory as the limit allows: they go on, and no new ones are taken until some have ended \
                 (hint: raise --storage.memory-limit)"
            );
        }
    }
}
