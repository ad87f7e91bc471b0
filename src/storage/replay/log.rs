//! The whole WAL: checkpoint, then segment after segment.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, sync_channel};

use super::parts::{Postponed, ReplayPart, Replayed};
use super::segment::Loaded;
use super::worker::{self, Done};
use crate::model::{Labels, Timestamp};
use crate::storage::api::SeriesRef;
use crate::storage::db::{Db, FAMILIES_MAX, SeriesIndex, lock, read, write};
use crate::storage::disk;
use crate::storage::head::{SERIES_MAX, SHARDS, generation_of, id_of};
use crate::storage::open::at_path;
use crate::storage::progress::ReplayProgress;
use crate::storage::wal::frame::{self, Section};
use crate::storage::wal::log::{CHECKPOINT, CHECKPOINT_COPY, SEGMENT, Segment, file_path, numbered_files};
use crate::storage::wal::replay::{Damage, Lost, Torn, scan};

/// The log says after so many segments how far the replay is.
const SEGMENTS_TO_LOG: u64 = 8;
/// So many threads replay at most.
const THREADS_MAX: usize = 8;
/// A segment with fewer bytes is replayed by one thread.
const THREAD_BYTES: usize = 1 << 20;

impl Db {
    /// Reads the WAL into the head, or as much of it as `part` says.
    pub fn replay(
        &self,
        dir: &Path,
        wal_dir: &Path,
        progress: &ReplayProgress,
        part: ReplayPart,
    ) -> io::Result<Replayed> {
        if self.options.read_only && !self.disk.exists(wal_dir) {
            return Ok(Replayed::default());
        }
        let mut checkpoints: Vec<(u64, &str)> = Vec::new();
        for extension in [CHECKPOINT, CHECKPOINT_COPY] {
            let files = numbered_files(&*self.disk, wal_dir, extension)?;
            checkpoints.extend(files.into_iter().map(|(number, _)| (number, extension)));
        }
        // Each before its copy.
        checkpoints.sort_unstable();
        let segments = numbered_files(&*self.disk, wal_dir, SEGMENT)?;
        let mut replay = Replay {
            db: self,
            dir,
            part,
            postponed: None,
            samples: 0,
            unknown: 0,
            unknown_late: worker::UnknownLate::default(),
            damage: Damaged::default(),
            // Segments before the newest checkpoint may be superfluous, those since are all there.
            lengths: Lengths { all_from: checkpoints.last().map_or(0, |c| c.0), found: BTreeMap::new() },
            generation_max: 0,
        };
        // The newest is enough, unless it is damaged: then everything that names a series is welcome.
        let mut known_before = None;
        for (number, extension) in &checkpoints {
            if known_before != Some(*number) && replay.checkpoint(&file_path(wal_dir, *number, extension))? {
                known_before = Some(*number);
            }
        }
        let known_before = known_before.unwrap_or(0);
        let numbers: Vec<u64> = segments.iter().map(|s| s.0).collect();
        let ended = replay.segments(wal_dir, &numbers, known_before, progress)?;
        let postponed = replay.postponed.take();
        if postponed.is_none() {
            progress.end();
        }
        replay.report(numbers.len());
        let last = [numbers.last().copied(), checkpoints.last().map(|c| c.0)];
        let next = last.into_iter().flatten().max().unwrap_or(0) + 1;
        Ok(Replayed { segments: ended, next, postponed })
    }
}

/// A replay at work.
struct Replay<'a> {
    db: &'a Db,
    dir: &'a Path,
    part: ReplayPart,
    /// What is left for the next part, if there is to be one.
    postponed: Option<Postponed>,
    samples: u64,
    /// Samples whose series nothing names any more.
    unknown: u64,
    /// The same of samples that came late and may be in their blocks.
    unknown_late: worker::UnknownLate,
    damage: Damaged,
    lengths: Lengths,
    generation_max: u32,
}

/// What was damaged.
#[derive(Debug, Default)]
struct Damaged {
    pieces: u64,
    bytes: u64,
    /// Samples in frames that are damaged but for their headers.
    samples: u64,
    /// Pieces that may have held more.
    uncounted: u64,
}

impl Damaged {
    fn add(&mut self, bytes: usize, lost: &Lost) {
        self.pieces += 1;
        self.bytes += bytes as u64;
        self.samples += lost.samples;
        self.uncounted += u64::from(!lost.exact);
    }

