//! Opening a data directory: lock, blocks, replay of the WAL.
//!
//! ```text
//! DIR/lock                 held by the process that has the directory open
//! DIR/blocks/A-B.block     blocks by the range of time that they answer for
//! DIR/wal/N.wal            segments of the WAL
//! DIR/wal/N.checkpoint     the series that segments since N, and retained ones before, take for known
//! DIR/tombstones           what is deleted
//! DIR/import/              what an import has read and not put in place
//! DIR/snapshots/NAME/      copies that open as data directories
//! DIR/quarantine/          damaged files and pieces, for whoever wants to look at them
//! ```
//! Damage is never a reason not to start: what is whole serves, what is not is set aside, reported and counted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::api::{FsyncPolicy, SeriesRef, StorageError, StorageOptions};
use super::block::{self, Block};
use super::db::{DataDir, Db, FAMILIES_MAX, Ring, write};
use super::disk::{self, Disk, Entry, Lock};
use super::exemplars::ExemplarRing;
use super::head::{Guards, Head, SERIES_MAX, SHARDS, generation_of, id_of, shard_of};
use super::import;
use super::index::SelectCache;
use super::metrics::StorageMetrics;
use super::progress::ReplayProgress;
use super::snapshot;
use super::tombstones;
use super::wal::frame::{self, Section};
use super::wal::log::{CHECKPOINT, FILE_MAGIC, SEGMENT, Segment, file_path, numbered_files};
use super::wal::replay::scan;
use super::wal::{Wal, WalOptions};
use crate::model::{Labels, Timestamp};

const BLOCKS: &str = "blocks";
const WAL: &str = "wal";
const LOCK: &str = "lock";

/// The log says after so many segments how far the replay is.
const SEGMENTS_TO_LOG: u64 = 8;
/// So many threads replay at most.
const REPLAY_THREADS_MAX: usize = 8;
/// A segment with fewer bytes is replayed by one thread.
const REPLAY_THREAD_BYTES: usize = 1 << 20;

/// Where blocks are, in the data directory.
pub(super) fn blocks_dir(dir: &Path) -> std::path::PathBuf {
    dir.join(BLOCKS)
}

/// Where the WAL is, in the data directory.
pub(super) fn wal_dir(dir: &Path) -> PathBuf {
    dir.join(WAL)
}

impl Db {
    pub fn open(
        disk: Arc<dyn Disk>,
        options: StorageOptions,
        metrics: StorageMetrics,
        progress: &ReplayProgress,
    ) -> Result<Self, StorageError> {
        let scratch = options.dir.as_deref().filter(|_| !options.read_only).map(|dir| (&disk, dir));
        let mut db = Db {
            dir: None,
            head: Head::new(scratch, options.window_ms),
            disk,
            index: Default::default(),
            selects: SelectCache::new(
                options.memory_bytes_max,
                metrics.select_cache_hits.clone(),
                metrics.select_cache_misses.clone(),
            ),
            unlogged: Default::default(),
            wal: None,
            ring: Default::default(),
            metadata: Default::default(),
            exemplars: Mutex::new(ExemplarRing::new(options.exemplars_max)),
            deleted: Default::default(),
            min_valid: AtomicI64::new(Timestamp::MIN + 1),
            max_valid: AtomicI64::new(Timestamp::MAX),
            oldest: AtomicI64::new(Timestamp::MIN + 1),
            out_of_order_ms: AtomicI64::new(options.out_of_order_window_ms),
            out_of_order_held: AtomicU64::new(0),
            late_logged: AtomicBool::new(false),
            max_ts: AtomicI64::new(Timestamp::MIN),
            windows: Default::default(),
            chunk_bytes: Default::default(),
            open_bytes: Default::default(),
            refusing: Default::default(),
            maintenance: Default::default(),
            metrics,
            spare: Default::default(),
            options,
        };
        if let Some(path) = db.options.dir.clone() {
            db.open_dir(&path, progress).map_err(|e| StorageError::Open {
                path: path.display().to_string(),
                reason: e.to_string(),
            })?;
        }
        db.update_gauges();
        Ok(db)
    }

