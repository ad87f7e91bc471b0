//! The ring turns: windows that ended are sealed, the oldest fall off, what is empty leaves the memory.
//!
//! All of it happens in [`Db::maintain`], called now and then with the time. Sealing `..cut` goes so:
//!
//! 1. Samples before `cut` are refused from now on, so that what is sealed does not change any more.
//! 2. Every series' samples before `cut` are written to a block, which is synced and renamed into place.
//! 3. The block joins the ring, which answers for the time before `cut` from then on; the head drops its part.
//!    Samples that came late for older blocks are put into those; see `late`.
//! 4. A checkpoint of the series is written, and the WAL's segments before `cut` are removed.
//!
//! A crash between any two steps leaves a directory that opens to the same samples: a block that is not in place
//! is no block, and samples before the newest block's end are skipped in a replay.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::RoaringBitmap;

use super::api::{FsyncPolicy, Samples, SeriesRef, StorageError};
use super::block::{self, Block, BlockWriter};
use super::db::{Db, Ring, SERIES_BYTES_GROWN, lock, read, write};
use super::head::{ChunkScratch, HeadSeries, SHARDS, id_of};
use super::index::Lookup;
use super::open::blocks_dir;
use super::wal::Wal;
use super::{disk, late};
use crate::model::Timestamp;

/// A window is sealed once samples are this part of a window past its end, so that late ones find it open …
const GRACE_PART: i64 = 8;
const GRACE_MAX_MS: i64 = 15 * 60_000;
/// … and once nothing more has come for it since this long.
const QUIET_MS: i64 = 120_000;
/// When the disk is short, this much of the newest samples stays open at least …
const EARLY_GRACE_MAX_MS: i64 = 60_000;
/// … and when memory is: a series that comes every two minutes, as seldom as makes sense for queries that look back for
/// five, is not taken for one that has gone.
const MEMORY_GRACE_MAX_MS: i64 = 150_000;
/// The WAL may take this part of the bytes that retention allows.
const WAL_PART: u64 = 4;
/// A series that was made for a batch which gave it no sample is removed after so long; until then the batch may still
/// be under way.
const UNUSED_MS: i64 = 30_000;
/// Where nothing could be done about a lack of memory, it is tried again after so long.
const RELIEF_PAUSE_MS: i64 = 5_000;
/// Sealing early is worth it from this part of a window on, or of the memory's bound.
const EARLY_PART: i64 = 16;
/// The oldest block goes when this part of the bytes that retention allows is left.
const SIZE_MARGIN_PART: u64 = 64;
/// So many series are removed, or written to a checkpoint, under one lock of the index.
const SERIES_AT_ONCE: usize = 4096;

/// Why the head's samples cannot be written.
const CHUNKS_UNREADABLE: &str = "the file of the head's full chunks cannot be read, or is damaged (the next attempt takes the samples from the WAL)";

/// What maintenance remembers from one call to the next.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    /// Windows of the head: how many samples they had been given, and since when they have not been given more.
    quiet: BTreeMap<Timestamp, (u64, Timestamp)>,
    /// Something was sealed since idle series were last looked for.
    look_for_idle: bool,
    /// Series that were empty then.
    idle: RoaringBitmap,
    /// Series that had been given no sample, and since when.
    unused: (Vec<SeriesRef>, Timestamp),
    /// Up to here blocks are in place, and the WAL still has their samples.
    checkpoint_due: Option<Timestamp>,
    /// The list of deletions on the disk has some that are forgotten.
    pub deletions_to_save: bool,
}

/// What a call of [`Storage::maintain`](super::Storage::maintain) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    pub blocks_sealed: usize,
    pub blocks_removed: usize,
    pub series_removed: usize,
    /// Damaged blocks that were set aside.
    pub blocks_set_aside: usize,
    /// What went wrong; it is in the log and tried again by the next call.
    pub failure: Option<String>,
}

