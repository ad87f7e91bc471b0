//! Writes a body.

use super::FamilyType;
use crate::exposition::wire::{FIXED64, VARINT, push_bytes, push_key, push_varint, zagzig};
use crate::model::{FloatHistogram, Span, Timestamp};

/// Collects a body: families, each with its metrics.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    /// The family that is being written.
    family: Vec<u8>,
    metric: Vec<u8>,
    value: Vec<u8>,
}

impl Writer {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family, and ends the one before.
    pub fn begin_family(&mut self, name: &str, family_type: FamilyType) {
        self.end_family();
        push_bytes(&mut self.family, 1, name.as_bytes());
        push_key(&mut self.family, 3, VARINT);
        push_varint(&mut self.family, family_type as u64);
    }

    /// Adds an untyped metric.
    pub fn untyped<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        ts: Timestamp,
        value: f64,
    ) {
        self.value.clear();
        push_double(&mut self.value, 1, value);
        self.metric(labels, 5, ts);
    }

    /// Adds a histogram, with float counts. One with exponential buckets is written as such. Custom bounds, which the
    /// format cannot carry, become the buckets of a classic histogram.
    pub fn histogram<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        ts: Timestamp,
        h: &FloatHistogram,
    ) {
        self.value.clear();
        // Without a count above zero the counts are read as integers; then no bucket may be stated as a float.
        let mut empty = None;
        let h = if h.count > 0.0 || h.zero_count > 0.0 {
            h
        } else {
            let empty: &mut FloatHistogram = empty.insert(h.clone());
            empty.compact();
            empty
        };
        let out = &mut self.value;
        push_double(out, 2, h.sum);
        push_double(out, 4, h.count);
        if h.has_custom_buckets() {
            let mut below = 0.0;
            let mut buckets = h.positive().peekable();
            for bound in &h.custom_values {
                while let Some(bucket) = buckets.next_if(|b| b.upper <= *bound) {
                    below += bucket.count;
                }
                let mut bucket = Vec::with_capacity(20);
                push_double(&mut bucket, 2, *bound);
                push_double(&mut bucket, 4, below);
                push_bytes(out, 3, &bucket);
            }
        } else {
            push_key(out, 5, VARINT);
            push_varint(out, zagzig(h.schema));
            push_double(out, 6, h.zero_threshold);
            push_double(out, 8, h.zero_count);
            push_buckets(out, 9, &h.negative_spans, &h.negative_buckets);
            push_buckets(out, 12, &h.positive_spans, &h.positive_buckets);
            if h.positive_spans.is_empty() && h.negative_spans.is_empty() {
                // An empty span says that the histogram is a native one though nothing is in it.
                push_bytes(out, 12, &[]);
            }
        }
        self.metric(labels, 7, ts);
    }

    fn metric<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        field: u64,
        ts: Timestamp,
    ) {
        self.metric.clear();
        for (name, value) in labels {
            crate::exposition::remote_write::v2::push_label(
                &mut self.metric,
                name.as_bytes(),
                value.as_bytes(),
            );
        }
        push_bytes(&mut self.metric, field, &self.value);
        push_key(&mut self.metric, 6, VARINT);
        push_varint(&mut self.metric, ts as u64);
        push_bytes(&mut self.family, 4, &self.metric);
    }

    fn end_family(&mut self) {
        if !self.family.is_empty() {
            push_varint(&mut self.out, self.family.len() as u64);
            self.out.extend_from_slice(&self.family);
            self.family.clear();
        }
    }

    /// The body, complete.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.end_family();
        self.out
    }
}

fn push_double(out: &mut Vec<u8>, field: u64, value: f64) {
    push_key(out, field, FIXED64);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Spans in `field`, and float counts two fields behind.
fn push_buckets(out: &mut Vec<u8>, field: u64, spans: &[Span], counts: &[f64]) {
    for span in spans {
        let mut message = Vec::with_capacity(12);
        push_key(&mut message, 1, VARINT);
        push_varint(&mut message, zagzig(span.offset));
        push_key(&mut message, 2, VARINT);
        push_varint(&mut message, u64::from(span.length));
        push_bytes(out, field, &message);
    }
    if !counts.is_empty() {
        let bytes: Vec<u8> = counts.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect();
        push_bytes(out, field + 2, &bytes);
    }
}
