//! Which series the encoded labels of remote write stand for.

use super::hash::WideHash;
use crate::storage::{SeriesRef, TagTable};

/// A series by the hash of its label bytes, in words of 32 bits: 64 would waste some.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: [u32; 3],
    series: [u32; 2],
}

impl Entry {
    fn new(hash: Kept, series: SeriesRef) -> Self {
        Entry { hash: hash.0, series: [series.0 as u32, (series.0 >> 32) as u32] }
    }

    #[inline]
    fn series(&self) -> SeriesRef {
        SeriesRef(u64::from(self.series[1]) << 32 | u64::from(self.series[0]))
    }
}

/// So much of a hash is kept: among ten million different ones, two meet with a chance below 10^-14.
#[derive(Clone, Copy, Debug)]
struct Kept([u32; 3]);

impl From<WideHash> for Kept {
    #[inline]
    fn from(hash: WideHash) -> Self {
        Kept([hash[0] as u32, (hash[0] >> 32) as u32, hash[1] as u32])
    }
}

const PAGE_BITS: u32 = 12;

/// Entries in the order of their first use, and where each hash is.
#[derive(Debug, Default)]
struct Generation {
    /// Full pages but for the last, so that none is moved when there are more.
    pages: Vec<Vec<Entry>>,
    len: usize,
    table: TagTable,
    /// Which entries were found since the generation was looked through.
    used: Vec<u64>,
}

impl Generation {
    #[inline]
    fn get(&self, at: usize) -> Option<&Entry> {
        self.pages.get(at >> PAGE_BITS)?.get(at & ((1 << PAGE_BITS) - 1))
    }

    #[inline]
    fn find(&self, hash: Kept) -> Option<usize> {
        let is = |at: u32| self.get(at as usize).is_some_and(|e| e.hash == hash.0);
        self.table.find(hash.0[1], is).map(|at| at as usize)
    }

    #[inline]
    fn use_at(&mut self, at: usize) {
        self.used[at / 64] |= 1 << (at % 64);
    }

    fn push(&mut self, entry: Entry) {
        let at = self.len;
        if at.is_multiple_of(1 << PAGE_BITS) {
            self.pages.push(Vec::with_capacity(1 << PAGE_BITS));
            self.used.resize(self.used.len() + (1 << PAGE_BITS) / 64, 0);
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(entry);
        }
        self.table.insert(entry.hash[1], at as u32);
        self.len += 1;
        self.use_at(at);
    }

    /// How many entries were used since the last call.
    fn take_used(&mut self) -> usize {
        let used = self.used.iter().map(|w| w.count_ones() as usize).sum();
        self.used.fill(0);
        used
    }
}

/// Remembers series in the order of their use: the next series of a sender, which repeats its order, is found without a
/// table, for it stands behind the one before. Every so many lookups the entries are looked through. If some are not
/// used any more, or the order has changed, they become the old generation, from which what is used moves into a
/// young one, in the order of its use; what is left over is dropped after as many lookups again.
#[derive(Debug)]
pub(super) struct SeriesCache {
    young: Generation,
    /// Empty most of the time.
    old: Generation,
    lookups: u64,
    /// How many of them had to use the table.
    searches: u64,
    entries_max: usize,
}

/// Lookups per entry between two looks: a series used once in so many rounds of the others is kept.
const LOOKUPS_PER_ENTRY: u64 = 16;
/// Below so many lookups the entries are not looked through, however few there are.
const LOOKUPS_MIN: u64 = 100_000;

/// Where the next series of a sender is expected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected(usize);

impl SeriesCache {
    pub fn new(entries_max: usize) -> Self {
        SeriesCache {
            young: Generation::default(),
            old: Generation::default(),
            lookups: 0,
            searches: 0,
            // Places within a generation are 32 bits wide.
            entries_max: entries_max.clamp(2, u32::MAX as usize - 1),
        }
    }

    /// Looks through the entries if it is time. Expectations from before mean nothing then.
    pub fn begin_request(&mut self) {
        let full = self.young.len >= self.entries_max / 2;
        if self.lookups <= LOOKUPS_MIN.max(self.young.len as u64 * LOOKUPS_PER_ENTRY) && !full {
            return;
        }
        let unused = self.young.len - self.young.take_used();
        let disordered = self.searches > self.lookups / 8;
        self.old = Generation::default();
        if full || unused > self.young.len / 8 || disordered {
            self.old = std::mem::take(&mut self.young);
        }
        (self.lookups, self.searches) = (0, 0);
    }

