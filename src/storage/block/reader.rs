//! Reads a block where it lies.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roaring::RoaringBitmap;

use super::deletions::Deletions;
use super::map::Map;
use super::{
    COLUMN_BYTES, Footer, HEADER_BYTES, HISTOGRAM_CHUNK, PAGE_BYTES, PAIR_BYTES, Part, STARTS_CHUNK,
};
use crate::model::{Labels, Matcher, Timestamp};
use crate::storage::api::Samples;
use crate::storage::chunk::open::trim;
use crate::storage::chunk::starts::Starts;
use crate::storage::chunk::{CHUNK_SAMPLES_MAX, floats, histograms, ints};
use crate::storage::coding::{Cursor, crc32c, u32_at, u64_at};
use crate::storage::disk::Disk;
use crate::storage::index::{Lookup, Selecting, select_with};

/// Why a file is no block.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("its end is damaged or cut off")]
    Footer,
}

/// A block, open for reading.
#[derive(Debug)]
pub struct Block {
    path: PathBuf,
    /// Tells blocks of this process apart, also those that are gone.
    number: u64,
    map: Map,
    footer: Footer,
    /// One bit a page: its checksum is right.
    pages_verified: Box<[AtomicU64]>,
    index_is_whole: OnceLock<bool>,
    damaged: AtomicBool,
    pub(super) deletions: Deletions,
}

/// What a chunk holds, and how many of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    Floats(u64),
    Histograms(u64),
}

/// Memory to work in while reading, and the time column that was read last: the next series probably has the same.
#[derive(Debug, Default)]
pub struct ReadScratch {
    pub ints: Vec<i64>,
    column: Vec<Timestamp>,
    column_of: Option<(u64, u64)>,
}

impl Block {
    /// Opens a block and verifies its footer; the rest is verified when it is first read.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, BlockError> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let map = disk.map(path)?;
        let footer = Footer::from_block(&map).ok_or(BlockError::Footer)?;
        let pages = footer.data_bytes.div_ceil(PAGE_BYTES as u64);
        Ok(Block {
            path: path.to_owned(),
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            footer,
            pages_verified: (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            index_is_whole: OnceLock::new(),
            damaged: AtomicBool::new(false),
            deletions: Deletions::default(),
            map,
        })
    }

    /// Opens a block that was just written and compares all checksums.
    ///
    /// # Errors
    /// When it does not read back as it was written.
    pub fn open_verified(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let block = Block::open(disk, path).map_err(io::Error::other)?;
        if !block.verify() {
            return Err(io::Error::other("the block does not read back as it was written"));
        }
        Ok(block)
    }

    /// The block after its file was renamed.
    #[must_use]
    pub fn moved_to(self, path: &Path) -> Self {
        Block { path: path.to_owned(), ..self }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Whether reading has met damage.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether the block may have samples in `from..=to`.
    #[must_use]
    pub fn overlaps(&self, from: Timestamp, to: Timestamp) -> bool {
        self.footer.ts.0 <= to && self.footer.ts.1 >= from
    }

    /// Verifies every checksum; false if one is wrong.
    #[must_use]
    pub fn verify(&self) -> bool {
        self.index_is_whole() && self.data(0, self.footer.data_bytes).is_some()
    }

    /// Notes damage, once in the log.
    pub(super) fn note_damage(&self, what: &str) {
        if !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(block = %self.path.display(), "A block is damaged ({what}); its other parts serve on, and it is set aside soon");
        }
    }

    fn index_is_whole(&self) -> bool {
        *self.index_is_whole.get_or_init(|| {
            let mut checksums = Vec::new();
            for part in PARTS_IN_ORDER {
                checksums.extend_from_slice(&crc32c(self.raw_part(part)).to_le_bytes());
            }
            let whole = crc32c(&checksums) == self.footer.index_crc;
            if !whole {
                self.note_damage("the checksum of its index is wrong");
            }
            whole
        })
    }

