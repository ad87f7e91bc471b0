//! A file in memory, mapped.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file that does not change while it is mapped.
#[derive(Debug)]
pub struct Map(memmap2::Mmap);

impl Map {
    /// Maps a block. The file must be one that is only ever written beside its place, renamed into it, and removed.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is undefined behaviour only if the file is changed or truncated while it is mapped.
        // Blocks are opened here for reading only; they are written under another name, synced and then renamed;
        // nothing in this program opens a file with that name for writing, and removing it leaves the mapping's
        // pages alone. Other processes are kept out by the lock on the data directory; whoever truncates its files
        // by hand ends this process (SIGBUS) but cannot make it read what is not there.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Map(map))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
