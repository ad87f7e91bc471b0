//! Pure functions over columns of samples: what a series does over time.
//!
//! Invariant: a column comes as `ts` (ms, ascending) and `vs` of equal length; NaN and infinite values are passed
//! over, never spread.

mod trend;

pub use trend::{LinearFit, fit_line};