impl Db {
    pub fn maintain(&self, now: Timestamp) -> Maintained {
        let mut memory = lock(&self.maintenance);
        let mut done = Maintained::default();
        if self.options.read_only {
            return done;
        }
        if let Some(ahead) = self.options.ahead_max_ms {
            self.max_valid.store(now.saturating_add(ahead), Ordering::Release);
        }
        let oldest = self.retained_from(now);
        self.min_valid.fetch_max(oldest, Ordering::AcqRel);
        self.oldest.fetch_max(oldest, Ordering::AcqRel);
        self.note_quiet(&mut memory, now);
        self.note_refused(now);
        self.remove_idle(&mut memory, &mut done);
        self.remove_unused(&mut memory, now, &mut done);
        if let Some(dir) = &self.dir {
            if self.options.fsync == FsyncPolicy::Interval
                && let Err(error) = self.flush()
            {
                fail(&mut done, "The WAL cannot be synced", &error);
            }
            if let Some(wal) = &self.wal {
                self.note_writing(wal.check_room().err().as_ref());
            }
            self.set_damaged_aside(&dir.path, &mut done);
            if let Err(error) = self.heal() {
                fail(&mut done, "Full chunks of the head cannot be taken from the WAL", &error);
            }
            while let Some(cut) = self.next_cut(&memory, now) {
                // Until the WAL is shortened, the new block, which is smaller, stands beside it.
                self.remove_oldest(oldest, self.wal.as_ref().map_or(0, Wal::bytes), &mut done);
                match self.seal(&dir.path, cut, &mut memory) {
                    Ok(sealed) => done.blocks_sealed += usize::from(sealed),
                    Err(error) => {
                        self.metrics.seal_failures.inc();
                        fail(&mut done, "A window cannot be sealed", &error);
                        break;
                    }
                }
                // Before the next: the WAL is not to be shortened at the end only.
                self.checkpoint_if_due(&dir.path, &mut memory, &mut done);
            }
            if self.out_of_order_held.load(Ordering::Relaxed) > self.late_held_max() / late::HELD_ENOUGH_PART
                && let Err(error) = self.merge_late(&dir.path)
            {
                self.metrics.seal_failures.inc();
                fail(&mut done, "Late samples cannot be put into their blocks", &error);
            }
            self.checkpoint_if_due(&dir.path, &mut memory, &mut done);
            self.remove_oldest(oldest, 0, &mut done);
        } else if lock(&self.windows).first_key_value().is_some_and(|(start, _)| *start < oldest) {
            self.drop_from_head(oldest);
            memory.look_for_idle = true;
        }
        // Short of memory, also those are looked for that a deletion or a refused sample left empty.
        if std::mem::take(&mut memory.look_for_idle) || (self.dir.is_some() && self.is_short()) {
            self.look_for_idle(&mut memory);
        }
        if done.series_removed + done.blocks_removed + done.blocks_set_aside + done.blocks_sealed > 0 {
            let index = read(&self.index);
            let blocks: Vec<u64> = self.ring().blocks.iter().map(|b| b.number()).collect();
            let (head, removed) = (index.labels.number(), index.labels.version().removed);
            self.selects.tidy(|number| blocks.contains(&number), head, removed, index.labels.live());
        }
        self.update_gauges();
        done
    }

    /// Samples before this are past retention. That counts from the newest sample of the blocks, not from the clock: one that
    /// jumps ahead by more than retention must not let all of them fall off at once.
    fn retained_from(&self, now: Timestamp) -> Timestamp {
        let ring = self.ring();
        let newest = ring.blocks.iter().rev().find(|b| b.footer().samples > 0).map(|b| b.footer().ts.1);
        let newest = newest.or_else(|| {
            let newest = self.max_ts.load(Ordering::Relaxed);
            (self.dir.is_some() && newest != Timestamp::MIN).then_some(newest)
        });
        newest.map_or(now, |newest| newest.min(now)).saturating_sub(self.options.retention_ms)
    }

