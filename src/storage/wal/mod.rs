//! The write-ahead log: what was acknowledged but is not in a block yet.
//!
//! [`frame`] is the unit that is written with one call and is whole or void: the series, samples, histograms and
//! metadata of one batch. [`log`] appends frames to numbered segments and drops old ones; a checkpoint file names the
//! series that live on when the segments that first named them are dropped. [`replay`] reads it all back and says
//! what was damaged. The bytes are described in `docs/format.md`.

mod compressor;
pub mod frame;
pub mod log;
pub mod pieces;
pub mod replay;

pub use frame::{FrameBuilder, LoggedSample};
pub use log::{Wal, WalOptions};
