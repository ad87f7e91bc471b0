//! StreamGate: a Prometheus-compatible exporter and rule engine with an alert pipeline and a dashboard, in one binary.
//!
//! Metrics are scraped or pushed into a time-series ring buffer, rule files are evaluated on a tick, alerts are
//! deduplicated, grouped, escalated and delivered to webhooks, and everything is re-exported on `/metrics`.
//!
//! The modules, from the bottom up; who may use whom stands in `docs/ARCHITECTURE.md` and is held by
//! `tests/architecture.rs`.

// Plain values and leaves.
pub mod analysis;
pub mod clock;
pub mod exposition;
pub mod http;
pub mod model;
pub mod relabel;
pub mod state;
pub mod telemetry;
pub mod template;
pub mod yaml;

// Samples: kept, and asked for.
pub mod promql;
pub mod storage;

// Where samples come from.
pub mod host;
pub mod ingest;
pub mod scrape;

// What is made of them.
pub mod alerts;
pub mod notify;
pub mod reports;
pub mod rules;

// The shell around it all.
pub mod api;
pub mod app;
pub mod cli;
pub mod config;

// What the fuzz targets run.
#[doc(hidden)]
pub mod fuzzing;
