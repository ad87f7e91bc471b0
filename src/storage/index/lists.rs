//! The pair numbers of each series, packed.
//!
//! ```text
//! page   entries, one after the other; what was removed is a hole
//! entry  id of the series, number of pairs, each pair: varints
//! ```
//! A list takes half of what a box of its own would. A page that is mostly holes is emptied: its entries move to the end.

use crate::storage::coding::{Cursor, put_varint};

/// Offsets within a page have 16 bits.
const PAGE_BYTES: usize = 1 << 16;
/// Pages are numbered with 16 bits: room for some 150 million series with ten labels.
const PAGES_MAX: usize = (1 << 16) - 16;
const NONE: u32 = u32::MAX;

/// Lists by the id of their series.
#[derive(Debug, Default)]
pub struct PairLists {
    /// Where each series' entry is: number of the page, and offset in the low 16 bits.
    places: Vec<u32>,
    pages: Vec<Page>,
    /// The page that is filled.
    open: usize,
    free: Vec<usize>,
    entry: Vec<u8>,
}

#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    /// Bytes of entries that are no holes.
    used: usize,
}

impl PairLists {
    /// The pairs of a series; nothing if there is none with this id.
    #[inline]
    pub fn get(&self, id: u32) -> impl Iterator<Item = u32> + Clone + '_ {
        let mut cursor = self.entry(id).unwrap_or(Cursor::new(&[]));
        let n = cursor.varint().and_then(|_id| cursor.varint()).unwrap_or(0);
        (0..n).map_while(move |_| cursor.varint().map(|p| p as u32))
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let pages: usize = self.pages.iter().map(|p| p.bytes.capacity()).sum();
        pages + self.places.capacity() * size_of::<u32>()
    }

    /// Whether the next list may find no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pages.len() >= PAGES_MAX && self.free.is_empty()
    }

    fn entry(&self, id: u32) -> Option<Cursor<'_>> {
        let place = *self.places.get(id as usize)?;
        let page = self.pages.get((place >> 16) as usize)?;
        page.bytes.get(place as usize & 0xffff..).map(Cursor::new)
    }

    /// Sets the pairs of a series that has none.
    pub fn insert(&mut self, id: u32, pairs: impl ExactSizeIterator<Item = u32>) {
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        put_varint(&mut entry, u64::from(id));
        put_varint(&mut entry, pairs.len() as u64);
        pairs.for_each(|p| put_varint(&mut entry, u64::from(p)));
        self.push(id, &entry);
        self.entry = entry;
    }

    fn push(&mut self, id: u32, entry: &[u8]) {
        // An entry longer than a page has one of its own; its offset is 0.
        let fits = |p: &Page| p.bytes.is_empty() || p.bytes.len() + entry.len() <= PAGE_BYTES;
        if !self.pages.get(self.open).is_some_and(fits) {
            self.open = self.free.pop().unwrap_or(self.pages.len());
            if self.open == self.pages.len() {
                self.pages.push(Page::default());
            }
            self.pages[self.open].bytes.reserve_exact(PAGE_BYTES.max(entry.len()));
        }
        let page = &mut self.pages[self.open];
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, NONE);
        }
        self.places[id as usize] = (self.open as u32) << 16 | page.bytes.len() as u32;
        page.bytes.extend_from_slice(entry);
        page.used += entry.len();
    }

    /// Takes out the pairs of a series.
    pub fn remove(&mut self, id: u32) -> Vec<u32> {
        let pairs: Vec<u32> = self.get(id).collect();
        let Some(length) = self.entry(id).and_then(entry_len) else { return pairs };
        let at = (self.places[id as usize] >> 16) as usize;
        self.places[id as usize] = NONE;
        self.pages[at].used -= length;
        if at != self.open && self.pages[at].used < PAGE_BYTES / 2 {
            self.empty(at);
        }
        pairs
    }

    /// Moves what is left in a page to the end, and frees it.
    fn empty(&mut self, number: usize) {
        let page = std::mem::take(&mut self.pages[number]);
        let mut rest = Cursor::new(&page.bytes);
        while let Some(length) = entry_len(rest) {
            let place = (number as u32) << 16 | (page.bytes.len() - rest.len()) as u32;
            let id = { rest }.varint().unwrap_or(0) as u32;
            let Some(entry) = rest.take(length) else { break };
            if self.places.get(id as usize) == Some(&place) {
                self.push(id, entry);
            }
        }
        self.free.push(number);
    }
}

/// The length of the entry at a cursor; `None` at the end.
fn entry_len(cursor: Cursor<'_>) -> Option<usize> {
    let mut end = cursor;
    end.varint()?;
    for _ in 0..end.varint()? {
        end.varint()?;
    }
    Some(cursor.len() - end.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(ops in proptest::collection::vec((0u32..40, 0usize..3000, any::<u32>()), 1..120)) {
            let (mut lists, mut model) = (PairLists::default(), BTreeMap::new());
            for (id, n, pair) in ops {
                if let Some(pairs) = model.remove(&id) {
                    prop_assert_eq!(lists.remove(id), pairs);
                } else {
                    let pairs: Vec<u32> = (0..n as u32).map(|i| pair.wrapping_mul(i | 1) >> (i % 32)).collect();
                    lists.insert(id, pairs.iter().copied());
                    model.insert(id, pairs);
                }
                let want = model.get(&id).cloned().unwrap_or_default();
                prop_assert_eq!(lists.get(id).collect::<Vec<_>>(), want);
            }
            for id in 0..40 {
                let want = model.get(&id).cloned().unwrap_or_default();
                prop_assert_eq!(lists.get(id).collect::<Vec<_>>(), want);
            }
            let bytes: usize = lists.pages.iter().map(|p| p.bytes.capacity()).sum();
            let used: usize = lists.pages.iter().map(|p| p.used).sum();
            prop_assert!(bytes <= 2 * used + 4 * PAGE_BYTES, "{} {}", bytes, used);
        }
    }
}
