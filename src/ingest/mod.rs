//! The one road from bytes to the appender: parse, relabel, limits, pushed groups, series caches, staleness.
//!
//! ```text
//!  scraped body ──► scrape ──┐  ScrapeCache: lines of the last scrape by position
//!  remote write ──► write ───┼──► one batch ──► storage::Appender
//!  pushed text ───► pushed ──┘  SeriesCache: hash of the encoded labels
//!  recorded JSON ─►    │
//!                      └──► state::Store: what is pushed survives a restart
//! ```
//!
//! [`Ingest`] is the handle that all sources share. Reading order: [`IngestLimits`], `labels` (what a label set must
//! be), `scrape`, `write`, [`Pushed`].
//!
//! Invariants: one call is one batch, seen whole or not at all. A series that appears twice with one name and time
//! keeps its first value. What repeats costs no label: both caches know a series by a hash of its bytes as they were
//! sent, of 96 bits or more and keyed at random per process, and never keep those bytes. Nothing in here knows the
//! network, and every time comes from the caller.

mod budget;
mod error;
mod families;
mod features;
mod handle;
mod hash;
mod labels;
mod limits;
mod metrics;
mod pushed;
mod scrape;
mod scrape_cache;
mod series_cache;
mod write;

pub use budget::{BudgetFull, Charge, MemoryBudget};
pub use error::{IngestError, PushError, ScrapeError};
pub use features::IngestFeatures;
pub use handle::Ingest;
pub use labels::LabelError;
pub use limits::IngestLimits;
pub use metrics::IngestMetrics;
pub use pushed::{GroupView, JsonMetric, Pushed, RecordedMetric, group_labels};
pub use scrape::{HistogramOptions, SCHEMA_MAX, SCHEMA_MIN, ScrapeOptions, ScrapeStats};
pub use scrape_cache::ScrapeCache;
pub use write::{RemoteWriteStats, RemoteWriteVersion};

#[cfg(test)]
mod tests;
