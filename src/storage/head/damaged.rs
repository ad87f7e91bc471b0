//! Full chunks that cannot be read, and others in their place.

use std::sync::Arc;

use super::sealed::{ChunkScratch, Sealed};
use super::{Head, id_of};
use crate::model::Timestamp;
use crate::storage::api::{Samples, SeriesRef};

/// The full chunks of a series, of which some cannot be read.
#[derive(Debug)]
pub struct DamagedChunks {
    pub series: SeriesRef,
    list: Arc<Sealed>,
}

/// What became of the full chunks of a series.
#[derive(Clone, Copy, Debug)]
pub struct HealedChunks {
    /// Samples in those that could not be read.
    pub unreadable: u64,
    /// How many samples fewer there are than before.
    pub missing: u64,
}

impl DamagedChunks {
    /// How many samples the chunks were given.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.list.samples()
    }

    /// No sample of them is older.
    #[must_use]
    pub fn first_ts(&self) -> Timestamp {
        self.list.first_ts()
    }
}

impl Head {
    /// Whether full chunks could not be read since [`Head::forget_damage`].
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.pages.all().iter().any(|pages| pages.is_damaged())
    }

    /// Forgets that full chunks could not be read. Those that still cannot are met again.
    pub fn forget_damage(&self) {
        self.pages.all().iter().for_each(|pages| pages.set_damaged(false));
    }

    /// Looks, in the windows where some could not be read, for the series with full chunks that cannot.
    #[must_use]
    pub fn damaged(&self, ids: impl IntoIterator<Item = u32>) -> Vec<DamagedChunks> {
        let (mut out, mut scratch) = (Samples::default(), ChunkScratch::default());
        let mut damaged = Vec::new();
        for id in ids {
            let found = {
                let shard = self.lock_one(id);
                shard.get(id).and_then(|s| s.maybe_damaged()).map(|list| (self.reference(id), list))
            };
            out.clear();
            if let Some((series, list)) = found
                && !list.read(Timestamp::MIN, Timestamp::MAX, &mut out, &mut scratch)
            {
                damaged.push(DamagedChunks { series, list });
            }
        }
        damaged
    }

    /// Makes the full chunks of a series anew, from what can be read of them and from its samples in the WAL, ascending in
    /// time, which may go on past the full chunks. `None` if there are others by now.
    #[must_use]
    pub fn heal(&self, damaged: &DamagedChunks, logged: Vec<(Timestamp, f64)>) -> Option<HealedChunks> {
        let (mut out, mut scratch) = (Samples::default(), ChunkScratch::default());
        let _some_cannot = damaged.list.read(Timestamp::MIN, Timestamp::MAX, &mut out, &mut scratch);
        let readable = out.ts.len() as u64;
        let mut samples: Vec<(Timestamp, f64)> = out.ts.into_iter().zip(out.vs).collect();
        samples.extend(logged);
        // What was readable came first, and stays.
        samples.sort_by_key(|(t, _)| *t);
        samples.dedup_by_key(|(t, _)| *t);
        let id = id_of(damaged.series);
        let mut shard = self.lock_one(id);
        let (slot, sealer) = shard.get_mut(id)?;
        let replaced = slot.replace_full_chunks(&damaged.list, &samples, sealer)?;
        shard.chunks = shard.chunks + replaced.made.0 - replaced.dropped.0;
        shard.chunk_bytes = shard.chunk_bytes + replaced.made.1 - replaced.dropped.1;
        drop(shard);
        self.make_room();
        let before = damaged.samples();
        Some(HealedChunks {
            unreadable: before.saturating_sub(readable),
            missing: before.saturating_sub(replaced.samples),
        })
    }
}
