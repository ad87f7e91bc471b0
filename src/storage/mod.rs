//! The time-series ring buffer: series, their samples in time windows, a WAL before the newest window.
//!
//! Everything outside this module sees four things: [`Storage`] (open, retention, statistics), [`Appender`]
//! (a batch of samples, committed or dropped as a whole), [`Reader`] (series that matchers select, handed out as
//! columns) and [`StorageError`].

mod api;

pub use api::{
    AppendError, Appender, CommitStats, Reader, Samples, SeriesRef, SeriesSnapshot, Storage, StorageError,
    StorageOptions,
};
