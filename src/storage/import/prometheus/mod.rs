//! Reading what a Prometheus has stored: a block directory, or a whole data directory with its blocks and its WAL.
//!
//! ```text
//! DIR/01ABC…/meta.json       a block: its range and version
//!            index           symbols, series, places of chunks          [`index`]
//!            chunks/000001   segments of chunks                         [`chunks`]
//!            tombstones      what is deleted
//! DIR/wal/00000012           segments of records, after a checkpoint    [`wal`]
//! ```
//! Files are mapped and read front to back; memory is that of one series. Everything that comes from a file is checked
//! before it is believed.

mod bits;
mod bytes;
mod chunks;
mod index;
mod records;
mod wal;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::bytes::Bytes;
use self::index::{ChunkMeta, Damage, Index};
use super::Importer;
use crate::model::Timestamp;
use crate::storage::api::Samples;
use crate::storage::block::map::Map;
use crate::storage::coding::crc32c;

const CHUNKS_MAGIC: u32 = 0x85BD_40DD;
const TOMBSTONES_MAGIC: u32 = 0x0130_BA30;
/// The only version of meta.json.
const META_VERSION: u64 = 1;

/// Why a Prometheus directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    #[error("{path} cannot be read")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}, at byte {at}")]
    Damaged { path: PathBuf, what: String, at: usize },
    #[error(
        "{path} is neither a block nor a data directory of Prometheus: it has no meta.json, no blocks and no wal"
    )]
    NotPrometheus { path: PathBuf },
    #[error("the samples cannot be stored")]
    Store(#[source] io::Error),
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrometheusImport {
    pub blocks: usize,
    pub series: u64,
    pub samples: u64,
    /// Samples that tombstones delete.
    pub deleted: u64,
    pub wal_records: u64,
    /// Exemplars of the WAL; blocks have none.
    pub exemplars: u64,
    /// Chunks and records of kinds that are not known here.
    pub unknown: u64,
    /// Bytes at the end of the WAL that are no whole record: a write that a crash cut short.
    pub torn_bytes: u64,
    /// Samples of the WAL whose series it does not name.
    pub nameless: u64,
}

/// The blocks of a directory, ascending by name, which is by age: the directory itself, or those inside.
///
/// # Errors
/// When it is neither a block nor a data directory, or cannot be read.
pub fn blocks_in(dir: &Path) -> Result<Vec<PathBuf>, PrometheusError> {
    if is_block(dir) {
        return Ok(vec![dir.to_owned()]);
    }
    let failed = |source| PrometheusError::Io { path: dir.to_owned(), source };
    let mut blocks = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_block(&path) {
            blocks.push(path);
        }
    }
    if blocks.is_empty() && !dir.join("wal").is_dir() {
        return Err(PrometheusError::NotPrometheus { path: dir.to_owned() });
    }
    blocks.sort();
    Ok(blocks)
}

fn is_block(dir: &Path) -> bool {
    dir.join("meta.json").is_file() && dir.join("index").is_file()
}

/// Bytes of all files that [`import`] reads, for a progress bar.
#[must_use]
pub fn bytes_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Pushes every sample of a block, or of all blocks and the WAL of a data directory. `progress` hears how many bytes
/// are done, now and then.
///
/// # Errors
/// At the first thing that is damaged or cannot be read; nothing is in place before [`Importer::finish`].
pub fn import(
    dir: &Path,
    into: &mut Importer,
    mut progress: impl FnMut(u64),
) -> Result<PrometheusImport, PrometheusError> {
    let mut done = PrometheusImport::default();
    let mut bytes = 0;
    // The WAL may still have what blocks hold; what was deleted from them must not come back from it.
    let mut blocks_end = Timestamp::MIN;
    for block in blocks_in(dir)? {
        if let Some(end) = read_block(&block, into, &mut done)? {
            blocks_end = blocks_end.max(end);
        }
        done.blocks += 1;
        bytes += bytes_of(&block);
        progress(bytes);
    }
    if !is_block(dir) && dir.join("wal").is_dir() {
        // What came late and is not in a block yet.
        let late = dir.join("wbl");
        let late = late.is_dir().then_some(late.as_path());
        wal::read(&dir.join("wal"), late, blocks_end, into, &mut done)?;
        progress(bytes_of(dir));
    }
    Ok(done)
}

/// A file of a block, mapped.
fn map(path: PathBuf) -> Result<(PathBuf, Map), PrometheusError> {
    match Map::open(&path) {
        Ok(map) => Ok((path, map)),
        Err(source) => Err(PrometheusError::Io { path, source }),
    }
}

fn damaged(path: &Path, (what, at): (impl Into<String>, usize)) -> PrometheusError {
    PrometheusError::Damaged { path: path.to_owned(), what: what.into(), at }
}

/// What ends the walk over an index.
enum Stop {
    Index(Damage),
    Other(PrometheusError),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Stop::Index(damage)
    }
}

