//! This machine's metrics from /proc and /sys, under node_exporter's names and labels.
//!
//! [`HostCollector::collect`] reads everything once and gives a body in the text format 0.0.4, which `ingest` takes
//! like any scraped body; `app` does that on a tick. One file per area, one function per collector; a collector that
//! fails or finds nothing (another kernel, another platform) costs only its own families, and says so in
//! `node_scrape_collector_success`. [`process_metrics`] tells of this process in the same form.
//!
//! Invariant: nothing in here may hang. A file system that may (network, FUSE) is asked on a thread of its own.

mod body;
mod collector;
mod cpu;
mod disk;
mod filesystem;
mod memory;
mod network;
mod network_class;
mod process;
mod system;
mod timex;

pub use collector::HostCollector;
pub use process::process_metrics;