    pub(super) fn raw_part(&self, part: Part) -> &[u8] {
        let i = part as usize;
        // The footer was checked: ascending and within the file.
        &self.map[self.footer.parts[i] as usize..self.footer.parts[i + 1] as usize]
    }

    /// The data, not verified.
    pub(super) fn raw_data(&self) -> &[u8] {
        &self.map[HEADER_BYTES..HEADER_BYTES + self.footer.data_bytes as usize]
    }

    /// A part of the index, empty if the index is damaged.
    fn part(&self, part: Part) -> &[u8] {
        if self.index_is_whole() { self.raw_part(part) } else { &[] }
    }

    /// Verified bytes of the data.
    fn data(&self, at: u64, len: u64) -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        if end > self.footer.data_bytes {
            return None;
        }
        let all = &self.map[HEADER_BYTES..HEADER_BYTES + self.footer.data_bytes as usize];
        if len > 0 {
            for page in at as usize / PAGE_BYTES..=(end as usize - 1) / PAGE_BYTES {
                let bit = 1u64 << (page % 64);
                let word = self.pages_verified.get(page / 64)?;
                if word.load(Ordering::Relaxed) & bit == 0 {
                    let bytes = &all[page * PAGE_BYTES..all.len().min((page + 1) * PAGE_BYTES)];
                    if u32_at(self.part(Part::PageChecksums), page * 4)? != crc32c(bytes) {
                        self.note_damage("the checksum of a page is wrong");
                        return None;
                    }
                    word.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
        all.get(at as usize..end as usize)
    }

    fn symbol(&self, number: u32) -> Option<&str> {
        let ends = self.part(Part::SymbolEnds);
        let i = number as usize;
        let start = if i == 0 { 0 } else { u32_at(ends, (i - 1) * 4)? as usize };
        let end = u32_at(ends, i * 4)? as usize;
        std::str::from_utf8(self.part(Part::Symbols).get(start..end)?).ok()
    }

    fn find_symbol(&self, text: &str) -> Option<u32> {
        let number = self.first_symbol(|s| s < text)?;
        (self.symbol(number)? == text).then_some(number)
    }

    /// The number of the first symbol that is not `before`, which the first ones are; one past the last if all are.
    fn first_symbol(&self, before: impl Fn(&str) -> bool) -> Option<u32> {
        let (mut low, mut high) = (0, self.part(Part::SymbolEnds).len() / 4);
        while low < high {
            let middle = low.midpoint(high);
            if before(self.symbol(middle as u32)?) { low = middle + 1 } else { high = middle }
        }
        u32::try_from(low).ok()
    }

    /// Pair numbers are below this.
    pub fn pair_count(&self) -> usize {
        self.part(Part::Pairs).len() / PAIR_BYTES
    }

    /// Symbols of a pair's name and value.
    fn pair_symbols(&self, pair: usize) -> Option<(u32, u32)> {
        let pairs = self.part(Part::Pairs);
        Some((u32_at(pairs, pair * PAIR_BYTES)?, u32_at(pairs, pair * PAIR_BYTES + 4)?))
    }

    /// The first pair whose symbols are not less.
    fn first_pair(&self, symbols: (u32, u32)) -> usize {
        let (mut low, mut high) = (0, self.pair_count());
        while low < high {
            let middle = low.midpoint(high);
            if self.pair_symbols(middle).is_some_and(|s| s < symbols) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// The pairs with this name.
    fn pairs_named(&self, name: &str) -> std::ops::Range<usize> {
        let Some(name) = self.find_symbol(name) else { return 0..0 };
        let end = name.checked_add(1).map_or(self.pair_count(), |next| self.first_pair((next, 0)));
        self.first_pair((name, 0))..end
    }

    /// Those of them whose values begin with the prefix.
    fn pairs_beginning(&self, name: &str, prefix: &str) -> std::ops::Range<usize> {
        let named = self.pairs_named(name);
        if prefix.is_empty() {
            return named;
        }
        let (Some(name), Some(begin), Some(end)) = (
            self.find_symbol(name),
            self.first_symbol(|s| s < prefix),
            self.first_symbol(|s| s < prefix || s.starts_with(prefix)),
        ) else {
            return 0..0;
        };
        self.first_pair((name, begin))..self.first_pair((name, end))
    }

    fn add_postings(&self, pair: usize, into: &mut RoaringBitmap) {
        let added = (|| {
            let at = u32_at(self.part(Part::Pairs), pair * PAIR_BYTES + 8)? as usize;
            let mut cursor = Cursor::new(self.part(Part::Postings).get(at..)?);
            take_postings(&mut cursor, self.footer.series, into)
        })();
        if added.is_none() {
            self.note_damage("its postings make no sense");
        }
    }

    /// The series that all `matchers` select, by number.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        self.select_with(matchers, Selecting::default())
    }

    /// As [`Block::select`].
    #[must_use]
    pub fn select_with(&self, matchers: &[Matcher], with: Selecting<'_>) -> RoaringBitmap {
        if !self.index_is_whole() {
            return RoaringBitmap::new();
        }
        let mut found = select_with(self, matchers, with);
        if let Some(deleted) = self.deleted() {
            found -= deleted.whole();
        }
        found
    }

    /// The labels of a series.
    #[must_use]
    pub fn labels(&self, series: u32) -> Option<Labels> {
        let (pairs, _) = self.entry(series)?;
        let pairs: Vec<(&str, &str)> = pairs.into_iter().map(|p| self.pair_text(p)).collect::<Option<_>>()?;
        // Right checksums do not make it a label set.
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            self.note_damage("a label is twice in a series");
            return None;
        }
        Some(Labels::from_sorted(pairs))
    }

    /// The numbers of a series' pairs, in the order of its labels.
    #[must_use]
    pub fn pairs(&self, series: u32) -> Option<Vec<u32>> {
        self.entry(series).map(|(pairs, _)| pairs)
    }

    /// Name and value of a pair.
    #[must_use]
    pub fn pair_text(&self, pair: u32) -> Option<(&str, &str)> {
        let (name, value) = self.pair_symbols(pair as usize)?;
        Some((self.symbol(name)?, self.symbol(value)?))
    }

    /// The numbers of a series' pairs, ascending.
    #[must_use]
    pub fn pair_numbers(&self, series: u32) -> Option<Vec<u32>> {
        Some(self.entry(series)?.0)
    }

    /// Calls `f` with every label pair of these series; of all series if `None`.
    pub fn each_pair<'a>(&'a self, series: Option<&RoaringBitmap>, mut f: impl FnMut(&'a str, &'a str)) {
        match series {
            None => {
                for p in 0..self.pair_count() {
                    if let Some((n, v)) = self.pair_text(p as u32) {
                        f(n, v);
                    }
                }
            }
            Some(series) => {
                let mut seen = RoaringBitmap::new();
                for s in series {
                    seen.extend(self.entry(s).into_iter().flat_map(|(pairs, _)| pairs));
                }
                for p in seen {
                    if let Some((n, v)) = self.pair_text(p) {
                        f(n, v);
                    }
                }
            }
        }
    }

    /// Calls `f` with every value of one label.
    pub fn each_value<'a>(&'a self, name: &str, mut f: impl FnMut(&'a str)) {
        for p in self.pairs_named(name) {
            if let Some((_, v)) = self.pair_text(p as u32) {
                f(v);
            }
        }
    }

    /// A series' pairs, and a cursor that stands at its chunks.
    fn entry(&self, series: u32) -> Option<(Vec<u32>, Cursor<'_>)> {
        let ends = self.part(Part::EntryEnds);
        let i = series as usize;
        let start = if i == 0 { 0 } else { u32_at(ends, (i - 1) * 4)? as usize };
        let end = u32_at(ends, i * 4)? as usize;
        let mut cursor = Cursor::new(self.part(Part::Entries).get(start..end)?);
        let n = cursor.count()?;
        let mut pairs = Vec::with_capacity(n);
        let mut pair = 0u32;
        for _ in 0..n {
            pair = pair.checked_add(u32::try_from(cursor.varint()?).ok()?)?;
            pairs.push(pair);
        }
        Some((pairs, cursor))
    }

    /// Appends a series' samples in `from..=to` to the columns. Chunks that are damaged are left out.
    pub fn read(
        &self,
        series: u32,
        from: Timestamp,
        to: Timestamp,
        out: &mut Samples,
        scratch: &mut ReadScratch,
    ) {
        let begin = (out.ts.len(), out.hist_ts.len());
        let mut has_starts = false;
        let read = self.entry(series).and_then(|(_, mut cursor)| {
            let mut at = cursor.varint()?;
            while !cursor.is_empty() {
                let column = cursor.varint()?;
                let len = cursor.varint()?;
                if column == STARTS_CHUNK {
                    // The last of a series' chunks.
                    out.extend_starts(&Starts::decode(self.data(at, len)?)?, begin);
                    has_starts = true;
                } else if column == HISTOGRAM_CHUNK {
                    let n = usize::try_from(cursor.varint()?).ok()?;
                    let first = cursor.signed()?;
                    let last = first.wrapping_add(cursor.varint()? as i64);
                    if last >= from && first <= to {
                        let bytes = self.data(at, len)?;
                        histograms::decode(bytes, n, from, to, &mut out.hist_ts, &mut out.hists)?;
                    }
                } else if column & 1 == 1 {
                    return None;
                } else {
                    self.read_floats(column >> 1, (at, len), (from, to), out, scratch)?;
                }
                at = at.checked_add(len)?;
            }
            Some(())
        });
        if !has_starts {
            out.pad_starts();
        }
        if read.is_none() {
            self.note_damage("a chunk cannot be read");
        }
        if let Some(deleted) = self.deleted() {
            deleted.take_out(series, out, begin);
        }
    }

    /// The times of a series' first and last sample, what is deleted included.
    #[must_use]
    pub fn time_range(&self, series: u32) -> Option<(Timestamp, Timestamp)> {
        let mut range = (Timestamp::MAX, Timestamp::MIN);
        self.each_chunk(series, |_, _, first, last| {
            range = (range.0.min(first), range.1.max(last));
        })?;
        Some(range)
    }

    /// Calls `f` with every chunk of a series: what it holds, its length in bytes, its first and its last time. Returns whether
    /// it has start times.
    pub fn each_chunk(
        &self,
        series: u32,
        mut f: impl FnMut(ChunkKind, u64, Timestamp, Timestamp),
    ) -> Option<bool> {
        let (_, mut cursor) = self.entry(series)?;
        let _place = cursor.varint()?;
        let mut has_starts = false;
        while !cursor.is_empty() {
            let column = cursor.varint()?;
            let len = cursor.varint()?;
            if column == STARTS_CHUNK {
                has_starts = true;
            } else if column == HISTOGRAM_CHUNK {
                let n = cursor.varint()?;
                let first = cursor.signed()?;
                let last = first.wrapping_add(cursor.varint()? as i64);
                f(ChunkKind::Histograms(n), len, first, last);
            } else if column & 1 == 1 {
                return None;
            } else {
                let place = usize::try_from(column >> 1).ok()?.checked_mul(COLUMN_BYTES)?;
                let field = |i: usize| u64_at(self.part(Part::Columns), place.checked_add(i * 8)?);
                f(ChunkKind::Floats(field(2)?), len, field(3)? as i64, field(4)? as i64);
            }
        }
        Some(has_starts)
    }

    fn read_floats(
        &self,
        column: u64,
        (at, len): (u64, u64),
        (from, to): (Timestamp, Timestamp),
        out: &mut Samples,
        scratch: &mut ReadScratch,
    ) -> Option<()> {
        let columns = self.part(Part::Columns);
        let place = usize::try_from(column).ok()?.checked_mul(COLUMN_BYTES)?;
        let field = |i: usize| u64_at(columns, place.checked_add(i * 8)?);
        let (first, last) = (field(3)? as i64, field(4)? as i64);
        if last < from || first > to {
            return Some(());
        }
        let n = usize::try_from(field(2)?).ok()?;
        if n > CHUNK_SAMPLES_MAX {
            return None;
        }
        let start = out.ts.len();
        let this_column = Some((self.number, column));
        if scratch.column_of != this_column || scratch.column.len() != n {
            scratch.column_of = None;
            scratch.column.clear();
            let bytes = self.data(field(0)?, field(1)?)?;
            ints::decode(&mut Cursor::new(bytes), n, &mut scratch.column)?;
            scratch.column_of = this_column;
        }
        let bytes = self.data(at, len)?;
        let decoded = floats::decode(bytes, n, &mut out.vs, &mut scratch.ints);
        if decoded.is_none() || out.vs.len() != start + n {
            out.vs.truncate(start);
            return None;
        }
        out.ts.extend_from_slice(&scratch.column);
        trim(start, from, to, &mut out.ts, &mut out.vs);
        Some(())
    }
}

/// The parts of the index as they lie in the file.
pub(super) const PARTS_IN_ORDER: [Part; super::PARTS] = [
    Part::PageChecksums,
    Part::Columns,
    Part::SymbolEnds,
    Part::Symbols,
    Part::Pairs,
    Part::Postings,
    Part::EntryEnds,
    Part::Entries,
];

/// Adds the series of a list of runs, of which there are `series_max`, to the set.
pub fn take_postings(cursor: &mut Cursor<'_>, series_max: u64, into: &mut RoaringBitmap) -> Option<()> {
    let mut next = 0u32;
    for _ in 0..cursor.count()? {
        let start = next.checked_add(u32::try_from(cursor.varint()?).ok()?)?;
        let last = start.checked_add(u32::try_from(cursor.varint()?).ok()?)?;
        if u64::from(last) >= series_max {
            return None;
        }
        into.insert_range(start..=last);
        next = last.checked_add(1)?;
    }
    Some(())
}

impl Lookup for Block {
    fn number(&self) -> u64 {
        self.number
    }