/// Pushes a block's samples; returns where it ends, unless it is of samples that came late.
fn read_block(
    dir: &Path,
    into: &mut Importer,
    done: &mut PrometheusImport,
) -> Result<Option<Timestamp>, PrometheusError> {
    let end = check_meta(&dir.join("meta.json"))?;
    let deleted = read_tombstones(&dir.join("tombstones"))?;
    let (index_path, index_bytes) = map(dir.join("index"))?;
    let index = Index::open(&index_bytes).map_err(|d| damaged(&index_path, d))?;
    let segments = chunk_segments(&dir.join("chunks"))?;
    let (mut samples, mut one) = (Samples::default(), Samples::default());
    let walked = index.each_series::<Stop>(|series, labels, chunks| {
        samples.clear();
        for chunk in chunks {
            one.clear();
            read_chunk(&segments, chunk, &mut one, done).map_err(Stop::Other)?;
            // Chunks of one series may overlap where samples came late.
            samples.merge(&mut one, &mut Default::default());
        }
        let before = samples.len();
        for (from, to) in deleted.get(&series).into_iter().flatten() {
            samples.take_out(*from, *to, (0, 0));
        }
        done.deleted += (before - samples.len()) as u64;
        done.series += 1;
        done.samples += samples.len() as u64;
        for sample in samples.in_order() {
            into.push(labels, sample).map_err(|e| Stop::Other(PrometheusError::Store(e)))?;
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(end),
        Err(Stop::Index(damage)) => Err(damaged(&index_path, damage)),
        Err(Stop::Other(error)) => Err(error),
    }
}

fn check_meta(path: &Path) -> Result<Option<Timestamp>, PrometheusError> {
    let failed = |source| PrometheusError::Io { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(failed)?;
    let meta: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| damaged(path, (format!("it is no JSON: {e}"), 0)))?;
    match meta["version"].as_u64() {
        Some(META_VERSION) => {
            let hints = meta["compaction"]["hints"].as_array();
            let late = hints.is_some_and(|all| all.iter().any(|h| h == "from-out-of-order"));
            Ok(meta["maxTime"].as_i64().filter(|_| !late))
        }
        other => Err(damaged(path, (format!("its version is not known here: {other:?}"), 0))),
    }
}

/// The segments of chunks, ascending.
fn chunk_segments(dir: &Path) -> Result<Vec<(PathBuf, Map)>, PrometheusError> {
    let failed = |source| PrometheusError::Io { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                let is_number = |n: &std::ffi::OsStr| n.to_str().is_some_and(|n| n.parse::<u32>().is_ok());
                if path.file_name().is_some_and(is_number) {
                    paths.push(path);
                }
            }
        }
        // A block without chunks has no folder of them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    paths.sort();
    let mut segments = Vec::new();
    for path in paths {
        let (path, map) = map(path)?;
        let mut head = Bytes::new(&map, 0);
        if head.u32() != Some(CHUNKS_MAGIC) || head.u8() != Some(1) {
            return Err(damaged(&path, ("it is no segment of chunks, or of a version not known here", 0)));
        }
        segments.push((path, map));
    }
    Ok(segments)
}

fn read_chunk(
    segments: &[(PathBuf, Map)],
    chunk: &ChunkMeta,
    out: &mut Samples,
    done: &mut PrometheusImport,
) -> Result<(), PrometheusError> {
    let (segment, at) = ((chunk.reference >> 32) as usize, chunk.reference as u32 as usize);
    let Some((path, bytes)) = segments.get(segment) else {
        let last = segments.last().map(|s| s.0.clone()).unwrap_or_default();
        return Err(damaged(&last, (format!("there is no segment {} after it", segment + 1), 0)));
    };
    let cut = || damaged(path, ("a chunk is cut off", at));
    let mut cursor = Bytes::new(bytes, at);
    let len = cursor.uvarint().and_then(|n| usize::try_from(n).ok()).ok_or_else(cut)?;
    let body = cursor.take(len.checked_add(1).ok_or_else(cut)?).ok_or_else(cut)?;
    if cursor.u32() != Some(crc32c(body)) {
        return Err(damaged(path, ("the checksum of a chunk is wrong", at)));
    }
    if !matches!(body[0], chunks::XOR | chunks::HISTOGRAM | chunks::FLOAT_HISTOGRAM) {
        done.unknown += 1;
        return Ok(());
    }
    chunks::decode(body[0], &body[1..], out).ok_or_else(|| damaged(path, ("a chunk makes no sense", at)))
}

/// Intervals (ends inclusive) by series.
type Tombstones = HashMap<u64, Vec<(Timestamp, Timestamp)>>;

fn read_tombstones(path: &Path) -> Result<Tombstones, PrometheusError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tombstones::new()),
        Err(source) => return Err(PrometheusError::Io { path: path.to_owned(), source }),
    };
    // Of what stands between the version and it.
    let body = bytes.len().checked_sub(4).and_then(|end| bytes.get(5..end));
    let crc = Bytes::new(&bytes, bytes.len().saturating_sub(4)).u32();
    let magic = Bytes::new(&bytes, 0).u32();
    let Some(body) = body.filter(|b| magic == Some(TOMBSTONES_MAGIC) && crc == Some(crc32c(b))) else {
        return Err(damaged(path, ("its checksum is wrong", 0)));
    };
    let mut all = Tombstones::new();
    let mut cursor = Bytes::new(body, 0);
    if bytes[4] != 1 {
        return Err(damaged(path, ("its version is not known here", 4)));
    }
    while !cursor.is_empty() {
        let at = cursor.at() + 5;
        let one = (|| Some((cursor.uvarint()?, cursor.varint()?, cursor.varint()?)))();
        let (series, from, to) = one.ok_or_else(|| damaged(path, ("a tombstone is cut off", at)))?;
        all.entry(series).or_default().push((from, to));
    }
    Ok(all)
}
