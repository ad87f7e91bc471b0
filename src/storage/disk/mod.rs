//! The file system as storage sees it.
//!
//! [`Disk`] is all that is asked of it: WAL, checkpoints, blocks and the quarantine go through it, so that tests can put
//! a disk in its place that fails at a chosen operation, or loses what was not synced (`sim`). [`RealDisk`] is the one
//! that runs. `files` builds on it what storage does with whole files, each so that a crash leaves the old state or
//! the new one.
//!
//! **Invariant**: nothing else in storage touches the file system.

mod api;
mod files;
mod real;
#[cfg(test)]
pub mod sim;

pub use api::{Disk, DiskFile, Entry, Lock, Room};
pub use files::{quarantine, quarantine_piece, remove_unfinished, write_whole};
pub use real::RealDisk;