    /// Counts sections that cannot be read though their checksum is right.
    fn unreadable(&mut self, sections: u64) {
        if sections > 0 {
            // It is another version's writing, or a mistake of ours.
            tracing::error!(sections, "Sections of the WAL cannot be read");
            self.pieces += sections;
            self.uncounted += sections;
        }
    }
}

/// How long segments are, against what the next one says of each.
#[derive(Debug, Default)]
pub(in crate::storage) struct Lengths {
    /// Segments from this number on were not removed for being superfluous.
    pub all_from: u64,
    /// As they were found, by number.
    pub found: BTreeMap<u64, u64>,
}

impl Lengths {
    /// How many of a segment's bytes are missing, if some are.
    pub fn missing(&self, number: u64, bytes: u64) -> Option<u64> {
        let found = match self.found.get(&number) {
            Some(found) => *found,
            None if number < self.all_from => return None,
            None => 0,
        };
        bytes.checked_sub(found).filter(|missing| *missing > 0)
    }
}

impl Replay<'_> {
    /// Reads a checkpoint; returns whether it is whole.
    fn checkpoint(&mut self, path: &Path) -> io::Result<bool> {
        let bytes = self.db.disk.read(path).map_err(|e| at_path(path, &e))?;
        let found = scan(&bytes);
        let mut end = None;
        let mut series = 0u64;
        for payload in &found.payloads {
            for section in frame::sections(&bytes[payload.clone()]) {
                match section {
                    Section::CheckpointEnd(n) => end = Some(n),
                    other => series += self.names(other),
                }
            }
        }
        let whole = found.damaged.is_empty() && found.torn.is_none() && end == Some(series);
        if !whole {
            // It has no samples: what is lost are names, and they are sought in all segments then.
            let (mut damaged_bytes, mut named) = (0, 0);
            let torn = found.torn.map(|t| (bytes.len() - t.at, t.lost.series));
            for (bytes, series) in found.damaged.iter().map(|d| (d.bytes.len(), d.lost.series)).chain(torn) {
                damaged_bytes += bytes as u64;
                named += series;
            }
            self.damage.pieces += 1;
            self.damage.bytes += damaged_bytes;
            tracing::error!(checkpoint = %path.display(), damaged_bytes, series_in_damaged_frames = named, "A checkpoint of the WAL is damaged; series are taken from it as far as it goes and from all segments");
        }
        Ok(whole)
    }

    /// Takes all segments, each read while the one before is taken.
    fn segments(
        &mut self,
        wal_dir: &Path,
        numbers: &[u64],
        known_before: u64,
        progress: &ReplayProgress,
    ) -> io::Result<Vec<Segment>> {
        let (first, last) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
        progress.begin(first, last);
        let mut ended = Vec::with_capacity(numbers.len());
        let disk = &*self.db.disk;
        std::thread::scope(|scope| {
            let (send, loaded) = sync_channel(1);
            let (give_back, spare) = channel();
            scope.spawn(move || {
                for number in numbers {
                    let path = file_path(wal_dir, *number, SEGMENT);
                    let names = *number >= known_before;
                    let read = Loaded::read(disk, *number, path, names, spare.try_recv().ok());
                    if send.send(read).is_err() {
                        return;
                    }
                }
            });
            for segment in loaded {
                let segment = segment?;
                progress.reached(segment.number);
                if (segment.number - first).is_multiple_of(SEGMENTS_TO_LOG) && numbers.len() > 1 {
                    tracing::info!(segment = segment.number, last, "Replaying the WAL");
                }
                ended.push(self.segment(&segment, segment.number == last)?);
                if self.part.is_bounded && self.postponed.is_none() && segment.number != last {
                    self.postponed = self.db.postpone();
                }
                // When all are read, nobody takes it.
                let _freed = give_back.send(segment);
            }
            Ok::<(), io::Error>(())
        })?;
        if ended.len() < numbers.len() {
            return Err(io::Error::other("a segment of the WAL was not read"));
        }
        Ok(ended)
    }

    /// Takes what a segment has.
    fn segment(&mut self, segment: &Loaded, is_last: bool) -> io::Result<Segment> {
        self.compare_with_before(segment);
        let bytes = self.set_aside(segment, is_last);
        self.damage.unreadable(segment.unreadable);
        for place in &segment.names {
            if let Some(section) = segment.section(place) {
                self.names(section);
            }
        }
        let threads = match std::thread::available_parallelism() {
            Ok(n) if segment.bytes.len() > THREAD_BYTES => n.get().min(THREADS_MAX),
            _ => 1,
        };
        let shards =
            |thread: usize| (0..SHARDS).filter(|s| s % threads == thread).fold(0u64, |set, s| set | 1 << s);
        let (db, postponed) = (self.db, self.postponed.as_ref());
        // All see the same marks, so it does not matter who goes on with the count.
        let unknown_late = std::mem::take(&mut self.unknown_late);
        let done: Vec<Option<Done>> = std::thread::scope(|scope| {
            let none = worker::UnknownLate::default();
            let others: Vec<_> = (1..threads)
                .map(|t| scope.spawn(move || worker::take(db, segment, shards(t), none, postponed)))
                .collect();
            let mine = worker::take(db, segment, shards(0), unknown_late, postponed);
            others.into_iter().map(|t| t.join().ok()).chain([Some(mine)]).collect()
        });
        let mut newest = Timestamp::MIN;
        let mut unreadable = 0;
        for done in done {
            let done =
                done.ok_or_else(|| io::Error::other("a thread that replays the WAL has ended early"))?;
            newest = newest.max(done.newest);
            // The same for all of them: each reads every section that is not grouped.
            unreadable = unreadable.max(done.unreadable);
            self.count(done);
        }
        self.damage.unreadable(unreadable);
        db.max_ts.fetch_max(newest, Ordering::Relaxed);
        Ok(Segment { number: segment.number, bytes, max_ts: newest })
    }

    fn count(&mut self, done: Done) {
        self.samples += done.taken;
        self.unknown += done.unknown;
        self.unknown_late.add(done.unknown_late);
        if let Some(postponed) = &mut self.postponed {
            postponed.series |= done.postponed;
        }
        if done.out_of_order > 0 {
            self.db.late_logged.store(true, Ordering::Relaxed);
            self.db.out_of_order_held.fetch_add(done.out_of_order, Ordering::Relaxed);
        }
        let mut all = lock(&self.db.windows);
        for (start, n) in done.windows {
            *all.entry(start).or_default() += n;
        }
    }

    /// Tells if the segment before this one is shorter than it was, or gone.
    fn compare_with_before(&mut self, segment: &Loaded) {
        let missing = segment.before.and_then(|(number, bytes)| self.lengths.missing(number, bytes));
        self.lengths.found.insert(segment.number, segment.bytes.len() as u64);
        let Some(missing) = missing else { return };
        self.damage.add(missing as usize, &Lost { exact: false, ..Lost::NOTHING });
        tracing::error!(segment = %segment.path.display(), missing_bytes = missing, "The segment of the WAL before this one was cut off, or is gone");
    }

    /// Puts aside what is damaged and cuts off a torn end; returns how long the segment is then.
    fn set_aside(&mut self, segment: &Loaded, is_last: bool) -> u64 {
        let Loaded { path, bytes, found, .. } = segment;
        for Damage { bytes: piece, lost } in &found.damaged {
            self.damage.add(piece.len(), lost);
            let to = self.db.set_aside(|| self.quarantine(segment, piece.clone()));
            tracing::error!(segment = %path.display(), offset = piece.start, bytes = piece.len(), %lost, set_aside = ?to, "A piece of the WAL is damaged");
        }
        let Some(Torn { at, mut lost, cut, is_write }) = found.torn else { return bytes.len() as u64 };
        let cut_bytes = bytes.len() - at;
        let cut_samples = cut.map_or(0, |counts| counts.samples);
        // The process may end in the middle of a write, whose samples nobody was promised; but then nothing follows.
        if is_last && is_write {
            tracing::warn!(segment = %path.display(), offset = at, bytes = cut_bytes, samples_cut_off = cut_samples, "The end of the WAL is torn: a write was cut short there");
        } else {
            if !is_last {
                lost.samples += u64::from(cut_samples);
            }
            self.damage.add(cut_bytes, &lost);
            tracing::error!(segment = %path.display(), offset = at, bytes = cut_bytes, %lost, "The end of a segment of the WAL is damaged");
        }
        if !self.db.options.read_only {
            let put = self.quarantine(segment, at..bytes.len());
            if let Err(error) = put.and_then(|_| self.db.disk.truncate(path, at as u64)) {
                tracing::warn!(segment = %path.display(), %error, "The torn end of the WAL stays");
            }
        }
        at as u64
    }

    fn quarantine(&self, segment: &Loaded, piece: Range<usize>) -> io::Result<PathBuf> {
        let offset = piece.start as u64;
        disk::quarantine_piece(&*self.db.disk, self.dir, &segment.path, offset, &segment.bytes[piece])
    }

    /// Takes series, metadata and exemplars of a section; returns how many series.
    fn names(&mut self, section: Section<'_>) -> u64 {
        let mut n = 0;
        let whole = match section {
            Section::Series(bytes) => self.series_section(bytes, &mut n),
            Section::SeriesCompressed(bytes) => {
                frame::decompress_series(bytes).and_then(|bytes| self.series_section(&bytes, &mut n))
            }
            Section::Exemplars(bytes) => {
                let index = read(&self.db.index);
                let mut ring = lock(&self.db.exemplars);
                frame::each_exemplar(bytes, |series, exemplar| {
                    if self.db.head.is_current(series) {
                        // Those of a segment that the checkpoint has as well are there already.
                        let _held = ring.add(&index.labels.labels(id_of(series)), exemplar);
                    }
                })
            }
            Section::Metadata(bytes) => {
                let mut all = write(&self.db.metadata);
                frame::each_metadata(bytes, |family, m| {
                    if all.len() < FAMILIES_MAX || all.contains_key(family) {
                        all.insert(family.to_owned(), m);
                    }
                })
            }
            _ => Some(()),
        };
        self.damage.unreadable(u64::from(whole.is_none()));
        n
    }

    fn series_section(&mut self, bytes: &[u8], n: &mut u64) -> Option<()> {
        let mut index = write(&self.db.index);
        let whole = frame::each_series(bytes, |series, pairs| {
            *n += 1;
            self.series(&mut index, series, pairs);
        });
        index.labels.settle();
        whole
    }

    fn series(&mut self, index: &mut SeriesIndex, series: SeriesRef, pairs: &[(&str, &str)]) {
        let (id, generation) = (id_of(series), generation_of(series));
        if id as usize >= SERIES_MAX || generation == 0 {
            return;
        }
        self.generation_max = self.generation_max.max(generation);
        let sorted = pairs.is_sorted_by(|a, b| a.0 < b.0);
        let labels = if sorted {
            Labels::from_sorted(pairs.iter().copied())
        } else {
            Labels::from_pairs(pairs.iter().copied())
        };
        let hash = index.labels.hash(labels.borrowed());
        match index.labels.find_hashed(hash, labels.borrowed()) {
            Some(known) if known == id && self.db.head.is_current(series) => return,
            // Later records win: an older series with these labels, or under this id, had left the ring.
            Some(other) => {
                index.labels.remove(other);
                self.db.head.restore(other, 0);
            }
            None => {}
        }
        if index.labels.has(id) {
            index.labels.remove(id);
        }
        index.labels.insert_hashed(id, hash, labels.borrowed());
        self.db.head.restore(id, generation);
    }

    /// Makes the index ready for new series, and tells what was found.
    fn report(mut self, segments: usize) {
        self.unknown += self.unknown_late.all();
        let db = self.db;
        let mut index = write(&db.index);
        index.next = index.labels.live().max().map_or(0, |m| m + 1);
        let free: Vec<u32> = (0..index.next).filter(|id| !index.labels.live().contains(*id)).rev().collect();
        index.free = free;
        index.generation_min = self.generation_max.saturating_add(1);
        if segments > 0 {
            tracing::info!(segments, series = index.labels.len(), samples = self.samples, "Replayed the WAL");
        }
        let Damaged { pieces, bytes, samples, uncounted } = self.damage;
        // Each part meets all of it.
        if !self.part.is_first {
            return;
        }
        if pieces > 0 || self.unknown > 0 {
            db.metrics.damaged.inc_by(pieces.max(1));
            db.metrics.damaged_bytes.inc_by(bytes);
            db.metrics.damaged_uncounted.inc_by(uncounted);
            db.metrics.lost_samples.inc_by(samples + self.unknown);
            let at_least = if uncounted > 0 { "at least " } else { "" };
            tracing::error!(
                damaged_pieces = pieces,
                damaged_bytes = bytes,
                lost_samples = format!("{at_least}{}", samples + self.unknown),
                samples_of_unknown_series = self.unknown,
                "Parts of the WAL were damaged and set aside; the rest serves"
            );
        }
    }
}
