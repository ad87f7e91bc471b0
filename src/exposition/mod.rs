//! Bytes to entries and back: the text format 0.0.4 and 1.0.0, OpenMetrics 1.0, Prometheus's protobuf, and remote write
//! 1.0 and 2.0.
//!
//! Reading order: [`Format`] (content types and their negotiation), [`Parser`] (a body's lines as borrowed
//! entries), [`FamilySet`] (metric families as owned values: what is pushed, and what is written on `/metrics`),
//! [`Writer`], [`encode_registry`] (our own metrics in either format), [`protobuf`], [`remote_write`].
//!
//! Invariants: nothing in here panics or allocates without bound on any input, every range is bounded by the body;
//! nothing in here knows what a target, a limit or a stored series is. A parse error carries the line and the byte
//! where it happened.

mod error;
mod family;
mod format;
mod number;
mod parser;
pub mod protobuf;
mod registry;
pub mod remote_write;
mod wire;
mod writer;

pub use error::ParseError;
pub use family::{Family, FamilySet, SeriesValue, family_name};
pub use format::{ACCEPT_HEADER, BodyFormat, Format, PROTOBUF_CONTENT_TYPE, UnsupportedContentType};
pub use number::{format_float, format_openmetrics_float, parse_float};
pub use parser::{Entry, Exemplar, Parser, Sample, SampleLabels};
pub use registry::encode_registry;
pub use writer::Writer;