    pub(super) fn update_gauges(&self) {
        let m = &self.metrics;
        let ring = self.ring();
        let (mut chunks, mut chunk_bytes, mut open_bytes, mut histogram_bytes) = (0, 0, 0, 0);
        for i in 0..SHARDS {
            let shard = self.head.lock_shard(i);
            chunks += shard.chunks;
            chunk_bytes += shard.chunk_bytes;
            for series in shard.iter() {
                open_bytes += series.open_bytes() as u64;
                histogram_bytes += series.histogram_bytes() as u64;
            }
        }
        self.head.set_histogram_bytes(histogram_bytes);
        self.open_bytes.store(open_bytes, Ordering::Relaxed);
        self.chunk_bytes.store(chunk_bytes + self.head.page_bytes(), Ordering::Relaxed);
        m.head_chunks.set(chunks);
        let index = read(&self.index);
        m.series.set(index.labels.len());
        m.memory_bytes.set(self.memory_bytes(&index));
        m.select_cache_bytes.set(self.selects.bytes());
        m.memory_limit_bytes.set(self.options.memory_bytes_max);
        drop(index);
        m.wal_bytes.set(self.wal.as_ref().map_or(0, Wal::bytes));
        m.exemplars.set(lock(&self.exemplars).len() as u64);
        m.blocks.set(ring.blocks.len() as u64);
        m.block_bytes.set(ring.blocks.iter().map(|b| b.bytes()).sum());
    }

    fn note_quiet(&self, memory: &mut Maintenance, now: Timestamp) {
        let windows = lock(&self.windows);
        memory.quiet.retain(|start, _| windows.contains_key(start));
        for (start, n) in windows.iter() {
            let known = memory.quiet.entry(*start).or_insert((*n, now));
            if known.0 != *n {
                *known = (*n, now);
            }
        }
    }

    /// Up to where the head is to be sealed now, if anywhere.
    fn next_cut(&self, memory: &Maintenance, now: Timestamp) -> Option<Timestamp> {
        let first = *lock(&self.windows).first_key_value()?.0;
        let window_ms = self.options.window_ms;
        let end = first.saturating_add(window_ms);
        // A sample from the future, as of a clock that was wrong for a while, ends no window that is still being written.
        let newest = self.max_ts.load(Ordering::Relaxed).min(now);
        let grace = (window_ms / GRACE_PART).min(GRACE_MAX_MS);
        if newest >= end.saturating_add(grace) {
            let quiet = memory.quiet.get(&first).is_some_and(|q| now - q.1 >= QUIET_MS.min(grace));
            // A source that lags for ever must not keep the ring from turning. Before the first block there is none:
            // somebody may be writing history, oldest first.
            let lags = !self.ring().blocks.is_empty() && newest >= end.saturating_add(window_ms);
            if quiet || lags {
                return Some(end);
            }
        }
        self.early_cut(now)
    }

    /// Up to where the head is to be sealed before its window is over, because memory or disk is short; `None` if neither is,
    /// or if it would not help.
    pub fn early_cut(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.is_short() {
            return None;
        }
        let first = *lock(&self.windows).first_key_value()?.0;
        let window_ms = self.options.window_ms;
        let end = first.saturating_add(window_ms);
        let newest = self.max_ts.load(Ordering::Relaxed);
        let disk = self.wal_is_too_long();
        let grace = if disk { EARLY_GRACE_MAX_MS } else { MEMORY_GRACE_MAX_MS };
        // A sender whose clock is ahead does not make all others late.
        let cut = end.min(newest.min(now).saturating_sub(grace.min(window_ms / GRACE_PART)));
        let begun = self.ring().sealed_until.max(first);
        let long = cut.saturating_sub(begun) >= window_ms / EARLY_PART;
        let worth_it = || disk || cut == end || (long && self.holds_many_late()) || self.would_free(cut);
        (cut > begun && worth_it()).then_some(cut)
    }

    /// Whether a block of what is before `cut` would free much memory: of series that have ended by then, and of
    /// histograms. Where it is series that go on which take the memory, many small blocks would not help.
    fn would_free(&self, cut: Timestamp) -> bool {
        let freed = |s: &HeadSeries| {
            if s.last_ts() >= cut {
                s.histogram_bytes_before(cut) as u64
            } else if s.is_empty() {
                0
            } else {
                SERIES_BYTES_GROWN + s.histogram_bytes() as u64
            }
        };
        let of_shard = |i| self.head.lock_shard(i).iter().map(freed).sum::<u64>();
        let all = (0..SHARDS).map(of_shard).sum::<u64>();
        all > self.options.memory_bytes_max / EARLY_PART as u64
    }

