//! Native histograms, one after the other, each written as its difference from the one before.
//!
//! ```text
//! time: signed varint, the difference from the one before (the first: from 0)
//! flags: u8           bits 0-1 counter reset hint | bit 2 same layout as the one before
//! layout, unless bit 2: schema: signed varint, zero threshold: u64,
//!                     positive spans, negative spans: count, then each offset: signed varint, length: varint,
//!                     number of positive and of negative buckets, custom bounds: count, then each u64
//! numbers             count, zero count, sum, positive buckets, negative buckets
//!
//! number = varint: even: half of it is the zigzag difference of two whole numbers | 1: the bits follow as u64
//! ```
//! The difference is from the same number of the histogram before; from 0 if the layout changed.

use std::sync::Arc;

use super::OPEN_CHUNK_SAMPLES;
use crate::model::{CounterResetHint, FloatHistogram, Span, Timestamp};
use crate::storage::coding::{Cursor, put_signed, put_varint, unzigzag, zigzag};

const SAME_LAYOUT: u8 = 4;
/// A chunk with so many bytes is full.
const FULL_BYTES: usize = 16 << 10;
const WHOLE_MAX: f64 = (1u64 << 51) as f64;

/// Writes histograms in the order of their times.
#[derive(Clone, Debug, Default)]
pub struct HistogramEncoder {
    buf: Vec<u8>,
    count: u16,
    first_ts: Timestamp,
    last_ts: Timestamp,
    last: Option<Arc<FloatHistogram>>,
}

impl HistogramEncoder {
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count >= OPEN_CHUNK_SAMPLES || self.buf.len() >= FULL_BYTES
    }

    /// Bytes on the heap, without the newest histogram, which others hold as well.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.buf.capacity()
    }

    #[must_use]
    pub fn first_ts(&self) -> Timestamp {
        self.first_ts
    }

    #[must_use]
    pub fn last_ts(&self) -> Timestamp {
        self.last_ts
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Appends a histogram; `ts` must be later than the last.
    pub fn append(&mut self, ts: Timestamp, histogram: Arc<FloatHistogram>) {
        let before = if self.count == 0 { 0 } else { self.last_ts };
        if self.count == 0 {
            self.first_ts = ts;
        }
        put_signed(&mut self.buf, ts.wrapping_sub(before));
        put_histogram(&mut self.buf, self.last.as_deref(), &histogram);
        self.last_ts = ts;
        self.last = Some(histogram);
        self.count += 1;
    }

    /// The finished bytes; the encoder is empty afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        self.count = 0;
        self.last = None;
        let bytes = self.buf.as_slice().to_vec();
        self.buf.clear();
        self.buf.shrink_to(FULL_BYTES);
        bytes
    }
}

/// Bytes of a histogram on the heap, about.
#[must_use]
pub fn heap_bytes(h: &FloatHistogram) -> usize {
    let values = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
    let spans = h.positive_spans.len() + h.negative_spans.len();
    size_of::<FloatHistogram>() + values * size_of::<f64>() + spans * size_of::<Span>()
}

/// Appends the `n` histograms of a chunk that lie in `from..=to` to the columns.
#[must_use]
pub fn decode(
    bytes: &[u8],
    n: usize,
    from: Timestamp,
    to: Timestamp,
    ts: &mut Vec<Timestamp>,
    histograms: &mut Vec<Arc<FloatHistogram>>,
) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let (mut t, mut last) = (0i64, None::<Arc<FloatHistogram>>);
    for _ in 0..n {
        t = t.wrapping_add(cursor.signed()?);
        let h = Arc::new(take_histogram(&mut cursor, last.as_deref())?);
        if t > to {
            break;
        }
        if t >= from {
            ts.push(t);
            histograms.push(Arc::clone(&h));
        }
        last = Some(h);
    }
    Some(())
}

