//! What patterns selected before.
//!
//! A pattern is run over the values of its label once; the series that it selects are remembered, and how many series
//! the index had been given by then. Asked again, it is run over the values of the series that came since. All indexes
//! share one cache, which forgets what was not asked for the longest.

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use prometheus_client::metrics::counter::Counter;
use roaring::RoaringBitmap;

use super::postings::bitmap_bytes;

/// At most so many bytes, …
const BYTES_MAX: u64 = 32 * 1024 * 1024;
/// … and at most this share of what storage may take.
const MEMORY_SHARE: u64 = 16;
/// Longer patterns are lists, which are looked up.
const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// What an entry takes besides its texts and series, about.
const ENTRY_BYTES: u64 = 192;

/// The values of one label that one pattern matches, or those that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question<'a> {
    /// Of [`super::Lookup::number`].
    pub index: u64,
    pub name: &'a str,
    pub pattern: &'a str,
    /// Whether those that it matches are meant.
    pub matching: bool,
}

impl Question<'_> {
    /// Bytes that it takes with its answer, about.
    fn bytes(&self, answer: &Answer) -> u64 {
        bitmap_bytes(&answer.series) + (self.name.len() + self.pattern.len()) as u64 + ENTRY_BYTES
    }
}

/// How far an index had come; what no longer changes stays at the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// How many series it had been given.
    pub added: u64,
    /// How many of them had been removed.
    pub removed: u64,
}

/// The series with the values, as of a version of the index.
#[derive(Clone, Debug)]
pub struct Answer {
    pub series: Arc<RoaringBitmap>,
    pub version: Version,
}

#[derive(Debug)]
struct Entry {
    index: u64,
    name: Box<str>,
    pattern: Box<str>,
    matching: bool,
    answer: Answer,
    bytes: u64,
    /// When it was asked for, counted in questions.
    asked: u64,
}

impl Entry {
    fn question(&self) -> Question<'_> {
        Question { index: self.index, name: &self.name, pattern: &self.pattern, matching: self.matching }
    }
}

/// Answers by question, bounded in bytes.
#[derive(Debug)]
pub struct SelectCache {
    hasher: RandomState,
    kept: Mutex<Kept>,
    bytes_max: u64,
    /// Questions that were answered from here, those included that only new series were tried for; and the others.
    hits: Counter,
    misses: Counter,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashTable<Entry>,
    bytes: u64,
    asked: u64,
}

impl SelectCache {
    /// For a storage that may take so many bytes (0 for any number).
    #[must_use]
    pub fn new(memory_bytes_max: u64, hits: Counter, misses: Counter) -> Self {
        let share = if memory_bytes_max == 0 { u64::MAX } else { memory_bytes_max / MEMORY_SHARE };
        SelectCache {
            hasher: RandomState::default(),
            kept: Mutex::default(),
            bytes_max: BYTES_MAX.min(share),
            hits,
            misses,
        }
    }

    /// Bytes that the answers take, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// What was answered before.
    #[must_use]
    pub fn get(&self, question: Question<'_>) -> Option<Answer> {
        let mut kept = self.lock();
        kept.asked += 1;
        let asked = kept.asked;
        let hash = self.hasher.hash_one(question);
        let entry = kept.entries.find_mut(hash, |e| e.question() == question)?;
        entry.asked = asked;
        Some(entry.answer.clone())
    }

    /// Remembers an answer, unless a newer one is there.
    pub fn put(&self, question: Question<'_>, answer: Answer) {
        let bytes = question.bytes(&answer);
        if question.pattern.len() > PATTERN_BYTES_MAX || bytes > self.bytes_max / 4 {
            return;
        }
        let mut kept = self.lock();
        let hash = self.hasher.hash_one(question);
        if let Ok(entry) = kept.entries.find_entry(hash, |e| e.question() == question) {
            let was = entry.get().answer.version;
            if (was.added, was.removed) > (answer.version.added, answer.version.removed) {
                return;
            }
            let (old, _) = entry.remove();
            kept.bytes -= old.bytes;
        }
        while kept.bytes + bytes > self.bytes_max && kept.forget_oldest(&self.hasher) {}
        kept.bytes += bytes;
        let entry = Entry {
            index: question.index,
            name: question.name.into(),
            pattern: question.pattern.into(),
            matching: question.matching,
            answer,
            bytes,
            asked: kept.asked,
        };
        kept.entries.insert_unique(hash, entry, |e| self.hasher.hash_one(e.question()));
    }

