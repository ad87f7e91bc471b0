//! Which rows belong to one group: `by`, `without`, `on`, `ignoring`.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::columns::{RowLabels, describes_metric};
use crate::model::{Labels, METRIC_NAME};
use crate::storage::LabelTable;

/// Finds the group of a row.
///
/// Rows whose labels stand in a table are told apart by the numbers of the pairs that are kept. The texts are looked at
/// only where that does not do: for rows of another table, and rows with labels of their own.
pub(super) struct Grouping<'a> {
    names: Vec<&'a str>,
    without: bool,
    /// Whether a metric name is kept that is not named.
    keeps_metric: bool,
    count: usize,
    /// By texts, once they are needed.
    texts: Option<HashMap<Vec<u8>, usize, RandomState>>,
    key: Vec<u8>,
    known: Vec<Numbered>,
}

/// The groups of one table's rows by the numbers of the pairs that are kept.
struct Numbered {
    table: Arc<LabelTable>,
    hasher: RandomState,
    /// By pair: [`KEPT_KNOWN`] and the two bits below it.
    kept: Vec<u8>,
    /// The lists of numbers, one after the other.
    lists: Vec<u32>,
    /// Start and length of a list, and its group.
    groups: HashTable<(u32, u32, u32)>,
    numbers: Vec<u32>,
}

const KEPT_KNOWN: u8 = 4;
/// The pair is part of the key of a row with its metric name.
const KEPT: u8 = 1;
/// The pair is part of the key of a row without.
const KEPT_BARE: u8 = 2;

impl<'a> Grouping<'a> {
    pub fn new(names: impl IntoIterator<Item = &'a str>, without: bool) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Grouping {
            names,
            without,
            keeps_metric: false,
            count: 0,
            texts: None,
            key: Vec::new(),
            known: Vec::new(),
        }
    }

    /// By all labels but these, the metric name among them.
    pub fn all_but(names: impl IntoIterator<Item = &'a str>) -> Self {
        Grouping { keeps_metric: true, ..Grouping::new(names, true) }
    }

    fn keeps(&self, name: &str) -> bool {
        let named = self.names.binary_search(&name).is_ok();
        if self.without { !named && (self.keeps_metric || name != METRIC_NAME) } else { named }
    }

    /// Whether there is one group of all rows.
    fn is_one(&self) -> bool {
        !self.without && self.names.is_empty()
    }

    /// The number of the row's group, and whether it is new. Groups are numbered from 0.
    pub fn find(&mut self, table: &Arc<LabelTable>, labels: &RowLabels) -> (usize, bool) {
        if self.is_one() {
            let new = self.count == 0;
            self.count = 1;
            return (0, new);
        }
        match labels {
            RowLabels::Made(labels) => self.find_texts(labels.iter()),
            RowLabels::Stored { series, bare } => self.find_numbers(table, *series, *bare),
        }
    }

    fn find_numbers(&mut self, table: &Arc<LabelTable>, series: u32, bare: bool) -> (usize, bool) {
        let at = self.known.iter().position(|k| Arc::ptr_eq(&k.table, table));
        let mut numbered = match at {
            Some(at) => self.known.swap_remove(at),
            None => Numbered::new(Arc::clone(table)),
        };
        let found = numbered.find(self, series, bare);
        self.known.push(numbered);
        found
    }

    fn find_texts<'t>(&mut self, pairs: impl Iterator<Item = (&'t str, &'t str)>) -> (usize, bool) {
        let mut texts = self.texts.take().unwrap_or_else(|| self.texts_of_known());
        let mut key = std::mem::take(&mut self.key);
        self.write_key(&mut key, pairs);
        let found = match texts.get(&key) {
            Some(group) => (*group, false),
            None => {
                texts.insert(key.clone(), self.count);
                self.count += 1;
                (self.count - 1, true)
            }
        };
        (self.key, self.texts) = (key, Some(texts));
        found
    }

    /// The texts of the groups that so far were known by numbers only.
    fn texts_of_known(&self) -> HashMap<Vec<u8>, usize, RandomState> {
        let mut texts = HashMap::default();
        for numbered in &self.known {
            for entry in &numbered.groups {
                let list = &numbered.lists[list_of(entry)];
                let mut key = Vec::new();
                self.write_key(&mut key, list.iter().map(|p| numbered.table.pair(*p)));
                texts.insert(key, entry.2 as usize);
            }
        }
        texts
    }

    fn write_key<'t>(&self, key: &mut Vec<u8>, pairs: impl Iterator<Item = (&'t str, &'t str)>) {
        key.clear();
        for (name, value) in pairs.filter(|(n, _)| self.keeps(n)) {
            key.extend_from_slice(name.as_bytes());
            key.push(0xff);
            key.extend_from_slice(value.as_bytes());
            key.push(0xff);
        }
    }

    /// The labels of the group that a row belongs to.
    pub fn labels(&self, table: &LabelTable, labels: &RowLabels) -> Labels {
        if self.is_one() {
            return Labels::empty();
        }
        match labels {
            RowLabels::Made(labels) => Labels::from_sorted(labels.iter().filter(|(n, _)| self.keeps(n))),
            RowLabels::Stored { series, bare } => Labels::from_sorted(
                table.pairs(*series).filter(|(n, _)| self.keeps(n) && !(*bare && describes_metric(n))),
            ),
        }
    }
}

/// Where an entry's list stands among the lists.
fn list_of((start, len, _): &(u32, u32, u32)) -> std::ops::Range<usize> {
    *start as usize..(*start + *len) as usize
}

impl Numbered {
    fn new(table: Arc<LabelTable>) -> Self {
        Numbered {
            hasher: RandomState::default(),
            kept: vec![0; table.pairs_end()],
            lists: Vec::new(),
            groups: HashTable::new(),
            numbers: Vec::new(),
            table,
        }
    }

    fn find(&mut self, grouping: &mut Grouping<'_>, series: u32, bare: bool) -> (usize, bool) {
        let Numbered { table, hasher, kept, lists, groups, numbers } = self;
        let bit = if bare { KEPT_BARE } else { KEPT };
        numbers.clear();
        for p in table.numbers(series) {
            let k = &mut kept[*p as usize];
            if *k == 0 {
                let name = table.pair(*p).0;
                *k = KEPT_KNOWN;
                if grouping.keeps(name) {
                    *k |= KEPT | if describes_metric(name) { 0 } else { KEPT_BARE };
                }
            }
            if *k & bit != 0 {
                numbers.push(*p);
            }
        }
        let hash = hasher.hash_one(&numbers[..]);
        if let Some((_, _, group)) = groups.find(hash, |g| lists[list_of(g)] == numbers[..]) {
            return (*group as usize, false);
        }
        // Within one table other numbers are other texts.
        let found = if grouping.texts.is_none() && grouping.known.is_empty() {
            grouping.count += 1;
            (grouping.count - 1, true)
        } else {
            grouping.find_texts(numbers.iter().map(|p| table.pair(*p)))
        };
        let entry = (lists.len() as u32, numbers.len() as u32, found.0 as u32);
        lists.extend_from_slice(numbers);
        groups.insert_unique(hash, entry, |g| hasher.hash_one(&lists[list_of(g)]));
        found
    }
}
