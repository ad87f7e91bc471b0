//! The only source of time: wall time, monotonic time, and waiting.
//!
//! Everything that computes takes a time as an argument; only loops hold a [`Clock`]. [`Clock::system`] is the
//! machine's; [`Clock::manual`] stands still until a test moves it, and wakes whoever sleeps.

mod source;

pub use source::{Clock, ManualClock};
