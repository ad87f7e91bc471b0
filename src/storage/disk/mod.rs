//! The file system as storage sees it.
//!
//! [`Disk`] is all that is asked of it: all that is in the data directory goes through it, so that tests can put
//! a disk in its place that fails at a chosen operation, or loses what was not synced (`sim`). [`RealDisk`] is the one
//! that runs. `files` builds on it what storage does with whole files, each so that a crash leaves the old state or
//! the new one.
//!
//! **Invariant**: nothing else in storage touches the file system, but for the foreign directories that an import reads.

mod api;
mod files;
mod real;
#[cfg(test)]
pub mod sim;

pub use api::{Disk, DiskFile, Entry, Lock, Room, ScratchFile};
pub use files::{link_or_copy, quarantine, quarantine_piece, remove_unfinished, write_unsynced, write_whole};
pub use real::RealDisk;
