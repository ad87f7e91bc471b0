//! Reading every checksum of a data directory.

use std::io;
use std::path::{Path, PathBuf};

use super::api::{Samples, StorageError};
use super::block::reader::ReadScratch;
use super::block::{self, Block};
use super::disk::{Disk, RealDisk};
use super::open::{blocks_dir, lock_to_read, wal_dir};
use super::replay::Lengths;
use super::tombstones::Tombstones;
use super::wal::frame::{self, Section};
use super::wal::log::{CHECKPOINT, CHECKPOINT_COPY, SEGMENT, file_path, numbered_files};
use super::wal::replay::{Damage, Torn, scan};
use crate::model::Timestamp;

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    /// The byte where it begins, if it has a place.
    pub at: Option<u64>,
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some(at) => write!(f, "{}: at byte {at}: {}", self.path.display(), self.what),
            None => write!(f, "{}: {}", self.path.display(), self.what),
        }
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub blocks: usize,
    pub segments: usize,
    pub checkpoints: usize,
    pub samples: u64,
    pub bytes: u64,
    pub problems: usize,
}

/// Reads blocks, WAL, checkpoints and tombstones of a data directory, changing nothing: every checksum, and whether what
/// they cover can be decoded. `progress` hears how many of how many bytes are read.
///
/// # Errors
/// When the directory cannot be read at all, or a server has it open.
pub fn verify(
    dir: &Path,
    problem: impl FnMut(&Problem),
    progress: impl FnMut(u64, u64),
) -> Result<Verified, StorageError> {
    verify_on(&RealDisk, dir, problem, progress)
}

