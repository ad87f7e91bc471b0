//! The chunk that still grows.
//!
//! A sample costs nothing while the series stands still: a constant value at a regular interval is only counted.
//! Otherwise a control byte and a few more are appended:
//!
//! ```text
//! buf = first value: u64, first interval: signed varint, then records
//!
//! record = control: bits 6-7: 0 same interval | 1 change of interval in 1 byte | 2 change as varint | 3 a run
//!                   bits 0-5: 0 same value | 1-8 decimal step in that many bytes | 9 new scale | 10 XOR
//!                             11-63 a decimal step in one byte more, these being its high bits
//! run       the rest of the control byte is 0; a varint says how many samples repeat interval and value
//! new scale scale: u8, step: varint
//! XOR       (zero low bytes) << 4 | (bytes): u8, the bytes
//! ```
//! A decimal step is the zigzag difference of two values taken as integers under the current scale: 0 to 9 is
//! `i / 10^s`, 16 + s is `i * 10^-s`.

use super::floats::{INVERSES, POWERS};
use super::{BLOCK_CHUNK_SAMPLES, CHUNK_SAMPLES_MAX};
use crate::model::Timestamp;
use crate::storage::coding::{Cursor, put_varint, unzigzag, zigzag};

const RUN: u8 = 3 << 6;
const NEW_SCALE: u8 = 9;
const XOR: u8 = 10;
/// The least control bits of a step that takes one byte more, and how many steps that covers.
const SHORT_STEP: u8 = 11;
const SHORT_STEPS: u64 = (64 - SHORT_STEP as u64) << 8;

/// The scale of a chunk whose values are no decimals: no further tries.
const NO_SCALE: u8 = 0xff;
const MULTIPLY: u8 = 16;
const EXPONENT_MAX: u8 = 9;

/// Rounds to the nearest integer when added and subtracted: 1.5 * 2^52.
const ROUND: f64 = 6_755_399_441_055_744.0;
const INTEGER_MAX: f64 = (1u64 << 51) as f64;

/// A growing column of samples. It knows its newest one even after [`OpenChunk::clear`].
///
/// There are a million of these, so its fields are as narrow as they may be; [`OpenChunk::has_room`] says what fits.
#[derive(Clone, Debug)]
pub struct OpenChunk {
    /// The first `used` bytes are written.
    buf: Box<[u8]>,
    last_ts: Timestamp,
    last_bits: u64,
    /// From the first sample to the newest, and from the newest but one.
    span: u32,
    delta: u32,
    used: u16,
    count: u16,
    /// Samples at the end that repeat interval and value and are not in `buf` yet.
    run: u16,
    scale: u8,
    /// Bits for whoever holds the chunk: they have room here.
    pub flags: u8,
}

impl Default for OpenChunk {
    fn default() -> Self {
        OpenChunk {
            buf: Box::default(),
            last_ts: Timestamp::MIN,
            last_bits: 0,
            span: 0,
            delta: 0,
            used: 0,
            count: 0,
            run: 0,
            scale: 0,
            flags: 0,
        }
    }
}

/// The most samples: what a decoder of full chunks takes.
const SAMPLES_MAX: u16 = CHUNK_SAMPLES_MAX as u16;
/// A chunk with so many samples ends when it has so many bytes: that bounds the memory of series that change a lot.
const FULL_SAMPLES: u16 = 32;
const FULL_BYTES: u16 = 96;
/// Records are seldom longer.
const RECORD_SHORT: usize = 8;
/// Room that a chunk has at first, and then what most chunks need in the end. A million chunks grow at the same time, and what they
/// have outgrown is not all used again; this much is, by the lists of full chunks.
const FIRST_BYTES: usize = 48;
const MOST_BYTES: usize = 112;
/// What changes seldom goes on up to here.
const FULL_SAMPLES_CHANGING: u16 = BLOCK_CHUNK_SAMPLES as u16;

