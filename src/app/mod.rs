//! Setup, reload and lifecycle: builds the parts, connects them, stops them in reverse.
//!
//! Reading order: `run.rs`, one straight line from options to a running server; `reloader.rs`, what a reload
//! replaces; `ticks.rs`, the loops that belong to no part (host, own metrics, pushed groups, storage upkeep);
//! `stops.rs`, the list of what is stopped, last first, each within a bounded time.
//!
//! Invariant: nothing imports this module but `cli`; siblings meet here and nowhere else.

mod banner;
mod memory;
mod reloader;
mod run;
mod stops;
mod ticks;

pub use run::{AppError, run};
