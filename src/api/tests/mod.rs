//! The whole router over a storage in memory: every call, and bad input to every call.

mod dashboard;
mod export;
mod prometheus;
mod requests;
mod server;
mod support;