impl OpenChunk {
    /// How many samples it holds.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The time of its first sample, if it has one.
    #[inline]
    #[must_use]
    pub fn first_ts(&self) -> Timestamp {
        self.last_ts.wrapping_sub(i64::from(self.span))
    }

    /// The time of the newest sample that was ever appended; `Timestamp::MIN` before the first.
    #[inline]
    #[must_use]
    pub fn last_ts(&self) -> Timestamp {
        self.last_ts
    }

    /// The bits of the newest value that was ever appended.
    #[inline]
    #[must_use]
    pub fn last_bits(&self) -> u64 {
        self.last_bits
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.buf.len()
    }

    /// Forgets the samples but not which was the newest.
    pub fn clear(&mut self) {
        self.count = 0;
        self.run = 0;
        self.used = 0;
        self.span = 0;
    }

    /// Gives back the memory of a chunk that may stay empty for long.
    pub fn shrink(&mut self) {
        self.buf = Box::from(&self.buf[..usize::from(self.used)]);
    }

    /// Whether it can take a sample at `ts`, later than [`OpenChunk::last_ts`], and is not long enough to be encoded.
    #[inline]
    #[must_use]
    pub fn has_room(&self, ts: Timestamp) -> bool {
        if self.count < FULL_SAMPLES {
            // As long as intervals are the usual ones, the chunk spans a few hours.
            return self.count == 0 || ts.wrapping_sub(self.first_ts()) as u64 <= u64::from(u32::MAX);
        }
        self.has_room_still(ts)
    }

    fn has_room_still(&self, ts: Timestamp) -> bool {
        let long = self.used > 0 && (self.used >= FULL_BYTES || self.count >= FULL_SAMPLES_CHANGING);
        !long && self.count < SAMPLES_MAX && ts.wrapping_sub(self.first_ts()) as u64 <= u64::from(u32::MAX)
    }

    /// Appends a sample, for which there must be room.
    #[inline]
    pub fn append(&mut self, ts: Timestamp, bits: u64) {
        if self.count == 0 {
            self.last_ts = ts;
            self.last_bits = bits;
            self.span = 0;
            self.delta = 0;
            self.run = 0;
            self.scale = 0;
            self.count = 1;
            return;
        }
        let delta = ts.wrapping_sub(self.last_ts) as u32;
        if bits == self.last_bits && (delta == self.delta || self.count == 1) {
            self.delta = delta;
            self.run += 1;
        } else {
            self.append_changed(delta, bits);
        }
        self.count += 1;
        self.span = self.span.wrapping_add(delta);
        self.last_ts = ts;
        self.last_bits = bits;
    }

    fn append_changed(&mut self, delta: u32, bits: u64) {
        if self.count == 1 {
            self.delta = delta;
        }
        // Written aside first, so that the chunk's own bytes are grown to what is needed.
        let mut record = Record { bytes: [0; 64], len: 0 };
        if self.used == 0 {
            // Nothing is written before the first change, so the newest value is the first one too.
            record.word(self.last_bits, 8);
            record.varint(zigzag(i64::from(self.delta)));
        }
        if self.run > 0 {
            // The samples so far repeat the interval that the header or the record before has set.
            record.push(RUN);
            record.varint(u64::from(self.run));
            self.run = 0;
        }
        let control_at = record.len;
        record.push(0);
        let change = zigzag(i64::from(delta) - i64::from(self.delta));
        let mut control = if change == 0 {
            0
        } else if change < 256 {
            record.push(change as u8);
            1 << 6
        } else {
            record.varint(change);
            2 << 6
        };
        self.delta = delta;
        if bits != self.last_bits {
            control |= append_value(&mut record, &mut self.scale, self.last_bits, bits);
        }
        record.bytes[control_at] = control;
        let used = usize::from(self.used);
        let end = used + record.len;
        if end > self.buf.len() {
            self.grow(end);
        }
        // Almost always: a copy of fixed length, which takes no call. What it writes past the record is not used yet.
        match (self.buf.get_mut(used..used + RECORD_SHORT), record.bytes.first_chunk::<RECORD_SHORT>()) {
            (Some(to), Some(short)) if record.len <= RECORD_SHORT => to.copy_from_slice(short),
            _ => self.buf[used..end].copy_from_slice(&record.bytes[..record.len]),
        }
        self.used = end as u16;
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        let mut grown = Vec::with_capacity(room_for(end));
        grown.extend_from_slice(&self.buf[..usize::from(self.used)]);
        grown.resize(grown.capacity(), 0);
        self.buf = grown.into_boxed_slice();
    }

