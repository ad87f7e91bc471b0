//! The index of the series in memory.
//!
//! A label pair has a number; a series is a list of pair numbers. The text of a value is kept once, with its pair.
//! A pair lives as long as a series has it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::arrivals::Arrivals;
use super::cache::Version;
use super::lists::PairLists;
use super::postings::Postings;
use super::select::Lookup;
use super::table::TagTable;
use crate::model::{Labels, LabelsRef, MatchOp, Matcher};
use crate::storage::api::HeadMemory;

/// Label sets to ids and back, and postings.
#[derive(Debug, Default)]
pub struct HeadIndex {
    hasher: RandomState,
    names: Vec<Name>,
    free_names: Vec<u32>,
    name_ids: HashTable<u32>,
    pairs: Vec<Pair>,
    free_pairs: Vec<u32>,
    /// The series' ids by the upper half of the hash of the packed labels.
    by_labels: TagTable,
    /// The pair numbers of each series, in the order of its labels.
    series: PairLists,
    /// The pairs of the series that came last: the next one shares most of them.
    last: Vec<Run>,
    last_id: u32,
    /// Whether the postings do not have the runs in `last` yet, nor `live` the ids from `unsettled_from` to `last_id`; see
    /// [`HeadIndex::settle`].
    unsettled: bool,
    unsettled_from: u32,
    /// Memory to work in.
    new: Vec<Run>,
    live: RoaringBitmap,
    count: u64,
    /// Labels of all series.
    entries: u64,
    /// Which series came, and how many went: for what is remembered of selections.
    arrivals: Arrivals,
    removed: u64,
    /// Of names and values, with what each costs besides.
    text_bytes: u64,
}

/// A pair that series with consecutive ids have, up to the one that came last.
#[derive(Clone, Copy, Debug)]
struct Run {
    pair: u32,
    from: u32,
}

/// Part of the hash of a label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelsHash(u32);

/// What a name or value takes in memory besides its text, about.
const TEXT_OVERHEAD: usize = 96;

/// What a pair takes besides its texts while it is written to a block, about.
const SEAL_PAIR_BYTES: u64 = 128;

/// A label that has at least such a share of all pairs is read in their order, which is that of the memory: several times
/// as fast as in the table's.
const ORDERED_SHARE: usize = 8;

#[derive(Debug)]
struct Name {
    text: Box<str>,
    /// The pairs with this name, by the hash of the value.
    values: HashTable<u32>,
}

#[derive(Debug)]
struct Pair {
    name: u32,
    /// Which pair the next series had in this one's place when it was looked at last: senders repeat their order.
    next: u32,
    value: Box<str>,
    postings: Postings,
}

impl HeadIndex {
    /// The id of the series with these labels.
    #[must_use]
    pub fn find(&self, labels: &Labels) -> Option<u32> {
        let labels = labels.borrowed();
        self.find_hashed(self.hash(labels), labels)
    }

    /// The same, if [`HeadIndex::hash`] is known.
    #[must_use]
    pub fn find_hashed(&self, hash: LabelsHash, labels: LabelsRef<'_>) -> Option<u32> {
        self.by_labels.find(hash.0, |id| self.has_labels(id, labels))
    }

    /// The hash of a label set, good for this index.
    #[must_use]
    pub fn hash(&self, labels: LabelsRef<'_>) -> LabelsHash {
        LabelsHash((self.hasher.hash_one(labels.as_packed()) >> 32) as u32)
    }

