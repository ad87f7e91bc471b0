//! Drives the real binary over HTTP: one scratch folder and free ports per test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a real process runs on the machine's time")]

mod alert_path;
mod bad_input;
mod crash;
mod dashboard;
mod defaults;
mod lifecycle;
mod memory_limit;
mod peer_formats;
mod promql_cli;
mod promql_limits;
mod push;
mod samples;
mod storage;
mod util;
