//! Numbered segments, written at the end of the last one.
//!
//! `wal/00000007.wal` holds frames after a header; `wal/00000007.checkpoint` holds the labels of every series and the
//! metadata as of the beginning of segment 7. A segment ends when it is long enough or when a batch of the next window
//! comes, so that sealing a window makes whole segments superfluous. A segment is made when there is something to write
//! into it, so that opening a log needs no room. Its first frame says how long the one before it was, so that one that was
//! cut off between two frames, or is gone, is noticed.
//!
//! **When syncing fails** it is not known which bytes are on the disk, and a later sync that succeeds does not say so of
//! them. With [`WalOptions::sync_each`] all frames since the last good sync are kept in memory until they are synced,
//! and are written once more, to a new segment, when they cannot be. A replay ignores what it has seen.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::FrameBuilder;
use super::replay::verify_whole;
use crate::model::Timestamp;
use crate::storage::disk::{self, Disk, DiskFile};

/// The header of segments and checkpoints: the last byte is the version.
pub const FILE_MAGIC: [u8; 8] = *b"SGWAL\0\0\x04";
/// The versions before, whose frames do not say how many samples they hold; they are read as well. The first had fewer
/// kinds of sections besides.
pub const FILE_MAGICS_BEFORE: [[u8; 8]; 2] = [*b"SGWAL\0\0\x02", *b"SGWAL\0\0\x01"];

pub const SEGMENT: &str = "wal";
pub const CHECKPOINT: &str = "checkpoint";
/// The same once more: the only other place that names a series may be gone by then.
pub const CHECKPOINT_COPY: &str = "checkpoint2";

/// The log takes nothing while the disk has less room than this, so that blocks, checkpoints and the alerts' state,
/// which free room or are small, can still be written …
const RESERVE_BYTES_MAX: u64 = 64 << 20;
/// … but no more than this part of a small disk.
const RESERVE_PART: u64 = 64;
/// The disk's room is looked at again after so many bytes, or a quarter of the reserve.
const ROOM_CHECK_BYTES: u64 = 4 << 20;

/// How the log is written.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// A segment that is longer is ended.
    pub segment_bytes: u64,
    pub window_ms: i64,
    /// Whether a batch is acknowledged only once it is on the disk.
    pub sync_each: bool,
}

/// A segment that is no longer written.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub number: u64,
    pub bytes: u64,
    /// The time of its newest sample.
    pub max_ts: Timestamp,
}

/// The log, open for writing.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    state: Mutex<State>,
    /// How many bytes ever written are known to be on the disk.
    synced: Mutex<u64>,
    unsynced: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// The segment that is written, once there is one.
    current: Option<Current>,
    /// The number of the next segment.
    next: u64,
    /// The segment before it, and how many bytes that has at least.
    before: Option<(u64, u64)>,
    /// Bytes written to all segments since the log was opened.
    position: u64,
    ended: Vec<Segment>,
    /// With `sync_each`: the frames since the last good sync, up to `position`.
    pending: Vec<u8>,
    /// `pending` has to be written again before anything else.
    suspect: bool,
    /// How often syncing has failed.
    sync_failures: u64,
    /// Bytes that may be written before the disk's room is looked at again.
    room: u64,
}

#[derive(Debug)]
struct Current {
    file: Arc<dyn DiskFile>,
    segment: Segment,
}

/// The path of a segment or checkpoint.
#[must_use]
pub fn file_path(dir: &Path, number: u64, extension: &str) -> PathBuf {
    dir.join(format!("{number:08}.{extension}"))
}