    /// Forgets what was asked of indexes that are gone, and takes series that are gone out of the answers of `head`, whose
    /// series are `live` now.
    pub fn tidy(&self, is_there: impl Fn(u64) -> bool, head: u64, removed: u64, live: &RoaringBitmap) {
        let mut kept = self.lock();
        kept.entries.retain(|e| e.index == head || is_there(e.index));
        for e in kept.entries.iter_mut().filter(|e| e.index == head && e.answer.version.removed != removed) {
            // Ids that are used again are those of series that came since: whoever asks takes them out.
            e.answer.series = Arc::new(&*e.answer.series & live);
            e.answer.version.removed = removed;
            e.bytes = e.question().bytes(&e.answer);
        }
        kept.bytes = kept.entries.iter().map(|e| e.bytes).sum();
    }

    /// How many answers are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Counts a question.
    pub fn count(&self, hit: bool) {
        if hit {
            self.hits.inc()
        } else {
            self.misses.inc()
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether there was one. Entries are few, for each is worth some value tries: to look at all is quick beside
    /// what made the one that takes the place.
    fn forget_oldest(&mut self, hasher: &RandomState) -> bool {
        let Some(oldest) = self.entries.iter().min_by_key(|e| e.asked) else { return false };
        let (hash, asked) = (hasher.hash_one(oldest.question()), oldest.asked);
        let Ok(entry) = self.entries.find_entry(hash, |e| e.asked == asked) else { return false };
        let (gone, _) = entry.remove();
        self.bytes -= gone.bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(pattern: &str) -> Question<'_> {
        Question { index: 1, name: "path", pattern, matching: true }
    }

    fn answer(ids: u32, added: u64) -> Answer {
        // Every third, so that it takes bytes.
        let series = (0..ids).map(|i| i * 3).collect::<RoaringBitmap>();
        Answer { series: Arc::new(series), version: Version { added, removed: 0 } }
    }

    #[test]
    fn the_answer_that_was_not_asked_for_the_longest_goes() {
        let cache = SelectCache::new(16 * 64 * 1024, Counter::default(), Counter::default());
        let names: Vec<String> = (0..40).map(|i| format!("{i}.*b")).collect();
        for name in &names {
            cache.put(question(name), answer(2000, 1));
            assert!(cache.get(question(&names[0])).is_some(), "it was asked for");
        }
        assert!(cache.bytes() <= 64 * 1024 && cache.bytes() > 48 * 1024, "{}", cache.bytes());
        assert!(cache.get(question(&names[1])).is_none() && cache.get(question(&names[39])).is_some());
        cache.put(question(&names[39]), answer(100_000, 2));
        assert_eq!(cache.get(question(&names[39])).unwrap().version.added, 1, "one that large is not kept");
    }

    #[test]
    fn an_older_answer_does_not_take_the_place_of_a_newer_one() {
        let cache = SelectCache::new(0, Counter::default(), Counter::default());
        cache.put(question("a.*b"), answer(5, 7));
        cache.put(question("a.*b"), answer(4, 6));
        assert_eq!(cache.get(question("a.*b")).unwrap().series.len(), 5);
        assert!(cache.get(Question { matching: false, ..question("a.*b") }).is_none());
        assert!(cache.get(Question { index: 2, ..question("a.*b") }).is_none());
        let bytes = cache.bytes();
        cache.put(question("a.*b"), answer(5, 8));
        assert_eq!(cache.bytes(), bytes, "it took the other's place");
    }
}
