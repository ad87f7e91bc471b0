//! A copy of all samples as of one moment, that opens as a data directory.
//!
//! Blocks are linked, not copied: they never change. The head's samples are written as a block of their own, without
//! sealing anything in the server, which takes late samples as before. All is done in `snapshots/NAME.tmp`, synced, and
//! renamed: what a crash leaves is removed at the next start.
//!
//! A link shares the bytes, so a block that the disk has damaged since it was read first would be damaged in its copy, and nobody
//! would know before it is needed. So all checksums of what was linked are compared once more before the copy gets its
//! name; that reads every block, as whoever takes the copy elsewhere does, and holds up nothing.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api::{Samples, StorageError};
use super::block::{self, Block, BlockWriter};
use super::db::{Db, lock, read};
use super::disk::{self, Disk};
use super::head::ChunkScratch;
use super::maintain::write_series;
use super::open::{blocks_dir, wal_dir};
use super::tombstones::{Deleted, Tombstones};
use super::wal::FrameBuilder;
use super::wal::log::{CHECKPOINT, FILE_MAGIC, file_path};
use super::wal::replay;
use crate::model::Timestamp;

const SNAPSHOTS: &str = "snapshots";
const UNFINISHED: &str = "tmp";

/// Removes snapshots that a crash left unfinished. One that cannot be removed stays: nothing reads it.
pub fn remove_unfinished(disk: &dyn Disk, dir: &Path) {
    let Ok(entries) = disk.list(&dir.join(SNAPSHOTS)) else { return };
    for path in entries.into_iter().map(|entry| entry.path) {
        if path.extension().is_some_and(|e| e == UNFINISHED)
            && let Err(error) = disk.remove_dir_all(&path)
        {
            tracing::warn!(snapshot = %path.display(), %error, "An unfinished snapshot cannot be removed");
        }
    }
}

fn damaged(block: &Block) -> io::Error {
    io::Error::other(format!("{} is damaged; it is set aside soon", block.path().display()))
}

impl Db {
    /// See [`Storage::snapshot`](super::Storage::snapshot).
    pub fn snapshot(&self, name: &str, skip_head: bool) -> Result<PathBuf, StorageError> {
        let Some(dir) = self.dir.as_ref().map(|d| &d.path) else {
            return Err(StorageError::Write("there is no data directory: all is in memory".to_owned()));
        };
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let snapshots = dir.join(SNAPSHOTS);
        let unfinished = snapshots.join(format!("{name}.{UNFINISHED}"));
        let finished = snapshots.join(name);
        let disk = &*self.disk;
        let is_new = || match disk.exists(&finished) {
            false => Ok(()),
            true => Err(io::Error::other(format!("{} is there already", finished.display()))),
        };
        let linked = {
            // No window is sealed, no block removed and no other snapshot made meanwhile.
            let _no_seal = lock(&self.maintenance);
            is_new().map_err(|e| StorageError::Write(e.to_string()))?;
            disk.remove_dir_all(&unfinished).and_then(|()| {
                self.merge_late(dir)?;
                disk.create_dir_all(&snapshots)?;
                self.write_snapshot(&unfinished, skip_head)
            })
        };
        let written = linked.and_then(|blocks| {
            for block in blocks.iter() {
                if !block.verify_again() {
                    return Err(damaged(block));
                }
            }
            let _no_other = lock(&self.maintenance);
            is_new()?;
            disk.rename(&unfinished, &finished)?;
            // Who is told that it failed may take the name again.
            disk.sync_dir(&snapshots).and_then(|()| disk.sync_dir(dir)).inspect_err(|_| {
                let _stays = disk.remove_dir_all(&finished);
            })
        });
        if let Err(error) = written {
            let _removed_at_the_next_start = disk.remove_dir_all(&unfinished);
            return Err(StorageError::Write(error.to_string()));
        }
        Ok(finished)
    }