impl Wal {
    /// A log after the `ended` segments, whose first segment will have the number `next`. Nothing is written yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, options: WalOptions, ended: Vec<Segment>, next: u64) -> Self {
        Wal {
            disk,
            dir: dir.to_owned(),
            options,
            state: Mutex::new(State {
                current: None,
                next,
                before: ended.last().map(|s| (s.number, s.bytes)),
                position: 0,
                ended,
                pending: Vec::new(),
                suspect: false,
                sync_failures: 0,
                room: 0,
            }),
            synced: Mutex::new(0),
            unsynced: AtomicBool::new(false),
        }
    }

    /// Writes frames whose newest sample is at `max_ts`; with [`WalOptions::sync_each`] follow it by
    /// [`Wal::sync_to`] with the answer.
    ///
    /// # Errors
    /// When they cannot be written; nothing of them is left in the log then.
    pub fn write(&self, frames: &[u8], max_ts: Timestamp) -> io::Result<u64> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let bytes = frames.len() as u64;
        self.look_for_room(state, bytes)?;
        if state.suspect {
            self.write_again(state)?;
        }
        let window = |ts: Timestamp| ts.div_euclid(self.options.window_ms);
        if let Some(current) = &state.current {
            let s = current.segment;
            let next_window = s.max_ts != Timestamp::MIN && window(max_ts) > window(s.max_ts);
            if next_window || s.bytes + bytes > self.options.segment_bytes {
                self.end(state)?;
            }
        }
        let current = match &mut state.current {
            Some(current) => current,
            None => self.begin(state)?,
        };
        if let Err(error) = current.file.append(frames) {
            // The file is opened for appending, so that the next frame lands where this one was cut off.
            if current.file.truncate(current.segment.bytes).is_err() {
                // Nothing may follow what is no frame. Should that fail too, the next write meets it again.
                let _next_time = self.end(state);
            }
            state.room = 0;
            return Err(match error.kind() {
                io::ErrorKind::StorageFull => {
                    io::Error::new(error.kind(), format!("the disk is full: {error}"))
                }
                _ => error,
            });
        }
        current.segment.bytes += bytes;
        current.segment.max_ts = current.segment.max_ts.max(max_ts);
        state.position += bytes;
        state.room = state.room.saturating_sub(bytes);
        if self.options.sync_each {
            state.pending.extend_from_slice(frames);
        }
        self.unsynced.store(true, Ordering::Release);
        Ok(state.position)
    }

    /// Whether there is room on the disk for more.
    ///
    /// # Errors
    /// When there is not; the message is for operators.
    pub fn check_room(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.room = 0;
        self.look_for_room(&mut state, 0)
    }

    fn look_for_room(&self, state: &mut State, bytes: u64) -> io::Result<()> {
        if state.room > bytes {
            return Ok(());
        }
        // A file system that cannot say how much room it has is believed to have some.
        let Ok(room) = self.disk.room(&self.dir) else { return Ok(()) };
        let reserve = (room.total / RESERVE_PART).min(RESERVE_BYTES_MAX);
        if room.free < reserve + bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "the disk is full: {} bytes are free, and the last {reserve} are kept for blocks and alerts",
                    room.free
                ),
            ));
        }
        // Sooner on a small disk, so that what is written until then leaves most of the reserve.
        state.room = ROOM_CHECK_BYTES.min(reserve / 4).max(bytes + 1);
        Ok(())
    }

    /// Returns once everything up to `position` is on the disk. Callers that wait at the same time share one sync.
    ///
    /// # Errors
    /// When syncing fails: what was written since the last sync may be lost with the machine.
    pub fn sync_to(&self, position: u64) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = false;
        loop {
            if *synced >= position {
                return Ok(());
            }
            let (file, written, failures) = {
                let mut state = self.lock();
                if state.suspect {
                    self.write_again(&mut state)?;
                }
                let file = state.current.as_ref().map(|c| Arc::clone(&c.file));
                (file, state.position, state.sync_failures)
            };
            self.unsynced.store(false, Ordering::Release);
            // Segments before this one were synced when they ended.
            let outcome = file.map_or(Ok(()), |f| f.sync());
            let mut state = self.lock();
            match outcome {
                // Somebody else's failure while this one waited may have been about the same bytes.
                Ok(()) if self.options.sync_each && state.sync_failures != failures => {}
                Ok(()) => {
                    if self.options.sync_each {
                        let rest = (state.position - written) as usize;
                        let done = state.pending.len().saturating_sub(rest);
                        state.pending.drain(..done);
                    }
                    *synced = written;
                    return Ok(());
                }
                Err(error) => {
                    self.unsynced.store(true, Ordering::Release);
                    state.sync_failures += 1;
                    state.suspect = self.options.sync_each;
                    if failed || !self.options.sync_each {
                        return Err(error);
                    }
                    failed = true;
                }
            }
        }
    }

    /// Puts everything written on the disk.
    ///
    /// # Errors
    /// As [`Wal::sync_to`].
    pub fn sync(&self) -> io::Result<()> {
        if !self.unsynced.load(Ordering::Acquire) {
            return Ok(());
        }
        let position = self.position();
        self.sync_to(position)
    }

    /// Bytes written since the log was opened.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.lock().position
    }

    /// Ends the segment that is written; returns the number of the next.
    ///
    /// # Errors
    /// When what was written cannot be synced and, if it has to be, not be written again.
    pub fn end_segment(&self) -> io::Result<u64> {
        let mut state = self.lock();
        self.end(&mut state)?;
        // What could not be synced was written again, to a segment that ends as well.
        self.end(&mut state)?;
        if state.current.is_some() {
            return Err(io::Error::other("a segment of the WAL cannot be ended"));
        }
        Ok(state.next)
    }

    /// An ended segment is synced whatever the policy: it is never written again, and soon a block follows.
    fn end(&self, state: &mut State) -> io::Result<()> {
        let Some(current) = state.current.take() else { return Ok(()) };
        state.ended.push(current.segment);
        // What cannot be synced may be gone with the power; that is told by who counts on it.
        state.before = Some((current.segment.number, 0));
        match current.file.sync() {
            Ok(()) => {
                state.before = Some((current.segment.number, current.segment.bytes));
                state.pending.clear();
                Ok(())
            }
            Err(error) if self.options.sync_each => {
                state.sync_failures += 1;
                state.suspect = true;
                self.write_again(state).map_err(|_| error)
            }
            Err(error) => {
                // What the process wrote is safe from its end, which is what this policy promises.
                tracing::error!(segment = current.segment.number, %error, "A segment of the WAL cannot be synced");
                state.sync_failures += 1;
                Ok(())
            }
        }
    }

    fn begin<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Current> {
        let number = state.next;
        let mut head = FILE_MAGIC.to_vec();
        if let Some((number, bytes)) = state.before {
            let mut frame = FrameBuilder::default();
            frame.segment_before(number, bytes);
            head.extend_from_slice(frame.finish());
        }
        let file = self.new_segment(number, &head)?;
        state.next += 1;
        let segment = Segment { number, bytes: head.len() as u64, max_ts: Timestamp::MIN };
        Ok(state.current.insert(Current { file: Arc::from(file), segment }))
    }

    /// Writes the pending frames to a new segment.
    fn write_again(&self, state: &mut State) -> io::Result<()> {
        let before = state.current.take();
        if let Some(current) = &before {
            state.before = Some((current.segment.number, 0));
        }
        let max_ts = match &before {
            Some(c) => c.segment.max_ts,
            None => state.ended.iter().map(|s| s.max_ts).max().unwrap_or(Timestamp::MIN),
        };
        state.ended.extend(before.map(|c| c.segment));
        let pending = std::mem::take(&mut state.pending);
        let written = self.begin(state).and_then(|current| {
            current.file.append(&pending)?;
            current.segment.bytes += pending.len() as u64;
            current.segment.max_ts = max_ts;
            Ok(())
        });
        state.pending = pending;
        if written.is_err() {
            // What is in it is in `pending` too.
            if let Some(current) = state.current.take() {
                state.before = Some((current.segment.number, 0));
                state.ended.push(current.segment);
            }
        } else {
            state.suspect = false;
        }
        written
    }

    fn new_segment(&self, number: u64, head: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        // What an earlier failed attempt left is overwritten: nothing in it was acknowledged.
        let path = file_path(&self.dir, number, SEGMENT);
        let file = self.disk.create(&path)?;
        file.append(head)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(file)
    }

    /// Writes the labels of all series and the metadata, as of the beginning of segment `number`, and drops the
    /// segments before it whose samples are all older than `before`.
    ///
    /// # Errors
    /// When the checkpoint cannot be written, or does not read back (nothing is dropped then), or a segment not removed.
    pub fn checkpoint(
        &self,
        number: u64,
        before: Timestamp,
        write: impl FnOnce(&mut CheckpointWriter<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let disk = &*self.disk;
        let path = file_path(&self.dir, number, CHECKPOINT);
        let fill = |out: &mut dyn Write| {
            out.write_all(&FILE_MAGIC)?;
            let mut writer = CheckpointWriter { out, frame: FrameBuilder::default(), series: 0 };
            write(&mut writer)?;
            writer.frame.clear();
            writer.frame.checkpoint_end(writer.series);
            writer.out.write_all(writer.frame.finish())
        };
        // It is all that names the series of the segments that go.
        disk::write_whole(disk, &path, fill, |path| verify_whole(disk, path))?;
        disk.sync_dir(&self.dir)?;
        for extension in [CHECKPOINT, CHECKPOINT_COPY] {
            for (old, _) in numbered_files(disk, &self.dir, extension)? {
                if old < number {
                    disk.remove(&file_path(&self.dir, old, extension))?;
                }
            }
        }
        let mut state = self.lock();
        let superfluous = |s: &Segment| s.number < number && s.max_ts < before;
        for s in state.ended.iter().filter(|s| superfluous(s)) {
            let _already_gone = disk.remove(&file_path(&self.dir, s.number, SEGMENT));
        }
        state.ended.retain(|s| !superfluous(s));
        state.room = 0;
        drop(state);
        disk.sync_dir(&self.dir)?;
        if let Err(error) = self.copy_checkpoint(number) {
            tracing::warn!(checkpoint = %path.display(), %error, "A checkpoint of the WAL has no copy");
        }
        Ok(())
    }

    /// Last of all, when there is room again. It is read only where the checkpoint is damaged, so nothing waits for it.
    fn copy_checkpoint(&self, number: u64) -> io::Result<()> {
        let disk = &*self.disk;
        let bytes = disk.read(&file_path(&self.dir, number, CHECKPOINT))?;
        let path = file_path(&self.dir, number, CHECKPOINT_COPY);
        disk::write_whole(disk, &path, |out| out.write_all(&bytes), |path| verify_whole(disk, path))?;
        disk.sync_dir(&self.dir)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.lock();
        let current = state.current.iter().map(|c| &c.segment);
        state.ended.iter().chain(current).map(|s| s.bytes).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segments(&self) -> usize {
        let state = self.lock();
        state.ended.len() + usize::from(state.current.is_some())
    }

    #[must_use]
    pub fn options(&self) -> WalOptions {
        self.options
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the frames of a checkpoint.
pub struct CheckpointWriter<'a> {
    out: &'a mut dyn Write,
    frame: FrameBuilder,
    series: u64,
}

impl CheckpointWriter<'_> {
    /// Writes one frame of `series` series.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn frame(&mut self, series: u64, fill: impl FnOnce(&mut FrameBuilder)) -> io::Result<()> {
        self.frame.clear();
        fill(&mut self.frame);
        self.series += series;
        self.out.write_all(self.frame.finish())
    }
}

