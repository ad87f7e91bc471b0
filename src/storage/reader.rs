//! Reading: which series, and their samples as columns.
//!
//! A selection looks at the head first and at the ring of blocks after it: a window that is sealed meanwhile is then
//! seen in the head, in a block, or in both, and the head's part is read only from where the blocks end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roaring::RoaringBitmap;

use super::api::Samples;
use super::block::Block;
use super::db::{Db, Ring, read};
use super::exemplars::Exemplar;
use super::head::{HeadPart, shard_of};
use super::index::{HeadIndex, Selecting, select_with};
use super::selection::{HeadParts, Renumbering, Selection, TableBuilder};
use crate::model::{Labels, Matcher, Metadata, Timestamp};

/// What is said of an answer that is not whole.
const PARTIAL: &str = "the answer is not whole: samples could not be read, because a block or the head's file is damaged, or was set aside \
                       for that; the log names it";

/// Reads.
#[derive(Clone, Debug)]
pub struct Reader {
    db: Arc<Db>,
    /// Shared with the selections that are made.
    partial: Arc<AtomicBool>,
    /// Whoever asks may go.
    cancelled: Option<Arc<AtomicBool>>,
    /// Samples that were decoded through its selections.
    #[cfg(test)]
    pub(crate) decoded: Arc<std::sync::atomic::AtomicU64>,
}

impl Reader {
    pub(super) fn new(db: &Arc<Db>) -> Self {
        Reader {
            db: Arc::clone(db),
            partial: Arc::default(),
            cancelled: None,
            #[cfg(test)]
            decoded: Arc::default(),
        }
    }

