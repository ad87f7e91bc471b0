//! Samples of a time that blocks answer for already: they come to their block by writing it anew.
//!
//! Until then they lie beside their series in the head, are in the WAL, and are merged into what a reader is given. A
//! block is written anew beside its old file and renamed over it, so that a crash leaves one or the other; both are
//! right, for the WAL still has the samples then and a reader takes each time once. All of this happens before a
//! checkpoint drops segments of the WAL.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::api::Samples;
use super::block::reader::ReadScratch;
use super::block::{self, Block, BlockWriter};
use super::db::{Db, read, write};
use super::disk;
use super::head::{HeadSeries, OutOfOrder, SHARDS};
use super::maintain::write_series;
use super::open::blocks_dir;
use super::wal::FrameBuilder;
use crate::model::{Labels, Timestamp};

/// So many samples out of order are held in memory at most (see [`Db::late_held_max`]); more are refused until these have come to blocks.
pub(super) const HELD_MAX: u64 = 16 << 20;
/// From this part of them on they are put into blocks at the next maintenance.
pub(super) const HELD_ENOUGH_PART: u64 = 4;

/// The late samples of series, ascending by labels.
type LateSeries = Vec<(Labels, OutOfOrder)>;

impl Db {
    /// Puts late samples into their blocks; returns how many blocks were written. The caller holds the maintenance.
    pub fn merge_late(&self, dir: &Path) -> io::Result<usize> {
        if !self.late_logged.load(Ordering::Acquire) {
            return Ok(0);
        }
        let late = self.move_late()?;
        let moved = self.write_late(dir, &late).and_then(|written| {
            // From here on a replay knows that the blocks have them; so what is deleted of a block does not come back.
            if let Some(wal) = &self.wal {
                let mut frame = FrameBuilder::default();
                frame.late_mark(true);
                // It has to stay as long as the samples, or they would be late once more.
                wal.write(frame.finish(), self.max_ts.load(Ordering::Relaxed).saturating_add(1))?;
            }
            Ok(written)
        });
        // If it failed they are still held, and the next attempt finds them.
        let written = moved.inspect_err(|_| self.late_logged.store(true, Ordering::Release))?;
        for i in 0..SHARDS {
            self.head.lock_shard(i).iter_mut().for_each(HeadSeries::moved);
        }
        self.count_out_of_order();
        Ok(written)
    }

    /// Counts the samples out of order that are held anew.
    pub fn count_out_of_order(&self) {
        let of_shard = |i| self.head.lock_shard(i).iter().map(HeadSeries::out_of_order).sum::<usize>();
        let held: usize = (0..SHARDS).map(of_shard).sum();
        self.out_of_order_held.store(held as u64, Ordering::Relaxed);
    }

    /// Takes what is late of all series at one moment, which is marked in the WAL.
    fn move_late(&self) -> io::Result<LateSeries> {
        let index = read(&self.index);
        let mut guards = self.head.lock(u64::MAX);
        if let Some(wal) = &self.wal {
            let mut frame = FrameBuilder::default();
            frame.late_mark(false);
            // It stays as long as what it is about; see `Db::log`.
            wal.write(frame.finish(), self.max_ts.load(Ordering::Relaxed).saturating_add(1))?;
        }
        self.late_logged.store(false, Ordering::Release);
        let mut moving = Vec::new();
        for id in index.labels.live() {
            let series = guards.shard(id).and_then(|s| s.get_mut(id));
            if let Some(late) = series.and_then(|(s, _)| s.move_late()) {
                moving.push((id, late));
            }
        }
        drop(guards);
        let mut late: LateSeries = moving.into_iter().map(|(id, o)| (index.labels.labels(id), o)).collect();
        drop(index);
        late.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(late)
    }

    fn write_late(&self, dir: &Path, late: &LateSeries) -> io::Result<usize> {
        let bounds = late.iter().filter_map(|(_, o)| o.bounds());
        let (first, last) =
            bounds.fold((Timestamp::MAX, Timestamp::MIN), |all, b| (all.0.min(b.0), all.1.max(b.1)));
        let mut next = first.max(self.oldest.load(Ordering::Acquire));
        let mut written = 0;
        while next <= last {
            // The next sample that is there; the ranges of time between may be long.
            let wanted = late.iter().filter_map(|(_, o)| o.part(next, last).bounds()).map(|b| b.0).min();
            let Some(ts) = wanted else { break };
            let (range, block) = self.range_of(ts);
            if ts < range.0 || ts >= range.1 {
                return Err(io::Error::other("a late sample lies in no range of time"));
            }
            let part: LateSeries = late
                .iter()
                .map(|(labels, o)| (labels.clone(), o.part(range.0, range.1 - 1)))
                .filter(|(_, o)| !o.is_empty())
                .collect();
            self.rewrite(dir, range, block, &part)?;
            written += 1;
            next = range.1;
        }
        Ok(written)
    }

    /// The block that answers for a time, and its range; a new range between the others if there is none.
    fn range_of(&self, ts: Timestamp) -> ((Timestamp, Timestamp), Option<Arc<Block>>) {
        let ring = self.ring();
        let mut start = self.window_start(ts);
        let mut end = start.saturating_add(self.options.window_ms).min(ring.sealed_until);
        for block in ring.blocks.iter() {
            let range = block.footer().range;
            if range.0 <= ts && ts < range.1 {
                return (range, Some(Arc::clone(block)));
            }
            if range.1 <= ts {
                start = start.max(range.1);
            } else {
                end = end.min(range.0);
            }
        }
        ((start, end), None)
    }

