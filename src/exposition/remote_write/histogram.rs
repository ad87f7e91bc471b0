//! Native histograms in remote write: integer ones come as deltas, float ones as counts; both become counts.

use super::wire::{
    BYTES, Cursor, FIXED64, VARINT, WireError, push_bytes, push_key, push_varint, zagzig, zigzag,
};
use crate::model::{CounterResetHint, FloatHistogram, Span, Timestamp};

/// The schema that marks custom bucket bounds.
const CUSTOM_BUCKETS: i32 = -53;

/// The finest schema, and the finest that one may have on arrival.
const SCHEMA_MAX: i32 = 8;
const SCHEMA_RESERVED_MAX: i32 = 52;

/// Buckets of one sign of one histogram; more are refused, as are more spans.
const BUCKETS_MAX: usize = 1 << 16;

/// Buckets of one sign, before they are counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Buckets {
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Reads a `BucketSpan`.
    pub fn span(&mut self, message: &[u8]) -> Result<(), WireError> {
        if self.spans.len() >= BUCKETS_MAX {
            return Err(WireError::TooMany { what: "spans", limit: BUCKETS_MAX });
        }
        self.spans.push(span(message)?);
        Ok(())
    }

    /// Reads repeated ZigZag integers, packed or one by one.
    pub fn deltas(&mut self, cursor: &mut Cursor<'_>, wire_type: u8) -> Result<(), WireError> {
        integers(cursor, wire_type, &mut self.deltas)
    }

    /// Reads repeated doubles, packed or one by one.
    pub fn counts(&mut self, cursor: &mut Cursor<'_>, wire_type: u8) -> Result<(), WireError> {
        doubles(cursor, wire_type, &mut self.counts)
    }

    /// Spans and absolute counts: of a float histogram as they stand, of an integer one from its deltas.
    pub fn of_kind(&self, is_float: bool) -> (Vec<Span>, Vec<f64>) {
        if is_float {
            return (self.spans.clone(), self.counts.clone());
        }
        let mut count = 0i64;
        let counts = self.deltas.iter().map(|d| {
            count = count.wrapping_add(*d);
            count as f64
        });
        (self.spans.clone(), counts.collect())
    }

    /// As [`Buckets::of_kind`]: what has deltas is an integer histogram.
    fn absolute(self) -> (Vec<Span>, Vec<f64>) {
        if self.deltas.is_empty() { (self.spans, self.counts) } else { self.of_kind(false) }
    }
}

