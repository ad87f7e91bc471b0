//! Which series the encoded labels of remote write stand for.

use hashbrown::HashTable;

use super::hash::WideHash;
use crate::storage::SeriesRef;

/// A series by the hash of its label bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: WideHash,
    series: SeriesRef,
}

/// Entries in the order of their first use, and where each hash is.
#[derive(Debug, Default)]
struct Generation {
    entries: Vec<Entry>,
    table: HashTable<u32>,
}

impl Generation {
    #[inline]
    fn find(&self, hash: WideHash) -> Option<usize> {
        let at = self.table.find(hash[0], |i| self.entries[*i as usize].hash == hash)?;
        Some(*at as usize)
    }

    fn push(&mut self, entry: Entry) {
        let at = self.entries.len() as u32;
        self.entries.push(entry);
        let entries = &self.entries;
        self.table.insert_unique(entry.hash[0], at, |i| entries[*i as usize].hash[0]);
    }
}

/// Remembers series in two generations. Every so many lookups the younger becomes the older and the older is dropped;
/// what is used moves back into the younger, in the order of its use. So a series that ended is forgotten, and the
/// next series of a sender, which repeats its order, is found without a table: it stands behind the one before.
#[derive(Debug)]
pub(super) struct SeriesCache {
    young: Generation,
    old: Generation,
    lookups: u64,
    entries_max: usize,
}

/// Lookups per entry between two generations: a series used once in so many rounds of the others is kept.
const LOOKUPS_PER_ENTRY: u64 = 16;
/// Below so many lookups no generation ends, whatever its size.
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
            // References within a generation are 32 bits wide.
            entries_max: entries_max.clamp(2, u32::MAX as usize),
        }
    }

    /// Ends a generation if its time has come. Expectations from before mean nothing then.
    pub fn begin_request(&mut self) {
        let due = LOOKUPS_MIN.max(self.young.entries.len() as u64 * LOOKUPS_PER_ENTRY);
        if self.lookups > due || self.young.entries.len() >= self.entries_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.lookups = 0;
        }
    }

    #[inline]
    pub fn get(&mut self, hash: WideHash, expected: &mut Expected) -> Option<SeriesRef> {
        self.lookups += 1;
        if let Some(entry) = self.young.entries.get(expected.0)
            && entry.hash == hash
        {
            expected.0 += 1;
            return Some(entry.series);
        }
        self.search(hash, expected)
    }

    fn search(&mut self, hash: WideHash, expected: &mut Expected) -> Option<SeriesRef> {
        if let Some(at) = self.young.find(hash) {
            expected.0 = at + 1;
            return Some(self.young.entries[at].series);
        }
        let entry = self.old.entries[self.old.find(hash)?];
        self.young.push(entry);
        expected.0 = self.young.entries.len();
        Some(entry.series)
    }

    /// Remembers a series; what the hash stood for before is forgotten.
    pub fn insert(&mut self, hash: WideHash, series: SeriesRef) {
        match self.young.find(hash) {
            Some(at) => self.young.entries[at].series = series,
            None => self.young.push(Entry { hash, series }),
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
        assert!(cache.young.entries.len() + cache.old.entries.len() <= 1000);
    }

    #[test]
    fn a_hash_can_change_its_series() {
        let mut cache = SeriesCache::new(10);
        cache.insert(hash(1), SeriesRef(1));
        cache.insert(hash(1), SeriesRef(2));
        assert_eq!(cache.get(hash(1), &mut Expected::default()), Some(SeriesRef(2)));
        assert_eq!(cache.young.entries.len(), 1);
    }
}