    pub fn holds_many_late(&self) -> bool {
        self.out_of_order_held.load(Ordering::Relaxed) > self.late_held_max() / 2
    }

    /// What cannot wait for the next call of [`Db::maintain`].
    pub fn relieve(&self, now: Timestamp) {
        if self.dir.is_none() || self.options.read_only {
            return;
        }
        self.note_refused(now);
        if self.options.fsync == FsyncPolicy::Interval
            && let Err(error) = self.flush()
        {
            tracing::error!(%error, "The WAL cannot be synced");
        }
        self.count_full_chunks();
        if self.wal_is_too_long() || self.is_too_large(0) {
            self.maintain(now);
        } else if now >= self.relieve_from.load(Ordering::Relaxed) && self.is_short() {
            let done = self.maintain(now);
            // Series that go on may take most of what there is, for ever: each look is one at all of them.
            let pause = if done.blocks_sealed + done.series_removed == 0 { RELIEF_PAUSE_MS } else { 0 };
            self.relieve_from.store(now.saturating_add(pause), Ordering::Relaxed);
        }
    }

    /// Counts the bytes of full chunks anew.
    pub fn count_full_chunks(&self) {
        let chunk_bytes: u64 = (0..SHARDS).map(|i| self.head.lock_shard(i).chunk_bytes).sum();
        self.chunk_bytes.store(chunk_bytes + self.head.page_bytes(), Ordering::Relaxed);
    }

    /// Whether the disk holds more than retention allows, with `more` bytes to come.
    fn is_too_large(&self, more: u64) -> bool {
        let Some(bound) = self.options.retention_bytes else { return false };
        let blocks: u64 = self.ring().blocks.iter().map(|b| b.bytes()).sum();
        // A little before the bound, so that what comes until the next look stays below it.
        blocks + self.wal.as_ref().map_or(0, Wal::bytes) + more > bound - bound / SIZE_MARGIN_PART
    }

    /// Whether the head has outgrown what memory or disk is given to it.
    fn is_short(&self) -> bool {
        if self.wal_is_too_long() {
            return true;
        }
        if self.holds_many_late() || self.has_many_histograms(4) {
            return true;
        }
        let bound = self.options.memory_bytes_max;
        bound > 0 && self.memory_bytes_grown(&read(&self.index)) > bound / 4 * 3
    }

    fn wal_is_too_long(&self) -> bool {
        let wal_bytes = self.wal.as_ref().map_or(0, Wal::bytes);
        self.options.retention_bytes.is_some_and(|bound| wal_bytes > bound / WAL_PART)
    }

    /// Seals all windows that have samples, up to the newest sample.
    pub fn seal_all(&self) -> io::Result<()> {
        let mut memory = lock(&self.maintenance);
        let newest = self.max_ts.load(Ordering::Relaxed);
        let Some(dir) = &self.dir else { return Ok(()) };
        if self.options.read_only {
            return Err(io::Error::other(StorageError::ReadOnly));
        }
        loop {
            let Some(first) = lock(&self.windows).first_key_value().map(|(start, _)| *start) else {
                return self.merge_late(&dir.path).map(drop);
            };
            let end = first.saturating_add(self.options.window_ms);
            self.seal(&dir.path, end.min(newest.saturating_add(1)), &mut memory)?;
            self.shorten_wal(&dir.path, &mut memory)?;
            if end > newest {
                return self.merge_late(&dir.path).map(drop);
            }
        }
    }

