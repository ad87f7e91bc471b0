//! The codecs: columns of integers and floats in bytes, and back, bit for bit.
//!
//! - [`ints`]: a column of `i64`: divisor, order of differences, bit-packing with exceptions. Also the timestamps.
//! - [`floats`]: a column of `f64`: one tag byte names the plan (constant, decimal, raw bits), the rest is `ints`.
//! - [`open`]: the chunk that still grows, a sample at a time.
//! - [`histograms`]: native histograms, one after the other.
//! - [`starts`]: the start times beside them.
//!
//! A decoder bounds every count and width by its input: damaged bytes give `None`, or wrong values that a checksum
//! of the file around them has to catch, but never a panic or unbounded memory.

pub mod floats;
pub mod histograms;
pub mod ints;
pub mod open;
pub mod starts;

/// How many samples an open chunk takes before it is encoded for good.
pub const OPEN_CHUNK_SAMPLES: u16 = 120;

/// How many samples of a series a block keeps in one chunk: the knee of size against selectivity.
pub const BLOCK_CHUNK_SAMPLES: usize = 480;

/// The most samples that any chunk holds; a decoder refuses more.
pub const CHUNK_SAMPLES_MAX: usize = 4096;
