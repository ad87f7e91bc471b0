//! What storage asks of a file system.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::block::map::Map;

/// A file system. Every call blocks. Errors are those of the system; a call that fails may be made again.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory and those above it; one that is there is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file for appending: a new one, or the one that is there, emptied. Its name is durable after
    /// [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// All bytes of a file; zeros for those that the medium has lost.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The same into memory that is there already; what it had is gone.
    fn read_into(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()>;

    /// The first `n` bytes of a file, or fewer if it is shorter.
    fn read_start(&self, path: &Path, n: usize) -> io::Result<Vec<u8>>;

    /// The bytes of a block where they lie: of a file that is never changed, only removed.
    fn map(&self, path: &Path) -> io::Result<Map>;

    /// The files and directories of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Whether there is such a file or directory.
    fn exists(&self, path: &Path) -> bool;

    /// Cuts a file off.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// Gives a file or a directory another name; a file that had it is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free. Not all file systems can.
    fn link(&self, file: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it; one that is not there is fine.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file without a name in `dir`: it goes with the process.
    fn scratch(&self, dir: &Path) -> io::Result<Box<dyn ScratchFile>>;

    /// Makes the bytes of a file durable that somebody else may have written.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Makes durable what was created, renamed or removed in `dir`.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How much room the file system of `dir` has.
    fn room(&self, dir: &Path) -> io::Result<Room>;

    /// Locks a file, made if it is not there, against other processes; `None` if one of them holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;

    /// As [`Disk::lock`], beside others that only read, and held in name only where there is no such file or the file
    /// system knows no locks.
    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Lock>>;
}

/// A file that is written.
#[allow(clippy::missing_errors_doc, reason = "as for `Disk`")]
pub trait DiskFile: Debug + Send + Sync {
    /// Adds bytes at the end. After an error some of them may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file off; what is appended next begins there.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file's bytes durable. After an error it is not known which are, and a later call that succeeds does
    /// not say so of those.
    fn sync(&self) -> io::Result<()>;
}

/// A file that nobody else sees. Nothing of it is durable.
#[allow(clippy::missing_errors_doc, reason = "as for `Disk`")]
pub trait ScratchFile: Debug + Send + Sync {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Fills `bytes`; fails if the file ends before.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
}

/// What is in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: PathBuf,
    pub bytes: u64,
    pub is_dir: bool,
}

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may be written yet.
    pub free: u64,
    pub total: u64,
}

/// Held as long as this value lives.
#[derive(Debug)]
pub struct Lock {
    /// Locked as long as it is open.
    pub(super) _file: Option<File>,
}