    /// Once this becomes true, what is listed or selected ends soon, and means nothing.
    #[must_use]
    pub fn until(self, cancelled: &Arc<AtomicBool>) -> Self {
        Reader { cancelled: Some(Arc::clone(cancelled)), ..self }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|c| c.load(Ordering::Relaxed))
    }

    /// Whether something that this reader was asked for could not be read, because a block or the head's file is
    /// damaged, or a block of its time was set aside since the start: what it gave is right, and not all.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    /// What to tell those who get the answer, if it [is partial](Reader::is_partial).
    #[must_use]
    pub fn partial_note(&self) -> Option<&'static str> {
        self.is_partial().then_some(PARTIAL)
    }

    /// The blocks that may have samples in `from..=to`. Those that were set aside would be among them.
    fn blocks(&self, ring: &Ring, from: Timestamp, to: Timestamp) -> Vec<Arc<Block>> {
        if read(&self.db.gaps).iter().any(|gap| gap.0 <= to && gap.1 > from) {
            self.partial.store(true, Ordering::Relaxed);
        }
        ring.blocks.iter().filter(|b| b.overlaps(from, to)).map(Arc::clone).collect()
    }

    /// Notes whether a block that was read is known to be damaged by now.
    fn note_damage(&self, block: &Block) {
        if block.is_damaged() {
            self.partial.store(true, Ordering::Relaxed);
        }
    }

    /// The series that all `matchers` select and that may have samples in `from..=to` (ms), in no particular order.
    /// A batch is seen whole or not at all, in all series of one selection.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<SeriesSnapshot> {
        let stop = || self.is_cancelled();
        let selection = Arc::new(self.selection(matchers, (from, to), Need::Window, &stop));
        (0..selection.len())
            .take_while(|series| !series.is_multiple_of(SERIES_BETWEEN_CHECKS) || !stop())
            .map(|series| SeriesSnapshot {
                labels: selection.labels(series),
                selection: Arc::clone(&selection),
                series,
            })
            .collect()
    }

    /// As [`Reader::select`], with labels as numbers. `need` says which samples will be read. Once `stop` says so, the
    /// selection ends soon, and means nothing.
    #[must_use]
    pub fn selection(
        &self,
        matchers: &[Matcher],
        (from, to): (Timestamp, Timestamp),
        need: Need,
        stop: &dyn Fn() -> bool,
    ) -> Selection {
        let mut table = TableBuilder::default();
        let mut head = self.select_head(matchers, (from, to), need, stop, &mut table);
        let ring = self.db.ring();
        let blocks = self.blocks(&ring, from, to);
        let mut in_blocks = Vec::new();
        if !blocks.is_empty() {
            table.index();
        }
        for (i, block) in blocks.iter().enumerate() {
            let series = block.select_with(matchers, self.selecting(stop));
            self.note_damage(block);
            let lookups = (series.len() as usize).saturating_mul(8);
            let mut renumbering = Renumbering::new(block.pair_count(), lookups);
            let mut numbers = Vec::new();
            for (n, number) in series.iter().enumerate() {
                if n.is_multiple_of(SERIES_BETWEEN_CHECKS) && stop() {
                    break;
                }
                let Some(pairs) = block.pairs(number) else { continue };
                numbers.clear();
                numbers.extend(pairs.into_iter().map(|p| {
                    renumbering.get(p, || block.pair_text(p).map_or(NO_PAIR, |(n, v)| table.pair(n, v)))
                }));
                if !numbers.contains(&NO_PAIR) {
                    in_blocks.push((table.find_or_push(&numbers), i as u32, number));
                }
            }
        }
        let in_blocks = by_series(&in_blocks, table.len(), stop);
        head.from = ring.sealed_until;
        Selection {
            labels: Arc::new(table.finish()),
            head,
            blocks,
            in_blocks,
            partial: Arc::clone(&self.partial),
            #[cfg(test)]
            decoded: Arc::clone(&self.decoded),
        }
    }

    /// Selections share what they find out about patterns.
    fn selecting<'a>(&'a self, stop: &'a dyn Fn() -> bool) -> Selecting<'a> {
        Selecting { cache: Some(&self.db.selects), stop }
    }

    fn select_head(
        &self,
        matchers: &[Matcher],
        (from, to): (Timestamp, Timestamp),
        need: Need,
        stop: &dyn Fn() -> bool,
        table: &mut TableBuilder,
    ) -> HeadParts {
        // The index stays locked until the shards are: a series that is made later, and the samples of the batch
        // that made it, are then seen by this selection neither in this series nor in any other.
        let deleted = self.db.deleted();
        let sealed_until = self.db.ring().sealed_until;
        let index = read(&self.db.index);
        let ids = select_with(&index.labels, matchers, self.selecting(stop));
        let shards = ids.iter().fold(0u64, |set, id| set | 1 << shard_of(id));
        let mut guards = self.db.head.lock(shards);
        let mut head = HeadParts { parts: Vec::with_capacity(ids.len() as usize), ..HeadParts::default() };
        let mut found = Vec::with_capacity(ids.len() as usize);
        for (n, id) in ids.iter().enumerate() {
            if n.is_multiple_of(SERIES_BETWEEN_CHECKS) && stop() {
                break;
            }
            let Some(series) = guards.shard(id).and_then(|s| s.get(id)) else { continue };
            let intervals = deleted.intervals(id);
            // What is deleted is taken out of all samples, so that the newest of what is left is found.
            let newest = need == Need::Newest && intervals.is_empty();
            match series.part(from, to, newest) {
                HeadPart::Nothing => {}
                _ if !deleted.is_empty()
                    && !series.has_late()
                    && deleted.covers(
                        id,
                        series.first_ts().unwrap_or(to).max(sealed_until),
                        series.last_ts(),
                    ) => {}
                part => {
                    head.deleted.extend(intervals.iter().map(|p| (found.len() as u32, p.1, p.2)));
                    head.parts.push(part);
                    found.push(id);
                }
            }
        }
        drop(guards);
        let index = &index.labels;
        let mut renumbering = Renumbering::new(index.pair_ids_end(), found.len().saturating_mul(8));
        for (n, id) in found.into_iter().enumerate() {
            if n.is_multiple_of(SERIES_BETWEEN_CHECKS) && stop() {
                break;
            }
            for p in index.pair_ids(id) {
                let number = renumbering.get(p, || {
                    let (name, value) = index.pair(p);
                    table.pair(name, value)
                });
                table.add(number);
            }
            table.end_series();
        }
        head
    }

    /// At most how many series `matchers` select, and how many label values have to be tried for that; `None` if
    /// samples in `from..=to` are not all in memory. Quick, for deciding where to do the work.
    #[must_use]
    pub fn estimate(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Option<(u64, u64)> {
        if self.db.ring().blocks.iter().any(|b| b.overlaps(from, to)) {
            return None;
        }
        Some(read(&self.db.index).labels.estimate(matchers))
    }

    /// Names of the labels that series in `from..=to` which `matchers` select have, ascending.
    #[must_use]
    pub fn label_names(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<String> {
        let mut names = BTreeSet::new();
        {
            let index = read(&self.db.index);
            match self.head_series(&index.labels, matchers, from, to) {
                None => names.extend(index.labels.names().map(str::to_owned)),
                Some(series) => each_head_pair(&index.labels, &series, |n, _| {
                    if !names.contains(n) {
                        names.insert(n.to_owned());
                    }
                }),
            }
        }
        for block in self.blocks(&self.db.ring(), from, to) {
            let stop = || self.is_cancelled();
            let series = (!matchers.is_empty()).then(|| block.select_with(matchers, self.selecting(&stop)));
            block.each_pair(series.as_ref(), |n, _| {
                if !names.contains(n) {
                    names.insert(n.to_owned());
                }
            });
            self.note_damage(&block);
        }
        names.into_iter().collect()
    }

    /// Values of one label, ascending.
    #[must_use]
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<String> {
        let mut values = BTreeSet::new();
        {
            let index = read(&self.db.index);
            match self.head_series(&index.labels, matchers, from, to) {
                None => values.extend(index.labels.values(name).map(|(v, _)| v.to_owned())),
                Some(series) => each_head_pair(&index.labels, &series, |n, v| {
                    if n == name {
                        values.insert(v.to_owned());
                    }
                }),
            }
        }
        for block in self.blocks(&self.db.ring(), from, to) {
            if matchers.is_empty() {
                block.each_value(name, |v| {
                    values.insert(v.to_owned());
                });
            } else {
                let stop = || self.is_cancelled();
                block.each_pair(Some(&block.select_with(matchers, self.selecting(&stop))), |n, v| {
                    if n == name {
                        values.insert(v.to_owned());
                    }
                });
            }
            self.note_damage(&block);
        }
        values.into_iter().collect()
    }

    /// The series of the head that are meant: `None` for all of them, when neither matchers nor time leave any out.
    fn head_series(
        &self,
        index: &HeadIndex,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Option<RoaringBitmap> {
        let any_time = from == Timestamp::MIN && to == Timestamp::MAX;
        if matchers.is_empty() && any_time {
            return None;
        }
        let stop = || self.is_cancelled();
        let mut series = select_with(index, matchers, self.selecting(&stop));
        if !any_time {
            let outside: Vec<u32> = {
                let shards = series.iter().fold(0u64, |set, id| set | 1 << shard_of(id));
                let mut guards = self.db.head.lock(shards);
                let overlaps = |id: &u32| {
                    guards.shard(*id).and_then(|s| s.get(*id)).is_some_and(|s| s.overlaps(from, to))
                };
                let mut overlaps = overlaps;
                series.iter().filter(|id| !overlaps(id)).collect()
            };
            for id in outside {
                series.remove(id);
            }
        }
        Some(series)
    }

    /// The exemplars in `from..=to` (ms) of the series that one of the selectors matches, by series, ascending; those
    /// of one series in the order of their times.
    #[must_use]
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        self.db.select_exemplars(selectors, from, to)
    }

    /// What is known of metric families, by name, ascending.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        read(&self.db.metadata).iter().map(|(n, m)| (n.clone(), m.clone())).collect()
    }

    /// What is known of one metric family.
    #[must_use]
    pub fn metadata_of(&self, family: &str) -> Option<Metadata> {
        read(&self.db.metadata).get(family).cloned()
    }
}

