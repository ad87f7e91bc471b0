//! Writes a `WriteRequest`.

use super::histogram::encode_histogram;
use super::wire::{FIXED64, VARINT, push_bytes, push_key, push_varint};
use crate::model::{FloatHistogram, Labels, Metadata, MetricType, Timestamp};

/// Collects a request, uncompressed.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One series with its floats, then its histograms.
    pub fn series(
        &mut self,
        labels: &Labels,
        floats: &[(Timestamp, f64)],
        histograms: &[(Timestamp, &FloatHistogram)],
    ) -> &mut Self {
        self.pairs(labels.iter(), floats, histograms)
    }

    /// As [`Encoder::series`], with the labels exactly as given, right or wrong.
    pub fn pairs<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        floats: &[(Timestamp, f64)],
        histograms: &[(Timestamp, &FloatHistogram)],
    ) -> &mut Self {
        let mut message = Vec::with_capacity(256);
        let mut field = Vec::with_capacity(64);
        push_labels(&mut message, labels);
        for (ts, value) in floats {
            field.clear();
            push_key(&mut field, 1, FIXED64);
            field.extend_from_slice(&value.to_bits().to_le_bytes());
            push_key(&mut field, 2, VARINT);
            push_varint(&mut field, *ts as u64);
            push_bytes(&mut message, 2, &field);
        }
        for (ts, h) in histograms {
            push_bytes(&mut message, 4, &encode_histogram(*ts, h));
        }
        push_bytes(&mut self.out, 1, &message);
        self
    }

    /// One series with exemplars only: label pairs, value, time in ms each.
    pub fn exemplars(&mut self, labels: &Labels, exemplars: &[(&Labels, f64, Timestamp)]) -> &mut Self {
        let mut message = Vec::with_capacity(256);
        push_labels(&mut message, labels.iter());
        for (own, value, ts) in exemplars {
            let mut field = Vec::with_capacity(64);
            push_labels(&mut field, own.iter());
            push_key(&mut field, 2, FIXED64);
            field.extend_from_slice(&value.to_bits().to_le_bytes());
            push_key(&mut field, 3, VARINT);
            push_varint(&mut field, *ts as u64);
            push_bytes(&mut message, 3, &field);
        }
        push_bytes(&mut self.out, 1, &message);
        self
    }

    pub fn metadata(&mut self, family: &str, metadata: &Metadata) -> &mut Self {
        let mut message = Vec::new();
        push_key(&mut message, 1, VARINT);
        push_varint(
            &mut message,
            match metadata.metric_type {
                MetricType::Unknown => 0,
                MetricType::Counter => 1,
                MetricType::Gauge => 2,
                MetricType::Histogram => 3,
                MetricType::GaugeHistogram => 4,
                MetricType::Summary => 5,
                MetricType::Info => 6,
                MetricType::StateSet => 7,
            },
        );
        push_bytes(&mut message, 2, family.as_bytes());
        push_bytes(&mut message, 4, metadata.help.as_bytes());
        push_bytes(&mut message, 5, metadata.unit.as_bytes());
        push_bytes(&mut self.out, 3, &message);
        self
    }

    /// The message.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

fn push_labels<'a>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut field = Vec::with_capacity(64);
    for (name, value) in labels {
        field.clear();
        push_bytes(&mut field, 1, name.as_bytes());
        push_bytes(&mut field, 2, value.as_bytes());
        push_bytes(out, 1, &field);
    }
}
