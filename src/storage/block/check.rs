//! Comparing every checksum of a block, with the places of those that are wrong.

use super::reader::PARTS_IN_ORDER;
use super::{Block, HEADER_BYTES, PAGE_BYTES, Part};
use crate::storage::coding::{crc32c, u32_at};

impl Block {
    /// Calls `problem` with the place and the kind of everything whose checksum is wrong.
    pub fn check(&self, mut problem: impl FnMut(u64, &str)) {
        let footer = self.footer();
        let mut checksums = Vec::new();
        for part in PARTS_IN_ORDER {
            checksums.extend_from_slice(&crc32c(self.raw_part(part)).to_le_bytes());
        }
        if crc32c(&checksums) != footer.index_crc {
            problem(footer.parts[0], "the checksum of its index is wrong");
            // The pages' checksums are in the index.
            return;
        }
        let pages = self.raw_part(Part::PageChecksums);
        for (i, page) in self.raw_data().chunks(PAGE_BYTES).enumerate() {
            if u32_at(pages, i * 4) != Some(crc32c(page)) {
                problem((HEADER_BYTES + i * PAGE_BYTES) as u64, "the checksum of a page of 32 KiB is wrong");
            }
        }
    }

    /// Compares every checksum with what the disk has now, also those that were right when they were met first; false, and the block
    /// is known to be damaged, if one is wrong.
    #[must_use]
    pub fn verify_again(&self) -> bool {
        let mut is_whole = true;
        self.check(|_, what| {
            is_whole = false;
            self.note_damage(what);
        });
        is_whole
    }

    /// How the bytes of the block are shared out.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let footer = self.footer();
        let part = |p: Part| self.raw_part(p).len() as u64;
        let columns = self.raw_part(Part::Columns);
        let lengths = columns.chunks_exact(super::COLUMN_BYTES);
        let times: u64 =
            lengths.filter_map(|c| crate::storage::coding::u64_at(c, 8)).fold(0, u64::saturating_add);
        Sizes {
            values: footer.data_bytes.saturating_sub(times),
            times: times + columns.len() as u64,
            index: self.bytes() - footer.data_bytes - columns.len() as u64,
            labels: part(Part::SymbolEnds) + part(Part::Symbols) + part(Part::Pairs) + part(Part::Postings),
        }
    }
}

/// Bytes of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Chunks of values and of histograms.
    pub values: u64,
    /// Time columns and where they are.
    pub times: u64,
    /// All else.
    pub index: u64,
    /// The part of the index that is symbols, pairs and postings.
    pub labels: u64,
}
