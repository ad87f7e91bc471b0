//! Taking samples of any time into the ring: history of another server.
//!
//! Samples are pushed in any order. They collect in a buffer of bounded size, which is sorted and written as *runs*:
//! small blocks in `DIR/import/`, each within one *piece* of time. A piece is the range of a block that is there, or a
//! stretch between blocks. At the end the runs of each piece and its block, if there is one, are merged into one block,
//! which takes its place by a rename. So nothing is seen before the end, blocks never overlap, and an import that was
//! broken off can be done again: what is there already is left alone.
//!
//! [`prometheus`] reads the blocks and the WAL of a Prometheus.

mod buffer;
mod pieces;
pub mod prometheus;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::buffer::Buffer;
use self::pieces::Pieces;
use super::api::StorageError;
use super::appender::Appender;
use super::block::{self, Block};
use super::columns::{Collisions, SampleRef};
use super::db::{Db, Ring, lock, write};
use super::disk::{self, Disk};
use super::exemplars::Exemplar;
use super::open::blocks_dir;
use crate::model::{Labels, Metadata, Timestamp};

/// Where runs are, in the data directory; removed at every start.
const RUNS: &str = "import";
/// So many runs of one piece are merged into one: as many files are open then.
const RUNS_MAX: usize = if cfg!(test) { 3 } else { 32 };
/// Exemplars that one import takes at most, as they are held in memory until its end.
pub const EXEMPLARS_MAX: usize = 1_000_000;
/// Exemplars of one batch.
const EXEMPLARS_AT_ONCE: usize = 10_000;

/// How samples are imported.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Samples after this are left out: a wrong unit of time must not seal the future.
    pub latest: Timestamp,
    /// Samples before this are counted as old: a server would remove them soon.
    pub kept_from: Timestamp,
    /// Length of the blocks that are made where there is none yet.
    pub block_ms: i64,
    /// Samples that are held in memory, at some 40 bytes each besides labels and histograms.
    pub buffer_samples: usize,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Samples that were pushed and are not too far in the future.
    pub samples: u64,
    /// Samples after [`ImportOptions::latest`], left out.
    pub too_late: u64,
    /// Samples before [`ImportOptions::kept_from`], taken.
    pub old: u64,
    /// Samples that were there already, and those whose time had another value, which stays.
    pub repeated: u64,
    pub conflicting: u64,
    /// Exemplars that were taken, and those that were not: they are there already, are older than others of their
    /// series, have too long labels, or are more than [`EXEMPLARS_MAX`].
    pub exemplars: u64,
    pub exemplars_left_out: u64,
    /// The times of the first and the last sample; `None` if there was none.
    pub ts: Option<(Timestamp, Timestamp)>,
    pub blocks_new: usize,
    pub blocks_merged: usize,
    /// Bytes of the blocks that were written.
    pub bytes: u64,
}

/// Takes samples. Dropping it instead of calling [`Importer::finish`] leaves the ring as it was.
#[derive(Debug)]
pub struct Importer {
    db: Arc<Db>,
    options: ImportOptions,
    dir: PathBuf,
    runs_dir: PathBuf,
    pieces: Pieces,
    buffer: Buffer,
    /// By the beginning of the piece.
    runs: BTreeMap<Timestamp, Vec<PathBuf>>,
    runs_written: u64,
    exemplars: Vec<(Labels, Exemplar)>,
    done: Imported,
}

/// Removes what an import that was broken off has left, if there is something, and says so.
pub fn remove_broken_off(disk: &dyn Disk, dir: &Path) {
    let runs = dir.join(RUNS);
    if !disk.exists(&runs) {
        return;
    }
    tracing::warn!(
        dir = %runs.display(),
        "An import was broken off: of what it read only whole blocks may be there. To import the same again is safe, and brings the rest"
    );
    if let Err(error) = disk.remove_dir_all(&runs) {
        tracing::warn!(dir = %runs.display(), %error, "What the import has left cannot be removed");
    }
}

