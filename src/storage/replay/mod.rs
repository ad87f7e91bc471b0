//! Reading the WAL back into the head.
//!
//! ```text
//! one thread, a segment ahead          this one                   a thread for each core
//! segment: read, compare checksums ──► names: series, metadata ──► worker: the samples of its shards,
//!   and group samples by run             into the index              one run of series after the other
//! ```
//! A segment has the samples of all series, round after round. Taken in that order every sample would meet a series that
//! the cache has lost since; so those of 1024 neighbouring series are put together first, by their places in the
//! segment, and each worker goes through them run by run. What is kept is the order of every single series.
//!
//! Besides the head, memory is bounded by three segments and their lists of places; what the head may take, by `parts`.

mod log;
mod parts;
mod segment;
mod worker;

pub(super) use log::Lengths;
pub(super) use parts::{Postponed, ReplayPart, Replayed};
