//! A disk in memory that fails when it is told to.
//!
//! Operations that change something are counted. At a chosen one a [`Fault`] happens: an error, once or for a while; a
//! bit that flips on its way; or the end of the process or of the power, after which nothing works until
//! [`SimDisk::restart`]. What was not synced is lost with the power, or part of it is. Besides, all reading of files can
//! be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Entry, Lock, Room, ScratchFile};
use crate::storage::block::map::Map;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Half of a write is made; anything else is not done at all. No space is left.
    ShortWrite,
    NoSpace,
    Io,
    /// A bit of the bytes written flips, and nobody says so.
    BitFlip,
    /// What is written to a scratch file cannot be read. Files with a name are well.
    BadSector,
    /// The process is killed in the middle of the operation: half of a write is made.
    Kill,
    /// The machine is: what was not synced is gone.
    PowerLoss,
    /// The machine is: half of what was not synced is gone, and names are as they were last.
    PowerLossTorn,
}

/// A fault to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The operation at which it happens, counted from 0.
    pub at: u64,
    /// So many operations fail, one after the other.
    pub times: u64,
    pub kind: Kind,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// The bytes as the disk has them.
    durable: Vec<u8>,
    /// Bytes that a failed sync has lost: in memory they are as they were, and no later sync writes them.
    dropped: Vec<std::ops::Range<usize>>,
}

impl File {
    fn sync(&mut self, fate: Synced) -> io::Result<()> {
        match fate {
            Synced::Done => {}
            Synced::Never(error) => return Err(error),
            Synced::Failed(error) => {
                let unsynced = self.durable.len()..self.bytes.len();
                self.dropped.push(unsynced);
                return Err(error);
            }
        }
        let mut durable = self.bytes.clone();
        for range in &self.dropped {
            let end = range.end.min(durable.len());
            if range.start < end {
                durable[range.start..end].fill(0);
            }
        }
        self.durable = durable;
        Ok(())
    }
}

type Inode = Arc<Mutex<File>>;

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Inode>,
    /// The names as the disk has them.
    durable: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
    /// Directories that got another name (from, to), of which the disk knows nothing yet.
    moved: Vec<(PathBuf, PathBuf)>,
    operations: u64,
    fault: Option<Fault>,
    hits: u64,
    /// Of the hits, those of scratch files.
    scratch_hits: u64,
    reads_fail: bool,
    /// Set by a kill or a loss of power.
    gone: Option<Kind>,
    room: Option<u64>,
}

/// A disk in memory. Cloning gives a handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(kind: Kind) -> io::Error {
    match kind {
        Kind::ShortWrite | Kind::NoSpace => io::ErrorKind::StorageFull.into(),
        _ => io::Error::other("input/output error"),
    }
}

/// What becomes of an operation.
enum Fate {
    Done,
    Flipped,
    Unreadable,
    /// Half done, then the error.
    Half(io::Error),
    Refused(io::Error),
}

/// What becomes of a sync.
enum Synced {
    Done,
    /// A process that is killed takes nothing along that it has written.
    Never(io::Error),
    /// Nothing that was not synced before ever will be.
    Failed(io::Error),
}

impl State {
    fn synced(&mut self) -> Synced {
        match self.whole() {
            Ok(()) => Synced::Done,
            Err(error) if self.gone == Some(Kind::Kill) => Synced::Never(error),
            Err(error) => Synced::Failed(error),
        }
    }

    fn fate(&mut self) -> Fate {
        if self.gone.is_some() {
            return Fate::Refused(io::Error::other("the process is gone"));
        }
        let n = self.operations;
        self.operations += 1;
        let Some(fault) = self.fault.filter(|f| n >= f.at && n - f.at < f.times) else { return Fate::Done };
        self.hits += 1;
        match fault.kind {
            Kind::BitFlip => Fate::Flipped,
            Kind::BadSector => Fate::Unreadable,
            Kind::ShortWrite => Fate::Half(error(fault.kind)),
            Kind::Kill | Kind::PowerLoss | Kind::PowerLossTorn => {
                self.gone = Some(fault.kind);
                Fate::Half(error(fault.kind))
            }
            Kind::NoSpace | Kind::Io => Fate::Refused(error(fault.kind)),
        }
    }

    /// As [`State::fate`], for what is done as a whole or not.
    fn whole(&mut self) -> io::Result<()> {
        match self.fate() {
            Fate::Done | Fate::Flipped | Fate::Unreadable => Ok(()),
            Fate::Half(error) | Fate::Refused(error) => Err(error),
        }
    }

    /// As [`State::fate`], for what is written to a scratch file.
    fn fate_of_scratch(&mut self) -> Fate {
        let before = self.hits;
        let fate = self.fate();
        self.scratch_hits += self.hits - before;
        fate
    }