    /// Whether there is more than its newest sample tells: then [`OpenChunk::put`] writes it.
    #[inline]
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.used > 0
    }

    /// Appends a chunk that [is written](OpenChunk::is_written) to `out`, for [`read_written`].
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.run));
        out.extend_from_slice(&self.buf[..usize::from(self.used)]);
    }

    /// Appends the samples in `from..=to` to the columns.
    pub fn read(&self, from: Timestamp, to: Timestamp, ts: &mut Vec<Timestamp>, vs: &mut Vec<f64>) {
        if self.count == 0 || self.first_ts() > to || self.last_ts < from {
            return;
        }
        let mut out = Emit { from, to, ts, vs, times: [0; EMIT], values: [0.0; EMIT], n: 0 };
        let whole = match self.used {
            0 => {
                let mut t = self.first_ts();
                out.one(t, self.last_bits);
                out.repeat(u64::from(self.run), &mut t, i64::from(self.delta), self.last_bits);
                Some(())
            }
            used => {
                if from <= self.first_ts() {
                    out.ts.reserve(usize::from(self.count));
                    out.vs.reserve(usize::from(self.count));
                }
                out.written(&self.buf[..usize::from(used)], self.first_ts(), u64::from(self.run))
            }
        };
        // The bytes never left this process.
        debug_assert!(whole.is_some(), "an open chunk reads what it wrote");
        out.flush();
    }
}

/// Appends the samples in `from..=to` of what [`OpenChunk::put`] wrote; `first` is the time of the first sample. `None` if
/// it is damaged, and then some may be appended.
#[must_use]
pub fn read_written(
    bytes: &[u8],
    first: Timestamp,
    (from, to): (Timestamp, Timestamp),
    ts: &mut Vec<Timestamp>,
    vs: &mut Vec<f64>,
) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let run = cursor.varint()?;
    let mut out = Emit { from, to, ts, vs, times: [0; EMIT], values: [0.0; EMIT], n: 0 };
    if first <= to {
        out.written(cursor.take(cursor.len())?, first, run)?;
    }
    out.flush();
    Some(())
}

/// How much room a chunk gets that needs `end` bytes: with a few more for the next record, in the allocator's sizes.
fn room_for(end: usize) -> usize {
    match end + RECORD_SHORT {
        few if few <= FIRST_BYTES => FIRST_BYTES,
        most if most <= MOST_BYTES => MOST_BYTES,
        more => more.next_multiple_of(32),
    }
}

/// The newest value while a chunk is read.
struct Newest {
    bits: u64,
    scale: u8,
    /// The same as an integer under `scale`, once a step has shown it. So from step to step only integers are added,
    /// and the divisions that make values of them need not wait for each other.
    integer: Option<i64>,
}

impl Newest {
    #[inline]
    fn step_by(&mut self, step: i64) -> Option<()> {
        let before = match self.integer {
            Some(i) => i,
            None => integer(self.scale, f64::from_bits(self.bits))?,
        };
        let i = before.wrapping_add(step);
        self.integer = Some(i);
        self.bits = value(self.scale, i as f64).to_bits();
        Some(())
    }

    fn rescale(&mut self, scale: u8) -> Option<()> {
        (self.scale, self.integer) = (scale, None);
        (scale & 15 <= EXPONENT_MAX).then_some(())
    }

