//! What a selection holds: the labels of the selected series as numbers of pairs, and access to their samples.
//!
//! ```text
//! series 0   [ 3 7 1 ]          pair 3 = (name 0, "up")      name 0 = "__name__"
//! series 1   [ 3 8 1 ]          pair 7 = (name 4, "node")    name 4 = "job"
//! ```
//! The text of a pair is kept once, however many series have it. So a series costs a few numbers, and who groups or
//! joins series compares numbers; a label set of its own is made only for what leaves the query.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::api::Samples;
use super::block::Block;
use super::block::reader::ReadScratch;
use super::head::{ChunkScratch, HeadPart};
use crate::model::{Labels, Timestamp};

/// The labels of the series of one selection.
///
/// Within one table two series have the same labels exactly if their pair numbers are the same, and a series' pairs
/// stand in the order of its labels.
#[derive(Debug, Default)]
pub struct LabelTable {
    text: String,
    /// Where in `text` each name stands.
    names: Vec<(usize, usize)>,
    pairs: Vec<Pair>,
    /// The pair numbers of all series, one series after the other.
    numbers: Vec<u32>,
    /// Where in `numbers` each series ends.
    ends: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    name: u32,
    value: (usize, usize),
}

impl LabelTable {
    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The numbers of a series' pairs, in the order of its labels.
    #[inline]
    #[must_use]
    pub fn numbers(&self, series: u32) -> &[u32] {
        let i = series as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.numbers[start..self.ends[i]]
    }

    /// Pair numbers are below this.
    #[must_use]
    pub fn pairs_end(&self) -> usize {
        self.pairs.len()
    }

    /// Name and value of a pair.
    #[inline]
    #[must_use]
    pub fn pair(&self, number: u32) -> (&str, &str) {
        let pair = self.pairs[number as usize];
        (self.name(pair.name), &self.text[pair.value.0..pair.value.1])
    }

    fn name(&self, number: u32) -> &str {
        let (start, end) = self.names[number as usize];
        &self.text[start..end]
    }

    /// The label pairs of a series, ascending by name.
    pub fn pairs(&self, series: u32) -> impl Iterator<Item = (&str, &str)> {
        self.numbers(series).iter().map(|n| self.pair(*n))
    }

    /// The labels of a series.
    #[must_use]
    pub fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(self.pairs(series))
    }

    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let names = self.names.len() * size_of::<(usize, usize)>() + self.pairs.len() * size_of::<Pair>();
        let lists = self.numbers.len() * size_of::<u32>() + self.ends.len() * size_of::<usize>();
        (self.text.len() + names + lists) as u64
    }

    fn add_text(&mut self, text: &str) -> (usize, usize) {
        let start = self.text.len();
        self.text.push_str(text);
        (start, self.text.len())
    }
}

/// Makes a [`LabelTable`] of series that come from indexes with numbers of their own.
#[derive(Debug, Default)]
pub(super) struct TableBuilder {
    table: LabelTable,
    hasher: RandomState,
    names: HashTable<u32>,
    /// By text; only where series of several indexes meet.
    by_text: Option<HashTable<u32>>,
    by_numbers: Option<HashTable<u32>>,
}

impl TableBuilder {
    /// The number of a pair that is not in the table yet, as far as the caller's own numbers go.
    pub fn pair(&mut self, name: &str, value: &str) -> u32 {
        let hash = self.hasher.hash_one((name, value));
        if let Some(by_text) = &self.by_text
            && let Some(known) = by_text.find(hash, |p| self.table.pair(*p) == (name, value))
        {
            return *known;
        }
        let name = self.name(name);
        let value = self.table.add_text(value);
        let number = self.table.pairs.len() as u32;
        self.table.pairs.push(Pair { name, value });
        if let Some(by_text) = &mut self.by_text {
            let (table, hasher) = (&self.table, &self.hasher);
            by_text.insert_unique(hash, number, |p| hasher.hash_one(table.pair(*p)));
        }
        number
    }

    /// The number of a label name, of which there may be as many as a sender makes up.
    fn name(&mut self, name: &str) -> u32 {
        let hash = self.hasher.hash_one(name);
        if let Some(known) = self.names.find(hash, |n| self.table.name(*n) == name) {
            return *known;
        }
        let place = self.table.add_text(name);
        let number = self.table.names.len() as u32;
        self.table.names.push(place);
        let (table, hasher) = (&self.table, &self.hasher);
        self.names.insert_unique(hash, number, |n| hasher.hash_one(table.name(*n)));
        number
    }

    /// Adds the next pair of a series, in the order of its labels.
    #[inline]
    pub fn add(&mut self, number: u32) {
        self.table.numbers.push(number);
    }

    /// All pairs of a series have been added; it is not in the table yet.
    #[inline]
    pub fn end_series(&mut self) {
        self.table.ends.push(self.table.numbers.len());
    }

    /// From now on pairs and series that are in the table already are found.
    pub fn index(&mut self) {
        let (table, hasher) = (&self.table, &self.hasher);
        let mut by_text = HashTable::with_capacity(table.pairs.len());
        for p in 0..table.pairs.len() as u32 {
            by_text.insert_unique(hasher.hash_one(table.pair(p)), p, |p| hasher.hash_one(table.pair(*p)));
        }
        let mut by_numbers = HashTable::with_capacity(table.len());
        for s in 0..table.len() as u32 {
            let hash = hasher.hash_one(table.numbers(s));
            by_numbers.insert_unique(hash, s, |s| hasher.hash_one(table.numbers(*s)));
        }
        (self.by_text, self.by_numbers) = (Some(by_text), Some(by_numbers));
    }