/// Calls `f` with every label pair that one of the series has, once.
fn each_head_pair<'a>(index: &'a HeadIndex, series: &RoaringBitmap, mut f: impl FnMut(&'a str, &'a str)) {
    let mut pairs = RoaringBitmap::new();
    for id in series {
        pairs.extend(index.pair_ids(id));
    }
    for p in pairs {
        let (n, v) = index.pair(p);
        f(n, v);
    }
}

/// Which samples of a selection will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// All of them.
    Window,
    /// The newest of each series.
    Newest,
}

/// Stands for a pair that cannot be read.
const NO_PAIR: u32 = u32::MAX - 1;

/// So many series are selected between two looks at whether to stop: a millisecond's worth.
const SERIES_BETWEEN_CHECKS: usize = 1024;

/// Entries (series, block, number) by series, those of one series in the order in which they stand. Series are numbered
/// below `series`. Once `stop` says so, the rest is left out.
fn by_series(entries: &[(u32, u32, u32)], series: usize, stop: &dyn Fn() -> bool) -> Vec<(u32, u32, u32)> {
    // Counted and put in place: there may be tens of millions, and comparing sorts cannot be stopped.
    let mut places = vec![0usize; series + 1];
    for (s, _, _) in entries {
        places[*s as usize + 1] += 1;
    }
    for s in 0..series {
        places[s + 1] += places[s];
    }
    let mut out = vec![(0, 0, 0); entries.len()];
    for chunk in entries.chunks(64 * SERIES_BETWEEN_CHECKS) {
        if stop() {
            break;
        }
        for entry in chunk {
            let place = &mut places[entry.0 as usize];
            out[*place] = *entry;
            *place += 1;
        }
    }
    out
}

/// One selected series: its labels, and access to its samples as of the selection.
#[derive(Clone, Debug)]
pub struct SeriesSnapshot {
    labels: Labels,
    selection: Arc<Selection>,
    series: usize,
}

impl SeriesSnapshot {
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Appends the samples in `from..=to` (ms) to `out`'s columns.
    pub fn read(&self, from: Timestamp, to: Timestamp, out: &mut Samples) {
        self.selection.read(self.series, from, to, out);
    }
}
