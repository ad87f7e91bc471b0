//! Prometheus's protobuf exposition: length-delimited `io.prometheus.client.MetricFamily` messages.
//!
//! [`MetricFamilies`] walks over a body and hands out slices of it; [`Writer`] writes one. Beside the text formats it
//! carries native histograms, the times at which series began to count, and many exemplars of one histogram.
//!
//! Source: `io/prometheus/client/metrics.proto` of client_model; Prometheus `model/textparse/protobufparse.go` (what
//! counts as a native histogram, and which count overrides which).

mod read;
mod write;

pub use read::{
    ClassicBucket, Family, FamilyType, Histogram, Metric, MetricFamilies, Number, ProtobufError, Summary,
};
pub use write::Writer;

#[cfg(test)]
pub mod oracle;
#[cfg(test)]
mod tests;