    fn open_dir(&mut self, path: &Path, progress: &ReplayProgress) -> io::Result<()> {
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
        let ring = self.open_blocks(path)?;
        self.min_valid.fetch_max(ring.sealed_until, Ordering::Relaxed);
        if let Some(newest) = ring.blocks.iter().map(|b| b.footer().ts.1).max() {
            self.max_ts.fetch_max(newest, Ordering::Relaxed);
        }
        *write(&self.ring) = ring;
        let (ended, number) = self.replay(path, &wal_dir, progress)?;
        self.open_deleted(path);
        if self.options.read_only {
            return Ok(());
        }
        let segment_bytes = match self.options.retention_bytes {
            // Many segments, so that dropping one frees little of what the bound allows.
            Some(bound) => self.options.wal_segment_bytes.min((bound / 32).max(64 << 10)),
            None => self.options.wal_segment_bytes,
        };
        let options = WalOptions {
            segment_bytes,
            window_ms: self.options.window_ms,
            sync_each: self.options.fsync == FsyncPolicy::Always,
        };
        self.wal = Some(Wal::new(disk, &wal_dir, options, ended, number));
        Ok(())
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
                Err(error) => {
                    self.metrics.damaged.inc();
                    let to = self.set_aside(|| disk::quarantine(&*self.disk, dir, &path));
                    tracing::error!(block = %path.display(), %error, set_aside = ?to, "A block is damaged; its samples are missing");
                }
            }
        }
        blocks.sort_by_key(|b| b.footer().range);
        let sealed_until = blocks.iter().map(|b| b.footer().range.1).max().unwrap_or(Timestamp::MIN);
        Ok(Ring { blocks: Arc::new(blocks), sealed_until })
    }

    /// Sets something damaged aside, unless the directory is only read; returns where it is then.
    pub(super) fn set_aside(&self, put: impl FnOnce() -> io::Result<PathBuf>) -> Option<PathBuf> {
        if self.options.read_only { None } else { put().ok() }
    }

    /// Reads the WAL into the head. Returns the segments that stay and the number of the next.
    fn replay(
        &self,
        dir: &Path,
        wal_dir: &Path,
        progress: &ReplayProgress,
    ) -> io::Result<(Vec<Segment>, u64)> {
        if self.options.read_only && !self.disk.exists(wal_dir) {
            return Ok((Vec::new(), 0));
        }
        let checkpoints = numbered_files(&*self.disk, wal_dir, CHECKPOINT)?;
        let segments = numbered_files(&*self.disk, wal_dir, SEGMENT)?;
        let mut replay = Replay::new(self, dir);
        // The newest is enough, unless it is damaged: then everything that names a series is welcome.
        let mut known_before = 0;
        for (number, _) in &checkpoints {
            if replay.checkpoint(&file_path(wal_dir, *number, CHECKPOINT))? {
                known_before = *number;
            }
        }
        let mut ended = Vec::new();
        let bounds = (segments.first().map_or(0, |s| s.0), segments.last().map_or(0, |s| s.0));
        progress.begin(bounds.0, bounds.1);
        for (number, _) in &segments {
            let path = file_path(wal_dir, *number, SEGMENT);
            progress.reached(*number);
            if (*number - bounds.0).is_multiple_of(SEGMENTS_TO_LOG) && segments.len() > 1 {
                tracing::info!(segment = *number, last = bounds.1, "Replaying the WAL");
            }
            let (max_ts, bytes) = replay.segment(&path, *number >= known_before)?;
            ended.push(Segment { number: *number, bytes, max_ts });
        }
        progress.end();
        let report = (replay.samples.load(Ordering::Relaxed), replay.lost_samples.load(Ordering::Relaxed));
        let (damaged_bytes, generation_max) = (replay.damaged_bytes, replay.generation_max);
        let mut index = write(&self.index);
        index.next = index.labels.live().max().map_or(0, |m| m + 1);
        let free: Vec<u32> = (0..index.next).filter(|id| !index.labels.live().contains(*id)).rev().collect();
        index.free = free;
        index.generation_min = generation_max.saturating_add(1);
        if !segments.is_empty() {
            tracing::info!(
                segments = segments.len(),
                series = index.labels.len(),
                samples = report.0,
                "Replayed the WAL"
            );
        }
        if damaged_bytes > 0 || report.1 > 0 {
            self.metrics.damaged.inc();
            self.metrics.damaged_bytes.inc_by(damaged_bytes);
            self.metrics.lost_samples.inc_by(report.1);
            tracing::error!(
                damaged_bytes,
                samples_of_unknown_series = report.1,
                "Parts of the WAL were damaged and set aside; the rest serves"
            );
        }
        let last = [segments.last().map(|s| s.0), checkpoints.last().map(|c| c.0)];
        Ok((ended, last.into_iter().flatten().max().unwrap_or(0) + 1))
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
    disk.list(dir)
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
    let start = disk.read_start(path, magic.len())?;
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

/// A replay at work.
struct Replay<'a> {
    db: &'a Db,
    dir: &'a Path,
    samples: AtomicU64,
    /// Samples whose series nothing names any more.
    lost_samples: AtomicU64,
    damaged_bytes: u64,
    generation_max: u32,
}