    /// Seals everything before `cut`; returns whether there was anything.
    pub fn seal(&self, dir: &Path, cut: Timestamp, memory: &mut Maintenance) -> io::Result<bool> {
        let before = self.min_valid.fetch_max(cut, Ordering::SeqCst);
        let block = match self.with_healed_chunks(|| self.write_block(dir, cut)) {
            Ok(block) => block,
            Err(error) => {
                // Nothing was sealed, so late samples are welcome again.
                let _moved_meanwhile =
                    self.min_valid.compare_exchange(cut, before, Ordering::SeqCst, Ordering::SeqCst);
                return Err(error);
            }
        };
        let sealed = block.as_ref().map(|b| b.footer().range);
        {
            let mut ring = write(&self.ring);
            let mut blocks = ring.blocks.to_vec();
            blocks.extend(block);
            *ring = Ring { blocks: Arc::new(blocks), sealed_until: ring.sealed_until.max(cut) };
        }
        self.metrics.seals.inc_by(u64::from(sealed.is_some()));
        self.drop_from_head(cut);
        memory.deletions_to_save |= self.forget_deleted(cut);
        if let Some(range) = sealed {
            memory.deletions_to_save |= self.forget_known_before(range.0);
        }
        memory.look_for_idle = true;
        self.merge_late(dir)?;
        if sealed.is_some() {
            memory.checkpoint_due = Some(cut);
        }
        Ok(sealed.is_some())
    }

    fn checkpoint_if_due(&self, dir: &Path, memory: &mut Maintenance, done: &mut Maintained) {
        if let Err(error) = self.shorten_wal(dir, memory) {
            self.metrics.seal_failures.inc();
            fail(done, "The WAL cannot be shortened", &error);
        }
    }

    pub fn shorten_wal(&self, dir: &Path, memory: &mut Maintenance) -> io::Result<()> {
        if let Some(cut) = memory.checkpoint_due {
            self.checkpoint(dir, cut)?;
            memory.checkpoint_due = None;
        }
        // Not before the WAL says on the disk that late samples are in their blocks; see `Db::end_seal`.
        if memory.deletions_to_save {
            self.flush().map_err(io::Error::other)?;
            self.save_deletions()?;
            memory.deletions_to_save = false;
        }
        Ok(())
    }

    fn drop_from_head(&self, cut: Timestamp) {
        // Until the shards' locks are free.
        let _files = self.head.hold_files();
        for i in 0..SHARDS {
            self.head.lock_shard(i).drop_before(cut);
        }
        let window_ms = self.options.window_ms;
        lock(&self.windows).retain(|start, _| start.saturating_add(window_ms) > cut);
    }

    /// Writes the head's samples before `cut` as a block; `None` if there are none.
    fn write_block(&self, dir: &Path, cut: Timestamp) -> io::Result<Option<Arc<Block>>> {
        let sealed_until = self.ring().sealed_until;
        let Some(series) = self.series_before(sealed_until, cut) else { return Ok(None) };
        let pairs: Vec<(&str, &str)> = series.pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        let first = lock(&self.windows).first_key_value().map_or(cut, |(start, _)| *start);
        let range = (sealed_until.max(first).min(cut), cut);
        let disk = &*self.disk;
        let path = blocks_dir(dir).join(format!("{}-{}.{}", range.0, range.1, block::EXTENSION));
        let deleted = self.deleted();
        let fill = |out: &mut dyn Write| {
            let mut writer = BlockWriter::new(out, range, &pairs)?;
            let (mut samples, mut scratch) = (Samples::default(), ChunkScratch::default());
            for i in &series.order {
                let id = series.ids[*i as usize];
                let part = self.head.lock_one(id).get(id).map(|s| s.snapshot());
                if let Some(part) = part {
                    let mut read = |from, to, samples: &mut Samples| {
                        samples.clear();
                        let whole = part.read(from, to, samples, &mut scratch);
                        deleted.take_out(id, samples, (0, 0));
                        whole
                    };
                    let (from, to) = (sealed_until, cut - 1);
                    write_series(
                        &mut writer,
                        series.ranks(*i),
                        (from, to),
                        &part.cuts(from, to),
                        &mut samples,
                        &mut read,
                    )?;
                }
            }
            writer.finish()
        };
        // The head drops what the block holds, so it has to read back.
        let verify = |path: &Path| Block::open_verified(disk, path);
        let (footer, block) = disk::write_whole(disk, &path, fill, verify)?;
        // With deletions an empty block stays: it says that what the WAL may still have is sealed.
        if footer.samples == 0 && deleted.is_empty() {
            if let Err(error) = disk.remove(&path) {
                tracing::warn!(block = %path.display(), %error, "A block without samples cannot be removed");
            }
            return Ok(None);
        }
        tracing::info!(block = %path.display(), series = footer.series, samples = footer.samples, "Sealed a block");
        Ok(Some(Arc::new(block.moved_to(&path))))
    }