    /// Whether there is no room for another series, whatever the limits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.series.is_full()
    }

    fn has_labels(&self, id: u32, labels: LabelsRef<'_>) -> bool {
        self.pairs_of(id).eq(labels.iter())
    }

    /// Adds a series under a free id. Its labels must not be there yet.
    #[cfg(test)]
    pub fn insert(&mut self, id: u32, labels: &Labels) {
        let labels = labels.borrowed();
        self.insert_hashed(id, self.hash(labels), labels);
        self.settle();
    }

    /// The same, if [`HeadIndex::hash`] is known. The postings have the series only after [`HeadIndex::settle`].
    pub fn insert_hashed(&mut self, id: u32, hash: LabelsHash, labels: LabelsRef<'_>) {
        if self.unsettled && id != self.last_id.wrapping_add(1) {
            self.settle();
        }
        let mut runs = std::mem::take(&mut self.new);
        self.find_pairs(id, labels, &mut runs);
        self.entries += runs.len() as u64;
        self.series.insert(id, runs.iter().map(|r| r.pair));
        self.new = std::mem::replace(&mut self.last, runs);
        self.last_id = id;
        if !std::mem::replace(&mut self.unsettled, true) {
            self.unsettled_from = id;
        }
        self.arrivals.note(id);
        self.count += 1;
        self.by_labels.insert(hash.0, id);
    }

    /// Tells the postings of the series that came last. Those that were added one after the other mostly share their
    /// pairs, so what is entered is runs.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            self.live.insert_range(self.unsettled_from..=self.last_id);
            let last = std::mem::take(&mut self.last);
            last.iter().for_each(|run| self.enter(*run));
            self.last = last;
        }
    }

    fn enter(&mut self, run: Run) {
        self.pairs[run.pair as usize].postings.insert_run(run.from, self.last_id);
    }

    /// The pairs of a new series, made where they are new; runs of the series before that end are entered. What it
    /// shares with that series is found by comparing texts, which are in the cache, the rest by hashing.
    fn find_pairs(&mut self, id: u32, labels: LabelsRef<'_>, runs: &mut Vec<Run>) {
        runs.clear();
        let last = std::mem::take(&mut self.last);
        let mut at = 0;
        for (name, value) in labels.iter() {
            let mut before = None;
            while let Some(run) = last.get(at) {
                let order = (*self.names[self.pairs[run.pair as usize].name as usize].text).cmp(name);
                if order == Ordering::Greater {
                    break;
                }
                at += 1;
                if order == Ordering::Equal {
                    before = Some(*run);
                    break;
                }
                self.end_run(*run);
            }
            let run = match before {
                Some(run) if *self.pairs[run.pair as usize].value == *value => {
                    Run { from: if self.unsettled { run.from } else { id }, ..run }
                }
                Some(run) => {
                    self.end_run(run);
                    Run { pair: self.pair_after(run.pair, value), from: id }
                }
                None => {
                    let name = self.name_id_or_new(name);
                    Run { pair: self.pair_id(name, value), from: id }
                }
            };
            runs.push(run);
        }
        last[at..].iter().for_each(|run| self.end_run(*run));
        self.last = last;
    }

    fn end_run(&mut self, run: Run) {
        if self.unsettled {
            self.enter(run);
        }
    }

    /// The pair with the name of `before` and this value.
    fn pair_after(&mut self, before: u32, value: &str) -> u32 {
        let Pair { name, next, .. } = self.pairs[before as usize];
        if let Some(guess) = self.pairs.get(next as usize)
            && guess.name == name
            && *guess.value == *value
        {
            return next;
        }
        let pair = self.pair_id(name, value);
        self.pairs[before as usize].next = pair;
        pair
    }

    /// Forgets a series and what only it had.
    pub fn remove(&mut self, id: u32) {
        self.settle();
        let labels = self.labels(id);
        if !self.live.remove(id) {
            return;
        }
        self.count -= 1;
        self.removed += 1;
        let pairs = self.series.remove(id);
        self.entries -= pairs.len() as u64;
        let kept = self.hash(labels.borrowed()).0;
        self.by_labels.remove(kept, |other| other == id);
        for p in pairs {
            if self.pairs[p as usize].postings.remove(id) {
                self.free_pair(p);
            }
        }
    }

    fn free_pair(&mut self, p: u32) {
        // The series that came last may have had it.
        self.last.clear();
        let hash = self.hasher.hash_one(&*self.pairs[p as usize].value);
        let name_id = self.pairs[p as usize].name;
        let name = &mut self.names[name_id as usize];
        if let Ok(entry) = name.values.find_entry(hash, |other| *other == p) {
            entry.remove();
        }
        if name.values.is_empty() {
            self.free_name(name_id);
        }
        self.text_bytes -= (self.pairs[p as usize].value.len() + TEXT_OVERHEAD) as u64;
        self.pairs[p as usize].value = Box::default();
        self.pairs[p as usize].postings = Postings::default();
        self.free_pairs.push(p);
    }

    fn free_name(&mut self, name_id: u32) {
        let name = &mut self.names[name_id as usize];
        let hash = self.hasher.hash_one(&*name.text);
        if let Ok(entry) = self.name_ids.find_entry(hash, |other| *other == name_id) {
            entry.remove();
        }
        self.text_bytes -= (name.text.len() + TEXT_OVERHEAD) as u64;
        *name = Name { text: Box::default(), values: HashTable::new() };
        self.free_names.push(name_id);
    }

    fn pair_id(&mut self, name_id: u32, value: &str) -> u32 {
        let hash = self.hasher.hash_one(value);
        let pairs = &self.pairs;
        let values = &self.names[name_id as usize].values;
        if let Some(p) = values.find(hash, |p| &*pairs[*p as usize].value == value) {
            return *p;
        }
        self.text_bytes += (value.len() + TEXT_OVERHEAD) as u64;
        let pair = Pair { name: name_id, next: u32::MAX, value: value.into(), postings: Postings::default() };
        let p = if let Some(p) = self.free_pairs.pop() {
            self.pairs[p as usize] = pair;
            p
        } else {
            self.pairs.push(pair);
            (self.pairs.len() - 1) as u32
        };
        let (pairs, hasher) = (&self.pairs, &self.hasher);
        self.names[name_id as usize]
            .values
            .insert_unique(hash, p, |p| hasher.hash_one(&*pairs[*p as usize].value));
        p
    }

    fn name_id(&self, name: &str) -> Option<u32> {
        self.name_ids.find(self.hasher.hash_one(name), |n| &*self.names[*n as usize].text == name).copied()
    }

    fn name_id_or_new(&mut self, name: &str) -> u32 {
        if let Some(id) = self.name_id(name) {
            return id;
        }
        self.text_bytes += (name.len() + TEXT_OVERHEAD) as u64;
        let new = Name { text: name.into(), values: HashTable::new() };
        let id = match self.free_names.pop() {
            Some(id) => {
                self.names[id as usize] = new;
                id
            }
            None => {
                self.names.push(new);
                (self.names.len() - 1) as u32
            }
        };
        let (names, hasher) = (&self.names, &self.hasher);
        self.name_ids
            .insert_unique(hasher.hash_one(name), id, |n| hasher.hash_one(&*names[*n as usize].text));
        id
    }

    fn find_pair(&self, name: &str, value: &str) -> Option<&Pair> {
        let name = &self.names[self.name_id(name)? as usize];
        let hash = self.hasher.hash_one(value);
        let p = name.values.find(hash, |p| &*self.pairs[*p as usize].value == value)?;
        Some(&self.pairs[*p as usize])
    }

    fn pairs_of(&self, id: u32) -> impl Iterator<Item = (&str, &str)> {
        self.series.get(id).map(|p| self.pair(p))
    }

    /// The labels of a series; empty if there is none with this id.
    #[must_use]
    pub fn labels(&self, id: u32) -> Labels {
        Labels::from_sorted(self.pairs_of(id))
    }

    /// The pair numbers of a series, in the order of its labels.
    pub fn pair_ids(&self, id: u32) -> impl Iterator<Item = u32> + Clone + '_ {
        self.series.get(id)
    }

    /// Name and value of a pair.
    #[must_use]
    pub fn pair(&self, p: u32) -> (&str, &str) {
        let pair = &self.pairs[p as usize];
        (&self.names[pair.name as usize].text, &pair.value)
    }

    /// How many pair numbers there are, the free ones included.
    #[must_use]
    pub fn pair_ids_end(&self) -> usize {
        self.pairs.len()
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.count
    }

    /// About how many bytes the texts of names and values take.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Bytes that writing the series to a block takes besides, about: their pairs with their texts, in their order and as the
    /// block has them, and the pairs of each series.
    #[must_use]
    pub fn seal_bytes(&self) -> u64 {
        let (pairs, names) = (self.pair_count() as u64, self.names.len() - self.free_names.len());
        let texts = self.text_bytes - (pairs + names as u64) * TEXT_OVERHEAD as u64;
        2 * texts + pairs * SEAL_PAIR_BYTES + self.entries * 3 * size_of::<u32>() as u64
    }

    /// How many labels all series have together.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether there is a series with this id.
    #[must_use]
    pub fn has(&self, id: u32) -> bool {
        self.live.contains(id) || self.unsettled && (self.unsettled_from..=self.last_id).contains(&id)
    }

    /// The ids of all series, after [`HeadIndex::settle`].
    #[must_use]
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// Names that series have, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|n| !n.values.is_empty()).map(|n| &*n.text)
    }

    /// Values of a label and how many series have each, in no particular order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        let name = self.name_id(name).map(|id| &self.names[id as usize]);
        name.into_iter().flat_map(|n| n.values.iter()).map(|p| {
            let pair = &self.pairs[*p as usize];
            (&*pair.value, pair.postings.len())
        })
    }

    /// At most how many series `matchers` select, and how many values have to be tried for that.
    #[must_use]
    pub fn estimate(&self, matchers: &[Matcher]) -> (u64, u64) {
        let (mut series, mut tries) = (self.live.len(), 0);
        let mut equal = Vec::new();
        for m in matchers {
            let literals = m.regex().and_then(|r| r.literals());
            match (m.op, literals) {
                (MatchOp::Equal, _) if !m.value.is_empty() => match self.find_pair(&m.name, &m.value) {
                    Some(p) => equal.push(&p.postings),
                    None => series = 0,
                },
                (MatchOp::NotEqual, _) if !m.value.is_empty() => {}
                (MatchOp::Regex | MatchOp::NotRegex, Some(literals)) => tries += literals.len() as u64,
                _ => tries += self.name_id(&m.name).map_or(0, |n| self.names[n as usize].values.len()) as u64,
            }
        }
        (series.min(Postings::common_max(&mut equal)), tries)
    }

    /// Adds what the index takes.
    pub fn add_memory(&self, memory: &mut HeadMemory) {
        memory.table += self.by_labels.heap_bytes() as u64;
        memory.lists += self.series.heap_bytes() as u64;
        let names = self.names.iter().map(|n| size_of::<Name>() + n.text.len() + n.values.allocation_size());
        let pairs = self.pairs.iter().map(|p| p.value.len()).sum::<usize>();
        memory.texts += (names.sum::<usize>() + pairs + self.pairs.capacity() * size_of::<Pair>()) as u64;
        memory.postings += self.pairs.iter().map(|p| p.postings.heap_bytes()).sum::<u64>();
    }

    /// How many label pairs there are.
    #[must_use]
    pub fn pair_count(&self) -> usize {
        self.pairs.len() - self.free_pairs.len()
    }
}

