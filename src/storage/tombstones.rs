//! Deletions: which samples of which series are gone.
//!
//! A deletion changes neither a block nor a chunk of the head. It is noted by the series' number, readers leave out
//! what it covers, and so does whoever writes a block. A block's deletions belong to that very block: they name it by
//! its footer's checksum, so that they can never be taken for those of the block that replaces it. The head's name
//! series by reference, which is not used again.
//!
//! A deletion ends at the newest sample that its series has at that time, so that later ones are seen.
//!
//! ```text
//! DIR/tombstones = magic, parts, checksum of all before: u32
//!
//! part     footer checksum of the block: u64 (0: the head), series of which nothing is left: runs, as in postings,
//!          number of intervals: varint, each: series: signed difference, from: signed, length in ms: varint
//!          or 1, no series, one interval: before its first time the WAL is not read any more
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use roaring::RoaringBitmap;

use super::api::Samples;
use super::coding::{Cursor, crc32c, put_signed, put_varint, u32_at};
use super::disk::{self, Disk};
use crate::model::Timestamp;

/// Begins the file; the last byte is the version.
pub const MAGIC: [u8; 8] = *b"SGTMB\0\0\x01";
const FILE: &str = "tombstones";
/// In place of a block's checksum: the part is [`Tombstones::known_until`].
const KNOWN_UNTIL: u64 = 1;

/// Intervals that may be kept: 24 bytes of memory each. Past it the blocks have to be cleaned first.
pub const INTERVALS_MAX: usize = 8_000_000;

/// Where the deletions are, in the data directory.
#[must_use]
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// What is deleted of the series of one block, or of the head. Series are numbers there (`I` is `u32`); in the file the
/// head's are references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted<I = u32> {
    /// Series of which nothing is left.
    whole: RoaringBitmap,
    /// Of the others: series, first and last time. Ascending; those of one series neither overlap nor touch.
    parts: Vec<(I, Timestamp, Timestamp)>,
}

impl<I> Default for Deleted<I> {
    fn default() -> Self {
        Deleted { whole: RoaringBitmap::new(), parts: Vec::new() }
    }
}

impl Deleted {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.parts.is_empty()
    }

    /// The series of which nothing is left.
    #[must_use]
    pub fn whole(&self) -> &RoaringBitmap {
        &self.whole
    }

    /// How many intervals are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// How many series have lost something.
    #[must_use]
    pub fn series(&self) -> u64 {
        self.whole.len() + self.parts.chunk_by(|a, b| a.0 == b.0).count() as u64
    }

    /// The intervals of a series, both ends inclusive, ascending.
    #[must_use]
    pub fn intervals(&self, series: u32) -> &[(u32, Timestamp, Timestamp)] {
        let begin = self.parts.partition_point(|p| p.0 < series);
        let end = begin + self.parts[begin..].partition_point(|p| p.0 == series);
        &self.parts[begin..end]
    }

    /// Whether all of `from..=to` of a series is deleted.
    #[must_use]
    pub fn covers(&self, series: u32, from: Timestamp, to: Timestamp) -> bool {
        self.whole.contains(series) || self.intervals(series).iter().any(|p| p.1 <= from && p.2 >= to)
    }

    /// Deletes series.
    pub fn add_whole(&mut self, series: &RoaringBitmap) {
        self.whole |= series;
        self.parts.retain(|p| !self.whole.contains(p.0));
    }

    /// Deletes intervals of series, which come in any order.
    pub fn add_parts(&mut self, parts: impl IntoIterator<Item = (u32, Timestamp, Timestamp)>) {
        let whole = &self.whole;
        self.parts.extend(parts.into_iter().filter(|p| !whole.contains(p.0)));
        self.parts.sort_unstable();
        self.parts.dedup_by(|next, before| {
            let joins = next.0 == before.0 && next.1 <= before.2.saturating_add(1);
            if joins {
                before.2 = before.2.max(next.2);
            }
            joins
        });
    }

    /// The parts of intervals that are before `before`.
    pub fn before(&self, before: Timestamp) -> impl Iterator<Item = (u32, Timestamp, Timestamp)> {
        let early = self.parts.iter().filter(move |p| p.1 < before);
        early.map(move |p| (p.0, p.1, p.2.min(before.saturating_sub(1))))
    }

    /// Forgets what is before `before`: there is nothing there any more. Returns whether there was something.
    pub fn forget_before(&mut self, before: Timestamp) -> bool {
        let any = self.parts.iter().any(|p| p.1 < before);
        self.parts.retain_mut(|p| {
            p.1 = p.1.max(before);
            p.1 <= p.2
        });
        self.parts.shrink_to_fit();
        any
    }

    /// Takes the deleted samples of a series out of what was appended to the columns after `begin` (the lengths of the
    /// float and the histogram columns then).
    pub fn take_out(&self, series: u32, out: &mut Samples, begin: (usize, usize)) {
        if self.whole.contains(series) {
            out.truncate(begin);
            return;
        }
        for (_, from, to) in self.intervals(series) {
            out.take_out(*from, *to, begin);
        }
    }
}