/// Decodes and checks a `Histogram`: its time, its start time (0 if there is none; only 2.0 has one) and its value.
pub(super) fn decode_histogram(message: &[u8]) -> Result<(Timestamp, Timestamp, FloatHistogram), WireError> {
    let mut cursor = Cursor::new(message);
    let mut h = FloatHistogram::default();
    let (mut negative, mut positive) = (Buckets::default(), Buckets::default());
    let (mut ts, mut start, mut is_integer) = (0, 0, false);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, VARINT) => (h.count, is_integer) = (cursor.varint()? as f64, true),
            (2, FIXED64) => h.count = cursor.double()?,
            (3, FIXED64) => h.sum = cursor.double()?,
            (4, VARINT) => h.schema = zigzag(cursor.varint()?) as i32,
            (5, FIXED64) => h.zero_threshold = cursor.double()?,
            (6, VARINT) => h.zero_count = cursor.varint()? as f64,
            (7, FIXED64) => h.zero_count = cursor.double()?,
            (8, BYTES) => negative.span(cursor.bytes()?)?,
            (9, wire_type) => negative.deltas(&mut cursor, wire_type)?,
            (10, wire_type) => negative.counts(&mut cursor, wire_type)?,
            (11, BYTES) => positive.span(cursor.bytes()?)?,
            (12, wire_type) => positive.deltas(&mut cursor, wire_type)?,
            (13, wire_type) => positive.counts(&mut cursor, wire_type)?,
            (14, VARINT) => {
                h.counter_reset_hint = match cursor.varint()? {
                    1 => CounterResetHint::Reset,
                    2 => CounterResetHint::NotReset,
                    3 => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                }
            }
            (15, VARINT) => ts = cursor.varint()? as i64,
            (16, wire_type) => doubles(&mut cursor, wire_type, &mut h.custom_values)?,
            (17, VARINT) => start = cursor.varint()? as i64,
            (field @ 1..=17, _) => return Err(WireError::FieldType { message: "Histogram", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    (h.negative_spans, h.negative_buckets) = negative.absolute();
    (h.positive_spans, h.positive_buckets) = positive.absolute();
    if !h.is_stale_marker() {
        admit(&mut h, is_integer).map_err(WireError::Histogram)?;
    }
    Ok((ts, start, h))
}

/// Checks what must hold between the parts, as Prometheus does on arrival, and makes one that is finer than the finest schema that
/// coarse.
pub fn admit(h: &mut FloatHistogram, is_integer: bool) -> Result<(), String> {
    check(h, is_integer)?;
    if !h.has_custom_buckets() && h.schema > SCHEMA_MAX {
        h.reduce_resolution(SCHEMA_MAX);
    }
    Ok(())
}

fn check(h: &FloatHistogram, is_integer: bool) -> Result<(), String> {
    if h.schema == CUSTOM_BUCKETS {
        if h.zero_count != 0.0 || h.zero_threshold != 0.0 {
            return Err("custom buckets must not have a zero bucket".into());
        }
        if !h.negative_spans.is_empty() || !h.negative_buckets.is_empty() {
            return Err("custom buckets must not have negative buckets".into());
        }
        if h.custom_values.windows(2).any(|w| w[0].is_nan() || w[1].is_nan() || w[0] >= w[1]) {
            return Err("custom bucket bounds must be strictly ascending".into());
        }
        if h.custom_values.last() == Some(&f64::INFINITY) {
            return Err("the last custom bucket bound must not be +Inf".into());
        }
        let buckets: u64 = h.positive_spans.iter().map(|s| u64::from(s.length)).sum();
        if buckets > h.custom_values.len() as u64 + 1 {
            return Err("more buckets than custom bounds".into());
        }
    } else if !(-4..=SCHEMA_RESERVED_MAX).contains(&h.schema) {
        return Err(format!("schema {} is not in -4..={SCHEMA_MAX}", h.schema));
    } else if !h.custom_values.is_empty() {
        return Err("exponential buckets must not have custom bounds".into());
    }
    if h.count < 0.0 || h.zero_count < 0.0 || h.zero_threshold < 0.0 {
        return Err("a count is negative".into());
    }
    for (side, spans, buckets) in [
        ("negative", &h.negative_spans, &h.negative_buckets),
        ("positive", &h.positive_spans, &h.positive_buckets),
    ] {
        let expected: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
        if expected != buckets.len() as u64 {
            return Err(format!("{side} spans state {expected} buckets, there are {}", buckets.len()));
        }
        if spans.iter().skip(1).any(|s| s.offset < 0) {
            return Err(format!("a {side} span has a negative offset"));
        }
        if buckets.iter().any(|b| *b < 0.0) {
            return Err(format!("a {side} bucket has a negative count"));
        }
    }
    // Sums of floats are not exact. An observation of NaN makes the sum NaN and is in no bucket.
    let observations = h.zero_count + h.negative_buckets.iter().chain(&h.positive_buckets).sum::<f64>();
    if is_integer && (observations > h.count || observations != h.count && !h.sum.is_nan()) {
        return Err(format!(
            "{observations} observations found in buckets, but the Count field is {}",
            h.count
        ));
    }
    Ok(())
}

fn span(message: &[u8]) -> Result<Span, WireError> {
    let mut cursor = Cursor::new(message);
    let mut span = Span::default();
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, VARINT) => span.offset = zigzag(cursor.varint()?) as i32,
            (2, VARINT) => span.length = cursor.varint()? as u32,
            (field @ (1 | 2), _) => return Err(WireError::FieldType { message: "BucketSpan", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(span)
}

fn push<T>(out: &mut Vec<T>, value: T) -> Result<(), WireError> {
    if out.len() >= BUCKETS_MAX {
        return Err(WireError::TooMany { what: "buckets", limit: BUCKETS_MAX });
    }
    out.push(value);
    Ok(())
}

/// Repeated ZigZag integers, packed or one by one.
fn integers(cursor: &mut Cursor<'_>, wire_type: u8, out: &mut Vec<i64>) -> Result<(), WireError> {
    match wire_type {
        VARINT => push(out, zigzag(cursor.varint()?))?,
        BYTES => {
            let mut packed = Cursor::new(cursor.bytes()?);
            while !packed.rest.is_empty() {
                push(out, zigzag(packed.varint()?))?;
            }
        }
        other => return Err(WireError::WireType(other)),
    }
    Ok(())
}

/// Repeated doubles, packed or one by one.
fn doubles(cursor: &mut Cursor<'_>, wire_type: u8, out: &mut Vec<f64>) -> Result<(), WireError> {
    match wire_type {
        FIXED64 => push(out, cursor.double()?)?,
        BYTES => {
            let mut packed = Cursor::new(cursor.bytes()?);
            while !packed.rest.is_empty() {
                push(out, packed.double()?)?;
            }
        }
        other => return Err(WireError::WireType(other)),
    }
    Ok(())
}

/// Writes a histogram in its float form.
pub(super) fn encode_histogram(ts: Timestamp, h: &FloatHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    let double = |out: &mut Vec<u8>, field: u64, value: f64| {
        push_key(out, field, FIXED64);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    };
    let packed = |out: &mut Vec<u8>, field: u64, values: &[f64]| {
        if !values.is_empty() {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect();
            push_bytes(out, field, &bytes);
        }
    };
    let spans = |out: &mut Vec<u8>, field: u64, spans: &[Span]| {
        for s in spans {
            let mut message = Vec::new();
            push_key(&mut message, 1, VARINT);
            push_varint(&mut message, zagzig(s.offset));
            push_key(&mut message, 2, VARINT);
            push_varint(&mut message, u64::from(s.length));
            push_bytes(out, field, &message);
        }
    };
    double(&mut out, 2, h.count);
    double(&mut out, 3, h.sum);
    push_key(&mut out, 4, VARINT);
    push_varint(&mut out, zagzig(h.schema));
    double(&mut out, 5, h.zero_threshold);
    double(&mut out, 7, h.zero_count);
    spans(&mut out, 8, &h.negative_spans);
    packed(&mut out, 10, &h.negative_buckets);
    spans(&mut out, 11, &h.positive_spans);
    packed(&mut out, 13, &h.positive_buckets);
    push_key(&mut out, 14, VARINT);
    push_varint(
        &mut out,
        match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
    );
    push_key(&mut out, 15, VARINT);
    push_varint(&mut out, ts as u64);
    packed(&mut out, 16, &h.custom_values);
    out
}
