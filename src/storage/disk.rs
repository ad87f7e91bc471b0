//! The few things that storage does with files, each so that a crash leaves the old state or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where damaged files and pieces go, in the data directory.
pub const QUARANTINE: &str = "quarantine";

/// What a file that is still being written is called.
const UNFINISHED: &str = "tmp";

/// Makes what was created, renamed or removed in `dir` durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a file beside its place, syncs it, and renames it into place.
///
/// # Errors
/// When that fails; the place is then as it was.
pub fn write_whole<T>(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<T>,
) -> io::Result<T> {
    let unfinished = with_suffix(path, UNFINISHED);
    let result = (|| {
        let mut out = io::BufWriter::with_capacity(1 << 18, File::create(&unfinished)?);
        let result = write(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(result)
    })();
    if result.is_err() {
        let _already_gone = fs::remove_file(&unfinished);
    }
    result
}

/// Removes files that a crash left unfinished.
///
/// # Errors
/// When the directory cannot be read or a file not removed.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == UNFINISHED) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Moves a damaged file out of the way, into the data directory's quarantine.
///
/// # Errors
/// When it cannot be moved.
pub fn quarantine(data_dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let to = free_place(data_dir, path)?;
    fs::rename(path, &to)?;
    Ok(to)
}

/// Keeps a damaged piece of a file in the data directory's quarantine.
///
/// # Errors
/// When it cannot be written.
pub fn quarantine_piece(data_dir: &Path, of: &Path, offset: u64, bytes: &[u8]) -> io::Result<PathBuf> {
    let name = with_suffix(of, &format!("at-{offset}"));
    let to = free_place(data_dir, &name)?;
    fs::write(&to, bytes)?;
    Ok(to)
}

fn free_place(data_dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let dir = data_dir.join(QUARANTINE);
    fs::create_dir_all(&dir)?;
    let name = path.file_name().unwrap_or_default();
    let mut to = dir.join(name);
    let mut n = 1;
    while to.exists() {
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
