//! Chunks of samples in Prometheus's encodings: XOR floats, integer histograms, float histograms.
//!
//! Source: Prometheus `tsdb/chunkenc`, `tsdb/docs/format/chunks.md`.

use std::sync::Arc;

use super::bits::{Bits, XorFloat};
use crate::model::{CounterResetHint, FloatHistogram, Span, Timestamp, is_stale_marker};
use crate::storage::api::Samples;
use crate::storage::columns::{SampleRef, ValueRef};

pub const XOR: u8 = 1;
pub const HISTOGRAM: u8 = 2;
pub const FLOAT_HISTOGRAM: u8 = 3;

/// Buckets of one histogram; more are damage.
const BUCKETS_MAX: u64 = 1 << 16;
/// Buckets of all histograms of a chunk. One takes a bit there and eight bytes once it is read.
const CHUNK_BUCKETS_MAX: usize = if cfg!(test) { 1 << 16 } else { 1 << 24 };

/// Appends the samples of a chunk to the columns, whose newest is older. `None` if the bytes make no sense.
#[must_use]
pub fn decode(encoding: u8, bytes: &[u8], out: &mut Samples) -> Option<()> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let count = u16::from_be_bytes(*count);
    match encoding {
        XOR => floats(count, rest, out),
        HISTOGRAM => histograms(count, rest, out, Integers::default()),
        FLOAT_HISTOGRAM => histograms(count, rest, out, Floats::default()),
        _ => None,
    }
}

fn floats(count: u16, bytes: &[u8], out: &mut Samples) -> Option<()> {
    let mut bits = Bits::new(bytes);
    let (mut ts, mut delta, mut value) = (0i64, 0i64, XorFloat::default());
    for i in 0..count {
        match i {
            0 => {
                ts = bits.varint()?;
                value = XorFloat::new(bits.bits(64)?);
            }
            1 => {
                delta = bits.uvarint()? as i64;
                ts = ts.wrapping_add(delta);
                value.read(&mut bits)?;
            }
            _ => {
                delta = delta.wrapping_add(delta_of_delta(&mut bits)?);
                ts = ts.wrapping_add(delta);
                value.read(&mut bits)?;
            }
        }
        push(out, ts, ValueRef::Float(value.value()))?;
    }
    Some(())
}

fn delta_of_delta(bits: &mut Bits<'_>) -> Option<i64> {
    const WIDTHS: [u32; 5] = [0, 14, 17, 20, 64];
    let mut ones = 0;
    while ones < 4 && bits.bit()? {
        ones += 1;
    }
    if ones == 0 { Some(0) } else { bits.signed_bits(WIDTHS[ones]) }
}

/// Only ascending times are samples of one series.
fn push(out: &mut Samples, ts: Timestamp, value: ValueRef<'_>) -> Option<()> {
    if out.time_range().is_some_and(|(_, last)| last >= ts) {
        return None;
    }
    out.push(SampleRef { ts, start: 0, value });
    Some(())
}

