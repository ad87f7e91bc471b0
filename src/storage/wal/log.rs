//! Numbered segments, written at the end of the last one.
//!
//! `wal/00000007.wal` holds frames after a header; `wal/00000007.checkpoint` holds the labels of every series and the
//! metadata as of the beginning of segment 7. A segment ends when it is long enough or when a batch of the next window
//! comes, so that sealing a window makes whole segments superfluous.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::FrameBuilder;
use crate::model::Timestamp;
use crate::storage::disk;

/// The header of segments and checkpoints: the last byte is the version.
pub const FILE_MAGIC: [u8; 8] = *b"SGWAL\0\0\x02";
/// The version before, which had fewer kinds of sections; it is read as well.
pub const FILE_MAGIC_BEFORE: [u8; 8] = *b"SGWAL\0\0\x01";

pub const SEGMENT: &str = "wal";
pub const CHECKPOINT: &str = "checkpoint";

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
    dir: PathBuf,
    options: WalOptions,
    state: Mutex<State>,
    /// How many bytes ever written are known to be on the disk.
    synced: Mutex<u64>,
    unsynced: AtomicBool,
}

#[derive(Debug)]
struct State {
    file: Arc<File>,
    number: u64,
    bytes: u64,
    /// Bytes written to all segments since the log was opened.
    position: u64,
    max_ts: Timestamp,
    /// A write failed and what it left could not be cut off.
    broken: bool,
    ended: Vec<Segment>,
}

/// The path of a segment or checkpoint.
#[must_use]
pub fn file_path(dir: &Path, number: u64, extension: &str) -> PathBuf {
    dir.join(format!("{number:08}.{extension}"))
}

impl Wal {
    /// Begins a new segment after the `ended` ones.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &Path, options: WalOptions, ended: Vec<Segment>, number: u64) -> io::Result<Self> {
        let file = new_segment(dir, number)?;
        Ok(Wal {
            dir: dir.to_owned(),
            options,
            state: Mutex::new(State {
                file: Arc::new(file),
                number,
                bytes: FILE_MAGIC.len() as u64,
                position: 0,
                max_ts: Timestamp::MIN,
                broken: false,
                ended,
            }),
            synced: Mutex::new(0),
            unsynced: AtomicBool::new(false),
        })
    }

    /// Writes a frame whose newest sample is at `max_ts`; with [`WalOptions::sync_each`] follow it by
    /// [`Wal::sync_to`] with the answer.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is left in the log then.
    pub fn write(&self, frame: &[u8], max_ts: Timestamp) -> io::Result<u64> {
        let mut state = self.lock();
        let window = |ts: Timestamp| ts.div_euclid(self.options.window_ms);
        let next_window = state.max_ts != Timestamp::MIN && window(max_ts) > window(state.max_ts);
        if state.broken || next_window || state.bytes + frame.len() as u64 > self.options.segment_bytes {
            self.cut(&mut state)?;
        }
        if let Err(error) = (&*state.file).write_all(frame) {
            // The file is opened for appending, so that the next frame lands where this one was cut off.
            state.broken = state.file.set_len(state.bytes).is_err();
            return Err(error);
        }
        state.bytes += frame.len() as u64;
        state.position += frame.len() as u64;
        state.max_ts = state.max_ts.max(max_ts);
        self.unsynced.store(true, Ordering::Release);
        Ok(state.position)
    }

    /// Returns once everything up to `position` is on the disk. Callers that wait at the same time share one sync.
    ///
    /// # Errors
    /// When syncing fails: what was written since the last sync may be lost with the machine.
    pub fn sync_to(&self, position: u64) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= position {
            return Ok(());
        }
        let (file, written) = {
            let state = self.lock();
            (Arc::clone(&state.file), state.position)
        };
        self.unsynced.store(false, Ordering::Release);
        // Segments before this one were synced when they ended.
        if let Err(error) = file.sync_data() {
            self.unsynced.store(true, Ordering::Release);
            return Err(error);
        }
        *synced = written;
        Ok(())
    }

    /// Puts everything written on the disk.
    ///
    /// # Errors
    /// As [`Wal::sync_to`].
    pub fn sync(&self) -> io::Result<()> {
        if !self.unsynced.load(Ordering::Acquire) {
            return Ok(());
        }
        self.sync_to(u64::MAX)
    }

    /// Ends the segment that is written and begins the next; returns its number. An empty one goes on.
    ///
    /// # Errors
    /// When the next cannot be made; the log then goes on as it was.
    pub fn end_segment(&self) -> io::Result<u64> {
        let mut state = self.lock();
        if state.bytes > FILE_MAGIC.len() as u64 {
            self.cut(&mut state)?;
        }
        Ok(state.number)
    }

    fn cut(&self, state: &mut State) -> io::Result<()> {
        let number = state.number + 1;
        let file = new_segment(&self.dir, number)?;
        // An ended segment is synced whatever the policy: it is written once more never, and soon a block follows.
        state.file.sync_data()?;
        state.ended.push(Segment { number: state.number, bytes: state.bytes, max_ts: state.max_ts });
        state.file = Arc::new(file);
        state.number = number;
        state.bytes = FILE_MAGIC.len() as u64;
        state.max_ts = Timestamp::MIN;
        state.broken = false;
        Ok(())
    }

    /// Writes the labels of all series and the metadata, as of the beginning of segment `number`, and drops the
    /// segments before it whose samples are all older than `before`.
    ///
    /// # Errors
    /// When the checkpoint cannot be written (nothing is dropped then) or a segment not removed.
    pub fn checkpoint(
        &self,
        number: u64,
        before: Timestamp,
        write: impl FnOnce(&mut CheckpointWriter<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = file_path(&self.dir, number, CHECKPOINT);
        disk::write_whole(&path, |out| {
            out.write_all(&FILE_MAGIC)?;
            let mut writer = CheckpointWriter { out, frame: FrameBuilder::default(), series: 0 };
            write(&mut writer)?;
            writer.frame.clear();
            writer.frame.checkpoint_end(writer.series);
            writer.out.write_all(writer.frame.finish())
        })?;
        for (old, _) in numbered_files(&self.dir, CHECKPOINT)? {
            if old < number {
                fs::remove_file(file_path(&self.dir, old, CHECKPOINT))?;
            }
        }
        let mut state = self.lock();
        let superfluous = |s: &Segment| s.number < number && s.max_ts < before;
        for s in state.ended.iter().filter(|s| superfluous(s)) {
            let _already_gone = fs::remove_file(file_path(&self.dir, s.number, SEGMENT));
        }
        state.ended.retain(|s| !superfluous(s));
        drop(state);
        disk::sync_dir(&self.dir)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.lock();
        state.bytes + state.ended.iter().map(|s| s.bytes).sum::<u64>()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.lock().ended.len() + 1
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
#[derive(Debug)]
pub struct CheckpointWriter<'a> {
    out: &'a mut io::BufWriter<File>,
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

fn new_segment(dir: &Path, number: u64) -> io::Result<File> {
    let path = file_path(dir, number, SEGMENT);
    // What an earlier failed attempt left is overwritten: nothing in it was acknowledged.
    let _none = fs::remove_file(&path);
    let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    file.write_all(&FILE_MAGIC)?;
    disk::sync_dir(dir)?;
    Ok(file)
}

/// The files `NUMBER.extension` in `dir`, ascending, with their sizes.
///
/// # Errors
/// When the directory cannot be read.
pub fn numbered_files(dir: &Path, extension: &str) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
        if path.extension().is_some_and(|e| e == extension)
            && let Some(number) = number
        {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
