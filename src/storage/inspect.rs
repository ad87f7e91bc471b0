//! What a data directory holds: sizes, and which metrics have how many series and how many new ones.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::block::{Block, ChunkKind, Sizes};
use super::db::{Db, read};
use crate::model::Labels;

/// What one block holds, and how its bytes are shared out.
#[derive(Clone, Debug)]
pub struct BlockInspection {
    pub stats: super::BlockStats,
    pub value_bytes: u64,
    pub time_bytes: u64,
    pub index_bytes: u64,
    /// Series that the block before has not.
    pub series_new: u64,
}

/// What one metric has, over all blocks and the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricInspection {
    pub name: String,
    /// Different label sets.
    pub series: u64,
    /// Of these, the ones that were not there when the oldest block was.
    pub series_later: u64,
    /// Samples in blocks.
    pub samples: u64,
    /// Bytes of values in blocks.
    pub value_bytes: u64,
}

/// A whole data directory.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub blocks: Vec<BlockInspection>,
    /// Series in memory that the newest block has not.
    pub head_series_new: u64,
    /// Different label sets.
    pub series: u64,
    /// Descending by series.
    pub metrics: Vec<MetricInspection>,
    /// Label names by their distinct values, and pairs by their series, both descending.
    pub labels: Vec<(String, u64)>,
    pub pairs: Vec<(String, u64)>,
}

/// Collects what is seen of series. Label sets are remembered as hashes of 64 bits.
#[derive(Default)]
struct Seen {
    hasher: foldhash::fast::RandomState,
    all: HashSet<u64, foldhash::fast::RandomState>,
    before: HashSet<u64, foldhash::fast::RandomState>,
    now: HashSet<u64, foldhash::fast::RandomState>,
    metrics: HashMap<String, MetricInspection>,
    pairs: HashMap<(String, String), u64>,
    sources: usize,
}

impl Seen {
    /// Notes a series of the block or memory that is looked at; returns whether the one before had it not.
    fn series(&mut self, labels: &Labels, samples: u64, value_bytes: u64) -> bool {
        let hash = self.hasher.hash_one(labels.as_packed());
        let metric = match self.metrics.get_mut(labels.metric_name()) {
            Some(metric) => metric,
            None => {
                let name = labels.metric_name().to_owned();
                let new = MetricInspection { name: name.clone(), ..MetricInspection::default() };
                self.metrics.entry(name).or_insert(new)
            }
        };
        metric.samples += samples;
        metric.value_bytes += value_bytes;
        if self.all.insert(hash) {
            metric.series += 1;
            metric.series_later += u64::from(self.sources > 0);
            for (name, value) in labels.iter() {
                *self.pairs.entry((name.to_owned(), value.to_owned())).or_default() += 1;
            }
        }
        self.now.insert(hash);
        self.sources > 0 && !self.before.contains(&hash)
    }

    fn next_source(&mut self) {
        self.before = std::mem::take(&mut self.now);
        self.sources += 1;
    }
}

impl Db {
    /// See [`Storage::inspect`](super::Storage::inspect).
    pub fn inspect(&self) -> Inspection {
        let mut seen = Seen::default();
        let mut found = Inspection::default();
        for (block, stats) in self.ring().blocks.iter().zip(self.block_stats()) {
            let Sizes { values, times, index, .. } = block.sizes();
            let series_new = see_block(block, &mut seen);
            seen.next_source();
            found.blocks.push(BlockInspection {
                stats,
                value_bytes: values,
                time_bytes: times,
                index_bytes: index,
                series_new,
            });
        }
        {
            let index = read(&self.index);
            for id in index.labels.live() {
                let has_samples = self.head.lock_one(id).get(id).is_some_and(|s| !s.is_empty());
                if has_samples {
                    found.head_series_new += u64::from(seen.series(&index.labels.labels(id), 0, 0));
                }
            }
        }
        found.series = seen.all.len() as u64;
        found.metrics = seen.metrics.into_values().collect();
        found.metrics.sort_unstable_by(|a, b| b.series.cmp(&a.series).then_with(|| a.name.cmp(&b.name)));
        let mut values: HashMap<String, u64> = HashMap::new();
        for (name, _) in seen.pairs.keys() {
            *values.entry(name.clone()).or_default() += 1;
        }
        found.labels = values.into_iter().collect();
        found.pairs = seen.pairs.into_iter().map(|((n, v), count)| (format!("{n}={v}"), count)).collect();
        for list in [&mut found.labels, &mut found.pairs] {
            list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        }
        found
    }
}

/// Notes the series of a block; returns how many the block before has not.
fn see_block(block: &Block, seen: &mut Seen) -> u64 {
    let mut new = 0;
    for series in 0..u32::try_from(block.footer().series).unwrap_or(u32::MAX) {
        let Some(labels) = block.labels(series) else { continue };
        let (mut samples, mut bytes) = (0, 0);
        let _whole = block.each_chunk(series, |kind, len, _, _| {
            let (ChunkKind::Floats(n) | ChunkKind::Histograms(n)) = kind;
            samples += n;
            bytes += len;
        });
        new += u64::from(seen.series(&labels, samples, bytes));
    }
    new
}