/// All that is in the file: the head's deletions by reference, the blocks' by their identity.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    pub head: Deleted<u64>,
    pub blocks: BTreeMap<u32, Deleted>,
    /// Of the time before it deletions are known by blocks alone, if at all: what the WAL has of it is not read, even if
    /// its block is lost.
    pub known_until: Option<Timestamp>,
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TombstonesError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("its checksum is wrong, or it is cut off")]
    Damaged,
}

impl Tombstones {
    /// Reads the file; none means that nothing is deleted.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Self, TombstonesError> {
        match disk.read(&path_in(dir)) {
            Ok(bytes) => Tombstones::decode(&bytes).ok_or(TombstonesError::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tombstones::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts the file in place of the one before; with nothing to say there is none.
    ///
    /// # Errors
    /// When it cannot be written; the one before is then still there.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let path = path_in(dir);
        let nothing = self.head.parts.is_empty() && self.blocks.values().all(Deleted::is_empty);
        if nothing && self.known_until.is_none() {
            return match disk.remove(&path) {
                Ok(()) => disk.sync_dir(dir),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
        }
        let bytes = self.encode();
        // What was answered is not to come back, so it has to read back.
        let verify = |path: &Path| match disk.read(path)? == bytes {
            true => Ok(()),
            false => Err(io::Error::other("the list of deletions does not read back as it was written")),
        };
        disk::write_whole(disk, &path, |out| out.write_all(&bytes), verify)?;
        disk.sync_dir(dir)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        if !self.head.parts.is_empty() {
            put_part(&mut out, 0, &self.head.whole, self.head.parts.iter().copied());
        }
        for (block, deleted) in self.blocks.iter().filter(|(_, d)| !d.is_empty()) {
            let parts = deleted.parts.iter().map(|p| (u64::from(p.0), p.1, p.2));
            put_part(&mut out, u64::from(*block) | 1 << 32, &deleted.whole, parts);
        }
        if let Some(until) = self.known_until {
            put_part(&mut out, KNOWN_UNTIL, &RoaringBitmap::new(), [(0, until, until)].into_iter());
        }
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let end = bytes.len().checked_sub(4)?;
        if !bytes.starts_with(&MAGIC) || u32_at(bytes, end)? != crc32c(&bytes[..end]) {
            return None;
        }
        let mut cursor = Cursor::new(bytes.get(MAGIC.len()..end)?);
        let mut all = Tombstones::default();
        while !cursor.is_empty() {
            let block = cursor.u64()?;
            let (whole, parts) = take_part(&mut cursor)?;
            if block == 0 {
                all.head = Deleted { whole, parts };
            } else if block == KNOWN_UNTIL {
                all.known_until = Some(parts.first()?.1);
            } else {
                let narrow = |p: (u64, Timestamp, Timestamp)| Some((u32::try_from(p.0).ok()?, p.1, p.2));
                let parts = parts.into_iter().map(narrow).collect::<Option<Vec<_>>>()?;
                all.blocks.insert(block as u32, Deleted { whole, parts });
            }
        }
        Some(all)
    }
}

impl Deleted<u64> {
    /// The head's deletions as they are kept in memory: those of series that are still there, by number.
    #[must_use]
    pub fn by_number(&self, number_of: impl Fn(u64) -> Option<u32>) -> Deleted {
        let mut deleted = Deleted::default();
        deleted.add_parts(self.parts.iter().filter_map(|p| Some((number_of(p.0)?, p.1, p.2))));
        deleted
    }

    /// The head's deletions as they are written.
    #[must_use]
    pub fn by_reference(deleted: &Deleted, reference_of: impl Fn(u32) -> u64) -> Self {
        let parts = deleted.parts.iter().map(|p| (reference_of(p.0), p.1, p.2)).collect();
        Deleted { whole: RoaringBitmap::new(), parts }
    }
}

fn put_part(
    out: &mut Vec<u8>,
    block: u64,
    whole: &RoaringBitmap,
    parts: impl ExactSizeIterator<Item = (u64, Timestamp, Timestamp)>,
) {
    out.extend_from_slice(&block.to_le_bytes());
    let ids: Vec<u32> = whole.iter().collect();
    super::block::put_postings(out, &ids);
    put_varint(out, parts.len() as u64);
    let mut before = 0u64;
    for (series, from, to) in parts {
        put_signed(out, series.wrapping_sub(before) as i64);
        put_signed(out, from);
        put_varint(out, to.wrapping_sub(from) as u64);
        before = series;
    }
}

type Part = (RoaringBitmap, Vec<(u64, Timestamp, Timestamp)>);

fn take_part(cursor: &mut Cursor<'_>) -> Option<Part> {
    let mut whole = RoaringBitmap::new();
    super::block::take_postings(cursor, u64::from(u32::MAX), &mut whole)?;
    let mut parts = Vec::new();
    let mut series = 0u64;
    for _ in 0..cursor.count()? {
        series = series.wrapping_add(cursor.signed()? as u64);
        let from = cursor.signed()?;
        parts.push((series, from, from.wrapping_add(cursor.varint()? as i64)));
    }
    Some((whole, parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_of_samples(
            ops in proptest::collection::vec((0u32..4, -20i64..20, 0i64..8, 0u8..12), 0..30),
            blocks_known in proptest::option::of(any::<i64>()),
        ) {
            let (mut deleted, mut model) = (Deleted::default(), BTreeSet::new());
            for (series, from, len, kind) in ops {
                if kind == 0 {
                    deleted.add_whole(&RoaringBitmap::from_iter([series]));
                    model.extend((-50..50).map(|t| (series, t)));
                } else {
                    deleted.add_parts([(series, from, from + len)]);
                    model.extend((from..=from + len).map(|t| (series, t)));
                }
            }
            for series in 0..4 {
                let ts: Vec<i64> = (-30..30).collect();
                let mut samples = Samples { vs: vec![1.0; ts.len()], ts, ..Samples::default() };
                // What stood in the columns before is another series'.
                deleted.take_out(series, &mut samples, (10, 0));
                let want: Vec<i64> =
                    (-30..30).filter(|t| *t < -20 || !model.contains(&(series, *t))).collect();
                prop_assert_eq!((samples.vs.len(), samples.ts), (want.len(), want));
                prop_assert_eq!(deleted.covers(series, 3, 5), (3..=5).all(|t| model.contains(&(series, t))));
            }
            let head = Deleted::by_reference(&deleted, |id| u64::from(id) | 7 << 32);
            let mut all = Tombstones { head, known_until: blocks_known, ..Tombstones::default() };
            all.blocks.insert(5, deleted.clone());
            let (head, blocks) = (all.head.parts.len(), deleted.is_empty());
            let back = Tombstones::decode(&all.encode()).unwrap();
            prop_assert_eq!((back.head.parts.len(), back.known_until), (head, blocks_known));
            prop_assert_eq!(back.blocks.get(&5), (!blocks).then_some(&deleted));
            if !blocks {
                let mut bytes = all.encode();
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
                prop_assert_eq!(Tombstones::decode(&bytes), None);
            }
        }

        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&bytes);
            let crc = crc32c(&file);
            file.extend_from_slice(&crc.to_le_bytes());
            let _either = Tombstones::decode(&file);
        }
    }
}