    /// The series with these pairs, added if it is not there yet; after [`TableBuilder::index`].
    pub fn find_or_push(&mut self, numbers: &[u32]) -> u32 {
        let hash = self.hasher.hash_one(numbers);
        if let Some(by_numbers) = &self.by_numbers
            && let Some(known) = by_numbers.find(hash, |s| self.table.numbers(*s) == numbers)
        {
            return *known;
        }
        let series = self.table.len() as u32;
        self.table.numbers.extend_from_slice(numbers);
        self.end_series();
        if let Some(by_numbers) = &mut self.by_numbers {
            let (table, hasher) = (&self.table, &self.hasher);
            by_numbers.insert_unique(hash, series, |s| hasher.hash_one(table.numbers(*s)));
        }
        series
    }

    /// How many series there are so far.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn finish(self) -> LabelTable {
        self.table
    }
}

/// Numbers of one index to numbers of a table: a plain array if many are looked up, else a map.
#[derive(Debug)]
pub(super) enum Renumbering {
    Dense(Vec<u32>),
    Sparse(std::collections::HashMap<u32, u32, RandomState>),
}

impl Renumbering {
    /// `end`: the index's numbers are below it; `lookups`: about how many there will be.
    pub fn new(end: usize, lookups: usize) -> Self {
        if lookups >= end / 16 {
            Renumbering::Dense(vec![u32::MAX; end])
        } else {
            Renumbering::Sparse(std::collections::HashMap::default())
        }
    }

    /// The table's number of `own`, which `make` tells the first time.
    #[inline]
    pub fn get(&mut self, own: u32, make: impl FnOnce() -> u32) -> u32 {
        match self {
            Renumbering::Dense(numbers) => match numbers.get_mut(own as usize) {
                Some(number) => {
                    if *number == u32::MAX {
                        *number = make();
                    }
                    *number
                }
                None => make(),
            },
            Renumbering::Sparse(numbers) => *numbers.entry(own).or_insert_with(make),
        }
    }
}

/// What the head has of the selected series.
#[derive(Debug, Default)]
pub(super) struct HeadParts {
    /// By series; series past its end have no samples in the head.
    pub parts: Vec<HeadPart>,
    /// The samples count from here on.
    pub from: Timestamp,
    /// What is deleted: (series, first and last time), ascending by series.
    pub deleted: Vec<(u32, Timestamp, Timestamp)>,
}

/// The selected series: their labels, and access to their samples as of the selection.
#[derive(Debug, Default)]
pub struct Selection {
    pub(super) labels: Arc<LabelTable>,
    pub(super) head: HeadParts,
    /// Ascending in time.
    pub(super) blocks: Vec<Arc<Block>>,
    /// (series, block, number within the block), ascending.
    pub(super) in_blocks: Vec<(u32, u32, u32)>,
    /// See [`Reader::is_partial`](super::Reader::is_partial).
    pub(super) partial: Arc<AtomicBool>,
    #[cfg(test)]
    pub(super) decoded: Arc<std::sync::atomic::AtomicU64>,
}

thread_local! {
    static SCRATCH: RefCell<(ReadScratch, ChunkScratch)> = RefCell::default();
}

impl Selection {
    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether some of the samples may be in blocks. The newest of those in memory hardly have to be decoded.
    #[must_use]
    pub fn reaches_blocks(&self) -> bool {
        !self.in_blocks.is_empty()
    }

    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let head = self.head.parts.iter().map(|p| size_of::<HeadPart>() + p.heap_bytes()).sum::<usize>();
        let blocks = self.in_blocks.len() * size_of::<(u32, u32, u32)>();
        (head + blocks) as u64 + self.labels.bytes()
    }

    /// The labels of all series; a series has the same number there.
    #[must_use]
    pub fn table(&self) -> &Arc<LabelTable> {
        &self.labels
    }

    /// The labels of one series.
    #[must_use]
    pub fn labels(&self, series: usize) -> Labels {
        self.labels.labels(series as u32)
    }

    /// Appends a series' samples in `from..=to` (ms) to `out`'s columns. Of a selection of newest samples only the
    /// newest is certain to be there.
    pub fn read(&self, series: usize, from: Timestamp, to: Timestamp, out: &mut Samples) {
        let head_from = from.max(self.head.from);
        let head = self.head.parts.get(series);
        if let Some(HeadPart::Newest(ts, bits)) = head
            && (head_from..=to).contains(ts)
        {
            out.ts.push(*ts);
            out.vs.push(f64::from_bits(*bits));
            out.pad_starts();
            return;
        }
        let all = (out.ts.len(), out.hist_ts.len());
        SCRATCH.with_borrow_mut(|(scratch, head_scratch)| {
            let first = self.in_blocks.partition_point(|(s, _, _)| (*s as usize) < series);
            for (_, block, number) in self.in_blocks[first..].iter().take_while(|e| e.0 as usize == series) {
                let block = &self.blocks[*block as usize];
                if block.overlaps(from, to) {
                    block.read(*number, from, to, out, scratch);
                    if block.is_damaged() {
                        self.partial.store(true, Ordering::Relaxed);
                    }
                }
            }
            if let Some(HeadPart::Chunks(part)) = head {
                let begin = (out.ts.len(), out.hist_ts.len());
                // What cannot be read is in the WAL: the next maintenance takes it from there.
                if !part.read(head_from, to, out, head_scratch) {
                    self.partial.store(true, Ordering::Relaxed);
                }
                let first = self.head.deleted.partition_point(|(s, _, _)| (*s as usize) < series);
                for (_, from, to) in self.head.deleted[first..].iter().take_while(|d| d.0 as usize == series)
                {
                    out.take_out(*from, *to, begin);
                }
                part.read_late(from, to, all, out);
            }
        });
        #[cfg(test)]
        self.decoded.fetch_add((out.len() - all.0 - all.1) as u64, Ordering::Relaxed);
    }
}