    /// Writes a block with what it has and with late samples, and puts it in the old one's place.
    fn rewrite(
        &self,
        dir: &Path,
        range: (Timestamp, Timestamp),
        old: Option<Arc<Block>>,
        late: &LateSeries,
    ) -> io::Result<()> {
        let path = match &old {
            // What is damaged is set aside first, and what can be read of it is not made look whole.
            Some(old) if !old.verify() => {
                return Err(io::Error::other("the block of late samples is damaged"));
            }
            Some(old) => old.path().to_owned(),
            None => blocks_dir(dir).join(format!("{}-{}.{}", range.0, range.1, block::EXTENSION)),
        };
        let damaged = || io::Error::other("the block of late samples is damaged");
        let mut pairs = BTreeSet::new();
        if let Some(old) = &old {
            for p in old.pairs_of_left().ok_or_else(damaged)? {
                pairs.insert(old.pair_text(p).ok_or_else(damaged)?);
            }
        }
        pairs.extend(late.iter().flat_map(|(labels, _)| labels.iter()));
        let pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        let fill = |out: &mut dyn Write| {
            let mut writer = BlockWriter::new(out, range, &pairs)?;
            let mut merge =
                Merge { pairs: &pairs, samples: Samples::default(), ranks: Vec::new(), conflicting: 0 };
            let mut scratch = ReadScratch::default();
            let mut nothing = |_, _, _: &mut Samples| {};
            let mut late = late.iter().peekable();
            let series = old.as_ref().map_or(0, |b| b.footer().series);
            for number in 0..u32::try_from(series).map_err(io::Error::other)? {
                let Some(old) = &old else { break };
                if old.is_deleted(number) {
                    continue;
                }
                let labels = old.labels(number).ok_or_else(damaged)?;
                while let Some((labels, o)) = late.next_if(|(l, _)| *l < labels) {
                    merge.write(&mut writer, labels, Some(o), &[], &mut nothing)?;
                }
                let own = late.next_if(|(l, _)| *l == labels).map(|(_, o)| o);
                let cuts = match own {
                    // What a histogram knows of the one before it changes, which may be in another part.
                    Some(o) if o.has_starts() || o.has_histograms() => Vec::new(),
                    _ => Block::cuts(&[(old, number)], (Timestamp::MIN, Timestamp::MAX)),
                };
                let mut read =
                    |from, to, samples: &mut Samples| old.read(number, from, to, samples, &mut scratch);
                merge.write(&mut writer, &labels, own, &cuts, &mut read)?;
            }
            for (labels, o) in late {
                merge.write(&mut writer, labels, Some(o), &[], &mut nothing)?;
            }
            if old.as_ref().is_some_and(|b| b.is_damaged()) {
                return Err(damaged());
            }
            Ok((writer.finish()?, merge.conflicting))
        };
        let disk = &*self.disk;
        let verify = |path: &Path| Block::open_verified(disk, path);
        let ((footer, conflicting), new) = disk::write_whole(disk, &path, fill, verify)?;
        let new = Arc::new(new.moved_to(&path));
        tracing::info!(block = %path.display(), samples = footer.samples, "Wrote a block with late samples");
        if conflicting > 0 {
            tracing::warn!(block = %path.display(), conflicting, "Late samples were left out: their series have other values at their times");
            self.metrics.duplicate_samples.inc_by(conflicting);
        }
        self.metrics.blocks_merged.inc();
        match old {
            Some(old) => self.replace_block(&old, Some(new)),
            None => {
                let mut ring = write(&self.ring);
                let mut blocks = ring.blocks.to_vec();
                blocks.push(new);
                blocks.sort_by_key(|b| b.footer().range);
                ring.blocks = Arc::new(blocks);
            }
        }
        // Before the WAL says that its late samples are in their blocks.
        self.disk.sync_dir(&blocks_dir(dir))
    }
}

/// One series after the other on its way into a block.
struct Merge<'a> {
    pairs: &'a [(&'a str, &'a str)],
    samples: Samples,
    ranks: Vec<u32>,
    /// Late samples that were left out, because another value is there.
    conflicting: u64,
}

impl Merge<'_> {
    /// Writes a series: what `read` puts between two times in the columns, and what is late. It begins anew at `cuts`.
    fn write<W: io::Write>(
        &mut self,
        writer: &mut BlockWriter<'_, W>,
        labels: &Labels,
        late: Option<&OutOfOrder>,
        cuts: &[Timestamp],
        read: &mut dyn FnMut(Timestamp, Timestamp, &mut Samples),
    ) -> io::Result<()> {
        self.ranks.clear();
        for pair in labels.iter() {
            let rank =
                self.pairs.binary_search(&pair).map_err(|_| io::Error::other("a label has no pair"))?;
            self.ranks.push(rank as u32);
        }
        let conflicting = &mut self.conflicting;
        let mut counted_until = None;
        let mut read_all = |from, to, samples: &mut Samples| {
            samples.clear();
            read(from, to, samples);
            if let Some(late) = late {
                // Parts are read twice.
                if counted_until.is_none_or(|until| to > until) {
                    *conflicting += match cuts {
                        [] => late.conflicting(samples),
                        _ => late.part(from, to).conflicting(samples),
                    };
                    counted_until = Some(to);
                }
                late.merge(from, to, (0, 0), samples);
            }
            true
        };
        let always = (Timestamp::MIN, Timestamp::MAX);
        write_series(writer, &self.ranks, always, cuts, &mut self.samples, &mut read_all)
    }
}
