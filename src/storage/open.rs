//! Opening a data directory: lock, blocks, then the WAL (see `replay`).
//!
//! ```text
//! DIR/lock                 held by the process that has the directory open
//! DIR/blocks/A-B.block     blocks by the range of time that they answer for
//! DIR/wal/N.wal            segments of the WAL
//! DIR/wal/N.checkpoint     the series that segments since N, and retained ones before, take for known
//! DIR/wal/N.checkpoint2    the same once more
//! DIR/tombstones           what is deleted
//! DIR/import/              what an import has read and not put in place
//! DIR/snapshots/NAME/      copies that open as data directories
//! DIR/quarantine/          damaged files and pieces, for whoever wants to look at them
//! ```
//! Damage is never a reason not to start: what is whole serves, what is not is set aside, reported and counted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::api::{FsyncPolicy, StorageError, StorageOptions};
use super::block::reader::BlockError;
use super::block::{self, Block};
use super::db::{DataDir, Db, Ring, write};
use super::disk::{self, Disk, Entry, Lock};
use super::exemplars::ExemplarRing;
use super::head::Head;
use super::import;
use super::index::SelectCache;
use super::metrics::StorageMetrics;
use super::progress::ReplayProgress;
use super::replay::{Postponed, ReplayPart, Replayed};
use super::snapshot;
use super::tombstones::{self, Tombstones};
use super::wal::log::{CHECKPOINT, CHECKPOINT_COPY, FILE_MAGIC, SEGMENT, Segment, file_path};
use super::wal::{Wal, WalOptions};
use crate::model::Timestamp;

const BLOCKS: &str = "blocks";
const WAL: &str = "wal";
const LOCK: &str = "lock";
/// Full chunks that stay in memory take at most this part of what the head may.
const FULL_CHUNK_PART: u64 = 8;

/// Where blocks are, in the data directory.
pub(super) fn blocks_dir(dir: &Path) -> std::path::PathBuf {
    dir.join(BLOCKS)
}

/// Where the WAL is, in the data directory.
pub(super) fn wal_dir(dir: &Path) -> PathBuf {
    dir.join(WAL)
}

impl Db {
    /// Opens the directory. Of the WAL it takes what `part` says; returns what that leaves.
    pub(super) fn open_part(
        disk: Arc<dyn Disk>,
        options: StorageOptions,
        metrics: StorageMetrics,
        progress: &ReplayProgress,
        part: ReplayPart,
    ) -> Result<(Self, Option<Postponed>), StorageError> {
        let scratch = options.dir.as_deref().filter(|_| !options.read_only).map(|dir| (&disk, dir));
        let full_chunk_bytes_max = match options.memory_bytes_max {
            0 => options.full_chunk_bytes_max,
            bound => options.full_chunk_bytes_max.min(bound / FULL_CHUNK_PART),
        };
        let mut db = Db {
            dir: None,
            head: Head::new(scratch, options.window_ms, full_chunk_bytes_max),
            disk,
            index: Default::default(),
            selects: SelectCache::new(
                options.memory_bytes_max,
                metrics.select_cache_hits.clone(),
                metrics.select_cache_misses.clone(),
            ),
            unlogged: Default::default(),
            unlogged_memory: Default::default(),
            wal: None,
            ring: Default::default(),
            metadata: Default::default(),
            exemplars: Mutex::new(ExemplarRing::new(options.exemplars_max)),
            deleted: Default::default(),
            deletions_known_until: AtomicI64::new(Timestamp::MIN),
            gaps: Default::default(),
            min_valid: AtomicI64::new(Timestamp::MIN + 1),
            max_valid: AtomicI64::new(match (options.now, options.ahead_max_ms) {
                (Some(now), Some(ahead)) => now.saturating_add(ahead),
                _ => Timestamp::MAX,
            }),
            oldest: AtomicI64::new(Timestamp::MIN + 1),
            out_of_order_ms: AtomicI64::new(options.out_of_order_window_ms),
            out_of_order_held: AtomicU64::new(0),
            late_logged: AtomicBool::new(false),
            max_ts: AtomicI64::new(Timestamp::MIN),
            windows: Default::default(),
            chunk_bytes: Default::default(),
            open_bytes: Default::default(),
            relieve_from: AtomicI64::new(Timestamp::MIN),
            refused_series: Default::default(),
            refused_histograms: Default::default(),
            refusing: Default::default(),
            maintenance: Default::default(),
            metrics,
            spare: Default::default(),
            options,
        };
        let mut postponed = None;
        if let Some(path) = db.options.dir.clone() {
            postponed = db.open_dir(&path, progress, part).map_err(|e| StorageError::Open {
                path: path.display().to_string(),
                reason: e.to_string(),
            })?;
        }
        db.update_gauges();
        Ok((db, postponed))
    }

