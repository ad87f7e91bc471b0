//! The file system of this machine.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Disk, DiskFile, Entry, Lock, Room, ScratchFile};
use crate::storage::block::map::Map;

/// The name of a scratch file between its making and the removal of the name.
const SCRATCH: &str = "head.chunks";

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Opened for appending, so that after a cut the next bytes land at the new end.
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        file.set_len(0)?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(path, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        let mut file = File::open(path)?;
        match file.read_to_end(bytes) {
            Err(error) if is_lost(&error) => {
                let length = file.metadata()?.len();
                let lost = salvage(bytes, length, |piece, at| file.read_exact_at(piece, at))?;
                tracing::error!(file = %path.display(), lost_bytes = lost, %error, "The disk cannot read some of a file");
                Ok(())
            }
            read => read.map(drop),
        }
    }

    fn read_start(&self, path: &Path, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(n);
        File::open(path)?.take(n as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        Map::open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        fs::read_dir(dir)?
            .map(|entry| {
                let entry = entry?;
                // Of what a link leads to, as reading does.
                let metadata = fs::metadata(entry.path()).or_else(|_| entry.metadata())?;
                Ok(Entry { path: entry.path(), bytes: metadata.len(), is_dir: metadata.is_dir() })
            })
            .collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, file: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(file, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn scratch(&self, dir: &Path) -> io::Result<Box<dyn ScratchFile>> {
        let path = dir.join(SCRATCH);
        // The name is free again once the file has none, so files are made one after the other.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let _left_by_a_crash = fs::remove_file(&path);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Box::new(file))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = File::create(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Lock { _file: None })),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Lock { _file: Some(file) })),
        }
    }
}

/// Whether the medium has lost what was to be read.
fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Reads what can be read of a file piece by piece; the rest is zeros, which no checksum covers. Returns how many bytes
/// those are.
fn salvage(
    bytes: &mut Vec<u8>,
    length: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<u64> {
    const PIECE_BYTES: usize = 4096;
    bytes.clear();
    bytes.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
    let mut lost = 0;
    for (i, piece) in bytes.chunks_mut(PIECE_BYTES).enumerate() {
        match read(piece, (i * PIECE_BYTES) as u64) {
            Ok(()) => {}
            Err(error) if is_lost(&error) => {
                piece.fill(0);
                lost += piece.len() as u64;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}

impl ScratchFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }
}

impl DiskFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_medium_has_lost_is_zeros_and_the_rest_is_read() {
        let whole: Vec<u8> = (0..10_000u32).map(|i| i as u8 | 1).collect();
        let read = |piece: &mut [u8], at: u64| {
            if at == 4096 {
                piece.fill(7);
                return Err(rustix::io::Errno::IO.into());
            }
            piece.copy_from_slice(&whole[at as usize..at as usize + piece.len()]);
            Ok(())
        };
        let mut bytes = vec![9; 3];
        assert_eq!(salvage(&mut bytes, 10_000, read).unwrap(), 4096);
        assert_eq!((&bytes[..4096], &bytes[8192..]), (&whole[..4096], &whole[8192..]));
        assert!(bytes[4096..8192].iter().all(|b| *b == 0));
        let denied = |_: &mut [u8], _| Err(io::ErrorKind::PermissionDenied.into());
        assert!(salvage(&mut bytes, 1, denied).is_err());
    }

    #[test]
    fn scratch_files_that_are_made_at_once_are_all_made() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..16).for_each(|_| drop(RealDisk.scratch(dir.path()).unwrap())));
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "they have no name");
    }
}
