//! The index of a Prometheus block: symbols, series, and where each series' chunks are.
//!
//! Source: Prometheus `tsdb/docs/format/index.md`. Versions 1 and 2 differ in what refers to symbols (place in the file,
//! or number) and to series (place in the file, or place / 16).

use super::bytes::Bytes;
use crate::model::{Labels, Timestamp};
use crate::storage::coding::crc32c;

const MAGIC: u32 = 0xBAAA_D700;
const TOC_BYTES: usize = 6 * 8 + 4;
/// Labels of one series, and chunks; more are damage.
const LABELS_MAX: u64 = 1 << 16;
const CHUNKS_MAX: u64 = 1 << 24;

/// Where a chunk is and which times it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    pub first: Timestamp,
    pub last: Timestamp,
    /// Segment in the upper 32 bits, counted from 0, place in it below.
    pub reference: u64,
}

/// What is wrong with an index, and where.
pub type Damage = (&'static str, usize);

/// An index, read where it lies.
#[derive(Debug)]
pub struct Index<'a> {
    bytes: &'a [u8],
    version: u8,
    /// Of version 2: where each symbol begins.
    symbols: Vec<u32>,
    series_begin: usize,
    series_end: usize,
}

impl<'a> Index<'a> {
    /// Reads the table of contents and the symbols.
    ///
    /// # Errors
    /// When a checksum or a place is wrong.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Damage> {
        let mut head = Bytes::new(bytes, 0);
        if head.u32() != Some(MAGIC) {
            return Err(("it is no index", 0));
        }
        let version = head.u8().unwrap_or(0);
        if !(1..=2).contains(&version) {
            return Err(("its version is not known here", 4));
        }
        let toc_at = bytes.len().checked_sub(TOC_BYTES).ok_or(("it is cut off", bytes.len()))?;
        let toc = &bytes[toc_at..];
        let mut cursor = Bytes::new(toc, 0);
        let mut places = [0usize; 6];
        for place in &mut places {
            let at = cursor.u64().and_then(|p| usize::try_from(p).ok());
            *place = at.filter(|p| *p <= toc_at).ok_or(("its table of contents makes no sense", toc_at))?;
        }
        if cursor.u32() != Some(crc32c(&toc[..TOC_BYTES - 4])) {
            return Err(("the checksum of its table of contents is wrong", toc_at));
        }
        let [symbols, series, label_indices, _, postings, _] = places;
        // Parts that are not written any more have no place.
        let series_end =
            [label_indices, postings, toc_at].into_iter().find(|p| *p > series).unwrap_or(toc_at);
        let mut index = Index { bytes, version, symbols: Vec::new(), series_begin: series, series_end };
        index.read_symbols(symbols)?;
        Ok(index)
    }

    fn read_symbols(&mut self, at: usize) -> Result<(), Damage> {
        let damage = ("its symbols are damaged", at);
        let mut cursor = Bytes::new(self.bytes, at);
        let len = cursor.u32().ok_or(damage)? as usize;
        let part = self.bytes.get(at + 4..).and_then(|b| b.get(..len)).ok_or(damage)?;
        let crc = Bytes::new(self.bytes, at + 4 + len).u32();
        if crc != Some(crc32c(part)) {
            return Err(("the checksum of its symbols is wrong", at));
        }
        let count = cursor.u32().ok_or(damage)? as usize;
        if count > len {
            return Err(damage);
        }
        for _ in 0..count {
            self.symbols.push(u32::try_from(cursor.at()).map_err(|_| damage)?);
            let n = cursor.uvarint().and_then(|n| usize::try_from(n).ok()).ok_or(damage)?;
            cursor.take(n).ok_or(damage)?;
        }
        Ok(())
    }

    fn symbol(&self, reference: u64) -> Option<&'a str> {
        let at = match self.version {
            1 => usize::try_from(reference).ok()?,
            _ => *self.symbols.get(usize::try_from(reference).ok()?)? as usize,
        };
        let mut cursor = Bytes::new(self.bytes, at);
        let n = usize::try_from(cursor.uvarint()?).ok()?;
        std::str::from_utf8(cursor.take(n)?).ok()
    }

    /// Calls `f` with every series: its reference (as tombstones name it), labels and chunks.
    ///
    /// # Errors
    /// At the first series that is damaged, and what `f` says.
    pub fn each_series<E: From<Damage>>(
        &self,
        mut f: impl FnMut(u64, &Labels, &[ChunkMeta]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = self.series_begin.next_multiple_of(16);
        let mut chunks = Vec::new();
        while at < self.series_end {
            let damage = ("a series is damaged", at);
            let mut cursor = Bytes::new(self.bytes, at);
            let len = cursor.uvarint().and_then(|n| usize::try_from(n).ok()).ok_or(damage)?;
            if len == 0 {
                // Filling up to the next part.
                break;
            }
            let body = cursor.take(len).ok_or(damage)?;
            if cursor.u32() != Some(crc32c(body)) {
                return Err(("the checksum of a series is wrong", at).into());
            }
            let labels = self.series(body, &mut chunks).ok_or(damage)?;
            let reference = if self.version == 1 { at as u64 } else { at as u64 / 16 };
            f(reference, &labels, &chunks)?;
            at = cursor.at().next_multiple_of(16);
        }
        Ok(())
    }

    fn series(&self, body: &[u8], chunks: &mut Vec<ChunkMeta>) -> Option<Labels> {
        let mut cursor = Bytes::new(body, 0);
        let n = cursor.uvarint().filter(|n| *n <= LABELS_MAX)?;
        let mut pairs = Vec::new();
        for _ in 0..n {
            pairs.push((self.symbol(cursor.uvarint()?)?, self.symbol(cursor.uvarint()?)?));
        }
        chunks.clear();
        let n = cursor.uvarint().filter(|n| *n <= CHUNKS_MAX)?;
        let (mut last, mut reference) = (0i64, 0u64);
        for i in 0..n {
            let first = if i == 0 { cursor.varint()? } else { last.wrapping_add(cursor.uvarint()? as i64) };
            last = first.wrapping_add(cursor.uvarint()? as i64);
            reference =
                if i == 0 { cursor.uvarint()? } else { reference.wrapping_add(cursor.varint()? as u64) };
            chunks.push(ChunkMeta { first, last, reference });
        }
        Some(Labels::from_pairs(pairs))
    }
}