impl Lookup for HeadIndex {
    fn number(&self) -> u64 {
        // Blocks are counted from 0.
        u64::MAX
    }

    fn version(&self) -> Version {
        Version { added: self.arrivals.count(), removed: self.removed }
    }

    fn added_since(&self, added: u64) -> Option<RoaringBitmap> {
        self.arrivals.since(added)
    }

    fn all(&self) -> Cow<'_, RoaringBitmap> {
        Cow::Borrowed(&self.live)
    }

    fn pair(&self, name: &str, value: &str) -> Cow<'_, RoaringBitmap> {
        self.find_pair(name, value).map_or_else(Cow::default, |p| p.postings.bitmap())
    }

    fn values_to_try(&self, name: &str, _prefix: &str) -> usize {
        self.name_id(name).map_or(0, |n| self.names[n as usize].values.len())
    }

    fn union_values(
        &self,
        name: &str,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
        into: &mut RoaringBitmap,
    ) {
        let Some(name) = self.name_id(name) else { return };
        let mut look = |pair: &Pair| {
            if (prefix.is_empty() || pair.value.starts_with(prefix)) && wanted(&pair.value) {
                match &pair.postings {
                    Postings::Few(ids) => into.extend(ids.iter().copied()),
                    Postings::Many(bitmap) => *into |= bitmap.as_ref(),
                }
            }
        };
        let values = &self.names[name as usize].values;
        if values.len() >= self.pairs.len() / ORDERED_SHARE {
            self.pairs.iter().filter(|p| p.name == name && !p.value.is_empty()).for_each(look);
        } else {
            values.iter().for_each(|p| look(&self.pairs[*p as usize]));
        }
    }

    fn values_of(&self, name: &str, series: &RoaringBitmap, f: &mut dyn FnMut(u32, u32, &str)) {
        let Some(name) = self.name_id(name) else { return };
        for id in series {
            if let Some(p) = self.series.get(id).find(|p| self.pairs[*p as usize].name == name) {
                f(id, p, &self.pairs[p as usize].value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::select;
    use super::*;
    use proptest::prelude::*;

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([
            ("__name__".to_owned(), format!("m{}", i % 3)),
            ("a".to_owned(), if i.is_multiple_of(4) { String::new() } else { format!("v{}", i % 5) }),
            ("id".to_owned(), i.to_string()),
            (format!("n{}", i % 7), "1".to_owned()),
        ])
    }

    proptest! {
        #[test]
        fn matchers_select_what_they_match(
            ops in proptest::collection::vec((any::<bool>(), 0usize..60, 1usize..6), 0..150),
            matchers in proptest::collection::vec((0usize..4, 0usize..4, 0usize..8), 0..4),
        ) {
            let mut index = HeadIndex::default();
            let mut model = std::collections::BTreeMap::new();
            // One after the other, so that the postings are given runs.
            for (insert, i) in ops.into_iter().flat_map(|(insert, i, n)| (i..i + n).map(move |i| (insert, i))) {
                let l = labels(i);
                prop_assert_eq!(index.find(&l), model.get(&l).copied());
                prop_assert_eq!(index.has(i as u32), model.contains_key(&l));
                if insert && !model.contains_key(&l) {
                    index.insert_hashed(i as u32, index.hash(l.borrowed()), l.borrowed());
                    model.insert(l, i as u32);
                } else if !insert {
                    index.remove(i as u32);
                    model.remove(&l);
                }
            }
            index.settle();
            let matchers: Vec<Matcher> = matchers.into_iter().map(|(op, name, value)| {
                let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][op];
                let name = ["__name__", "a", "id", "n3"][name];
                let value = ["m1", "v2", "", "m1|m2", "v.*", ".*", ".+", "|v3|7"][value];
                Matcher::new(op, name, value).unwrap()
            }).collect();
            let want: Vec<u32> = {
                let mut ids: Vec<u32> = model.iter()
                    .filter(|(l, _)| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or(""))))
                    .map(|(_, id)| *id).collect();
                ids.sort_unstable();
                ids
            };
            prop_assert_eq!(select(&index, &matchers).into_iter().collect::<Vec<_>>(), want, "{:?}", matchers);
            for (l, id) in &model {
                prop_assert_eq!(&index.labels(*id), l);
            }
            prop_assert_eq!((index.live().len(), index.len()), (model.len() as u64, model.len() as u64));
            let names: std::collections::BTreeSet<&str> = index.names().collect();
            let want: std::collections::BTreeSet<&str> = model.keys().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
            prop_assert_eq!(names, want);
            prop_assert_eq!(index.entries(), model.keys().map(|l| l.iter().count() as u64).sum::<u64>());
            model.values().for_each(|id| index.remove(*id));
            prop_assert_eq!((index.text_bytes(), index.entries(), index.pair_count(), index.names().count()), (0, 0, 0, 0));
        }
    }
}
