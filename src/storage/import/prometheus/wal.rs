//! The WAL of a Prometheus: what is not in a block yet.
//!
//! ```text
//! wal/checkpoint.00000011/00000000   what was left of the segments up to 11
//! wal/00000012                       segments, in pages of 32 KiB
//! wbl/00000003                       the same, for samples that came late
//!
//! page     = fragments: type: u8 (bits 0-2: 0 the page ends, 1 whole, 2 first, 3 middle, 4 last; bit 3 Snappy, bit 4 zstd),
//!            length: u16, checksum: u32, bytes
//! ```
//! It is read twice: first who the series are and what is deleted, then the samples.
//!
//! Source: Prometheus `tsdb/docs/format/wal.md`, `tsdb/record`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::Importer;
use super::bytes::Bytes;
use super::records::{Record, each_series, read_record};
use super::{PrometheusError, PrometheusImport, damaged};
use crate::model::{Labels, Metadata, Timestamp};
use crate::storage::coding::crc32c;
use crate::storage::columns::{SampleRef, ValueRef};

const PAGE_BYTES: usize = 32 * 1024;
const FRAGMENT_HEADER: usize = 7;
/// A record that claims to be longer is damaged: Prometheus's segments have 128 MiB.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Intervals (ends inclusive) by series.
type Deleted = HashMap<u64, Vec<(Timestamp, Timestamp)>>;

/// Who the series of a WAL are.
#[derive(Default)]
struct Names {
    series: HashMap<u64, Labels>,
    deleted: Deleted,
}

/// Pushes the samples of `wal` from `from` on, which is where the blocks end, then all of `late`, if there is one.
///
/// # Errors
/// At the first record that is damaged, but for a torn one at the very end, which a crash leaves.
pub fn read(
    wal: &Path,
    late: Option<&Path>,
    from: Timestamp,
    into: &mut Importer,
    done: &mut PrometheusImport,
) -> Result<(), PrometheusError> {
    let segments = segments_of(wal)?;
    let mut names = Names::default();
    let torn_bytes = each_record(&segments, |record| {
        done.wal_records += 1;
        match record.first() {
            Some(1) => each_series(record, |series, labels| {
                names.series.insert(series, labels);
            }),
            Some(3 | 6) => read_record(record, &mut |r| {
                match r {
                    Record::Deleted(series, from, to) => {
                        names.deleted.entry(series).or_default().push((from, to));
                    }
                    Record::Metadata(series, metadata) => describe(&names, series, metadata, into),
                    _ => {}
                }
                Ok(())
            }),
            _ => Ok(()),
        }
    })?;
    done.torn_bytes += torn_bytes;
    done.series += names.series.len() as u64;
    push_all(&segments, &names, from, into, done)?;
    if let Some(late) = late {
        push_all(&segments_of(late)?, &names, Timestamp::MIN, into, done)?;
    }
    Ok(())
}

/// The metadata of a series is taken for its metric's.
fn describe(names: &Names, series: u64, metadata: Metadata, into: &mut Importer) {
    if let Some(labels) = names.series.get(&series) {
        into.describe(labels.metric_name(), metadata);
    }
}

fn push_all(
    segments: &[PathBuf],
    names: &Names,
    from: Timestamp,
    into: &mut Importer,
    done: &mut PrometheusImport,
) -> Result<(), PrometheusError> {
    let mut failed = None;
    let walked = each_record(segments, |record| {
        if matches!(record.first(), Some(1 | 3 | 5 | 6 | 14)) {
            return Ok(());
        }
        read_record(record, &mut |r| {
            let (series, sample) = match &r {
                Record::Float(series, ts, start, v) => {
                    (*series, SampleRef { ts: *ts, start: *start, value: ValueRef::Float(*v) })
                }
                Record::Histogram(series, ts, start, h) => {
                    (*series, SampleRef { ts: *ts, start: *start, value: ValueRef::Histogram(h) })
                }
                Record::Exemplar(series, exemplar) => {
                    match names.series.get(series) {
                        Some(labels) => {
                            done.exemplars += 1;
                            into.push_exemplar(labels, exemplar.clone());
                        }
                        None => done.nameless += 1,
                    }
                    return Ok(());
                }
                Record::Unknown => {
                    done.unknown += 1;
                    return Ok(());
                }
                Record::Deleted(..) | Record::Metadata(..) => return Ok(()),
            };
            if sample.ts < from {
                return Ok(());
            }
            let Some(labels) = names.series.get(&series) else {
                done.nameless += 1;
                return Ok(());
            };
            let gone = names.deleted.get(&series).into_iter().flatten();
            if gone.into_iter().any(|(from, to)| (*from..=*to).contains(&sample.ts)) {
                done.deleted += 1;
                return Ok(());
            }
            done.samples += 1;
            into.push(labels, sample).map_err(|e| {
                failed = Some(PrometheusError::Store(e));
                "it cannot be stored"
            })
        })
    });
    match failed {
        Some(error) => Err(error),
        None => walked.map(|_| ()),
    }
}