impl<'a> Replay<'a> {
    fn new(db: &'a Db, dir: &'a Path) -> Self {
        Replay {
            db,
            dir,
            samples: AtomicU64::new(0),
            lost_samples: AtomicU64::new(0),
            damaged_bytes: 0,
            generation_max: 0,
        }
    }

    /// Reads a checkpoint; returns whether it is whole.
    fn checkpoint(&mut self, path: &Path) -> io::Result<bool> {
        let bytes = self.db.disk.read(path)?;
        let found = scan(&bytes);
        let mut end = None;
        let mut series = 0u64;
        for payload in &found.payloads {
            for section in frame::sections(&bytes[payload.clone()]) {
                match section {
                    Section::CheckpointEnd(n) => end = Some(n),
                    other => series += self.names(other),
                }
            }
        }
        let whole = found.damaged.is_empty() && found.torn.is_none() && end == Some(series);
        if !whole {
            self.damaged_bytes += found.damaged.iter().map(|d| d.len() as u64).sum::<u64>();
            self.damaged_bytes += found.torn.map_or(0, |at| (bytes.len() - at) as u64);
            tracing::error!(checkpoint = %path.display(), "A checkpoint of the WAL is damaged; series are taken from it as far as it goes and from all segments");
        }
        Ok(whole)
    }

