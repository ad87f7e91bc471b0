//! Time cut into pieces, each of which becomes, or is, one block.

use crate::model::Timestamp;

/// The pieces: the ranges of blocks, and between them stretches of one length, cut where a block begins or ends.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// Ascending, not overlapping: those of blocks.
    blocks: Vec<(Timestamp, Timestamp)>,
    length_ms: i64,
}

impl Pieces {
    #[must_use]
    pub fn new(mut blocks: Vec<(Timestamp, Timestamp)>, length_ms: i64) -> Self {
        blocks.sort_unstable();
        Pieces { blocks, length_ms: length_ms.max(1) }
    }

    /// The piece that a time is in: from the first up to but not with the second.
    #[must_use]
    pub fn around(&self, ts: Timestamp) -> (Timestamp, Timestamp) {
        let after = self.blocks.partition_point(|b| b.0 <= ts);
        let before = after.checked_sub(1).map(|i| self.blocks[i]);
        if let Some(block) = before.filter(|b| b.1 > ts) {
            return block;
        }
        let number = ts.div_euclid(self.length_ms);
        let start = number.saturating_mul(self.length_ms);
        // Not the start and the length: near the least of all times the start is cut off.
        let end = number.saturating_add(1).saturating_mul(self.length_ms);
        (before.map_or(start, |b| b.1.max(start)), self.blocks.get(after).map_or(end, |b| b.0.min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_one_piece() {
        let pieces = Pieces::new(vec![(25, 30), (30, 42), (50, 60)], 20);
        let mut end = -40;
        let mut seen = Vec::new();
        for ts in -40..100 {
            let piece = pieces.around(ts);
            assert!(piece.0 <= ts && ts < piece.1);
            if ts == end {
                assert_eq!(piece.0, ts, "no gap and no overlap");
                end = piece.1;
                seen.push(piece);
            }
        }
        let want = [
            (-40, -20),
            (-20, 0),
            (0, 20),
            (20, 25),
            (25, 30),
            (30, 42),
            (42, 50),
            (50, 60),
            (60, 80),
            (80, 100),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn the_first_times_of_all_are_in_pieces_that_do_not_overlap() {
        let pieces = Pieces::new(Vec::new(), 7_200_000);
        let first = pieces.around(Timestamp::MIN);
        assert_eq!(first.0, Timestamp::MIN);
        assert_eq!(pieces.around(first.1 - 1), first);
        assert_eq!(pieces.around(first.1), (first.1, first.1 + 7_200_000));
    }
}