/// Appends one histogram, as its difference from `before`.
pub fn put_histogram(buf: &mut Vec<u8>, before: Option<&FloatHistogram>, h: &FloatHistogram) {
    let before = before.filter(|b| same_layout(b, h));
    buf.push(hint_code(h.counter_reset_hint) | if before.is_some() { SAME_LAYOUT } else { 0 });
    if before.is_none() {
        put_signed(buf, i64::from(h.schema));
        buf.extend_from_slice(&h.zero_threshold.to_bits().to_le_bytes());
        for spans in [&h.positive_spans, &h.negative_spans] {
            put_varint(buf, spans.len() as u64);
            for s in spans {
                put_signed(buf, i64::from(s.offset));
                put_varint(buf, u64::from(s.length));
            }
        }
        put_varint(buf, h.positive_buckets.len() as u64);
        put_varint(buf, h.negative_buckets.len() as u64);
        put_varint(buf, h.custom_values.len() as u64);
        for v in &h.custom_values {
            buf.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
    put_number(buf, before.map_or(0.0, |b| b.count), h.count);
    put_number(buf, before.map_or(0.0, |b| b.zero_count), h.zero_count);
    put_number(buf, before.map_or(0.0, |b| b.sum), h.sum);
    let columns = [
        (&h.positive_buckets, before.map(|b| &b.positive_buckets)),
        (&h.negative_buckets, before.map(|b| &b.negative_buckets)),
    ];
    for (buckets, before) in columns {
        for (i, v) in buckets.iter().enumerate() {
            put_number(buf, before.map_or(0.0, |b| b[i]), *v);
        }
    }
}

/// Reads what [`put_histogram`] wrote, given the same `before`.
#[must_use]
pub fn take_histogram(cursor: &mut Cursor<'_>, before: Option<&FloatHistogram>) -> Option<FloatHistogram> {
    let flags = cursor.u8()?;
    let mut h = if flags & SAME_LAYOUT != 0 { before?.clone() } else { take_layout(cursor)? };
    h.counter_reset_hint = hint(flags & 3);
    h.count = take_number(cursor, h.count)?;
    h.zero_count = take_number(cursor, h.zero_count)?;
    h.sum = take_number(cursor, h.sum)?;
    for v in h.positive_buckets.iter_mut().chain(&mut h.negative_buckets) {
        *v = take_number(cursor, *v)?;
    }
    Some(h)
}

fn take_layout(cursor: &mut Cursor<'_>) -> Option<FloatHistogram> {
    let mut h = FloatHistogram {
        schema: i32::try_from(cursor.signed()?).ok()?,
        zero_threshold: f64::from_bits(cursor.u64()?),
        ..FloatHistogram::default()
    };
    for spans in [&mut h.positive_spans, &mut h.negative_spans] {
        for _ in 0..cursor.count()? {
            let offset = i32::try_from(cursor.signed()?).ok()?;
            spans.push(Span { offset, length: u32::try_from(cursor.varint()?).ok()? });
        }
    }
    let (positive, negative) = (cursor.count()?, cursor.count()?);
    for _ in 0..cursor.count()? {
        h.custom_values.push(f64::from_bits(cursor.u64()?));
    }
    // Every bucket takes at least a byte of what follows.
    if positive.checked_add(negative)? > cursor.len() {
        return None;
    }
    h.positive_buckets.resize(positive, 0.0);
    h.negative_buckets.resize(negative, 0.0);
    let fits = |spans: &[Span], n: usize| spans.iter().map(|s| u64::from(s.length)).sum::<u64>() == n as u64;
    (fits(&h.positive_spans, positive) && fits(&h.negative_spans, negative)).then_some(h)
}

fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && a.custom_values.len() == b.custom_values.len()
        && a.custom_values.iter().zip(&b.custom_values).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn whole(v: f64) -> Option<i64> {
    let is_whole = v.abs() < WHOLE_MAX && v.trunc() == v && !(v == 0.0 && v.is_sign_negative());
    is_whole.then_some(v as i64)
}

fn put_number(buf: &mut Vec<u8>, before: f64, v: f64) {
    match (whole(before), whole(v)) {
        (Some(b), Some(v)) => put_varint(buf, zigzag(v - b) << 1),
        _ => {
            buf.push(1);
            buf.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
}

fn take_number(cursor: &mut Cursor<'_>, before: f64) -> Option<f64> {
    let n = cursor.varint()?;
    if n & 1 == 1 {
        return Some(f64::from_bits(cursor.u64()?));
    }
    Some(whole(before)?.wrapping_add(unzigzag(n >> 1)) as f64)
}

fn hint_code(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint(code: u8) -> CounterResetHint {
    match code {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

/// Whether two histograms are the same bit by bit; a stale marker is equal to itself.
#[must_use]
pub fn same_bits(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let equal = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    same_layout(a, b)
        && a.counter_reset_hint == b.counter_reset_hint
        && equal(&[a.count, a.zero_count, a.sum], &[b.count, b.zero_count, b.sum])
        && equal(&a.positive_buckets, &b.positive_buckets)
        && equal(&a.negative_buckets, &b.negative_buckets)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::stale_marker;
    use proptest::prelude::*;

    /// A histogram with a few buckets; any numbers.
    pub fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
        let number = || {
            prop_oneof![
                4 => (0i64..1000).prop_map(|i| i as f64),
                1 => any::<f64>(),
                1 => Just(stale_marker()),
                1 => Just(-0.0),
            ]
        };
        let buckets = || proptest::collection::vec(number(), 3);
        (
            0u8..4,
            0i32..3,
            number(),
            number(),
            number(),
            buckets(),
            buckets(),
            proptest::collection::vec(number(), 0..2),
        )
            .prop_map(
                |(
                    hint_code,
                    schema,
                    count,
                    zero_count,
                    sum,
                    positive_buckets,
                    negative_buckets,
                    custom_values,
                )| {
                    FloatHistogram {
                        counter_reset_hint: hint(hint_code),
                        schema,
                        zero_threshold: 0.001,
                        zero_count,
                        count,
                        sum,
                        positive_spans: vec![Span { offset: -4, length: 2 }, Span { offset: 3, length: 1 }],
                        negative_spans: vec![Span { offset: 0, length: 3 }],
                        positive_buckets,
                        negative_buckets,
                        custom_values,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn histograms_come_back(all in proptest::collection::vec((1i64..100_000, any_histogram()), 1..20)) {
            let mut encoder = HistogramEncoder::default();
            let mut t = -5000;
            let all: Vec<_> = all.into_iter().map(|(d, h)| { t += d; (t, Arc::new(h)) }).collect();
            for (t, h) in &all {
                encoder.append(*t, Arc::clone(h));
            }
            let n = encoder.len();
            let (mut ts, mut hs) = (Vec::new(), Vec::new());
            prop_assert_eq!(decode(&encoder.finish(), n, i64::MIN, i64::MAX, &mut ts, &mut hs), Some(()));
            prop_assert_eq!(ts, all.iter().map(|(t, _)| *t).collect::<Vec<_>>());
            for ((_, a), b) in all.iter().zip(&hs) {
                prop_assert!(same_bits(a, b), "{:?} {:?}", a, b);
            }
        }

        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), n in 0usize..600) {
            let _ = decode(&bytes, n, i64::MIN, i64::MAX, &mut Vec::new(), &mut Vec::new());
        }
    }

    #[test]
    fn growing_counts_are_small() {
        let mut encoder = HistogramEncoder::default();
        for i in 0..100 {
            let mut h = FloatHistogram {
                schema: 3,
                count: f64::from(i * 20),
                sum: f64::from(i),
                ..FloatHistogram::default()
            };
            h.positive_spans = vec![Span { offset: 0, length: 20 }];
            h.positive_buckets = vec![f64::from(i); 20];
            encoder.append(i64::from(i) * 15_000, Arc::new(h));
        }
        assert!(encoder.bytes().len() < 100 * 32, "{}", encoder.bytes().len());
    }
}