    /// Reads a segment; returns the time of its newest sample and its bytes.
    fn segment(&mut self, path: &Path, names: bool) -> io::Result<(Timestamp, u64)> {
        let disk = &*self.db.disk;
        let bytes = self.db.disk.read(path)?;
        let found = scan(&bytes);
        for piece in &found.damaged {
            self.damaged_bytes += piece.len() as u64;
            let put =
                || disk::quarantine_piece(disk, self.dir, path, piece.start as u64, &bytes[piece.clone()]);
            let to = self.db.set_aside(put);
            tracing::error!(segment = %path.display(), offset = piece.start, bytes = piece.len(), set_aside = ?to, "A piece of the WAL is damaged");
        }
        let mut whole_bytes = bytes.len();
        if let Some(at) = found.torn {
            whole_bytes = at;
            tracing::warn!(segment = %path.display(), offset = at, bytes = bytes.len() - at, "The end of the WAL is torn: a write was cut short there");
        }
        if let Some(at) = found.torn.filter(|_| !self.db.options.read_only) {
            let to = disk::quarantine_piece(disk, self.dir, path, at as u64, &bytes[at..]);
            if let Err(error) = to.and_then(|_| disk.truncate(path, at as u64)) {
                tracing::warn!(segment = %path.display(), %error, "The torn end of the WAL stays");
            }
        }
        for payload in &found.payloads {
            for section in frame::sections(&bytes[payload.clone()]) {
                if names || matches!(section, Section::Exemplars(_)) {
                    self.names(section);
                }
            }
        }
        let payloads: Vec<&[u8]> = found.payloads.iter().map(|p| &bytes[p.clone()]).collect();
        let threads = match std::thread::available_parallelism() {
            Ok(n) if bytes.len() > REPLAY_THREAD_BYTES => n.get().min(REPLAY_THREADS_MAX),
            _ => 1,
        };
        let replay = &*self;
        let newest = std::thread::scope(|scope| {
            let payloads = &payloads;
            let others: Vec<_> =
                (1..threads).map(|t| scope.spawn(move || replay.samples(payloads, t, threads))).collect();
            let mine = replay.samples(payloads, 0, threads);
            others.into_iter().filter_map(|t| t.join().ok()).fold(mine, Timestamp::max)
        });
        self.db.max_ts.fetch_max(newest, Ordering::Relaxed);
        Ok((newest, whole_bytes as u64))
    }

    /// Takes series, metadata and exemplars of a section; returns how many series.
    fn names(&mut self, section: Section<'_>) -> u64 {
        let mut n = 0;
        let whole = match section {
            Section::Series(bytes) => frame::each_series(bytes, |s, pairs| {
                n += 1;
                self.series(s, pairs);
            }),
            Section::SeriesCompressed(bytes) => frame::decompress_series(bytes).and_then(|bytes| {
                frame::each_series(&bytes, |s, pairs| {
                    n += 1;
                    self.series(s, pairs);
                })
            }),
            Section::Exemplars(bytes) => {
                let index = super::db::read(&self.db.index);
                let mut ring = super::db::lock(&self.db.exemplars);
                frame::each_exemplar(bytes, |series, exemplar| {
                    if self.db.head.is_current(series) {
                        // Those of a segment that the checkpoint has as well are there already.
                        let _held = ring.add(&index.labels.labels(id_of(series)), exemplar);
                    }
                })
            }
            Section::Metadata(bytes) => {
                let mut all = write(&self.db.metadata);
                frame::each_metadata(bytes, |family, m| {
                    if all.len() < FAMILIES_MAX || all.contains_key(family) {
                        all.insert(family.to_owned(), m);
                    }
                })
            }
            _ => Some(()),
        };
        if whole.is_none() {
            // The checksum held, so this is another version's writing.
            tracing::error!("A section of the WAL cannot be read");
            self.damaged_bytes += 1;
        }
        n
    }

    fn series(&mut self, series: SeriesRef, pairs: &[(&str, &str)]) {
        let (id, generation) = (id_of(series), generation_of(series));
        if id as usize >= SERIES_MAX || generation == 0 {
            return;
        }
        self.generation_max = self.generation_max.max(generation);
        let sorted = pairs.is_sorted_by(|a, b| a.0 < b.0);
        let labels = if sorted {
            Labels::from_sorted(pairs.iter().copied())
        } else {
            Labels::from_pairs(pairs.iter().copied())
        };
        let mut index = write(&self.db.index);
        match index.labels.find(&labels) {
            Some(known) if known == id && self.db.head.is_current(series) => return,
            // Later records win: an older series with these labels, or under this id, had left the ring.
            Some(other) => {
                index.labels.remove(other);
                self.db.head.restore(other, 0);
            }
            None => {}
        }
        if index.labels.live().contains(id) {
            index.labels.remove(id);
        }
        index.labels.insert(id, &labels);
        self.db.head.restore(id, generation);
    }