/// The files `NUMBER.extension` in `dir`, ascending, with their sizes.
///
/// # Errors
/// When the directory cannot be read.
pub fn numbered_files(disk: &dyn Disk, dir: &Path, extension: &str) -> io::Result<Vec<(u64, u64)>> {
    let mut found: Vec<(u64, u64)> = disk
        .list(dir)?
        .into_iter()
        .filter(|e| !e.is_dir && e.path.extension().is_some_and(|x| x == extension))
        .filter_map(|e| Some((e.path.file_stem()?.to_str()?.parse().ok()?, e.bytes)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::sim::SimDisk;

    #[test]
    fn a_small_disk_keeps_most_of_its_reserve() {
        let disk = SimDisk::default();
        disk.bound(Some(1 << 20));
        let dir = Path::new("/wal");
        let options = WalOptions { segment_bytes: 1 << 30, window_ms: 1000, sync_each: false };
        let log = Wal::new(Arc::new(disk.clone()), dir, options, Vec::new(), 1);
        let refused = (0..20_000).find_map(|_| log.write(&[7; 100], 0).err()).expect("the disk is bounded");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        let reserve = (1 << 20) / RESERVE_PART;
        let free = disk.room(dir).unwrap().free;
        assert!(free <= reserve + 100 && free >= reserve * 3 / 4 - 100, "{free} of {reserve} are left");
    }
}