    #[inline]
    fn xor(&mut self, change: u64) {
        self.bits ^= change;
        self.integer = None;
    }
}

/// So many samples go to the columns at once: few, for most chunks of which little is wanted have no more.
const EMIT: usize = 16;

/// Columns that take only the samples of a range.
struct Emit<'a> {
    from: Timestamp,
    to: Timestamp,
    ts: &'a mut Vec<Timestamp>,
    vs: &'a mut Vec<f64>,
    /// The first `n` are on their way to the columns.
    times: [Timestamp; EMIT],
    values: [f64; EMIT],
    n: usize,
}

impl Emit<'_> {
    /// A sample at `t`, which is not after `to`.
    #[inline]
    fn one(&mut self, t: Timestamp, bits: u64) {
        self.times[self.n % EMIT] = t;
        self.values[self.n % EMIT] = f64::from_bits(bits);
        // One before the range is overwritten by the next.
        self.n += usize::from(t >= self.from);
        if self.n == EMIT {
            self.flush();
        }
    }

    /// The samples of a chunk's bytes, and `run` more like the last.
    fn written(&mut self, bytes: &[u8], first: Timestamp, run: u64) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        let (bits, mut delta) = (cursor.u64()?, cursor.signed()?);
        let mut t = first;
        let mut newest = Newest { bits, scale: 0, integer: None };
        self.one(t, bits);
        while !cursor.is_empty() {
            let control = cursor.u8()?;
            match control >> 6 {
                0 => {}
                1 => delta = delta.wrapping_add(unzigzag(u64::from(cursor.u8()?))),
                2 => delta = delta.wrapping_add(unzigzag(cursor.varint()?)),
                _ => {
                    self.run(cursor.varint()?, &mut t, delta, newest.bits)?;
                    continue;
                }
            }
            match control & 0x3f {
                high @ SHORT_STEP.. => {
                    let step = u64::from(high - SHORT_STEP) << 8 | u64::from(cursor.u8()?);
                    newest.step_by(unzigzag(step))?;
                }
                0 => {}
                k @ 1..=8 => newest.step_by(unzigzag(cursor.uint(usize::from(k))?))?,
                NEW_SCALE => {
                    newest.rescale(cursor.u8()?)?;
                    newest.step_by(cursor.signed()?)?;
                }
                _ => {
                    let shape = cursor.u8()?;
                    let high = cursor.uint(usize::from(shape & 15))?;
                    newest.xor(high.checked_shl(8 * u32::from(shape >> 4))?);
                }
            }
            t = t.wrapping_add(delta);
            if t > self.to {
                return Some(());
            }
            self.one(t, newest.bits);
        }
        self.run(run, &mut t, delta, newest.bits)
    }

    /// As [`Emit::repeat`], unless there are more than a chunk can have.
    fn run(&mut self, n: u64, t: &mut Timestamp, delta: i64, bits: u64) -> Option<()> {
        (n <= CHUNK_SAMPLES_MAX as u64).then(|| self.repeat(n, t, delta, bits))
    }

    fn flush(&mut self) {
        self.ts.extend_from_slice(&self.times[..self.n]);
        self.vs.extend_from_slice(&self.values[..self.n]);
        self.n = 0;
    }

    /// `n` more samples after the one at `t`, without a look at those that are not wanted.
    fn repeat(&mut self, n: u64, t: &mut Timestamp, delta: i64, bits: u64) {
        if n == 0 || delta <= 0 {
            return;
        }
        self.flush();
        let before = *t;
        *t = before.wrapping_add(delta.wrapping_mul(n as i64));
        // Of the samples 1..=n those from `first` up to `last`.
        let reach = |bound: Timestamp| bound.saturating_sub(before).max(0) / delta;
        let (first, last) = (reach(self.from.saturating_sub(1)) + 1, reach(self.to).min(n as i64));
        self.ts.extend((first..=last).map(|i| before.wrapping_add(delta.wrapping_mul(i))));
        self.vs.resize(self.ts.len(), f64::from_bits(bits));
    }
}