    /// Takes the samples of the shards that fall to thread `thread` of `threads`; returns the newest's time.
    fn samples(&self, payloads: &[&[u8]], thread: usize, threads: usize) -> Timestamp {
        let mine = (0..SHARDS).filter(|s| s % threads == thread).fold(0u64, |set, s| set | 1 << s);
        let mut guards = self.db.head.lock(mine);
        let min_valid = self.db.min_valid.load(Ordering::Relaxed);
        let (mut newest, mut taken, mut lost) = (Timestamp::MIN, 0u64, 0u64);
        let mut windows: BTreeMap<Timestamp, u64> = BTreeMap::new();
        let mut window = (Timestamp::MAX, Timestamp::MIN, 0u64);
        let mut out_of_order = 0u64;
        let mut take =
            |guards: &mut Guards<'_>,
             series: SeriesRef,
             ts: Timestamp,
             late: bool,
             append: &mut dyn FnMut(&mut super::head::Shard, Timestamp) -> bool| {
                let id = id_of(series);
                if mine & 1 << shard_of(id) == 0 {
                    return;
                }
                newest = newest.max(ts);
                if ts < min_valid && !late {
                    return;
                }
                if !late && (ts < window.0 || ts >= window.1) {
                    if window.2 > 0 {
                        *windows.entry(window.0).or_default() += window.2;
                    }
                    let start = self.db.window_start(ts);
                    window = (start, start.saturating_add(self.db.options.window_ms), 0);
                }
                if !self.db.head.is_current(series) {
                    lost += 1;
                } else if let Some(shard) = guards.shard(id)
                    && append(shard, window.0)
                {
                    window.2 += u64::from(!late);
                    taken += 1;
                }
            };
        for section in payloads.iter().flat_map(|p| frame::sections(p)) {
            if let Section::LateMark { done } = section {
                guards.all().flat_map(|shard| shard.iter_mut()).for_each(|series| {
                    if done {
                        series.moved();
                    } else {
                        let _moving = series.move_late();
                    }
                });
            }
            let whole = match section {
                Section::Floats(bytes) => frame::each_float(bytes, |series, ts, bits| {
                    take(&mut guards, series, ts, false, &mut |shard, start| {
                        let applied = shard
                            .with_series(id_of(series), |s, sealer| s.append(ts, bits, 0, start, sealer));
                        applied == Some(Ok(()))
                    });
                }),
                Section::Histograms(bytes) => frame::each_histogram(bytes, |series, ts, h| {
                    take(&mut guards, series, ts, false, &mut |shard, start| {
                        shard
                            .get_mut(id_of(series))
                            .is_some_and(|(s, _)| s.append_histogram(ts, &h, 0, start).is_ok())
                    });
                }),
                Section::Samples(bytes) => frame::each_sample(bytes, |sample| {
                    // Of a time that blocks answer for it may or may not be in them yet.
                    let late = sample.out_of_order && sample.ts < min_valid;
                    take(&mut guards, sample.series, sample.ts, late, &mut |shard, start| {
                        let applied = if sample.out_of_order {
                            shard.append_out_of_order(&sample, min_valid)
                        } else {
                            shard.append(&sample, start)
                        };
                        out_of_order += u64::from(sample.out_of_order);
                        applied == Some(Ok(()))
                    });
                }),
                _ => Some(()),
            };
            if whole.is_none() {
                tracing::error!("A section of the WAL cannot be read");
            }
        }
        if window.2 > 0 {
            *windows.entry(window.0).or_default() += window.2;
        }
        if out_of_order > 0 {
            self.db.late_logged.store(true, Ordering::Relaxed);
        }
        self.db.out_of_order_held.fetch_add(out_of_order, Ordering::Relaxed);
        self.samples.fetch_add(taken, Ordering::Relaxed);
        self.lost_samples.fetch_add(lost, Ordering::Relaxed);
        let mut all = super::db::lock(&self.db.windows);
        for (start, n) in windows {
            *all.entry(start).or_default() += n;
        }
        newest
    }
}