    fn open_dir(
        &mut self,
        path: &Path,
        progress: &ReplayProgress,
        part: ReplayPart,
    ) -> io::Result<Option<Postponed>> {
        let disk = Arc::clone(&self.disk);
        let (wal_dir, blocks_dir) = (wal_dir(path), blocks_dir(path));
        let lock = if self.options.read_only {
            lock_to_read(&*disk, path)?
        } else {
            disk.create_dir_all(&blocks_dir)?;
            disk.create_dir_all(&wal_dir)?;
            disk.lock(&path.join(LOCK))?.ok_or_else(|| {
                io::Error::other("another process has it open; stop that one, or use another directory")
            })?
        };
        self.dir = Some(DataDir { path: path.to_owned(), _lock: lock });
        refuse_newer(&*disk, &blocks_dir, block::EXTENSION, block::MAGIC)?;
        refuse_newer(&*disk, &wal_dir, SEGMENT, FILE_MAGIC)?;
        refuse_newer(&*disk, &wal_dir, CHECKPOINT, FILE_MAGIC)?;
        refuse_newer(&*disk, &wal_dir, CHECKPOINT_COPY, FILE_MAGIC)?;
        let tombstones = tombstones::path_in(path);
        if disk.exists(&tombstones) {
            refuse_newer_file(&*disk, &tombstones, tombstones::MAGIC)?;
        }
        if !self.options.read_only {
            disk::remove_unfinished(&*disk, &blocks_dir)?;
            disk::remove_unfinished(&*disk, &wal_dir)?;
            disk::remove_unfinished(&*disk, path)?;
            snapshot::remove_unfinished(&*disk, path);
            import::remove_broken_off(&*disk, path);
        }
        let mut ring = self.open_blocks(path)?;
        let deletions = Tombstones::load(&*disk, path);
        if let Some(until) = deletions.as_ref().ok().and_then(|all| all.known_until) {
            self.keep_end(until, &mut ring);
        }
        self.min_valid.fetch_max(ring.sealed_until, Ordering::Relaxed);
        if let Some(newest) = ring.blocks.iter().map(|b| b.footer().ts.1).max() {
            self.max_ts.fetch_max(newest, Ordering::Relaxed);
        }
        *write(&self.ring) = ring;
        let Replayed { segments: ended, next: number, postponed } =
            self.replay(path, &wal_dir, progress, part)?;
        self.open_deleted(path, deletions);
        if self.options.read_only {
            return Ok(None);
        }
        self.sync_what_is_there(path, &ended);
        let mut segment_bytes = self.options.wal_segment_bytes;
        if let Some(bound) = self.options.retention_bytes {
            // Many segments, so that dropping one frees little of what the bound allows.
            segment_bytes = segment_bytes.min((bound / 32).max(64 << 10));
        }
        if self.options.memory_bytes_max > 0 {
            // A replay holds three of them.
            segment_bytes = segment_bytes.min((self.options.memory_bytes_max / 32).max(1 << 20));
        }
        let options = WalOptions {
            segment_bytes,
            window_ms: self.options.window_ms,
            sync_each: self.options.fsync == FsyncPolicy::Always,
        };
        self.wal = Some(Wal::new(disk, &wal_dir, options, ended, number));
        self.end_seal(path);
        Ok(postponed)
    }

