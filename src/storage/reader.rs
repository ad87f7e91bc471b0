//! Reading: which series, and their samples as columns.
//!
//! A selection looks at the head first and at the ring of blocks after it: a window that is sealed meanwhile is then
//! seen in the head, in a block, or in both, and the head's part is read only from where the blocks end.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::api::Samples;
use super::block::Block;
use super::block::reader::ReadScratch;
use super::db::{Db, read};
use super::head::{ChunkScratch, SeriesPart, shard_of};
use super::index::{HeadIndex, select};
use crate::model::{Labels, Matcher, Metadata, Timestamp};

/// Reads.
#[derive(Clone, Debug)]
pub struct Reader {
    db: Arc<Db>,
}

impl Reader {
    pub(super) fn new(db: &Arc<Db>) -> Self {
        Reader { db: Arc::clone(db) }
    }

    /// The series that all `matchers` select and that may have samples in `from..=to` (ms), in no particular order.
    /// A batch is seen whole or not at all, in all series of one selection.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<SeriesSnapshot> {
        let mut found = self.select_head(matchers, from, to);
        let ring = self.db.ring();
        for series in &mut found {
            series.head_from = ring.sealed_until;
        }
        let blocks: Vec<&Arc<Block>> = ring.blocks.iter().filter(|b| b.overlaps(from, to)).collect();
        if blocks.is_empty() {
            return found;
        }
        let mut by_labels: HashMap<Labels, usize, foldhash::fast::RandomState> =
            found.iter().enumerate().map(|(i, s)| (s.labels.clone(), i)).collect();
        for block in blocks {
            for series in &block.select(matchers) {
                let Some(labels) = block.labels(series) else { continue };
                let at = *by_labels.entry(labels).or_insert_with_key(|labels| {
                    found.push(SeriesSnapshot {
                        labels: labels.clone(),
                        blocks: Vec::new(),
                        head: None,
                        head_from: ring.sealed_until,
                        deleted: Box::default(),
                    });
                    found.len() - 1
                });
                found[at].blocks.push((Arc::clone(block), series));
            }
        }
        found
    }

    fn select_head(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<SeriesSnapshot> {
        // The index stays locked until the shards are: a series that is made later, and the samples of the batch
        // that made it, are then seen by this selection neither in this series nor in any other.
        let deleted = self.db.deleted();
        let sealed_until = self.db.ring().sealed_until;
        let index = read(&self.db.index);
        let ids = select(&index.labels, matchers);
        let shards = ids.iter().fold(0u64, |set, id| set | 1 << shard_of(id));
        let mut guards = self.db.head.lock(shards);
        let mut parts = Vec::new();
        for id in &ids {
            if let Some(series) = guards.shard(id).and_then(|s| s.get(id))
                && series.overlaps(from, to)
                && (deleted.is_empty()
                    || !deleted.covers(
                        id,
                        series.first_ts().unwrap_or(to).max(sealed_until),
                        series.last_ts(),
                    ))
            {
                parts.push((id, series.snapshot()));
            }
        }
        drop(guards);
        let with_labels = |(id, part)| SeriesSnapshot {
            labels: index.labels.labels(id),
            blocks: Vec::new(),
            head: Some(part),
            head_from: Timestamp::MIN,
            deleted: deleted.intervals(id).iter().map(|p| (p.1, p.2)).collect(),
        };
        parts.into_iter().map(with_labels).collect()
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
        for block in self.db.ring().blocks.iter().filter(|b| b.overlaps(from, to)) {
            let series = (!matchers.is_empty()).then(|| block.select(matchers));
            block.each_pair(series.as_ref(), |n, _| {
                if !names.contains(n) {
                    names.insert(n.to_owned());
                }
            });
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
        for block in self.db.ring().blocks.iter().filter(|b| b.overlaps(from, to)) {
            if matchers.is_empty() {
                block.each_value(name, |v| {
                    values.insert(v.to_owned());
                });
            } else {
                block.each_pair(Some(&block.select(matchers)), |n, v| {
                    if n == name {
                        values.insert(v.to_owned());
                    }
                });
            }
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
        let mut series = select(index, matchers);
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
        pairs.extend(index.pair_ids(id).iter().copied());
    }
    for p in pairs {
        let (n, v) = index.pair(p);
        f(n, v);
    }
}

/// One selected series: its labels, and access to its samples as of the selection.
#[derive(Clone, Debug)]
pub struct SeriesSnapshot {
    labels: Labels,
    /// Ascending in time.
    blocks: Vec<(Arc<Block>, u32)>,
    head: Option<SeriesPart>,
    head_from: Timestamp,
    /// What is deleted of the head's part.
    deleted: Box<[(Timestamp, Timestamp)]>,
}

thread_local! {
    static SCRATCH: RefCell<(ReadScratch, ChunkScratch)> = RefCell::default();
}

impl SeriesSnapshot {
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Appends the samples in `from..=to` (ms) to `out`'s columns.
    pub fn read(&self, from: Timestamp, to: Timestamp, out: &mut Samples) {
        let all = (out.ts.len(), out.hist_ts.len());
        SCRATCH.with_borrow_mut(|(scratch, head_scratch)| {
            for (block, series) in &self.blocks {
                if block.overlaps(from, to) {
                    block.read(*series, from, to, out, scratch);
                }
            }
            if let Some(head) = &self.head {
                let begin = (out.ts.len(), out.hist_ts.len());
                let _in_the_log = head.read(from.max(self.head_from), to, out, head_scratch);
                for (from, to) in &self.deleted {
                    out.take_out(*from, *to, begin);
                }
                head.read_late(from, to, all, out);
            }
        });
    }
}
