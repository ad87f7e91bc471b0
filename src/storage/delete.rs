//! Deleting samples, and rewriting the blocks that have deleted ones.
//!
//! Both hold the maintenance lock, so that no window is sealed and no block removed meanwhile: a block in the making
//! has either the samples that a deletion covers taken out, or a deletion that covers them.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::RoaringBitmap;

use super::api::{SeriesRef, StorageError};
use super::block::{self, Block};
use super::db::{Db, lock, read, write};
use super::disk;
use super::head::id_of;
use super::index::select;
use super::open::blocks_dir;
use super::tombstones::{Deleted, INTERVALS_MAX, Tombstones, TombstonesError};
use crate::model::{Matcher, Timestamp};

/// What a deletion found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesDeleted {
    /// Series in memory of which something was deleted.
    pub head_series: u64,
    /// Series of blocks, each counted once a block.
    pub block_series: u64,
}

/// What cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    pub blocks_rewritten: usize,
    pub blocks_removed: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Db {
    /// The head's deletions.
    pub fn deleted(&self) -> Arc<Deleted> {
        Arc::clone(&read(&self.deleted))
    }

    /// See [`Storage::delete_series`](super::Storage::delete_series).
    pub fn delete_series(
        &self,
        selectors: &[Vec<Matcher>],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<SeriesDeleted, StorageError> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let _no_seal = lock(&self.maintenance);
        if let Some(dir) = &self.dir {
            // What is late is deleted where it belongs.
            self.merge_late(&dir.path).map_err(|e| StorageError::Write(e.to_string()))?;
            // That it is in its block has to be known after a loss of power, or what is deleted there comes late again.
            self.flush()?;
        }
        let mut done = SeriesDeleted::default();
        let head = self.with_deletion(selectors, from, to, &mut done);
        let ring = self.ring();
        let mut blocks: Vec<(&Arc<Block>, Deleted)> = Vec::new();
        for block in ring.blocks.iter().filter(|b| b.overlaps(from, to)) {
            let mut series = RoaringBitmap::new();
            selectors.iter().for_each(|s| series |= block.select(s));
            let deleted = block.with_deletion(&series, from, to).ok_or_else(|| {
                let reason = format!("{} is damaged; it is set aside soon", block.path().display());
                StorageError::Write(reason)
            })?;
            let before = block.deleted().map_or(0, |d| d.series());
            done.block_series += deleted.series() - before;
            blocks.push((block, deleted));
        }
        let untouched = ring.blocks.iter().filter(|b| !blocks.iter().any(|(t, _)| Arc::ptr_eq(t, b)));
        if let Some(end) = ring.blocks.last().map(|newest| newest.footer().range.1)
            && from < end
        {
            self.deletions_known_until.fetch_max(end, Ordering::Relaxed);
        }
        let kept: usize = untouched.filter_map(|b| b.deleted()).map(|d| d.len()).sum();
        if kept + head.len() + blocks.iter().map(|(_, d)| d.len()).sum::<usize>() > INTERVALS_MAX {
            return Err(StorageError::TooManyDeletions);
        }
        // On the disk before it is seen: what was answered is not forgotten.
        self.save_deleted(&head, |block| {
            let new = blocks.iter().find(|(b, _)| Arc::ptr_eq(b, block));
            new.map(|(_, d)| d.clone()).or_else(|| block.deleted().map(|d| (*d).clone()))
        })
        .map_err(|e| StorageError::Write(e.to_string()))?;
        *write(&self.deleted) = Arc::new(head);
        for (block, deleted) in blocks {
            block.set_deleted(deleted);
        }
        Ok(done)
    }

    /// The head's deletions with one more.
    fn with_deletion(
        &self,
        selectors: &[Vec<Matcher>],
        from: Timestamp,
        to: Timestamp,
        done: &mut SeriesDeleted,
    ) -> Deleted {
        let sealed_until = self.ring().sealed_until;
        let mut parts = Vec::new();
        {
            let index = read(&self.index);
            let mut ids = RoaringBitmap::new();
            selectors.iter().for_each(|s| ids |= select(&index.labels, s));
            for id in ids {
                let shard = self.head.lock_one(id);
                let Some(series) = shard.get(id).filter(|s| s.overlaps(from, to)) else { continue };
                let first = series.first_ts().unwrap_or(from).max(sealed_until);
                // No further than the newest sample: later ones are not meant.
                let (from, to) = (from.max(first), to.min(series.last_ts()));
                if from <= to {
                    parts.push((id, from, to));
                }
            }
        }
        done.head_series = parts.len() as u64;
        let mut deleted = (*self.deleted()).clone();
        deleted.add_parts(parts);
        deleted
    }

    /// Writes what is deleted of the head and of each block.
    fn save_deleted(
        &self,
        head: &Deleted,
        of_block: impl Fn(&Arc<Block>) -> Option<Deleted>,
    ) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let head = Deleted::by_reference(head, |id| self.head.reference(id).0);
        let known_until = self.deletions_known_until.load(Ordering::Relaxed);
        let known_until = (known_until != Timestamp::MIN).then_some(known_until);
        let mut all = Tombstones { head, known_until, ..Tombstones::default() };
        // What is said of blocks holds once their names do.
        self.disk.sync_dir(&blocks_dir(&dir.path))?;
        for block in self.ring().blocks.iter() {
            all.blocks.extend(of_block(block).map(|d| (block.footer().identity(), d)));
        }
        all.save(&*self.disk, &dir.path)
    }

    /// Takes what the file says over, once blocks and WAL are read.
    pub fn open_deleted(&self, dir: &Path, read: Result<Tombstones, TombstonesError>) {
        let mut all = match read {
            Ok(all) => all,
            Err(error) => {
                self.metrics.damaged.inc();
                let path = super::tombstones::path_in(dir);
                let to = self.set_aside(|| disk::quarantine(&*self.disk, dir, &path));
                tracing::error!(file = %path.display(), %error, set_aside = ?to, "The list of deletions is damaged: what was deleted since the blocks were last cleaned is there again");
                return;
            }
        };
        let number_of = |series: u64| {
            let series = SeriesRef(series);
            self.head.is_current(series).then_some(id_of(series))
        };
        let mut head = all.head.by_number(number_of);
        self.take_up_seal(&mut head);
        *write(&self.deleted) = Arc::new(head);
        for block in self.ring().blocks.iter() {
            if let Some(deleted) = all.blocks.remove(&block.footer().identity()) {
                block.set_deleted(deleted);
            }
        }
    }

    /// Where the process ended between a seal and the end of it: the block lacks what was deleted, the deletions are
    /// still noted, and the WAL does not say yet that what came out of order is in the block. That would come late.
    fn take_up_seal(&self, head: &mut Deleted) {
        let sealed_until = self.ring().sealed_until;
        for (id, from, to) in head.before(sealed_until) {
            if let Some((series, _)) = self.head.lock_one(id).get_mut(id) {
                series.drop_late(from, to);
            }
        }
        let forgot = head.forget_before(sealed_until);
        if forgot {
            self.deletions_known_until.fetch_max(sealed_until, Ordering::Relaxed);
        }
        lock(&self.maintenance).deletions_to_save |= forgot;
    }

    /// The end of such a seal, once the WAL can be written: what comes late from now on is not to be taken for what was
    /// deleted before.
    pub fn end_seal(&self, dir: &Path) {
        let mut memory = lock(&self.maintenance);
        if !memory.deletions_to_save {
            return;
        }
        let synced = self.merge_late(dir).and_then(|_| self.flush().map_err(io::Error::other));
        match synced.and_then(|()| self.save_deletions()) {
            Ok(()) => memory.deletions_to_save = false,
            Err(error) => {
                tracing::error!(%error, "Deletions of a time that is sealed cannot be forgotten yet");
            }
        }
    }

    /// Forgets the head's deletions before `cut`: what they covered was left out of the block. Returns whether there
    /// were any; the file has them until [`Db::save_deletions`].
    pub fn forget_deleted(&self, cut: Timestamp) -> bool {
        let mut deleted = write(&self.deleted);
        let forgot = !deleted.is_empty() && Arc::make_mut(&mut deleted).forget_before(cut);
        if forgot {
            self.deletions_known_until.fetch_max(cut, Ordering::Relaxed);
        }
        forgot
    }

    /// A block that begins at `start` is the newest now. Without it the WAL is read from there on, so deletions of the time
    /// before do not matter any more. Returns whether there were any.
    pub fn forget_known_before(&self, start: Timestamp) -> bool {
        let known_until = self.deletions_known_until.load(Ordering::Relaxed);
        let passed = known_until != Timestamp::MIN && known_until <= start;
        if passed {
            self.deletions_known_until.store(Timestamp::MIN, Ordering::Relaxed);
        }
        passed
    }

    /// Writes what is deleted now.
    pub fn save_deletions(&self) -> io::Result<()> {
        self.save_deleted(&self.deleted(), |b| b.deleted().map(|d| (*d).clone()))
    }

    /// See [`Storage::clean_tombstones`](super::Storage::clean_tombstones).
    pub fn clean_tombstones(&self) -> Result<Cleaned, StorageError> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let _no_seal = lock(&self.maintenance);
        let mut done = Cleaned::default();
        let cleaned = self.clean_blocks(&mut done);
        // Whatever was done is noted, also if not all of it could be.
        let saved = self.save_deletions();
        self.update_gauges();
        cleaned.and(saved).map_err(|e| StorageError::Write(e.to_string()))?;
        Ok(done)
    }

    fn clean_blocks(&self, done: &mut Cleaned) -> io::Result<()> {
        let ring = self.ring();
        for block in ring.blocks.iter().filter(|b| b.deleted().is_some()) {
            done.bytes_before += block.bytes();
            let range = block.footer().range;
            let disk = &*self.disk;
            let merge = |out: &mut dyn Write| block::merge(&[block.as_ref()], range, out);
            let verify = |path: &Path| Block::open_verified(disk, path);
            let ((footer, _), new) = disk::write_whole(disk, block.path(), merge, verify)?;
            // The newest block says until when the blocks answer, so it stays even if it is empty.
            let is_newest = ring.blocks.last().is_some_and(|last| Arc::ptr_eq(last, block));
            if footer.samples == 0 && !is_newest {
                disk.remove(block.path())?;
                self.replace_block(block, None);
                done.blocks_removed += 1;
                continue;
            }
            let new = new.moved_to(block.path());
            done.bytes_after += new.bytes();
            done.blocks_rewritten += 1;
            self.replace_block(block, Some(Arc::new(new)));
        }
        match &self.dir {
            Some(dir) => self.disk.sync_dir(&blocks_dir(&dir.path)),
            None => Ok(()),
        }
    }

    /// Puts a block in another's place in the ring. Readers that hold the old one go on reading it.
    pub fn replace_block(&self, old: &Arc<Block>, new: Option<Arc<Block>>) {
        let mut ring = write(&self.ring);
        let mut blocks = ring.blocks.to_vec();
        if let Some(at) = blocks.iter().position(|b| Arc::ptr_eq(b, old)) {
            blocks.splice(at..=at, new);
        }
        ring.blocks = Arc::new(blocks);
    }
}
