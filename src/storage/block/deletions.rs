//! What is deleted of a block, and what is left of it. A block is never changed: its deletions stand beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use roaring::RoaringBitmap;

use super::Block;
use crate::model::Timestamp;
use crate::storage::tombstones::Deleted;

/// The deletions of a block, as they are now.
#[derive(Debug, Default)]
pub struct Deletions {
    /// Whether there are any: what most readers look at.
    any: AtomicBool,
    all: RwLock<Arc<Deleted>>,
}

impl Block {
    /// What is deleted; `None` is the quick answer for "nothing".
    #[inline]
    #[must_use]
    pub fn deleted(&self) -> Option<Arc<Deleted>> {
        if !self.deletions.any.load(Ordering::Acquire) {
            return None;
        }
        Some(Arc::clone(&self.deletions.all.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Says what is deleted from now on, in place of what was said before.
    pub fn set_deleted(&self, deleted: Deleted) {
        let any = !deleted.is_empty();
        *self.deletions.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(deleted);
        self.deletions.any.store(any, Ordering::Release);
    }

    /// Whether nothing is left of a series.
    #[must_use]
    pub fn is_deleted(&self, series: u32) -> bool {
        self.deleted().is_some_and(|d| d.whole().contains(series))
    }

    /// The pairs, by number, of the series of which something is left. `None` if the index is damaged.
    #[must_use]
    pub fn pairs_of_left(&self) -> Option<RoaringBitmap> {
        let deleted = self.deleted();
        let mut pairs = RoaringBitmap::new();
        for series in 0..u32::try_from(self.footer().series).ok()? {
            if deleted.as_ref().is_none_or(|d| !d.whole().contains(series)) {
                pairs.extend(self.pair_numbers(series)?);
            }
        }
        Some(pairs)
    }

    /// Adds the deletion of `from..=to` in `series` to what is deleted already. `None` if the index is damaged.
    #[must_use]
    pub fn with_deletion(&self, series: &RoaringBitmap, from: Timestamp, to: Timestamp) -> Option<Deleted> {
        let mut deleted = self.deleted().map_or_else(Deleted::default, |d| (*d).clone());
        let mut whole = RoaringBitmap::new();
        let mut parts = Vec::new();
        for series in series {
            let (first, last) = self.time_range(series)?;
            if from <= first && to >= last {
                whole.insert(series);
            } else if from <= last && to >= first {
                parts.push((series, from.max(first), to.min(last)));
            }
        }
        let touched: Vec<u32> = parts.iter().map(|p| p.0).collect();
        deleted.add_parts(parts);
        // Several deletions together may leave nothing of a series.
        for series in touched {
            let (first, last) = self.time_range(series)?;
            if deleted.covers(series, first, last) {
                whole.insert(series);
            }
        }
        deleted.add_whole(&whole);
        Some(deleted)
    }
}
