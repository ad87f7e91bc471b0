//! The ids of the series with one label pair.

use std::borrow::Cow;

use roaring::RoaringBitmap;

/// Up to this many ids are kept as a plain list: a bitmap has a fixed cost of some sixty bytes.
const FEW_MAX: usize = 16;

/// A set of series ids.
#[derive(Clone, Debug)]
pub enum Postings {
    /// Ascending.
    Few(Vec<u32>),
    Many(Box<RoaringBitmap>),
}

/// Bytes of a bitmap on the heap, about.
#[must_use]
pub fn bitmap_bytes(bitmap: &RoaringBitmap) -> u64 {
    let s = bitmap.statistics();
    let containers = u64::from(s.n_containers) * 40;
    // It counts 32 bits for each of them, but an array has 16.
    let arrays = s.n_bytes_array_containers / 2;
    arrays + s.n_bytes_bitset_containers + s.n_bytes_run_containers + containers
}

impl Default for Postings {
    fn default() -> Self {
        Postings::Few(Vec::new())
    }
}

impl Postings {
    pub fn insert(&mut self, id: u32) {
        match self {
            Postings::Few(ids) => {
                if let Err(at) = ids.binary_search(&id) {
                    if ids.len() == FEW_MAX {
                        let mut bitmap: RoaringBitmap = ids.iter().copied().collect();
                        bitmap.insert(id);
                        *self = Postings::Many(Box::new(bitmap));
                    } else {
                        if ids.len() == ids.capacity() {
                            ids.reserve_exact(if ids.is_empty() { 1 } else { 4 });
                        }
                        ids.insert(at, id);
                    }
                }
            }
            // Not `try_push`: to find the highest id of a dense bitmap it walks over its empty end.
            Postings::Many(bitmap) => {
                bitmap.insert(id);
            }
        }
    }

    /// Inserts the ids `first..=last`.
    pub fn insert_run(&mut self, first: u32, last: u32) {
        if first == last {
            return self.insert(first);
        }
        if let Postings::Few(ids) = self {
            let run = last.saturating_sub(first) as usize + 1;
            if ids.len() + run <= FEW_MAX && ids.last().is_none_or(|l| *l < first) {
                ids.reserve_exact(run);
                ids.extend(first..=last);
                return;
            }
            *self = Postings::Many(Box::new(ids.iter().copied().collect()));
        }
        if let Postings::Many(bitmap) = self {
            bitmap.insert_range(first..=last);
        }
    }

    /// Takes the ids out of the set; returns whether it is empty now.
    pub fn remove(&mut self, id: u32) -> bool {
        match self {
            Postings::Few(ids) => {
                if let Ok(at) = ids.binary_search(&id) {
                    ids.remove(at);
                }
                ids.is_empty()
            }
            Postings::Many(bitmap) => {
                bitmap.remove(id);
                bitmap.is_empty()
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Postings::Few(ids) => ids.len() as u64,
            Postings::Many(bitmap) => bitmap.len(),
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn heap_bytes(&self) -> u64 {
        match self {
            Postings::Few(ids) => (ids.capacity() * size_of::<u32>()) as u64,
            Postings::Many(bitmap) => bitmap_bytes(bitmap),
        }
    }

    /// At most how many ids are in all of these sets (any number for none): those that the smallest has in common with
    /// each of the others, which takes about a microsecond.
    #[must_use]
    pub fn common_max(sets: &mut [&Postings]) -> u64 {
        sets.sort_by_key(|p| p.len());
        let Some((smallest, others)) = sets.split_first() else { return u64::MAX };
        match smallest {
            Postings::Few(ids) => ids.len() as u64,
            Postings::Many(ids) => {
                let common = others.iter().map(|other| ids.intersection_len(&other.bitmap()));
                common.fold(ids.len(), u64::min)
            }
        }
    }

    /// As a bitmap, to compute with.
    #[must_use]
    pub fn bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Postings::Few(ids) => Cow::Owned(ids.iter().copied().collect()),
            Postings::Many(bitmap) => Cow::Borrowed(bitmap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn no_more_is_in_common_than_said(sets in proptest::collection::vec(proptest::collection::btree_set(0u32..60, 0..40), 1..4)) {
            let postings: Vec<Postings> = sets.iter().map(|set| {
                let mut postings = Postings::default();
                set.iter().for_each(|id| postings.insert(*id));
                postings
            }).collect();
            let common = sets[0].iter().filter(|id| sets.iter().all(|s| s.contains(id))).count() as u64;
            let said = Postings::common_max(&mut postings.iter().collect::<Vec<_>>());
            prop_assert!(said >= common);
            let smallest = sets.iter().map(|s| s.len()).min().unwrap();
            prop_assert!(sets.len() != 2 || smallest <= FEW_MAX || said == common, "of two large ones it is exact");
        }

        #[test]
        fn it_is_a_set(ops in proptest::collection::vec((any::<bool>(), 0u32..50, prop_oneof![3 => Just(0u32), 1 => 0u32..40]), 0..200)) {
            let (mut postings, mut model) = (Postings::default(), BTreeSet::new());
            for (insert, id, more) in ops {
                if insert {
                    postings.insert_run(id, id + more);
                    model.extend(id..=id + more);
                } else {
                    model.remove(&id);
                    prop_assert_eq!(postings.remove(id), model.is_empty());
                }
            }
            prop_assert_eq!(postings.len(), model.len() as u64);
            prop_assert_eq!(postings.bitmap().iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