/// What one sample adds.
struct Record {
    bytes: [u8; 64],
    len: usize,
}

impl Record {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// The low `n` bytes of a word. All eight are written, for a copy of fixed length takes no call; what follows is written
    /// over the surplus.
    #[inline]
    fn word(&mut self, word: u64, n: usize) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&word.to_le_bytes());
        self.len += n;
    }

    #[inline]
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.push(v as u8);
    }
}

/// Removes what lies outside `from..=to` from the columns' part that begins at `at`.
pub fn trim(at: usize, from: Timestamp, to: Timestamp, ts: &mut Vec<Timestamp>, vs: &mut Vec<f64>) {
    let part = &ts[at..];
    if part.last().is_some_and(|t| *t > to) {
        let keep = at + part.partition_point(|t| *t <= to);
        ts.truncate(keep);
        vs.truncate(keep);
    }
    let part = &ts[at..];
    if part.first().is_some_and(|t| *t < from) {
        let early = part.partition_point(|t| *t < from);
        ts.drain(at..at + early);
        vs.drain(at..at + early);
    }
}

/// Writes a value that differs from the one before; returns the control bits.
#[inline]
fn append_value(buf: &mut Record, scale: &mut u8, before: u64, bits: u64) -> u8 {
    if *scale != NO_SCALE {
        let (b, v) = (f64::from_bits(before), f64::from_bits(bits));
        if let Some(step) = decimal_step(*scale, b, v) {
            return append_step(buf, step);
        }
        let div = (*scale & 15) + 1..=EXPONENT_MAX;
        let mul = (1..=EXPONENT_MAX).map(|e| MULTIPLY | e);
        let specials = !v.is_finite() || !b.is_finite();
        if !specials {
            for s in div.chain(mul) {
                if let Some(step) = decimal_step(s, b, v) {
                    *scale = s;
                    buf.push(s);
                    buf.varint(zigzag(step));
                    return NEW_SCALE;
                }
            }
            *scale = NO_SCALE;
        }
    }
    let xor = before ^ bits;
    let low = xor.trailing_zeros() / 8;
    let high = xor >> (8 * low);
    let n = 8 - high.leading_zeros() as usize / 8;
    buf.push((low as u8) << 4 | n as u8);
    buf.word(high, n);
    XOR
}

#[inline]
fn append_step(buf: &mut Record, step: i64) -> u8 {
    let step = zigzag(step);
    if step < SHORT_STEPS {
        buf.push(step as u8);
        return SHORT_STEP + (step >> 8) as u8;
    }
    let n = (8 - step.leading_zeros() as usize / 8).max(1);
    buf.word(step, n);
    n as u8
}

/// The difference of two values as integers under `scale`, if both are exactly such.
#[inline]
fn decimal_step(scale: u8, before: f64, value: f64) -> Option<i64> {
    Some(integer(scale, value)?.wrapping_sub(integer(scale, before)?))
}

#[inline]
fn integer(scale: u8, v: f64) -> Option<i64> {
    let scaled = v * POWERS[usize::from(scale & 15)];
    if scaled.is_nan() || scaled.abs() >= INTEGER_MAX {
        return None;
    }
    let i = (scaled + ROUND) - ROUND;
    (value(scale, i).to_bits() == v.to_bits()).then_some(i as i64)
}