    #[inline]
    pub fn get(&mut self, hash: WideHash, expected: &mut Expected) -> Option<SeriesRef> {
        self.lookups += 1;
        let hash = Kept::from(hash);
        if let Some(entry) = self.young.get(expected.0)
            && entry.hash == hash.0
        {
            let series = entry.series();
            self.young.use_at(expected.0);
            expected.0 += 1;
            return Some(series);
        }
        self.search(hash, expected)
    }

    fn search(&mut self, hash: Kept, expected: &mut Expected) -> Option<SeriesRef> {
        if let Some(at) = self.young.find(hash) {
            self.searches += 1;
            self.young.use_at(at);
            expected.0 = at + 1;
            return self.young.get(at).map(Entry::series);
        }
        let entry = *self.old.get(self.old.find(hash)?)?;
        self.young.push(entry);
        expected.0 = self.young.len;
        Some(entry.series())
    }

    /// Remembers a series; what the hash stood for before is forgotten.
    pub fn insert(&mut self, hash: WideHash, series: SeriesRef) {
        let hash = Kept::from(hash);
        let entry = Entry::new(hash, series);
        match self.young.find(hash) {
            Some(at) => {
                let (page, at) = (at >> PAGE_BITS, at & ((1 << PAGE_BITS) - 1));
                self.young.pages[page][at] = entry;
            }
            None => self.young.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> WideHash {
        [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n]
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut cache = SeriesCache::new(1000);
        for n in 0..600 {
            cache.begin_request();
            cache.insert(hash(n), SeriesRef(n));
        }
        let mut expected = Expected::default();
        assert_eq!(cache.get(hash(5), &mut expected), Some(SeriesRef(5)));
        for n in 600..1100 {
            cache.begin_request();
            cache.insert(hash(n), SeriesRef(n));
        }
        assert_eq!(cache.get(hash(5), &mut expected), Some(SeriesRef(5)));
        assert_eq!(cache.get(hash(6), &mut expected), None);
        assert!(cache.young.len + cache.old.len <= 1000);
    }

    #[test]
    fn a_hash_can_change_its_series() {
        let mut cache = SeriesCache::new(10);
        cache.insert(hash(1), SeriesRef(1));
        cache.insert(hash(1), SeriesRef(2));
        assert_eq!(cache.get(hash(1), &mut Expected::default()), Some(SeriesRef(2)));
        assert_eq!(cache.young.len, 1);
    }

    /// Looks up all of `order` as often as it takes until the entries are looked through.
    fn look_through(cache: &mut SeriesCache, order: &[u64]) {
        cache.begin_request();
        while cache.lookups > 0 {
            let mut expected = Expected::default();
            for n in order {
                assert_eq!(cache.get(hash(*n), &mut expected), Some(SeriesRef(*n << 32 | 7)));
            }
            cache.begin_request();
        }
    }

    #[test]
    fn one_generation_is_enough_while_nothing_changes() {
        let mut cache = SeriesCache::new(100_000);
        let mut order: Vec<u64> = (0..5000).collect();
        order.iter().for_each(|n| cache.insert(hash(*n), SeriesRef(*n << 32 | 7)));
        cache.lookups = 1;
        look_through(&mut cache, &order);
        assert_eq!((cache.young.len, cache.old.len), (5000, 0));
        // Another order is learnt, and what is missing in it is forgotten.
        order.reverse();
        order.truncate(3000);
        cache.lookups = 1;
        for _ in 0..2 {
            look_through(&mut cache, &order);
            cache.lookups = 1;
        }
        look_through(&mut cache, &order);
        assert_eq!((cache.young.len, cache.old.len), (3000, 0));
        cache.searches = 0;
        look_through(&mut cache, &order[..1]);
        let mut expected = Expected::default();
        order.iter().for_each(|n| assert!(cache.get(hash(*n), &mut expected).is_some()));
        assert_eq!(cache.searches, 0, "in the order of their use");
    }
}