    /// Where the blocks end when the newest is lost of whose time something was deleted. The WAL may still have some of it,
    /// also what was deleted.
    fn keep_end(&self, until: Timestamp, ring: &mut Ring) {
        self.deletions_known_until.store(until, Ordering::Relaxed);
        if until > ring.sealed_until {
            tracing::error!(
                before = until,
                "The newest block is missing. What the WAL still has of its time is left out, for some of it was deleted"
            );
            ring.sealed_until = until;
        }
    }

    /// Puts on the disk what a process that was killed may have written and not synced: the end of its last segment (those
    /// before were synced when they ended), and the names of files, as of a list of deletions. From now on it is as
    /// good as what comes next, which may be a repetition of it, and a loss of power takes the end of what was written
    /// and nothing from its middle.
    fn sync_what_is_there(&self, dir: &Path, segments: &[Segment]) {
        let (wal_dir, blocks_dir) = (wal_dir(dir), blocks_dir(dir));
        let last = segments.last().map(|s| file_path(&wal_dir, s.number, SEGMENT));
        let synced = last.map_or(Ok(()), |path| self.disk.sync_file(&path));
        let synced =
            [&*wal_dir, &*blocks_dir, dir].into_iter().fold(synced, |s, d| s.and(self.disk.sync_dir(d)));
        if let Err(error) = synced {
            self.metrics.wal_sync_failures.inc();
            tracing::error!(dir = %dir.display(), %error, "What the process before this one wrote cannot be put on the disk");
        }
    }

    fn open_blocks(&self, dir: &Path) -> io::Result<Ring> {
        let mut blocks = Vec::new();
        for entry in files_in(&*self.disk, &blocks_dir(dir), self.options.read_only)? {
            let path = entry.path;
            if path.extension().is_none_or(|e| e != block::EXTENSION) {
                continue;
            }
            match Block::open(&*self.disk, &path) {
                Ok(block) => blocks.push(Arc::new(block)),
                Err(BlockError::Io(error)) if is_of_this_process(&error) => {
                    return Err(at_path(&path, &error));
                }
                Err(error) => {
                    self.metrics.damaged.inc();
                    write(&self.gaps).extend(range_of(&path));
                    let to = self.set_aside(|| disk::quarantine(&*self.disk, dir, &path));
                    tracing::error!(block = %path.display(), %error, set_aside = ?to, "A block is damaged; its samples are missing");
                }
            }
        }
        blocks.sort_by_key(|b| b.footer().range);
        let blocks = self.without_overlaps(dir, blocks);
        let sealed_until = blocks.iter().map(|b| b.footer().range.1).max().unwrap_or(Timestamp::MIN);
        Ok(Ring { blocks: Arc::new(blocks), sealed_until })
    }

    /// Blocks overlap only if somebody has put one among them. Of two that do the one with more samples stays: a time that
    /// two answer for would come twice.
    fn without_overlaps(&self, dir: &Path, blocks: Vec<Arc<Block>>) -> Vec<Arc<Block>> {
        let mut kept: Vec<Arc<Block>> = Vec::with_capacity(blocks.len());
        for block in blocks {
            let overlaps = |last: &mut Arc<Block>| last.footer().range.1 > block.footer().range.0;
            let Some(last) = kept.pop_if(overlaps) else {
                kept.push(block);
                continue;
            };
            let more = block.footer().samples > last.footer().samples;
            let (stays, goes) = if more { (block, last) } else { (last, block) };
            self.metrics.damaged.inc();
            self.metrics.damaged_bytes.inc_by(goes.bytes());
            let to = self.set_aside(|| disk::quarantine(&*self.disk, dir, goes.path()));
            tracing::error!(block = %goes.path().display(), of = %stays.path().display(), samples = goes.footer().samples, set_aside = ?to, "A block overlaps another, so somebody has put it there; its samples are missing (hint: put it in the folder blocks of an empty directory, and `streamgate storage import` that)");
            kept.push(stays);
        }
        kept
    }

