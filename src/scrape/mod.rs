//! Discovery, target, pool and loop: fetches bodies and hands them to ingest.
//!
//! ```text
//! ScrapeJob (config.rs) ── static_configs, file_sd (discovery.rs) ──► label sets
//!        label set ── relabel (target.rs) ──► Target, or dropped
//!        Target ── one task each (target_loop.rs) ── fetch.rs ──► ingest
//! ```
//! [`ScrapeManager`] holds the pools, one for each job, and applies a new configuration to them: a target that is
//! still there keeps its task and its cache.
//!
//! Invariants: the time of a scrape within its interval is a hash of the target's identity, so that a restart scrapes
//! at the same phase; a scrape that is late by an interval or more is let go; a target that goes away ends with
//! staleness markers, a server that stops does not write any.

pub mod config;
mod discovery;
mod fetch;
mod manager;
mod metrics;
mod size;
mod target;
mod target_loop;
mod view;

/// Every scrape carries the instance of the process that asks. So `/metrics` knows when the server scrapes itself, and
/// gives only its own families then: what it re-exports would be stored a second time, and more with each scrape.
pub const INSTANCE_HEADER: &str = "X-StreamGate-Instance";

pub use config::{ScrapeDefaults, ScrapeFeatures, ScrapeJob};
pub use discovery::{TargetGroup, matching_files, read_groups};
pub use manager::ScrapeManager;
pub use metrics::ScrapeMetrics;
pub use size::parse_size;
pub use view::{DroppedTargetView, TargetHealth, TargetView};