/// The segments to read, in order: those of the newest checkpoint, then those after it.
fn segments_of(dir: &Path) -> Result<Vec<PathBuf>, PrometheusError> {
    let checkpoint = newest_checkpoint(dir)?;
    let mut segments = Vec::new();
    if let Some((_, path)) = &checkpoint {
        segments.extend(numbered(path)?.into_iter().map(|(_, path)| path));
    }
    let after = checkpoint.map(|(number, _)| number);
    let later = numbered(dir)?.into_iter().filter(|(number, _)| after.is_none_or(|a| *number > a));
    segments.extend(later.map(|(_, path)| path));
    Ok(segments)
}

fn newest_checkpoint(dir: &Path) -> Result<Option<(u64, PathBuf)>, PrometheusError> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("checkpoint.")?.parse().ok();
    let found = entries(dir)?.into_iter().filter_map(|path| Some((number(&path)?, path)));
    Ok(found.max())
}

fn numbered(dir: &Path) -> Result<Vec<(u64, PathBuf)>, PrometheusError> {
    let number = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> =
        entries(dir)?.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, PrometheusError> {
    let failed = |source| PrometheusError::Io { path: dir.to_owned(), source };
    fs::read_dir(dir).map_err(failed)?.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>().map_err(failed)
}

/// Calls `f` with every record, decompressed. Returns how many bytes at the end of the last segment are none.
fn each_record(
    segments: &[PathBuf],
    mut f: impl FnMut(&[u8]) -> Result<(), &'static str>,
) -> Result<u64, PrometheusError> {
    let mut torn_bytes = 0;
    for (i, path) in segments.iter().enumerate() {
        let bytes = fs::read(path).map_err(|source| PrometheusError::Io { path: path.clone(), source })?;
        let mut reader = Fragments { bytes: &bytes, at: 0 };
        let mut record = Vec::new();
        loop {
            let at = reader.at;
            match reader.record(&mut record) {
                Ok(true) => f(&record).map_err(|what| damaged(path, (what, at)))?,
                Ok(false) => break,
                // A write that the end of the process cut short.
                Err(_) if i + 1 == segments.len() => {
                    torn_bytes = (bytes.len() - at) as u64;
                    break;
                }
                Err(what) => return Err(damaged(path, (what, at))),
            }
        }
    }
    Ok(torn_bytes)
}

struct Fragments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fragments<'_> {
    /// Reads the next record; false at the end.
    fn record(&mut self, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        out.clear();
        let mut begun = false;
        loop {
            let Some(kind) = self.bytes.get(self.at).copied() else {
                return if begun { Err("a record is cut off") } else { Ok(false) };
            };
            if kind & 7 == 0 {
                // The rest of the page is empty.
                self.at = (self.at / PAGE_BYTES + 1) * PAGE_BYTES;
                continue;
            }
            let mut cursor = Bytes::new(self.bytes, self.at + 1);
            let n = cursor.take(2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
            let (Some(n), Some(crc)) = (n, cursor.u32()) else { return Err("a fragment is cut off") };
            let body = cursor.take(n).ok_or("a fragment is cut off")?;
            if crc32c(body) != crc {
                return Err("the checksum of a fragment is wrong");
            }
            let first = matches!(kind & 7, 1 | 2);
            if first == begun || kind & 7 > 4 {
                return Err("fragments are out of order");
            }
            begun = true;
            if out.len() + n > RECORD_BYTES_MAX {
                return Err("a record is too long");
            }
            out.extend_from_slice(body);
            self.at += FRAGMENT_HEADER + n;
            if matches!(kind & 7, 1 | 4) {
                decompress(kind, out)?;
                return Ok(true);
            }
        }
    }
}

fn decompress(kind: u8, record: &mut Vec<u8>) -> Result<(), &'static str> {
    let damage = "a record cannot be decompressed";
    if kind & 8 != 0 {
        if snap::raw::decompress_len(record).map_err(|_| damage)? > RECORD_BYTES_MAX {
            return Err("a record is too long");
        }
        *record = snap::raw::Decoder::new().decompress_vec(record).map_err(|_| damage)?;
    } else if kind & 16 != 0 {
        use std::io::Read;
        let mut out = Vec::new();
        let decoder = zstd::stream::Decoder::new(record.as_slice()).map_err(|_| damage)?;
        decoder.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut out).map_err(|_| damage)?;
        if out.len() > RECORD_BYTES_MAX {
            return Err("a record is too long");
        }
        *record = out;
    }
    Ok(())
}
