//! The time-series ring buffer: the newest window in memory behind a WAL, older ones in immutable blocks.
//!
//! Everything outside this module sees [`Storage`] (open, maintain, statistics), [`Appender`] (a batch of samples,
//! committed or dropped as a whole), [`Reader`] (series that matchers select, handed out as columns) and the values in
//! between.
//!
//! ```text
//!             commit                    maintain(now)
//! Appender ----------> wal/ segments  ------------------>  dropped after a checkpoint
//!              |
//!              +-----> head/ series: open chunk, full chunks --> block/ one file a window --> falls off
//!                        ^                                         ^
//!            index/ postings by label pair                        |
//!                        +------------- Reader.select ------------+
//! ```
//! Reading order: `api` (the values), `db` (the parts and the order of locks), `appender`, `head`, `reader`, `maintain`
//! (sealing and retention), `heal`, `open` and `replay`; below them `index`, `wal`, `block`, `chunk`, and `coding` at the bottom.
//!
//! Invariants:
//! - Acknowledged means recoverable: a committed batch is in the WAL before it is visible.
//! - A selection sees a batch whole or not at all (see `appender::commit`).
//! - The blocks answer for the time before `sealed_until`, the head for the time from then on, and never both; only
//!   samples that came late for a block stand beside it until it is written anew (see `late`).
//! - Nothing here reads a clock or starts a task: time comes with [`Storage::maintain`].

mod api;
mod appender;
mod block;
mod chunk;
mod coding;
mod columns;
mod db;
mod delete;
mod disk;
mod exemplars;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod head;
mod heal;
mod import;
mod index;
mod inspect;
mod late;
mod maintain;
mod metrics;
mod open;
mod progress;
mod reader;
mod replay;
mod selection;
mod slices;
mod snapshot;
mod tombstones;
mod verify;
mod wal;

#[cfg(test)]
mod churn_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

pub use api::{
    AppendError, BlockStats, Cardinality, CommitStats, FsyncPolicy, HeadMemory, SampleValue, Samples,
    SeriesLimit, SeriesRef, StorageError, StorageOptions, StorageStats,
};
pub use appender::Appender;
pub use columns::{SampleRef, ValueRef};
pub use db::SERIES_BYTES_GROWN;
pub use delete::{Cleaned, SeriesDeleted};
pub use exemplars::{Exemplar, ExemplarError};
pub use handle::Storage;
pub use import::{EXEMPLARS_MAX, ImportOptions, Imported, Importer, prometheus};
pub use index::TagTable;
pub use inspect::{BlockInspection, Inspection, MetricInspection};
pub use maintain::Maintained;
pub use metrics::StorageMetrics;
pub use progress::{ReplayProgress, ReplayState, ReplayStatus};
pub use reader::{Need, Reader, SeriesSnapshot};
pub use selection::{LabelTable, Selection};
pub use slices::SampleSlices;
pub use verify::{Problem, Verified, verify};

/// The codecs by themselves, for benchmarks.
#[doc(hidden)]
pub mod codecs {
    pub use super::chunk::floats;
    pub use super::chunk::open::OpenChunk;
}
