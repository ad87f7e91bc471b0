//! A file in memory, mapped: the only unsafe code.
//!
//! It pays for itself: `benches/block_map.rs` reads the same both ways, and `pread` takes 15 times as long for a chunk
//! (0.7 µs, about what decoding it takes) and 150 times as long for a step of a search in the index, which would have
//! to be copied into memory instead. The fuzz target `block` reads mapped files, also after they were removed; Miri cannot
//! map files.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file that does not change while it is mapped.
#[derive(Debug)]
pub struct Map(Kind);

#[derive(Debug)]
enum Kind {
    Mapped(memmap2::Mmap),
    #[cfg(test)]
    Copied(Box<[u8]>),
}

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
        Ok(Map(Kind::Mapped(map)))
    }

    /// Bytes that are no file.
    #[cfg(test)]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Map(Kind::Copied(bytes.into()))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Mapped(map) => map,
            #[cfg(test)]
            Kind::Copied(bytes) => bytes,
        }
    }
}
