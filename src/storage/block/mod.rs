//! A finished part of the ring: one immutable file.
//!
//! ```text
//! header (16 bytes) | data | index | footer
//!
//! data    chunks of values, shared time columns, chunks of histograms; a checksum for every 32 KiB
//! index   page checksums, time columns, symbols, pairs, postings, series; one checksum
//! footer  ranges, counts, the places of the index's parts; one checksum; fixed length
//! ```
//! [`writer`] makes it, [`reader`] reads it where it lies, through [`map`]. The bytes are described in
//! `docs/format.md`.
//!
//! **Invariants**: a file with a name that ends in `.block` was written whole, synced, and renamed into place; it is
//! never changed, only removed. Whoever reads from a part has verified its checksum before.

mod check;
mod cuts;
mod deletions;
pub mod map;
mod merge;
pub mod reader;
pub mod writer;

pub use check::Sizes;
pub use merge::merge;
pub use reader::{Block, ChunkKind, take_postings};
pub use writer::{BlockWriter, put_postings};

/// Begins every block; the last byte is the version.
pub const MAGIC: [u8; 8] = *b"SGBLK\0\0\x02";
/// The version before, which had no start times; it is read as well.
const MAGIC_BEFORE: [u8; 8] = *b"SGBLK\0\0\x01";
/// The magic, and eight bytes of zero.
pub const HEADER_BYTES: usize = 16;
/// So many bytes of data share a checksum.
pub const PAGE_BYTES: usize = 32 * 1024;
/// What a block's file name ends with.
pub const EXTENSION: &str = "block";

/// Bytes of one time column in the index: place and length in the data, count, first and last time.
pub const COLUMN_BYTES: usize = 40;
/// Bytes of one label pair in the index: symbols of name and value, place of its postings.
pub const PAIR_BYTES: usize = 12;

/// In a series' entry, in place of a float chunk's time column: the chunk is one of histograms.
pub const HISTOGRAM_CHUNK: u64 = 1;
/// The same: the start times of the series' samples follow.
pub const STARTS_CHUNK: u64 = 3;

/// The parts of the index, in the order in which they lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    PageChecksums,
    Columns,
    SymbolEnds,
    Symbols,
    Pairs,
    Postings,
    EntryEnds,
    Entries,
}

pub const PARTS: usize = 8;

/// The end of a block, as numbers of 64 bits: the fields, then a CRC-32C of them, then the magic once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// The range that the block answers for: from the first, up to but not with the second.
    pub range: (i64, i64),
    /// The times of its first and last sample.
    pub ts: (i64, i64),
    pub series: u64,
    pub samples: u64,
    pub chunks: u64,
    /// Bytes of data after the header.
    pub data_bytes: u64,
    /// Where each part of the index begins, and where the last ends.
    pub parts: [u64; PARTS + 1],
    pub index_crc: u32,
}

pub const FOOTER_FIELDS: usize = 9 + PARTS + 1;
pub const FOOTER_BYTES: usize = FOOTER_FIELDS * 8 + 16;

impl Footer {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.fields();
        let crc = super::coding::crc32c(&bytes);
        bytes.extend_from_slice(&u64::from(crc).to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    fn fields(&self) -> Vec<u8> {
        let mut fields = vec![
            self.range.0 as u64,
            self.range.1 as u64,
            self.ts.0 as u64,
            self.ts.1 as u64,
            self.series,
            self.samples,
            self.chunks,
            self.data_bytes,
            u64::from(self.index_crc),
        ];
        fields.extend(self.parts);
        fields.iter().flat_map(|f| f.to_le_bytes()).collect()
    }

    /// Tells this block from any other, also from one that takes its place: the footer's checksum.
    #[must_use]
    pub fn identity(&self) -> u32 {
        super::coding::crc32c(&self.fields())
    }

    /// Reads the footer at the end of a block; `None` if it is damaged or says what cannot be.
    #[must_use]
    pub fn from_block(block: &[u8]) -> Option<Footer> {
        let at = block.len().checked_sub(FOOTER_BYTES)?;
        let bytes = &block[at..];
        let field = |i: usize| super::coding::u64_at(bytes, i * 8);
        let crc = super::coding::crc32c(&bytes[..FOOTER_FIELDS * 8]);
        let whole = |magic: &[u8]| block.starts_with(magic) && bytes.ends_with(magic);
        if !(whole(&MAGIC) || whole(&MAGIC_BEFORE)) || field(FOOTER_FIELDS)? != u64::from(crc) {
            return None;
        }
        let mut parts = [0; PARTS + 1];
        for (i, p) in parts.iter_mut().enumerate() {
            *p = field(9 + i)?;
        }
        let footer = Footer {
            range: (field(0)? as i64, field(1)? as i64),
            ts: (field(2)? as i64, field(3)? as i64),
            series: field(4)?,
            samples: field(5)?,
            chunks: field(6)?,
            data_bytes: field(7)?,
            index_crc: field(8)? as u32,
            parts,
        };
        let ascending = parts.is_sorted();
        let data_end = footer.data_bytes.checked_add(HEADER_BYTES as u64)?;
        (ascending && parts[0] == data_end && parts[PARTS] == at as u64).then_some(footer)
    }
}
