//! Remote write 1.0 and 2.0: a protobuf message, compressed as one block.
//!
//! [`decompress`] checks the stated size before it allocates. [`WriteRequest`] walks over the message of 1.0 and hands out
//! slices of it: a receiver that remembers the bytes of a series' labels never decodes them. [`encode`] writes the
//! same message. [`v2`] walks over that of 2.0.
//!
//! Source: the remote write 1.0 specification; Prometheus `prompb/types.proto`, `prompb/remote.proto`.

mod compression;
mod decode;
mod encode;
pub(super) mod histogram;
pub mod v2;

pub use compression::{DecompressError, Encoding, compress_snappy, decompress};
pub use decode::{FamilyMetadata, Item, LabelPairs, TimeSeries, Value, Values, WriteRequest};
pub use encode::Encoder;
pub use wire::WireError;

use super::wire;
pub(super) use decode::label as decode_label;

#[cfg(test)]
mod tests;