/// As [`verify`], on another disk.
pub(super) fn verify_on(
    disk: &dyn Disk,
    dir: &Path,
    mut problem: impl FnMut(&Problem),
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, StorageError> {
    let mut done = Verified::default();
    let mut problem = |done: &mut Verified, path: &Path, at: Option<u64>, what: String| {
        done.problems += 1;
        problem(&Problem { path: path.to_owned(), at, what });
    };
    let failed = |e: io::Error| StorageError::Open { path: dir.display().to_string(), reason: e.to_string() };
    let _lock = lock_to_read(disk, dir).map_err(failed)?;
    let blocks = block_files(disk, dir).map_err(failed)?;
    let wal = wal_dir(dir);
    let numbered = |extension: &str| {
        let files = if disk.exists(&wal) { numbered_files(disk, &wal, extension)? } else { Vec::new() };
        Ok(files)
    };
    let (segments, checkpoints) = (numbered(SEGMENT).map_err(failed)?, numbered(CHECKPOINT).map_err(failed)?);
    let copies = numbered(CHECKPOINT_COPY).map_err(failed)?;
    let all_wal = segments.iter().chain(&checkpoints).chain(&copies);
    let all = blocks.iter().map(|b| b.1).chain(all_wal.map(|f| f.1)).sum();
    let mut ranges: Vec<((Timestamp, Timestamp), PathBuf)> = Vec::new();
    for (path, bytes) in &blocks {
        done.blocks += 1;
        match Block::open(disk, path) {
            Ok(block) => {
                done.samples += block.footer().samples;
                ranges.push((block.footer().range, path.clone()));
                check_block(&block, &mut |at, what| problem(&mut done, path, at, what));
            }
            Err(error) => problem(&mut done, path, None, error.to_string()),
        }
        done.bytes += bytes;
        progress(done.bytes, all);
    }
    ranges.sort();
    for pair in ranges.windows(2) {
        if pair[0].0.1 > pair[1].0.0 {
            let what = format!("its range overlaps that of {}", pair[0].1.display());
            problem(&mut done, &pair[1].1, None, what);
        }
    }
    let all_from = checkpoints.last().map_or(0, |c| c.0);
    let lengths = Lengths { all_from, found: segments.iter().copied().collect() };
    for (files, extension) in [(&segments, SEGMENT), (&checkpoints, CHECKPOINT), (&copies, CHECKPOINT_COPY)] {
        let is_checkpoint = extension != SEGMENT;
        for (number, size) in files {
            *if is_checkpoint { &mut done.checkpoints } else { &mut done.segments } += 1;
            let path = &file_path(&wal, *number, extension);
            match disk.read(path) {
                Ok(bytes) => {
                    let before = check_wal(&bytes, is_checkpoint, &mut |at, what| {
                        problem(&mut done, path, Some(at), what);
                    });
                    let missing = before.and_then(|(n, bytes)| Some((n, lengths.missing(n, bytes)?)));
                    if let Some((number, missing)) = missing {
                        let what =
                            format!("its last {missing} bytes are missing, as the segment after it says");
                        problem(&mut done, &file_path(&wal, number, extension), None, what);
                    }
                }
                Err(error) => problem(&mut done, path, None, format!("it cannot be read: {error}")),
            }
            done.bytes += size;
            progress(done.bytes, all);
        }
    }
    if let Err(error) = Tombstones::load(disk, dir) {
        problem(&mut done, &super::tombstones::path_in(dir), None, error.to_string());
    }
    Ok(done)
}

/// Files and their sizes.
type Files = Vec<(PathBuf, u64)>;

fn block_files(disk: &dyn Disk, dir: &Path) -> io::Result<Files> {
    let dir = blocks_dir(dir);
    if !disk.exists(&dir) {
        return Ok(Vec::new());
    }
    let all = disk.list(&dir)?.into_iter().filter(|e| !e.is_dir).map(|e| (e.path, e.bytes));
    let mut found: Files =
        all.filter(|(p, _)| p.extension().is_some_and(|e| e == block::EXTENSION)).collect();
    found.sort();
    Ok(found)
}

/// Compares all checksums of a block, then decodes every chunk of every series.
fn check_block(block: &Block, problem: &mut impl FnMut(Option<u64>, String)) {
    let mut whole = true;
    block.check(|at, what| {
        whole = false;
        problem(Some(at), what.to_owned());
    });
    if !whole {
        // What stands in damaged pages makes no sense either.
        return;
    }
    let (mut samples, mut scratch) = (Samples::default(), ReadScratch::default());
    let mut found = 0;
    for series in 0..u32::try_from(block.footer().series).unwrap_or(u32::MAX) {
        samples.clear();
        block.read(series, Timestamp::MIN, Timestamp::MAX, &mut samples, &mut scratch);
        found += samples.len() as u64;
        if block.labels(series).is_none() || block.is_damaged() {
            problem(None, format!("series {series} cannot be decoded, though all checksums are right"));
            return;
        }
    }
    if found != block.footer().samples {
        let what = format!("its footer counts {} samples, and it has {found}", block.footer().samples);
        problem(None, what);
    }
}

/// Finds what is no frame, and the sections that cannot be decoded. Returns which segment was before this one, and how
/// many bytes that had.
fn check_wal(bytes: &[u8], is_checkpoint: bool, problem: &mut impl FnMut(u64, String)) -> Option<(u64, u64)> {
    let found = scan(bytes);
    for piece in &found.damaged {
        let Damage { bytes, lost } = piece;
        problem(bytes.start as u64, format!("{} bytes are damaged, with {lost}", bytes.len()));
    }
    if let Some(Torn { at, lost, cut, .. }) = found.torn {
        let n = bytes.len() - at;
        let what = match cut {
            _ if lost.samples + lost.series > 0 => format!("the last {n} bytes are damaged, with {lost}"),
            Some(cut) => {
                format!("the last {n} bytes are a write of {} samples that was cut short", cut.samples)
            }
            None => {
                format!("the last {n} bytes are no whole frame: a write was cut short, or they are damaged")
            }
        };
        problem(at as u64, what);
    }
    let (mut series, mut end, mut before) = (0u64, None, None);
    for payload in &found.payloads {
        for section in frame::sections(&bytes[payload.clone()]) {
            let mut count = |_: super::SeriesRef, _: &[(&str, &str)]| series += 1;
            let whole = match section {
                Section::Series(bytes) => frame::each_series(bytes, &mut count),
                Section::SeriesCompressed(bytes) => {
                    frame::decompress_series(bytes).and_then(|bytes| frame::each_series(&bytes, &mut count))
                }
                Section::Floats(bytes) => frame::each_float(bytes, |_, _, _| ()),
                Section::Histograms(bytes) => frame::each_histogram(bytes, |_, _, _| ()),
                Section::Metadata(bytes) => frame::each_metadata(bytes, |_, _| ()),
                Section::CheckpointEnd(n) => {
                    end = Some(n);
                    Some(())
                }
                Section::Samples(bytes) => frame::each_sample(bytes, |_| ()),
                Section::Exemplars(bytes) => frame::each_exemplar(bytes, |_, _| ()),
                Section::LateMark { .. } => Some(()),
                Section::SegmentBefore { number, bytes } => {
                    before = Some((number, bytes));
                    Some(())
                }
            };
            if whole.is_none() {
                problem(
                    payload.start as u64,
                    "a section cannot be decoded, though its checksum is right".to_owned(),
                );
            }
        }
    }
    if is_checkpoint && end != Some(series) {
        let what = match end {
            Some(n) => format!("it says that it names {n} series, and names {series}"),
            None => "its end is missing".to_owned(),
        };
        problem(bytes.len() as u64, what);
    }
    before
}