    /// Sets something damaged aside, unless the directory is only read; returns where it is then.
    pub(super) fn set_aside(&self, put: impl FnOnce() -> io::Result<PathBuf>) -> Option<PathBuf> {
        if self.options.read_only { None } else { put().ok() }
    }
}

/// Makes sure that nobody changes the directory while it is read; others may read it as well. A copy may have no lock
/// file, and a file system for reading only may know no locks.
pub(super) fn lock_to_read(disk: &dyn Disk, dir: &Path) -> io::Result<Lock> {
    if !disk.exists(dir) {
        return Err(io::Error::other("there is no such directory"));
    }
    if !disk.exists(&dir.join(WAL)) && !disk.exists(&blocks_dir(dir)) {
        return Err(io::Error::other("it is no data directory: it has neither blocks nor a WAL"));
    }
    disk.lock_to_read(&dir.join(LOCK))?.ok_or_else(|| {
        io::Error::other(
            "a server has it open and changes it; stop that one, or read a snapshot of it \
             (POST /api/v1/admin/tsdb/snapshot, with --web.enable-admin-api)",
        )
    })
}

/// The files of a directory; one that is missing has none if that is no reason to fail.
fn files_in(disk: &dyn Disk, dir: &Path, may_be_missing: bool) -> io::Result<Vec<Entry>> {
    if may_be_missing && !disk.exists(dir) {
        return Ok(Vec::new());
    }
    let mut entries = disk.list(dir)?;
    entries.retain(|entry| !entry.is_dir);
    Ok(entries)
}

/// The range that the name of a block says.
fn range_of(block: &Path) -> Option<(Timestamp, Timestamp)> {
    let name = block.file_stem()?.to_str()?;
    // The first may be negative.
    let at = name.char_indices().skip(1).find(|(_, c)| *c == '-')?.0;
    Some((name[..at].parse().ok()?, name[at + 1..].parse().ok()?))
}

/// Whether a file cannot be read for want of a right or of memory: then it is none the worse for that.
fn is_of_this_process(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let no_more_files = [Errno::MFILE, Errno::NFILE].map(|e| Some(e.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory)
        || no_more_files.contains(&error.raw_os_error())
}

/// An error with the file that it is about.
pub(super) fn at_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Fails if a file of this kind was written by a version that is not known here; nothing has been changed then.
fn refuse_newer(disk: &dyn Disk, dir: &Path, extension: &str, magic: [u8; 8]) -> io::Result<()> {
    files_in(disk, dir, true)?
        .iter()
        .filter(|e| e.path.extension().is_some_and(|x| x == extension))
        .try_for_each(|e| refuse_newer_file(disk, &e.path, magic))
}

fn refuse_newer_file(disk: &dyn Disk, path: &Path, magic: [u8; 8]) -> io::Result<()> {
    let (name, known) = magic.split_at(7);
    // What cannot be read for damage is met again when it is read as a whole.
    let start = match disk.read_start(path, magic.len()) {
        Err(error) if !is_of_this_process(&error) => return Ok(()),
        start => start.map_err(|e| at_path(path, &e))?,
    };
    // Versions have an odd number of bits set, so that a flipped bit is damage and no newer version.
    let newer = start.get(7).is_some_and(|v| *v > known[0] && v.count_ones() % 2 == 1);
    if newer && start.starts_with(name) {
        return Err(io::Error::other(format!(
            "{} has format version {}, and this program knows up to {}: it was written by a newer version; \
             nothing was changed (hint: start that version)",
            path.display(),
            start[7],
            known[0]
        )));
    }
    Ok(())
}