    fn can_read(&self) -> io::Result<()> {
        if self.reads_fail { Err(error(Kind::Io)) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<Inode> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Gives a directory and all in it another name.
    fn move_dir(files: &mut BTreeMap<PathBuf, Inode>, from: &Path, to: &Path) {
        let inside: Vec<PathBuf> = files.keys().filter(|p| p.starts_with(from)).cloned().collect();
        for path in inside {
            if let (Some(file), Ok(rest)) = (files.remove(&path), path.strip_prefix(from)) {
                files.insert(to.join(rest), file);
            }
        }
    }

    fn move_dirs(&mut self, from: &Path, to: &Path) {
        let inside: Vec<PathBuf> = self.dirs.iter().filter(|p| p.starts_with(from)).cloned().collect();
        for dir in inside {
            self.dirs.remove(&dir);
            if let Ok(rest) = dir.strip_prefix(from) {
                // Not `join` with nothing, which would end in a slash.
                let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                self.dirs.insert(new);
            }
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|f| lock(f).bytes.len() as u64).sum()
    }
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many operations a fault has hit.
    pub fn faults(&self) -> u64 {
        self.lock().hits
    }

    /// How many writes to scratch files a fault has hit.
    pub fn scratch_faults(&self) -> u64 {
        self.lock().scratch_hits
    }

    /// From now on reading a file fails, or does no more. Blocks are mapped, and go on.
    pub fn fail_reads(&self, fail: bool) {
        self.lock().reads_fail = fail;
    }

    /// Whether nothing works until a restart.
    pub fn is_gone(&self) -> bool {
        self.lock().gone.is_some()
    }

    pub fn files(&self, dir: &Path) -> Vec<PathBuf> {
        self.lock().files.keys().filter(|p| p.parent() == Some(dir)).cloned().collect()
    }

    pub fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// The process, or the machine, ends now.
    pub fn end(&self, kind: Kind) {
        self.lock().gone.get_or_insert(kind);
    }

    /// Another disk with the files that this one has now, as another process sees them.
    pub fn copy(&self) -> SimDisk {
        let state = self.lock();
        let copied = state.files.iter().map(|(path, file)| {
            let bytes = lock(file).bytes.clone();
            let file = File { durable: bytes.clone(), bytes, dropped: Vec::new() };
            (path.clone(), Arc::new(Mutex::new(file)))
        });
        let files: BTreeMap<PathBuf, Inode> = copied.collect();
        let dirs = state.dirs.clone();
        let copy = State { durable: files.clone(), files, dirs, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// Bounds the bytes of all files together.
    pub fn bound(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Changes a file behind everybody's back.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.lock().file(path).unwrap();
        let mut file = lock(&file);
        change(&mut file.bytes);
        file.durable = file.bytes.clone();
    }

    /// The disk works again, with what the end of the process or of the power has left; all faults are over.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.fault = None;
        match state.gone.take() {
            Some(Kind::PowerLoss) => {
                state.files = state.durable.clone();
                for (from, to) in std::mem::take(&mut state.moved).into_iter().rev() {
                    state.move_dirs(&to, &from);
                }
                for file in state.files.values() {
                    let mut file = lock(file);
                    file.bytes = file.durable.clone();
                    file.dropped.clear();
                }
            }
            Some(Kind::PowerLossTorn) => {
                state.durable = state.files.clone();
                state.moved.clear();
                for file in state.files.values() {
                    let mut file = lock(file);
                    let durable = file.durable.len();
                    let half = durable + file.bytes.len().saturating_sub(durable) / 2;
                    file.bytes.truncate(half);
                    let dropped = std::mem::take(&mut file.dropped);
                    for range in dropped {
                        let end = range.end.min(half);
                        if range.start < end {
                            file.bytes[range.start..end].fill(0);
                        }
                    }
                    file.durable = file.bytes.clone();
                }
            }
            _ => {}
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if !state.dirs.contains(dir) {
            state.whole()?;
            state.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.whole()?;
        let file: Inode = Arc::default();
        state.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = {
            let state = self.lock();
            state.can_read()?;
            state.file(path)?
        };
        let bytes = lock(&file).bytes.clone();
        Ok(bytes)
    }

    fn read_into(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
        *bytes = self.read(path)?;
        Ok(())
    }

    fn read_start(&self, path: &Path, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(path)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        let file = self.lock().file(path)?;
        let bytes = lock(&file).bytes.clone();
        Ok(Map::from_bytes(bytes))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        let here = state.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        let files = here.map(|(path, f)| Entry {
            path: path.clone(),
            bytes: lock(f).bytes.len() as u64,
            is_dir: false,
        });
        let dirs = state.dirs.iter().filter(|path| path.parent() == Some(dir));
        Ok(files.chain(dirs.map(|path| Entry { path: path.clone(), bytes: 0, is_dir: true })).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.lock();
        state.files.contains_key(path) || state.dirs.iter().any(|dir| dir.starts_with(path))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.whole()?;
        let file = state.file(path)?;
        lock(&file).bytes.truncate(bytes as usize);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.whole()?;
        if state.dirs.contains(from) {
            State::move_dir(&mut state.files, from, to);
            state.move_dirs(from, to);
            state.moved.push((from.to_owned(), to.to_owned()));
            return Ok(());
        }
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn link(&self, path: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.whole()?;
        let file = state.file(path)?;
        if state.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.whole()?;
        state.files.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let inside = |path: &PathBuf| path.starts_with(dir);
        if state.dirs.iter().any(inside) || state.files.keys().any(inside) {
            state.whole()?;
            state.files.retain(|path, _| !path.starts_with(dir));
            state.dirs.retain(|path| !path.starts_with(dir));
        }
        Ok(())
    }

    fn scratch(&self, _dir: &Path) -> io::Result<Box<dyn ScratchFile>> {
        self.lock().whole()?;
        Ok(Box::new(SimScratch { disk: self.clone(), writes: Mutex::default() }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let (fate, file) = {
            let mut state = self.lock();
            (state.synced(), state.file(path)?)
        };
        lock(&file).sync(fate)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.whole()?;
        let (known, moved): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.moved).into_iter().partition(|(_, to)| to.parent() == Some(dir));
        state.moved = moved;
        for (from, to) in known {
            State::move_dir(&mut state.durable, &from, &to);
        }
        // Directories that are gone take along what was in them.
        let gone = |path: &Path, state: &State| {
            let child = path.ancestors().find(|a| a.parent() == Some(dir));
            child.is_some_and(|c| c != path && !state.dirs.contains(c))
        };
        let lost: Vec<PathBuf> = state.durable.keys().filter(|p| gone(p, &state)).cloned().collect();
        for path in lost {
            state.durable.remove(&path);
        }
        let here = |path: &Path| path.parent() == Some(dir);
        let mut durable = std::mem::take(&mut state.durable);
        durable.retain(|path, _| !here(path));
        durable.extend(state.files.iter().filter(|(p, _)| here(p)).map(|(p, f)| (p.clone(), Arc::clone(f))));
        state.durable = durable;
        Ok(())
    }

    fn room(&self, _dir: &Path) -> io::Result<Room> {
        let state = self.lock();
        let total = state.room.unwrap_or(u64::MAX / 2);
        Ok(Room { free: total.saturating_sub(state.used()), total })
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Lock { _file: None }))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Lock>> {
        Disk::lock(self, path)
    }
}

#[derive(Debug)]
struct SimScratch {
    disk: SimDisk,
    /// The bytes of each write by its place; `None` if they cannot be read. Writes do not overlap, but for those that are
    /// made again.
    writes: Mutex<BTreeMap<u64, Option<Vec<u8>>>>,
}

impl ScratchFile for SimScratch {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let fate = self.disk.lock().fate_of_scratch();
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        let (written, done) = match fate {
            Fate::Refused(error) => return Err(error),
            Fate::Half(error) => {
                bytes.truncate(middle);
                (Some(bytes), Err(error))
            }
            Fate::Done => (Some(bytes), Ok(())),
            Fate::Unreadable => (None, Ok(())),
            Fate::Flipped => {
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x10;
                }
                (Some(bytes), Ok(()))
            }
        };
        lock(&self.writes).insert(at, written);
        done
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.disk.lock().can_read()?;
        let writes = lock(&self.writes);
        let (start, written) = writes.range(..=at).next_back().ok_or(io::ErrorKind::UnexpectedEof)?;
        let written = written.as_ref().ok_or_else(|| error(Kind::Io))?;
        let from = (at - start) as usize;
        let found = written.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: Inode,
}

impl DiskFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let fate = state.fate();
        let left = state.room.map_or(u64::MAX, |r| r.saturating_sub(state.used()));
        let mut file = lock(&self.file);
        match fate {
            Fate::Refused(error) => Err(error),
            Fate::Half(error) => {
                file.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
                Err(error)
            }
            _ if (bytes.len() as u64) > left => {
                file.bytes.extend_from_slice(&bytes[..left as usize]);
                Err(io::ErrorKind::StorageFull.into())
            }
            Fate::Done | Fate::Unreadable => {
                file.bytes.extend_from_slice(bytes);
                Ok(())
            }
            Fate::Flipped => {
                let at = file.bytes.len() + bytes.len() / 2;
                file.bytes.extend_from_slice(bytes);
                if let Some(byte) = file.bytes.get_mut(at) {
                    *byte ^= 0x10;
                }
                Ok(())
            }
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.lock().whole()?;
        lock(&self.file).bytes.truncate(bytes as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let fate = self.disk.lock().synced();
        lock(&self.file).sync(fate)
    }
}