    /// Writes all but the name; returns the blocks that were linked.
    fn write_snapshot(&self, to: &Path, skip_head: bool) -> io::Result<Arc<Vec<Arc<Block>>>> {
        let disk = &*self.disk;
        for dir in [to, &blocks_dir(to), &wal_dir(to)] {
            disk.create_dir_all(dir)?;
        }
        let ring = self.ring();
        let mut all = Tombstones::default();
        for block in ring.blocks.iter() {
            if block.is_damaged() {
                return Err(damaged(block));
            }
            disk::link_or_copy(disk, block.path(), &blocks_dir(to))?;
            all.blocks.extend(block.deleted().map(|d| (block.footer().identity(), (*d).clone())));
        }
        if !skip_head {
            self.with_healed_chunks(|| self.write_head(&blocks_dir(to), ring.sealed_until))?;
        }
        all.save(disk, to)?;
        let metadata = read(&self.metadata).clone();
        let checkpoint = |out: &mut dyn Write| {
            let mut frame = FrameBuilder::default();
            out.write_all(&FILE_MAGIC)?;
            frame.metadata(metadata.iter().map(|(n, m)| (n.as_str(), m)));
            if !frame.is_empty() {
                out.write_all(frame.finish())?;
            }
            frame.clear();
            frame.checkpoint_end(0);
            out.write_all(frame.finish())
        };
        let verify = |path: &Path| replay::verify_whole(disk, path);
        disk::write_whole(disk, &file_path(&wal_dir(to), 1, CHECKPOINT), checkpoint, verify)?;
        for dir in [&blocks_dir(to), &wal_dir(to), to] {
            disk.sync_dir(dir)?;
        }
        Ok(ring.blocks)
    }

    /// Writes the head's samples from `from` on, as they are now, as one block.
    fn write_head(&self, blocks: &Path, from: Timestamp) -> io::Result<()> {
        // The moment: what each series has now, all together, so that no batch is in it by half. What series get while
        // the block is written is later than that.
        let newest = self.newest_by_series();
        let Some(cut) = newest.values().max().map(|last| last.saturating_add(1)).filter(|cut| *cut > from)
        else {
            return Ok(());
        };
        let Some(series) = self.series_before(from, cut) else { return Ok(()) };
        let first = lock(&self.windows).first_key_value().map_or(cut, |(start, _)| *start);
        let range = (from.max(first).min(cut), cut);
        let path = blocks.join(format!("{}-{}.{}", range.0, range.1, block::EXTENSION));
        let pairs: Vec<(&str, &str)> = series.pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        let deleted: Arc<Deleted> = self.deleted();
        let fill = |out: &mut dyn Write| {
            let mut writer = BlockWriter::new(out, range, &pairs)?;
            let (mut samples, mut scratch) = (Samples::default(), ChunkScratch::default());
            for i in &series.order {
                let id = series.ids[*i as usize];
                let Some(last) = newest.get(&id) else { continue };
                let Some(part) = self.head.lock_one(id).get(id).map(|s| s.snapshot()) else { continue };
                let mut read = |from, to, samples: &mut Samples| {
                    samples.clear();
                    let whole = part.read(from, to, samples, &mut scratch);
                    deleted.take_out(id, samples, (0, 0));
                    whole
                };
                let cuts = part.cuts(from, *last);
                write_series(&mut writer, series.ranks(*i), (from, *last), &cuts, &mut samples, &mut read)?;
            }
            writer.finish()
        };
        let disk = &*self.disk;
        let verify = |path: &Path| Block::open_verified(disk, path).map(drop);
        let (footer, ()) = disk::write_whole(disk, &path, fill, verify)?;
        if footer.samples == 0 {
            disk.remove(&path)?;
        }
        Ok(())
    }

    /// The time of the newest sample of every series that has one, at one moment.
    fn newest_by_series(&self) -> HashMap<u32, Timestamp, foldhash::fast::RandomState> {
        let index = read(&self.index);
        let mut guards = self.head.lock(u64::MAX);
        let last = |id: u32| {
            let series = guards.shard(id)?.get(id)?;
            (!series.is_empty()).then(|| (id, series.last_ts()))
        };
        index.labels.live().iter().filter_map(last).collect()
    }
}