    /// The series that have samples before `cut`, with their labels as numbers that sort as the labels do.
    pub fn series_before(&self, from: Timestamp, cut: Timestamp) -> Option<SeriesToSeal> {
        let index = read(&self.index);
        let mut series = SeriesToSeal::default();
        let mut used = RoaringBitmap::new();
        for id in index.labels.live() {
            if self.head.lock_one(id).get(id).is_some_and(|s| s.is_to_seal(from, cut - 1)) {
                let start = series.flat.len();
                series.ids.push(id);
                series.flat.extend(index.labels.pair_ids(id));
                series.ends.push(series.flat.len());
                used.extend(series.flat[start..].iter().copied());
            }
        }
        if series.ids.is_empty() {
            return None;
        }
        let mut by_text: Vec<(&str, &str, u32)> = used
            .iter()
            .map(|p| {
                let (n, v) = index.labels.pair(p);
                (n, v, p)
            })
            .collect();
        by_text.sort_unstable();
        let mut ranks = vec![0u32; index.labels.pair_ids_end()];
        let mut last_name: Arc<str> = Arc::from("");
        for (rank, (name, value, p)) in by_text.into_iter().enumerate() {
            ranks[p as usize] = rank as u32;
            if *last_name != *name {
                last_name = Arc::from(name);
            }
            series.pairs.push((Arc::clone(&last_name), value.into()));
        }
        drop(index);
        for p in &mut series.flat {
            *p = ranks[*p as usize];
        }
        let mut order: Vec<u32> = (0..series.ids.len() as u32).collect();
        order.sort_unstable_by(|a, b| series.ranks(*a).cmp(series.ranks(*b)));
        series.order = order;
        Some(series)
    }

    /// Ends the WAL's segment, writes who lives, and removes the segments that hold nothing from `cut` on.
    fn checkpoint(&self, dir: &Path, cut: Timestamp) -> io::Result<()> {
        let Some(wal) = &self.wal else { return Ok(()) };
        // The blocks' names have to be on the disk before what they replace goes.
        self.disk.sync_dir(&blocks_dir(dir))?;
        let number = wal.end_segment()?;
        let live: Vec<u32> = read(&self.index).labels.live().iter().collect();
        wal.checkpoint(number, cut, |out| {
            {
                let metadata = read(&self.metadata);
                out.frame(0, |f| f.metadata(metadata.iter().map(|(n, m)| (n.as_str(), m))))?;
            }
            for some in live.chunks(SERIES_AT_ONCE) {
                let named: Vec<_> = {
                    let index = read(&self.index);
                    some.iter().map(|id| (self.head.reference(*id), index.labels.labels(*id))).collect()
                };
                out.frame(named.len() as u64, |f| f.series(named.iter().map(|(s, l)| (*s, l.iter()))))?;
            }
            for some in self.exemplars_to_keep().chunks(SERIES_AT_ONCE) {
                out.frame(0, |f| f.exemplars(some.iter().map(|(s, e)| (*s, e))))?;
            }
            Ok(())
        })
    }

    /// Notes which series hold no sample. Those that still hold none at the next call are removed; a batch in
    /// between, which knows such a series by its reference, then finds it still there.
    fn look_for_idle(&self, memory: &mut Maintenance) {
        let index = read(&self.index);
        for id in index.labels.live() {
            let mut shard = self.head.lock_one(id);
            // One that the WAL does not know yet may belong to a batch that is under way.
            if let Some((series, _)) = shard.get_mut(id)
                && series.is_empty()
                && series.is_logged()
            {
                series.set_idle(true);
                memory.idle.insert(id);
            }
        }
    }

