//! Remote write 1.0: a protobuf `WriteRequest`, compressed as one block.
//!
//! [`decompress`] checks the stated size before it allocates. [`WriteRequest`] walks over the message and hands out
//! slices of it: a receiver that remembers the bytes of a series' labels never decodes them. [`encode`] writes the
//! same message.
//!
//! Source: the remote write 1.0 specification; Prometheus `prompb/types.proto`, `prompb/remote.proto`.

mod compression;
mod decode;
mod encode;
mod histogram;
mod wire;

pub use compression::{DecompressError, Encoding, compress_snappy, decompress};
pub use decode::{FamilyMetadata, Item, LabelPairs, TimeSeries, Value, Values, WriteRequest};
pub use encode::Encoder;
pub use wire::WireError;

#[cfg(test)]
mod tests;