impl Importer {
    /// Seals what is in memory, since only blocks are merged, and cleans what is deleted, so that what is imported
    /// anew is not taken for it.
    pub(super) fn new(db: &Arc<Db>, options: ImportOptions) -> Result<Self, StorageError> {
        if db.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let Some(dir) = db.dir.as_ref().map(|d| d.path.clone()) else {
            return Err(StorageError::Write("there is no data directory: all is in memory".to_owned()));
        };
        let failed = |e: io::Error| StorageError::Write(e.to_string());
        db.seal_all().map_err(failed)?;
        db.clean_tombstones()?;
        let runs_dir = dir.join(RUNS);
        db.disk.remove_dir_all(&runs_dir).map_err(failed)?;
        db.disk.create_dir_all(&runs_dir).map_err(failed)?;
        let ranges = db.ring().blocks.iter().map(|b| b.footer().range).collect();
        Ok(Importer {
            pieces: Pieces::new(ranges, options.block_ms),
            buffer: Buffer::default(),
            runs: BTreeMap::new(),
            runs_written: 0,
            exemplars: Vec::new(),
            done: Imported::default(),
            db: Arc::clone(db),
            options,
            dir,
            runs_dir,
        })
    }

    /// What was taken so far.
    #[must_use]
    pub fn so_far(&self) -> Imported {
        self.done
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// When the buffer is full and cannot be written.
    pub fn push(&mut self, labels: &Labels, sample: SampleRef<'_>) -> io::Result<()> {
        // No block can answer for the last time of all: ranges end before their second time.
        if sample.ts > self.options.latest.min(Timestamp::MAX - 1) {
            self.done.too_late += 1;
            return Ok(());
        }
        self.done.samples += 1;
        self.done.old += u64::from(sample.ts < self.options.kept_from);
        let (first, last) = self.done.ts.unwrap_or((sample.ts, sample.ts));
        self.done.ts = Some((first.min(sample.ts), last.max(sample.ts)));
        self.buffer.push(labels, sample);
        if self.buffer.len() >= self.options.buffer_samples || self.buffer.is_large() {
            self.write_runs()?;
        }
        Ok(())
    }

    /// Takes an exemplar of a series. It goes into the ring of exemplars at the end, if the storage keeps any.
    pub fn push_exemplar(&mut self, series: &Labels, exemplar: Exemplar) {
        if self.exemplars.len() < EXEMPLARS_MAX {
            self.exemplars.push((series.clone(), exemplar));
        } else {
            self.done.exemplars_left_out += 1;
        }
    }

    /// Puts the exemplars into the ring, oldest first.
    fn place_exemplars(&mut self) -> Result<(), StorageError> {
        let mut exemplars = std::mem::take(&mut self.exemplars);
        exemplars.sort_by(|(_, a), (_, b)| a.ts.cmp(&b.ts).then(a.value.total_cmp(&b.value)));
        for some in exemplars.chunks(EXEMPLARS_AT_ONCE) {
            let before = lock(&self.db.exemplars).taken();
            let mut app = Appender::new(&self.db);
            for (labels, exemplar) in some {
                if let Ok(series) = app.series(labels) {
                    let _counted = app.append_exemplar(series, exemplar.clone());
                }
            }
            app.commit()?;
            let taken = lock(&self.db.exemplars).taken() - before;
            self.done.exemplars += taken;
            self.done.exemplars_left_out += some.len() as u64 - taken;
        }
        Ok(())
    }

    /// Notes what is known of a metric family.
    pub fn describe(&self, family: &str, metadata: Metadata) {
        self.db.set_metadata(family, metadata);
    }

    fn write_runs(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.sort();
        let mut rest = buffer.rows();
        while let Some(first) = rest.first() {
            let piece = self.pieces.around(first.ts);
            let n = rest.partition_point(|s| s.ts < piece.1);
            let (these, others) = rest.split_at(n);
            rest = others;
            let path = self.run_path();
            let write = |out: &mut dyn Write| buffer.write_block(these, piece, out);
            let collisions = disk::write_unsynced(&*self.db.disk, &path, write)?;
            self.count(collisions);
            self.add_run(piece, path)?;
        }
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn run_path(&mut self) -> PathBuf {
        self.runs_written += 1;
        self.runs_dir.join(format!("{}.{}", self.runs_written, block::EXTENSION))
    }

    fn add_run(&mut self, piece: (Timestamp, Timestamp), path: PathBuf) -> io::Result<()> {
        let runs = self.runs.entry(piece.0).or_default();
        runs.push(path);
        if runs.len() < RUNS_MAX {
            return Ok(());
        }
        let runs = std::mem::take(runs);
        let merged = self.run_path();
        let disk = Arc::clone(&self.db.disk);
        let blocks = open_all(&*disk, &runs)?;
        let sources: Vec<&Block> = blocks.iter().collect();
        let write = |out: &mut dyn Write| block::merge(&sources, piece, out);
        let (_, collisions) = disk::write_unsynced(&*disk, &merged, write)?;
        self.count(collisions);
        for run in runs {
            disk.remove(&run)?;
        }
        self.runs.insert(piece.0, vec![merged]);
        Ok(())
    }

    fn count(&mut self, collisions: Collisions) {
        self.done.repeated += collisions.repeated;
        self.done.conflicting += collisions.conflicting;
    }

    /// Merges everything into the ring. `progress` hears how many of how many blocks are written.
    ///
    /// # Errors
    /// When a block cannot be written. Those before it are in place then, and to import the same again is safe.
    pub fn finish(mut self, mut progress: impl FnMut(usize, usize)) -> Result<Imported, StorageError> {
        let failed = |e: io::Error| StorageError::Write(e.to_string());
        self.write_runs().map_err(failed)?;
        let db = Arc::clone(&self.db);
        let _no_seal = lock(&db.maintenance);
        let runs = std::mem::take(&mut self.runs);
        let all = runs.len();
        for (i, (_, runs)) in runs.into_iter().enumerate() {
            progress(i, all);
            self.place(&runs).map_err(|e| {
                StorageError::Write(format!(
                    "{e}; {i} of {all} blocks of the import are in place (hint: to import the same again is safe, and brings the rest)"
                ))
            })?;
        }
        progress(all, all);
        db.disk.sync_dir(&blocks_dir(&self.dir)).map_err(failed)?;
        self.place_exemplars()?;
        db.update_gauges();
        Ok(self.done)
    }

    /// Merges the runs of a piece, and its block, into place.
    fn place(&mut self, runs: &[PathBuf]) -> io::Result<()> {
        let disk = Arc::clone(&self.db.disk);
        let runs = open_all(&*disk, runs)?;
        let Some(piece) = runs.first().map(|r| r.footer().range) else { return Ok(()) };
        let ring = self.db.ring();
        let old = ring.blocks.iter().find(|b| b.footer().range == piece);
        // The newest block must not answer for a time that is still to come.
        let newest = runs.iter().map(|r| r.footer().ts.1).max().unwrap_or(piece.0);
        let is_last = old.is_none() && piece.1 > ring.sealed_until;
        let range = (piece.0, if is_last { newest.saturating_add(1).min(piece.1) } else { piece.1 });
        let path = match old {
            Some(old) => old.path().to_owned(),
            None => blocks_dir(&self.dir).join(format!("{}-{}.{}", range.0, range.1, block::EXTENSION)),
        };
        let sources: Vec<&Block> = old.map(|b| &**b).into_iter().chain(&runs).collect();
        let merge = |out: &mut dyn Write| block::merge(&sources, range, out);
        let verify = |path: &Path| Block::open_verified(&*disk, path);
        let ((_, collisions), new) = disk::write_whole(&*disk, &path, merge, verify)?;
        // Before the runs, which hold the same samples, are removed.
        disk.sync_dir(&blocks_dir(&self.dir))?;
        self.count(collisions);
        let new = Arc::new(new.moved_to(&path));
        self.done.bytes += new.bytes();
        match old {
            Some(old) => {
                self.done.blocks_merged += 1;
                self.db.replace_block(old, Some(new));
            }
            None => {
                self.done.blocks_new += 1;
                self.insert(new);
            }
        }
        for run in &runs {
            // All of them go at the end.
            let _stays_till_then = disk.remove(run.path());
        }
        Ok(())
    }

    fn insert(&self, block: Arc<Block>) {
        let end = block.footer().range.1;
        self.db.min_valid.fetch_max(end, Ordering::SeqCst);
        self.db.max_ts.fetch_max(block.footer().ts.1, Ordering::Relaxed);
        let mut ring = write(&self.db.ring);
        let mut blocks = ring.blocks.to_vec();
        blocks.push(block);
        blocks.sort_by_key(|b| b.footer().range);
        *ring = Ring { blocks: Arc::new(blocks), sealed_until: ring.sealed_until.max(end) };
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        let _removed_at_the_next_start = self.db.disk.remove_dir_all(&self.runs_dir);
    }
}

fn open_all(disk: &dyn Disk, runs: &[PathBuf]) -> io::Result<Vec<Block>> {
    runs.iter().map(|path| Block::open(disk, path).map_err(io::Error::other)).collect()
}