    fn remove_idle(&self, memory: &mut Maintenance, done: &mut Maintained) {
        let idle: Vec<u32> = std::mem::take(&mut memory.idle).into_iter().collect();
        let removed = self.remove_series(&idle, |s| s.is_idle() && s.is_empty());
        done.series_removed += removed;
    }

    /// Removes series that were made for a batch which gave them no sample, as its samples were too old: nothing that is
    /// sealed makes them idle.
    fn remove_unused(&self, memory: &mut Maintenance, now: Timestamp, done: &mut Maintained) {
        let (unused, since) = &mut memory.unused;
        if unused.is_empty() {
            unused.extend(lock(&self.unlogged).keys());
            *since = now;
        } else if now.saturating_sub(*since) >= UNUSED_MS {
            let unused = std::mem::take(unused);
            let ids: Vec<u32> =
                unused.iter().filter(|s| self.head.is_current(**s)).map(|s| id_of(*s)).collect();
            let removed = self.remove_series(&ids, |s| !s.is_logged() && s.is_empty());
            done.series_removed += removed;
        }
    }

    /// Removes those of the series that are as `is` says; returns how many.
    pub fn remove_series(&self, ids: &[u32], is: impl Fn(&HeadSeries) -> bool) -> usize {
        let mut removed = 0;
        for some in ids.chunks(SERIES_AT_ONCE) {
            let mut index = write(&self.index);
            for id in some {
                let mut shard = self.head.lock_one(*id);
                if shard.get(*id).is_some_and(&is) {
                    lock(&self.unlogged).remove(&self.head.reference(*id));
                    self.head.drop_series(&mut shard, *id);
                    drop(shard);
                    index.labels.remove(*id);
                    index.free.push(*id);
                    removed += 1;
                }
            }
        }
        self.metrics.series_removed.inc_by(removed as u64);
        removed
    }

    fn set_damaged_aside(&self, dir: &Path, done: &mut Maintained) {
        let damaged = |b: &Arc<Block>| b.is_damaged();
        if !self.ring().blocks.iter().any(damaged) {
            return;
        }
        let mut ring = write(&self.ring);
        let (aside, whole): (Vec<_>, Vec<_>) = ring.blocks.iter().cloned().partition(damaged);
        ring.blocks = Arc::new(whole);
        drop(ring);
        for block in aside {
            self.metrics.damaged.inc();
            self.metrics.damaged_bytes.inc_by(block.bytes());
            write(&self.gaps).push(block.footer().range);
            done.blocks_set_aside += 1;
            match disk::quarantine(&*self.disk, dir, block.path()) {
                Ok(to) => {
                    tracing::error!(block = %block.path().display(), set_aside = %to.display(), "Set a damaged block aside");
                }
                Err(error) => fail(done, "A damaged block cannot be set aside", &error),
            }
        }
    }