/// The numbers of a histogram as one of the two encodings keeps them.
trait Numbers {
    /// Makes room for the buckets of a layout.
    fn resize(&mut self, positive: usize, negative: usize);
    /// Reads count and zero count of the first, the second or a later histogram.
    fn counts(&mut self, bits: &mut Bits<'_>, nth: u16) -> Option<()>;
    fn buckets(&mut self, bits: &mut Bits<'_>, nth: u16) -> Option<()>;
    /// Writes them as absolute floats.
    fn put(&self, h: &mut FloatHistogram);
}

fn histograms(count: u16, bytes: &[u8], out: &mut Samples, mut numbers: impl Numbers) -> Option<()> {
    let (flags, rest) = bytes.split_first()?;
    let mut bits = Bits::new(rest);
    let layout = layout(&mut bits)?;
    let buckets = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    let (positive, negative) = (buckets(&layout.positive_spans), buckets(&layout.negative_spans));
    if usize::from(count) * (positive + negative + layout.custom_values.len()) > CHUNK_BUCKETS_MAX {
        return None;
    }
    numbers.resize(positive, negative);
    let (mut ts, mut delta, mut sum) = (0i64, 0i64, XorFloat::default());
    for i in 0..count {
        match i {
            0 => ts = bits.varbit_int()?,
            1 => delta = bits.varbit_int()?,
            _ => delta = delta.wrapping_add(bits.varbit_int()?),
        }
        ts = ts.wrapping_add(delta);
        numbers.counts(&mut bits, i)?;
        if i == 0 {
            sum = XorFloat::new(bits.bits(64)?);
        } else {
            sum.read(&mut bits)?;
        }
        let mut h =
            FloatHistogram { counter_reset_hint: hint(*flags, i), sum: sum.value(), ..layout.clone() };
        if is_stale_marker(h.sum) && i > 0 {
            // A staleness marker has no buckets, whatever the chunk's layout.
            h = FloatHistogram { sum: h.sum, ..FloatHistogram::default() };
        } else {
            numbers.buckets(&mut bits, i)?;
            numbers.put(&mut h);
        }
        push(out, ts, ValueRef::Histogram(&Arc::new(h)))?;
    }
    Some(())
}

/// What the chunk's header says of counter resets, for one of its histograms.
fn hint(flags: u8, nth: u16) -> CounterResetHint {
    match flags >> 6 {
        3 => CounterResetHint::Gauge,
        _ if nth > 0 => CounterResetHint::NotReset,
        2 => CounterResetHint::Reset,
        // What was before this chunk is not known once it is read by itself.
        _ => CounterResetHint::Unknown,
    }
}

/// Schema, zero threshold, spans, bounds.
fn layout(bits: &mut Bits<'_>) -> Option<FloatHistogram> {
    let mut h = FloatHistogram { zero_threshold: zero_threshold(bits)?, ..FloatHistogram::default() };
    h.schema = i32::try_from(bits.varbit_int()?).ok()?;
    h.positive_spans = spans(bits)?;
    h.negative_spans = spans(bits)?;
    if h.has_custom_buckets() {
        let n = bits.varbit_uint()?;
        if n > BUCKETS_MAX {
            return None;
        }
        for _ in 0..n {
            h.custom_values.push(match bits.varbit_uint()? {
                0 => f64::from_bits(bits.bits(64)?),
                thousandths => (thousandths - 1) as f64 / 1000.0,
            });
        }
    } else if !(-4..=8).contains(&h.schema) {
        return None;
    }
    Some(h)
}

fn zero_threshold(bits: &mut Bits<'_>) -> Option<f64> {
    Some(match bits.bits(8)? as i32 {
        0 => 0.0,
        255 => f64::from_bits(bits.bits(64)?),
        exponent => 2f64.powi(exponent - 244),
    })
}

fn spans(bits: &mut Bits<'_>) -> Option<Vec<Span>> {
    let (mut spans, mut buckets) = (Vec::new(), 0u64);
    let n = bits.varbit_uint()?;
    if n > BUCKETS_MAX {
        return None;
    }
    for _ in 0..n {
        let length = bits.varbit_uint()?;
        buckets = buckets.saturating_add(length);
        if buckets > BUCKETS_MAX {
            return None;
        }
        let offset = i32::try_from(bits.varbit_int()?).ok()?;
        spans.push(Span { offset, length: length as u32 });
    }
    Some(spans)
}

/// Counts as integers, buckets as differences from the bucket before, both as second differences in time.
#[derive(Default)]
struct Integers {
    counts: [(i64, i64); 2],
    /// Value and its last change.
    buckets: Vec<(i64, i64)>,
    positive: usize,
}

impl Numbers for Integers {
    fn resize(&mut self, positive: usize, negative: usize) {
        self.positive = positive;
        self.buckets = vec![(0, 0); positive + negative];
    }

    fn counts(&mut self, bits: &mut Bits<'_>, nth: u16) -> Option<()> {
        for (value, delta) in &mut self.counts {
            match nth {
                0 => *value = bits.varbit_uint()? as i64,
                1 => *delta = bits.varbit_int()?,
                _ => *delta = delta.wrapping_add(bits.varbit_int()?),
            }
            if nth > 0 {
                *value = value.wrapping_add(*delta);
            }
        }
        Some(())
    }

    fn buckets(&mut self, bits: &mut Bits<'_>, nth: u16) -> Option<()> {
        for (value, delta) in &mut self.buckets {
            if nth == 0 {
                *value = bits.varbit_int()?;
            } else {
                *delta = delta.wrapping_add(bits.varbit_int()?);
                *value = value.wrapping_add(*delta);
            }
        }
        Some(())
    }

    fn put(&self, h: &mut FloatHistogram) {
        let unsigned = |v: i64| v as u64 as f64;
        (h.count, h.zero_count) = (unsigned(self.counts[0].0), unsigned(self.counts[1].0));
        let absolute = |deltas: &[(i64, i64)]| {
            let mut sum = 0i64;
            let next = |(d, _): &(i64, i64)| {
                sum = sum.wrapping_add(*d);
                sum as f64
            };
            deltas.iter().map(next).collect()
        };
        h.positive_buckets = absolute(&self.buckets[..self.positive]);
        h.negative_buckets = absolute(&self.buckets[self.positive..]);
    }
}

/// All numbers as floats.
#[derive(Default)]
struct Floats {
    counts: [XorFloat; 2],
    buckets: Vec<XorFloat>,
    positive: usize,
}

impl Numbers for Floats {
    fn resize(&mut self, positive: usize, negative: usize) {
        self.positive = positive;
        self.buckets = vec![XorFloat::default(); positive + negative];
    }

    fn counts(&mut self, bits: &mut Bits<'_>, nth: u16) -> Option<()> {
        xor_all(&mut self.counts, bits, nth)
    }

    fn buckets(&mut self, bits: &mut Bits<'_>, nth: u16) -> Option<()> {
        xor_all(&mut self.buckets, bits, nth)
    }

    fn put(&self, h: &mut FloatHistogram) {
        (h.count, h.zero_count) = (self.counts[0].value(), self.counts[1].value());
        let values = |all: &[XorFloat]| all.iter().map(|v| v.value()).collect();
        h.positive_buckets = values(&self.buckets[..self.positive]);
        h.negative_buckets = values(&self.buckets[self.positive..]);
    }
}

fn xor_all(all: &mut [XorFloat], bits: &mut Bits<'_>, nth: u16) -> Option<()> {
    for value in all {
        if nth == 0 {
            *value = XorFloat::new(bits.bits(64)?);
        } else {
            value.read(bits)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk of empty histograms of 1024 buckets each, which take a bit each.
    fn wide(count: u16) -> Vec<u8> {
        let mut bits = String::new();
        // Zero threshold, schema, one positive span: its number, length, offset; no negative span.
        bits.push_str(&format!("{:08b}0{}{}00", 0, "10001", format_args!("111110{:018b}", 1024)));
        for i in 0..count {
            // A second apart; counts, the sum, buckets.
            bits.push_str(if i == 1 { "10001" } else { "0" });
            bits.push_str(&format!("00{}", "0".repeat(if i == 0 { 64 } else { 1 })));
            bits.push_str(&"0".repeat(1024));
        }
        bits.push_str(&"0".repeat(8 - bits.len() % 8));
        let mut bytes = [&count.to_be_bytes()[..], &[0]].concat();
        bytes.extend(
            bits.as_bytes().chunks(8).map(|b| b.iter().fold(0u8, |byte, bit| byte << 1 | (bit - b'0'))),
        );
        bytes
    }

    #[test]
    fn a_chunk_that_would_take_very_much_memory_is_refused() {
        let mut out = Samples::default();
        assert_eq!(decode(HISTOGRAM, &wide(60), &mut out), Some(()));
        assert_eq!((out.hist_ts.len(), out.hists[59].positive_buckets.len()), (60, 1024));
        assert_eq!(decode(HISTOGRAM, &wide(70), &mut Samples::default()), None);
    }
}
