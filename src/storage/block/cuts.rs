//! Where a series is taken apart when its block is written anew, so that one with very many samples is not decoded whole.
//!
//! A block answers for two hours, or for a tenth of retention if it was imported, at one sample a millisecond at most: 7 million
//! samples of a series, or a hundred, at 16 bytes and more each.

use super::Block;
use super::reader::ChunkKind;
use crate::model::Timestamp;

/// About so many floats are in a part; in tests a chunk or two.
const PART_SAMPLES: u64 = if cfg!(test) { 64 } else { 1 << 20 };
/// Histograms of so many bytes as they are held; decoded ones take up to some eight times as many.
const PART_BYTES: u64 = if cfg!(test) { 64 } else { 4 << 20 };

impl Block {
    /// The times, ascending, within `from..=to` at which parts of one series begin that are read one after the other; `series` says
    /// where it is. None for most series; none for those with start times, which are written as one list, and where histograms of several
    /// blocks are merged, for what one knows of the one before it may be in another part.
    #[must_use]
    pub fn cuts(series: &[(&Block, u32)], (from, to): (Timestamp, Timestamp)) -> Vec<Timestamp> {
        let mut cuts = Vec::new();
        for (block, number) in series {
            let (mut floats, mut bytes, mut has_histograms) = (0, 0, false);
            let has_starts = block.each_chunk(*number, |kind, len, _, last| {
                match kind {
                    ChunkKind::Floats(n) => floats += n,
                    ChunkKind::Histograms(_) => (bytes, has_histograms) = (bytes + len, true),
                }
                if floats >= PART_SAMPLES || bytes >= PART_BYTES {
                    (floats, bytes) = (0, 0);
                    cuts.extend(last.checked_add(1));
                }
            });
            if has_starts != Some(false) || (has_histograms && series.len() > 1) {
                return Vec::new();
            }
        }
        cuts.retain(|cut| *cut > from && *cut <= to);
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}