    /// Lets blocks fall off: those that end before `oldest`, and the oldest ones while the disk holds too much.
    ///
    /// The newest block says until when all is sealed, and what is deleted of it is known by it alone: without it a replay
    /// would take for the head's what the WAL still has of its time. So an empty one stays in its place.
    pub fn remove_oldest(&self, oldest: Timestamp, more: u64, done: &mut Maintained) {
        let too_large = |bytes: u64| {
            self.options.retention_bytes.is_some_and(|bound| bytes > bound - bound / SIZE_MARGIN_PART)
        };
        let is_past = |block: &Block| {
            let footer = block.footer();
            let newest = if footer.samples == 0 { footer.range.1 - 1 } else { footer.ts.1 };
            newest < oldest
        };
        let all_bytes = |ring: &Ring| {
            let wal_bytes = self.wal.as_ref().map_or(0, Wal::bytes);
            wal_bytes + more + ring.blocks.iter().map(|b| b.bytes()).sum::<u64>()
        };
        let mut ring = self.ring();
        if let (Some(dir), Some(first)) = (&self.dir, ring.blocks.first())
            && (is_past(first) || too_large(all_bytes(&ring)))
        {
            // Late samples meet their block before it goes: what it keeps out must not be there when it is gone.
            if let Err(error) = self.merge_late(&dir.path) {
                fail(done, "Late samples cannot be put into their blocks", &error);
            }
            ring = self.ring();
        }
        let mut bytes = all_bytes(&ring);
        let mut changed = false;
        for (i, block) in ring.blocks.iter().enumerate() {
            let too_large = too_large(bytes);
            let footer = block.footer();
            if !is_past(block) && !too_large {
                break;
            }
            bytes -= block.bytes();
            if i + 1 < ring.blocks.len() {
                self.replace_block(block, None);
                if let Err(error) = self.disk.remove(block.path()) {
                    fail(done, "A block past retention cannot be removed", &error);
                }
            } else if footer.samples == 0 {
                break;
            } else if let Err(error) = self.empty_block(block) {
                fail(done, "A block past retention cannot be emptied", &error);
                break;
            }
            if too_large {
                // What would come late for it would be the first to go.
                self.oldest.fetch_max(footer.range.1, Ordering::AcqRel);
            }
            done.blocks_removed += 1;
            changed = true;
        }
        if let (true, Some(dir)) = (changed, &self.dir)
            && let Err(error) = self.disk.sync_dir(&blocks_dir(&dir.path))
        {
            fail(done, "The removal of blocks past retention cannot be put on the disk", &error);
        }
    }

    /// Puts one without samples in a block's place.
    fn empty_block(&self, block: &Arc<Block>) -> io::Result<()> {
        let disk = &*self.disk;
        let fill = |out: &mut dyn Write| BlockWriter::new(out, block.footer().range, &[])?.finish();
        let verify = |path: &Path| Block::open_verified(disk, path);
        let (_, empty) = disk::write_whole(disk, block.path(), fill, verify)?;
        self.replace_block(block, Some(Arc::new(empty.moved_to(block.path()))));
        Ok(())
    }
}

/// Writes the samples in `from..=to` of a series, in parts that begin at `cuts` if there are any; `read` puts those between
/// two times in place of what is there, and says whether it could.
pub(super) fn write_series<W: Write>(
    writer: &mut BlockWriter<'_, W>,
    ranks: &[u32],
    (from, to): (Timestamp, Timestamp),
    cuts: &[Timestamp],
    samples: &mut Samples,
    read: &mut dyn FnMut(Timestamp, Timestamp, &mut Samples) -> bool,
) -> io::Result<()> {
    let mut read = |from, to, samples: &mut Samples| match read(from, to, samples) {
        true => Ok(()),
        false => Err(io::Error::other(CHUNKS_UNREADABLE)),
    };
    if cuts.is_empty() {
        read(from, to, samples)?;
        return writer.series(ranks, samples);
    }
    for floats in [true, false] {
        let mut begin = from;
        for end in cuts.iter().map(|cut| cut - 1).chain([to]) {
            read(begin, end, samples)?;
            begin = end.saturating_add(1);
            if floats { writer.floats(samples)? } else { writer.histograms(samples) }
        }
    }
    writer.end_series(ranks)
}

/// Notes what went wrong, and logs it.
fn fail(done: &mut Maintained, what: &str, error: &dyn std::fmt::Display) {
    tracing::error!(%error, "{what}");
    done.failure.get_or_insert_with(|| format!("{what}: {error}"));
}

/// The series of a block to be.
#[derive(Debug, Default)]
pub(super) struct SeriesToSeal {
    pub ids: Vec<u32>,
    /// The pairs of all series, one after the other, as positions in `pairs`.
    flat: Vec<u32>,
    ends: Vec<usize>,
    /// Ascending.
    pub pairs: Vec<(Arc<str>, Box<str>)>,
    /// Positions in `ids`, ascending by labels.
    pub order: Vec<u32>,
}

impl SeriesToSeal {
    pub fn ranks(&self, i: u32) -> &[u32] {
        let i = i as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.flat[start..self.ends[i]]
    }
}