    fn all(&self) -> Cow<'_, RoaringBitmap> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..u32::try_from(self.footer.series).unwrap_or(0));
        Cow::Owned(all)
    }

    fn pair(&self, name: &str, value: &str) -> Cow<'_, RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        if let (Some(n), Some(v)) = (self.find_symbol(name), self.find_symbol(value)) {
            let pair = self.first_pair((n, v));
            if self.pair_symbols(pair) == Some((n, v)) {
                self.add_postings(pair, &mut found);
            }
        }
        Cow::Owned(found)
    }

    fn values_to_try(&self, name: &str, prefix: &str) -> usize {
        self.pairs_beginning(name, prefix).len()
    }

    fn union_values(
        &self,
        name: &str,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
        into: &mut RoaringBitmap,
    ) {
        for p in self.pairs_beginning(name, prefix) {
            let value = self.pair_symbols(p).and_then(|(_, value)| self.symbol(value));
            if value.is_some_and(&mut *wanted) {
                self.add_postings(p, into);
            }
        }
    }

    fn values_of(&self, name: &str, series: &RoaringBitmap, f: &mut dyn FnMut(u32, u32, &str)) {
        let named = self.pairs_named(name);
        for series in series {
            let Some((pairs, _)) = self.entry(series) else { continue };
            if let Some(p) = pairs.into_iter().find(|p| named.contains(&(*p as usize)))
                && let Some((_, value)) = self.pair_text(p)
            {
                f(series, p, value);
            }
        }
    }
}