#[inline]
fn value(scale: u8, i: f64) -> f64 {
    match (scale, scale & 15) {
        // Minus zero is no integer, so it must not come out of one: adding 0 makes it plus zero.
        (0, _) => i + 0.0,
        (MULTIPLY.., e) => i * INVERSES[usize::from(e)] + 0.0,
        (_, e) => i / POWERS[usize::from(e)] + 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_marker;
    use proptest::prelude::*;

    fn check(samples: &[(Timestamp, f64)]) -> usize {
        let mut chunk = OpenChunk::default();
        for (ts, v) in samples {
            chunk.append(*ts, v.to_bits());
        }
        let (mut ts, mut vs) = (Vec::new(), Vec::new());
        chunk.read(Timestamp::MIN, Timestamp::MAX, &mut ts, &mut vs);
        let back: Vec<_> = ts.iter().zip(&vs).map(|(t, v)| (*t, v.to_bits())).collect();
        let want: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
        assert_eq!(back, want);
        usize::from(chunk.used)
    }

    fn regular(values: impl IntoIterator<Item = f64>) -> Vec<(Timestamp, f64)> {
        values.into_iter().enumerate().map(|(i, v)| (1_700_000_000_000 + i as i64 * 15_000, v)).collect()
    }

    #[test]
    fn standing_still_costs_nothing() {
        assert_eq!(check(&regular([0.1; 120])), 0);
        assert_eq!(check(&regular([1.0, 2.0])), 8 + 3 + 2);
        assert!(check(&regular((0..120).map(|i| f64::from(i) / 10.0))) < 11 + 3 + 120 * 2);
        check(&regular([f64::NAN, stale_marker(), -0.0, 0.0, 1.5, f64::INFINITY, 1.5, 1e300, 0.1, 0.25]));
    }

    #[test]
    fn ranges_are_cut() {
        let mut chunk = OpenChunk::default();
        (0..10).for_each(|i| chunk.append(i * 10, 0));
        let (mut ts, mut vs) = (vec![-1], vec![0.0]);
        chunk.read(25, 50, &mut ts, &mut vs);
        assert_eq!(ts, [-1, 30, 40, 50]);
        assert_eq!(vs.len(), 4);
    }

    #[test]
    fn a_chunk_ends_when_that_pays() {
        let len = |value: fn(i64) -> f64| {
            let mut chunk = OpenChunk::default();
            let mut n = 0;
            while chunk.has_room(n * 15_000) {
                chunk.append(n * 15_000, value(n).to_bits());
                n += 1;
            }
            n
        };
        assert_eq!(len(|i| i as f64), 44);
        assert_eq!(len(|i| (i as f64).sqrt()), 32);
        assert_eq!(len(|_| 1.0), CHUNK_SAMPLES_MAX as i64);
        assert_eq!(len(|i| (i / 100) as f64), 480);
        let mut chunk = OpenChunk::default();
        chunk.append(0, 0);
        assert!(!chunk.has_room(i64::MAX), "a span has 32 bits");
    }

    proptest! {
        #[test]
        fn samples_come_back(samples in proptest::collection::vec((prop_oneof![3 => Just(15_000i64), 1 => 1i64..100_000, 1 => 14_990i64..15_010], prop_oneof![
            3 => Just(1.0), 2 => (0i64..1000).prop_map(|i| i as f64), 2 => (-1000i64..1000).prop_map(|i| i as f64 / 100.0),
            2 => (-1000i64..1000).prop_map(|i| i as f64 * 0.001), 1 => any::<f64>(), 1 => any::<u64>().prop_map(f64::from_bits), 1 => Just(stale_marker()), 1 => Just(-0.0)
        ]), 1..300), from in 0usize..300, to in 0usize..300, shift in -1i32..2) {
            let mut ts = 0;
            let samples: Vec<_> = samples.into_iter().map(|(d, v)| { ts += d; (ts, v) }).collect();
            check(&samples);
            let (from, to) = (samples[from % samples.len()].0 + i64::from(shift), samples[to % samples.len()].0);
            let mut chunk = OpenChunk::default();
            samples.iter().for_each(|(ts, v)| chunk.append(*ts, v.to_bits()));
            let (mut ts, mut vs) = (Vec::new(), Vec::new());
            chunk.read(from, to, &mut ts, &mut vs);
            let want: Vec<_> = samples.iter().filter(|s| s.0 >= from && s.0 <= to).map(|(t, v)| (*t, v.to_bits())).collect();
            prop_assert_eq!(ts.iter().zip(&vs).map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>(), want);
        }
    }
}
