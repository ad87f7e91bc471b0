//! Looking whether a query is to stop, after bounded amounts of work.
//!
//! What loops over rows, slots, or pairs of rows asks a [`Pace`] before each of them; what sorts does so with
//! [`sorted`](super::sorted). So no operator goes on for more than some milliseconds once nobody waits for its answer.

use std::ops::Range;

use super::context::{Context, Result};

/// Units of work between two looks: a unit is a slot, or some ten nanoseconds.
const WORK_BETWEEN_CHECKS: usize = 1 << 16;

/// Slots between two looks where a slot may be a histogram.
const SLOTS_PER_PIECE: usize = 1 << 13;

/// Values of one window between two looks: a few milliseconds of the slowest function.
const VALUES_PER_PIECE: usize = 1 << 18;

/// What hashing or comparing the labels of a row costs, in units.
pub(super) const LABELS: usize = 16;

/// Counts work and looks from time to time whether the query is to stop.
pub(super) struct Pace<'a, 'c> {
    ctx: &'a Context<'c>,
    left: usize,
}

impl Pace<'_, '_> {
    /// So many units of work are about to be done.
    #[inline]
    pub fn work(&mut self, units: usize) -> Result<()> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = WORK_BETWEEN_CHECKS;
                self.ctx.check()
            }
        }
    }
}

impl<'c> Context<'c> {
    /// For one loop.
    pub fn pace(&self) -> Pace<'_, 'c> {
        Pace { ctx: self, left: WORK_BETWEEN_CHECKS }
    }

    /// Calls `f` with pieces of `0..len`, where an element may cost a microsecond.
    pub fn in_pieces(&self, len: usize, mut f: impl FnMut(Range<usize>)) -> Result<()> {
        for from in (0..len).step_by(SLOTS_PER_PIECE) {
            if from > 0 {
                self.check()?;
            }
            f(from..len.min(from + SLOTS_PER_PIECE));
        }
        Ok(())
    }

    /// The values of a window piece by piece, mostly the only one. If the query is to stop it ends early, and the next
    /// check says so.
    #[inline]
    pub fn pieces<'v, T>(&self, values: &'v [T]) -> impl Iterator<Item = &'v [T]> {
        values
            .chunks(VALUES_PER_PIECE)
            .enumerate()
            .take_while(|(i, _)| *i == 0 || self.check().is_ok())
            .map(|(_, piece)| piece)
    }

    /// What `f` makes of each of `0..len`.
    pub fn collect_in_pieces(&self, len: usize, f: impl Fn(usize) -> f64) -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(len);
        self.in_pieces(len, |piece| out.extend(piece.map(&f)))?;
        Ok(out)
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
