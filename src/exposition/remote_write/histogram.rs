//! Native histograms in remote write: integer ones come as deltas, float ones as counts; both become counts.

use super::wire::{BYTES, Cursor, FIXED64, VARINT, WireError, push_bytes, push_key, push_varint, zigzag};
use crate::model::{CounterResetHint, FloatHistogram, Span, Timestamp};

/// The schema that marks custom bucket bounds.
const CUSTOM_BUCKETS: i32 = -53;

/// Buckets of one sign, before they are counts.
#[derive(Default)]
struct Buckets {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Buckets {
    /// Absolute counts; an integer histogram has deltas, a float one counts.
    fn counts(self) -> (Vec<Span>, Vec<f64>) {
        if self.deltas.is_empty() {
            return (self.spans, self.counts);
        }
        let mut count = 0i64;
        let counts = self.deltas.iter().map(|d| {
            count = count.wrapping_add(*d);
            count as f64
        });
        (self.spans, counts.collect())
    }
}

/// Decodes and checks a `Histogram`: its time, its start time (0 if there is none; only 2.0 has one) and its value.
pub(super) fn decode_histogram(message: &[u8]) -> Result<(Timestamp, Timestamp, FloatHistogram), WireError> {
    let mut cursor = Cursor::new(message);
    let mut h = FloatHistogram::default();
    let (mut negative, mut positive) = (Buckets::default(), Buckets::default());
    let (mut ts, mut start) = (0, 0);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, VARINT) => h.count = cursor.varint()? as f64,
            (2, FIXED64) => h.count = cursor.double()?,
            (3, FIXED64) => h.sum = cursor.double()?,
            (4, VARINT) => h.schema = zigzag(cursor.varint()?) as i32,
            (5, FIXED64) => h.zero_threshold = cursor.double()?,
            (6, VARINT) => h.zero_count = cursor.varint()? as f64,
            (7, FIXED64) => h.zero_count = cursor.double()?,
            (8, BYTES) => negative.spans.push(span(cursor.bytes()?)?),
            (9, wire_type) => integers(&mut cursor, wire_type, &mut negative.deltas)?,
            (10, wire_type) => doubles(&mut cursor, wire_type, &mut negative.counts)?,
            (11, BYTES) => positive.spans.push(span(cursor.bytes()?)?),
            (12, wire_type) => integers(&mut cursor, wire_type, &mut positive.deltas)?,
            (13, wire_type) => doubles(&mut cursor, wire_type, &mut positive.counts)?,
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
    (h.negative_spans, h.negative_buckets) = negative.counts();
    (h.positive_spans, h.positive_buckets) = positive.counts();
    if !h.is_stale_marker() {
        check(&h).map_err(WireError::Histogram)?;
    }
    Ok((ts, start, h))
}

/// What must hold between the parts, as Prometheus checks it on arrival.
fn check(h: &FloatHistogram) -> Result<(), String> {
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
    } else if !(-4..=8).contains(&h.schema) {
        return Err(format!("schema {} is not in -4..=8", h.schema));
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

/// Repeated ZigZag integers, packed or one by one.
fn integers(cursor: &mut Cursor<'_>, wire_type: u8, out: &mut Vec<i64>) -> Result<(), WireError> {
    match wire_type {
        VARINT => out.push(zigzag(cursor.varint()?)),
        BYTES => {
            let mut packed = Cursor::new(cursor.bytes()?);
            while !packed.rest.is_empty() {
                out.push(zigzag(packed.varint()?));
            }
        }
        other => return Err(WireError::WireType(other)),
    }
    Ok(())
}

/// Repeated doubles, packed or one by one.
fn doubles(cursor: &mut Cursor<'_>, wire_type: u8, out: &mut Vec<f64>) -> Result<(), WireError> {
    match wire_type {
        FIXED64 => out.push(cursor.double()?),
        BYTES => {
            let mut packed = Cursor::new(cursor.bytes()?);
            while !packed.rest.is_empty() {
                out.push(packed.double()?);
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

/// The inverse of [`zigzag`] for 32 bits.
fn zagzig(value: i32) -> u64 {
    let value = i64::from(value);
    ((value << 1) ^ (value >> 63)) as u64
}
