//! The few things that storage does with whole files, each so that a crash leaves the old state or the new one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile};

/// Where damaged files and pieces go, in the data directory.
const QUARANTINE: &str = "quarantine";

/// What a file that is still being written is called.
const UNFINISHED: &str = "tmp";

/// Writes a file beside its place, syncs it, has it checked by `verify`, which is given the path of the unfinished
/// file, and renames it into place. It is durable there once the directory is synced.
///
/// # Errors
/// When that fails; the place is then as it was.
pub fn write_whole<T, V>(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    verify: impl FnOnce(&Path) -> io::Result<V>,
) -> io::Result<(T, V)> {
    let unfinished = with_suffix(path, UNFINISHED);
    let result = (|| {
        let file = disk.create(&unfinished)?;
        let mut out = io::BufWriter::with_capacity(1 << 18, Appending(&*file));
        let written = write(&mut out)?;
        out.flush()?;
        drop(out);
        file.sync()?;
        drop(file);
        let verified = verify(&unfinished)?;
        disk.rename(&unfinished, path)?;
        Ok((written, verified))
    })();
    if result.is_err() {
        let _already_gone = disk.remove(&unfinished);
    }
    result
}

/// Writes a file that nobody needs after the end of the process.
///
/// # Errors
/// When that fails; part of it may be there then.
pub fn write_unsynced<T>(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<T> {
    let file = disk.create(path)?;
    let mut out = io::BufWriter::with_capacity(1 << 16, Appending(&*file));
    let written = write(&mut out)?;
    out.flush()?;
    Ok(written)
}

/// Puts a file that is never changed, and synced, into another directory, under another name for the same file, or as a
/// synced copy where the file system knows no links. It is durable there once that directory is synced.
///
/// # Errors
/// When it can be neither.
pub fn link_or_copy(disk: &dyn Disk, path: &Path, dir: &Path) -> io::Result<()> {
    let to = dir.join(path.file_name().unwrap_or_default());
    if disk.link(path, &to).is_ok() {
        return Ok(());
    }
    let bytes = disk.map(path)?;
    let file = disk.create(&to)?;
    for piece in bytes.chunks(1 << 20) {
        file.append(piece)?;
    }
    file.sync()
}

/// A file as [`Write`].
struct Appending<'a>(&'a dyn DiskFile);

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes files that a crash left unfinished. One that cannot be removed stays: nothing reads it.
///
/// # Errors
/// When the directory cannot be read.
pub fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for entry in disk.list(dir)? {
        if entry.path.extension().is_some_and(|e| e == UNFINISHED)
            && let Err(error) = disk.remove(&entry.path)
        {
            tracing::warn!(file = %entry.path.display(), %error, "An unfinished file cannot be removed");
        }
    }
    Ok(())
}

/// Moves a damaged file out of the way, into the data directory's quarantine.
///
/// # Errors
/// When it cannot be moved.
pub fn quarantine(disk: &dyn Disk, data_dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let to = free_place(disk, data_dir, path)?;
    disk.rename(path, &to)?;
    Ok(to)
}

/// Keeps a damaged piece of a file in the data directory's quarantine.
///
/// # Errors
/// When it cannot be written.
pub fn quarantine_piece(
    disk: &dyn Disk,
    data_dir: &Path,
    of: &Path,
    offset: u64,
    bytes: &[u8],
) -> io::Result<PathBuf> {
    let name = with_suffix(of, &format!("at-{offset}"));
    // A piece from the middle of a file stays there, and is found again at every start.
    let known = data_dir.join(QUARANTINE).join(name.file_name().unwrap_or_default());
    if disk.read(&known).is_ok_and(|held| held == bytes) {
        return Ok(known);
    }
    let to = free_place(disk, data_dir, &name)?;
    let written = disk.create(&to).and_then(|file| file.append(bytes));
    if let Err(error) = written {
        let _nothing_there = disk.remove(&to);
        return Err(error);
    }
    Ok(to)
}

fn free_place(disk: &dyn Disk, data_dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let dir = data_dir.join(QUARANTINE);
    disk.create_dir_all(&dir)?;
    let name = path.file_name().unwrap_or_default();
    let mut to = dir.join(name);
    let mut n = 1;
    while disk.exists(&to) {
        n += 1;
        to = with_suffix(&dir.join(name), &n.to_string());
    }
    Ok(to)
}

/// `path` with `.suffix` behind its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(".");
    text.push(suffix);
    text.into()
}
