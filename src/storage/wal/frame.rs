//! Frames: what one batch writes, under one checksum.
//!
//! ```text
//! frame   = header, payload
//! header  = "SGW2", length of payload: u32, samples: u32, series: u32,
//!           checksum of the sixteen bytes before: u32, checksum of payload: u32
//! payload = sections, each: kind: u8, length: u32, bytes
//! ```
//! So a frame whose payload is damaged still says how long it is and what is lost with it. Frames of the versions before
//! begin with "SGW1", length, checksum: that of the payload, XOR that of the four bytes of the length.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::compressor::{SCRATCH_BYTES_MAX, SeriesCompressor};
use crate::model::{FloatHistogram, Labels, Metadata, MetricType, STALE_NAN_BITS, Timestamp};
use crate::storage::api::{SampleValue, SeriesRef};
use crate::storage::chunk::histograms::{put_histogram, take_histogram};
use crate::storage::coding::{Cursor, crc32c, put_bytes, put_signed, put_varint, u32_at, unzigzag, zigzag};
use crate::storage::exemplars::Exemplar;

const MAGIC: [u8; 4] = *b"SGW2";
pub const HEADER_BYTES: usize = 24;
/// What frames of the versions before begin with, which do not say what they hold.
const MAGIC_BEFORE: [u8; 4] = *b"SGW1";
const HEADER_BYTES_BEFORE: usize = 12;
/// What all of them begin with.
pub const MAGIC_COMMON: [u8; 3] = *b"SGW";
/// A frame that claims to be longer is damaged. A batch is cut into frames long before.
pub const PAYLOAD_MAX: usize = 1 << 28;

const SERIES: u8 = 1;
const SERIES_ZSTD: u8 = 2;
const FLOATS: u8 = 3;
const HISTOGRAMS: u8 = 4;
const METADATA: u8 = 5;
const CHECKPOINT_END: u8 = 6;
const SAMPLES: u8 = 7;
const LATE: u8 = 8;
const EXEMPLARS: u8 = 9;
const SEGMENT_BEFORE: u8 = 10;

/// Flags of a sample in a section of samples of all kinds.
const IS_HISTOGRAM: u8 = 1;
const HAS_START: u8 = 2;
const IS_OUT_OF_ORDER: u8 = 4;

/// Series sections from this size on are compressed.
const COMPRESS_MIN: usize = 2048;
/// A compressed section that claims to be longer once decompressed is damaged.
const SERIES_BYTES_MAX: usize = 1 << 28;

const NEXT_SERIES: u8 = 0x80;
const SAME_TIME: u8 = 0x40;
const KIND_INTEGER: u8 = 0;
const KIND_BITS: u8 = 1;
const KIND_THOUSANDTHS: u8 = 2;
const KIND_STALE: u8 = 3;

/// Rounds to the nearest integer when added and subtracted: 1.5 * 2^52.
const ROUND: f64 = 6_755_399_441_055_744.0;
const INTEGER_MAX: f64 = (1u64 << 51) as f64;

/// A sample with all that may be known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedSample {
    pub series: SeriesRef,
    pub ts: Timestamp,
    /// 0 means none.
    pub start: Timestamp,
    pub value: SampleValue,
    /// It was taken though its series had a newer one.
    pub out_of_order: bool,
}

/// What a frame holds, as its header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub samples: u32,
    /// Series that it names.
    pub series: u32,
}

/// Collects the sections of one frame. The memory is used again after [`FrameBuilder::clear`].
#[derive(Debug)]
pub struct FrameBuilder {
    buf: Vec<u8>,
    counts: Counts,
    section: usize,
    series: u64,
    ts: Timestamp,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        let mut builder =
            FrameBuilder { buf: Vec::new(), counts: Counts::default(), section: 0, series: 0, ts: 0 };
        builder.clear();
        builder
    }
}

impl FrameBuilder {
    pub fn clear(&mut self) {
        self.buf.clear();
        self.buf.extend_from_slice(&MAGIC);
        self.buf.resize(HEADER_BYTES, 0);
        self.counts = Counts::default();
        self.section = 0;
    }

    /// Whether nothing was put in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buf.len() == HEADER_BYTES
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// What was put in, without a checksum yet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Adds sections of series that another builder has made, and how many series those are.
    pub fn raw_series(&mut self, sections: &[u8], series: usize) {
        self.buf.extend_from_slice(sections);
        self.counts.series += series as u32;
    }

    fn begin(&mut self, kind: u8) {
        self.section = self.buf.len();
        self.buf.extend_from_slice(&[kind, 0, 0, 0, 0]);
        self.series = 0;
        self.ts = 0;
    }

    fn end(&mut self) {
        let n = self.buf.len() - self.section - 5;
        if n == 0 {
            self.buf.truncate(self.section);
            return;
        }
        self.buf[self.section + 1..self.section + 5].copy_from_slice(&(n as u32).to_le_bytes());
    }

    /// Begins the section of float samples; end it with [`FrameBuilder::end_floats`].
    pub fn begin_floats(&mut self) {
        self.begin(FLOATS);
    }

    pub fn end_floats(&mut self) {
        self.end();
    }

    /// Adds a sample to the section of floats.
    #[inline]
    pub fn float(&mut self, series: SeriesRef, ts: Timestamp, bits: u64) {
        let mut control = 0u8;
        let mut word = [0u8; 8];
        let v = f64::from_bits(bits);
        let rounded = (v + ROUND) - ROUND;
        if v.abs() < INTEGER_MAX && rounded.to_bits() == bits {
            let z = zigzag(rounded as i64);
            word = z.to_le_bytes();
            control |= KIND_INTEGER << 4 | (8 - z.leading_zeros() as u8 / 8);
        } else if bits == STALE_NAN_BITS {
            control |= KIND_STALE << 4;
        } else {
            let thousandths = (v * 1000.0 + ROUND) - ROUND;
            if (v * 1000.0).abs() < INTEGER_MAX && (thousandths / 1000.0).to_bits() == bits {
                let z = zigzag(thousandths as i64);
                word = z.to_le_bytes();
                control |= KIND_THOUSANDTHS << 4 | (8 - z.leading_zeros() as u8 / 8);
            } else {
                let n = 8 - (bits.trailing_zeros() as usize / 8).min(7);
                word[..n].copy_from_slice(&bits.to_le_bytes()[8 - n..]);
                control |= KIND_BITS << 4 | n as u8;
            }
        }
        let n = usize::from(control & 15);
        if series.0 == self.series.wrapping_add(1) {
            control |= NEXT_SERIES;
        }
        if ts == self.ts {
            control |= SAME_TIME;
        }
        self.buf.push(control);
        if control & NEXT_SERIES == 0 {
            put_signed(&mut self.buf, series.0.wrapping_sub(self.series) as i64);
        }
        if control & SAME_TIME == 0 {
            put_signed(&mut self.buf, ts.wrapping_sub(self.ts));
        }
        // Eight bytes at once and the surplus cut off: no copy of variable length.
        let len = self.buf.len();
        self.buf.extend_from_slice(&word);
        self.buf.truncate(len + n);
        self.series = series.0;
        self.ts = ts;
        self.counts.samples += 1;
    }

    /// Adds a section of histograms.
    pub fn histograms<'a>(
        &mut self,
        all: impl IntoIterator<Item = (SeriesRef, Timestamp, &'a Arc<FloatHistogram>)>,
    ) {
        self.begin(HISTOGRAMS);
        for (series, ts, h) in all {
            put_signed(&mut self.buf, series.0.wrapping_sub(self.series) as i64);
            put_signed(&mut self.buf, ts.wrapping_sub(self.ts));
            put_histogram(&mut self.buf, None, h);
            (self.series, self.ts) = (series.0, ts);
            self.counts.samples += 1;
        }
        self.end();
    }

    /// Adds a section of samples that have more than a time and a value.
    pub fn samples<'a>(&mut self, all: impl IntoIterator<Item = &'a LoggedSample>) {
        self.begin(SAMPLES);
        for s in all {
            let histogram = matches!(s.value, SampleValue::Histogram(_));
            let flags = if histogram { IS_HISTOGRAM } else { 0 }
                | if s.start != 0 { HAS_START } else { 0 }
                | if s.out_of_order { IS_OUT_OF_ORDER } else { 0 };
            self.buf.push(flags);
            put_signed(&mut self.buf, s.series.0.wrapping_sub(self.series) as i64);
            put_signed(&mut self.buf, s.ts.wrapping_sub(self.ts));
            if s.start != 0 {
                put_signed(&mut self.buf, s.ts.wrapping_sub(s.start));
            }
            match &s.value {
                SampleValue::Float(v) => self.buf.extend_from_slice(&v.to_bits().to_le_bytes()),
                SampleValue::Histogram(h) => put_histogram(&mut self.buf, None, h),
            }
            (self.series, self.ts) = (s.series.0, s.ts);
            self.counts.samples += 1;
        }
        self.end();
    }

    /// Adds a section with the labels of new series.
    pub fn series<'a, L>(&mut self, all: impl IntoIterator<Item = (SeriesRef, L)>)
    where
        L: IntoIterator<Item = (&'a str, &'a str)>,
    {
        thread_local! {
            static RAW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        RAW.with_borrow_mut(|raw| {
            raw.clear();
            for (series, labels) in all {
                put_varint(raw, series.0);
                self.counts.series += 1;
                let at = raw.len();
                raw.extend_from_slice(&[0; 4]);
                let mut n = 0u32;
                for (name, value) in labels {
                    put_bytes(raw, name.as_bytes());
                    put_bytes(raw, value.as_bytes());
                    n += 1;
                }
                raw[at..at + 4].copy_from_slice(&n.to_le_bytes());
            }
            if raw.len() < COMPRESS_MIN || self.compressed_series(raw).is_err() {
                self.begin(SERIES);
                self.buf.extend_from_slice(raw);
                self.end();
            }
            if raw.capacity() > SCRATCH_BYTES_MAX {
                *raw = Vec::new();
            }
        });
    }

    /// Adds a section of series; nothing if they cannot be compressed.
    fn compressed_series(&mut self, raw: &[u8]) -> io::Result<()> {
        let mut compressor = SeriesCompressor::take()?;
        let packed = compressor.compress(raw)?;
        self.begin(SERIES_ZSTD);
        self.buf.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        self.buf.extend_from_slice(packed);
        self.end();
        compressor.give_back();
        Ok(())
    }

    /// Adds a section with what is known of metric families.
    pub fn metadata<'a>(&mut self, all: impl IntoIterator<Item = (&'a str, &'a Metadata)>) {
        self.begin(METADATA);
        for (family, m) in all {
            put_bytes(&mut self.buf, family.as_bytes());
            self.buf.push(type_code(m.metric_type));
            put_bytes(&mut self.buf, m.help.as_bytes());
            put_bytes(&mut self.buf, m.unit.as_bytes());
        }
        self.end();
    }

    /// Adds a section of exemplars.
    pub fn exemplars<'a>(&mut self, all: impl IntoIterator<Item = (SeriesRef, &'a Exemplar)>) {
        self.begin(EXEMPLARS);
        for (series, e) in all {
            put_signed(&mut self.buf, series.0.wrapping_sub(self.series) as i64);
            put_signed(&mut self.buf, e.ts.wrapping_sub(self.ts));
            self.buf.extend_from_slice(&e.value.to_bits().to_le_bytes());
            put_varint(&mut self.buf, e.labels.iter().count() as u64);
            for (name, value) in e.labels.iter() {
                put_bytes(&mut self.buf, name.as_bytes());
                put_bytes(&mut self.buf, value.as_bytes());
            }
            (self.series, self.ts) = (series.0, e.ts);
        }
        self.end();
    }

    /// Says that late samples before this place are being put into blocks, or (`done`) that those before the mark
    /// before are in them.
    pub fn late_mark(&mut self, done: bool) {
        self.begin(LATE);
        self.buf.push(u8::from(done));
        self.end();
    }

    /// Says which segment came before this one, and that it had so many bytes at least.
    pub fn segment_before(&mut self, number: u64, bytes: u64) {
        self.begin(SEGMENT_BEFORE);
        put_varint(&mut self.buf, number);
        put_varint(&mut self.buf, bytes);
        self.end();
    }

    /// Marks the end of a checkpoint of so many series.
    pub fn checkpoint_end(&mut self, series: u64) {
        self.begin(CHECKPOINT_END);
        put_varint(&mut self.buf, series);
        self.end();
    }

    /// The frame, ready to be written.
    #[must_use]
    pub fn finish(&mut self) -> &[u8] {
        let n = (self.buf.len() - HEADER_BYTES) as u32;
        for (at, field) in [(4, n), (8, self.counts.samples), (12, self.counts.series)] {
            self.buf[at..at + 4].copy_from_slice(&field.to_le_bytes());
        }
        let header = crc32c(&self.buf[..16]);
        let payload = crc32c(&self.buf[HEADER_BYTES..]);
        self.buf[16..20].copy_from_slice(&header.to_le_bytes());
        self.buf[20..HEADER_BYTES].copy_from_slice(&payload.to_le_bytes());
        &self.buf
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Of the header.
    pub bytes: usize,
    pub payload_bytes: usize,
    /// What the frame holds; `None` if it is of a version that does not say so, whose length is not certain either.
    pub counts: Option<Counts>,
    checksum: u32,
}

impl Header {
    /// The header at the start of `bytes`, if there is one; `before`: it may be of a version before.
    #[must_use]
    pub fn of(bytes: &[u8], before: bool) -> Option<Header> {
        let payload_bytes = u32_at(bytes, 4)?;
        let header = if bytes.starts_with(&MAGIC) {
            if crc32c(bytes.get(..16)?) != u32_at(bytes, 16)? {
                return None;
            }
            Header {
                bytes: HEADER_BYTES,
                payload_bytes: payload_bytes as usize,
                counts: Some(Counts { samples: u32_at(bytes, 8)?, series: u32_at(bytes, 12)? }),
                checksum: u32_at(bytes, 20)?,
            }
        } else if before && bytes.starts_with(&MAGIC_BEFORE) {
            Header {
                bytes: HEADER_BYTES_BEFORE,
                payload_bytes: payload_bytes as usize,
                counts: None,
                checksum: u32_at(bytes, 8)? ^ crc32c(&payload_bytes.to_le_bytes()),
            }
        } else {
            return None;
        };
        (header.payload_bytes <= PAYLOAD_MAX).then_some(header)
    }

    /// The length of the frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.bytes + self.payload_bytes
    }

    /// The payload of the frame at the start of `bytes`, if it is whole.
    #[must_use]
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let payload = bytes.get(self.bytes..self.frame_bytes())?;
        (crc32c(payload) == self.checksum).then_some(payload)
    }
}

/// A payload as a frame of version 1 and 2.
#[cfg(test)]
pub fn frame_before(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let checksum = (crc32c(payload) ^ crc32c(&length)).to_le_bytes();
    [&MAGIC_BEFORE[..], &length, &checksum, payload].concat()
}

/// One section of a payload, not decoded yet.
#[derive(Clone, Copy, Debug)]
pub enum Section<'a> {
    Series(&'a [u8]),
    SeriesCompressed(&'a [u8]),
    Floats(&'a [u8]),
    Histograms(&'a [u8]),
    Metadata(&'a [u8]),
    Samples(&'a [u8]),
    Exemplars(&'a [u8]),
    /// See [`FrameBuilder::late_mark`].
    LateMark {
        done: bool,
    },
    /// With the number of series in the checkpoint.
    CheckpointEnd(u64),
    /// See [`FrameBuilder::segment_before`].
    SegmentBefore {
        number: u64,
        bytes: u64,
    },
}

/// The sections of a payload; ends early at one that is unknown or cut off.
pub fn sections(payload: &[u8]) -> impl Iterator<Item = Section<'_>> {
    placed_sections(payload).map(|(_, section)| section)
}

/// The same, each with its place in the payload: what is there is a payload of this section alone.
pub fn placed_sections(payload: &[u8]) -> impl Iterator<Item = (Range<usize>, Section<'_>)> {
    let mut cursor = Cursor::new(payload);
    std::iter::from_fn(move || {
        let start = payload.len() - cursor.len();
        let kind = cursor.u8()?;
        let n = cursor.uint(4)? as usize;
        let bytes = cursor.take(n)?;
        let section = match kind {
            SERIES => Section::Series(bytes),
            SERIES_ZSTD => Section::SeriesCompressed(bytes),
            FLOATS => Section::Floats(bytes),
            HISTOGRAMS => Section::Histograms(bytes),
            METADATA => Section::Metadata(bytes),
            SAMPLES => Section::Samples(bytes),
            EXEMPLARS => Section::Exemplars(bytes),
            LATE => Section::LateMark { done: *bytes.first()? != 0 },
            CHECKPOINT_END => Section::CheckpointEnd(Cursor::new(bytes).varint()?),
            SEGMENT_BEFORE => {
                let mut fields = Cursor::new(bytes);
                Section::SegmentBefore { number: fields.varint()?, bytes: fields.varint()? }
            }
            _ => return None,
        };
        Some((start..payload.len() - cursor.len(), section))
    })
}

/// What the next sample of a section of floats is the difference from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloatsFrom {
    pub series: u64,
    pub ts: Timestamp,
}

/// Calls `f` with every sample of a section of floats.
#[must_use]
pub fn each_float(bytes: &[u8], f: impl FnMut(SeriesRef, Timestamp, u64)) -> Option<()> {
    each_float_from(bytes, FloatsFrom::default(), f)
}

/// Calls `f` with every sample of a part of a section of floats that begins at some sample.
#[inline]
#[must_use]
pub fn each_float_from(
    bytes: &[u8],
    from: FloatsFrom,
    mut f: impl FnMut(SeriesRef, Timestamp, u64),
) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let FloatsFrom { mut series, mut ts } = from;
    while !cursor.is_empty() {
        let control = cursor.u8()?;
        let step = if control & NEXT_SERIES != 0 { 1 } else { cursor.signed()? };
        series = series.wrapping_add(step as u64);
        if control & SAME_TIME == 0 {
            ts = ts.wrapping_add(cursor.signed()?);
        }
        let n = usize::from(control & 15);
        if n > 8 {
            return None;
        }
        let word = cursor.uint(n)?;
        let bits = match control >> 4 & 3 {
            KIND_INTEGER => (unzigzag(word) as f64).to_bits(),
            KIND_BITS => word.checked_shl(64 - 8 * n as u32).unwrap_or(0),
            KIND_THOUSANDTHS => (unzigzag(word) as f64 / 1000.0).to_bits(),
            _ => STALE_NAN_BITS,
        };
        f(SeriesRef(series), ts, bits);
    }
    Some(())
}

/// Cuts a section of floats where `group` of the series changes, without decoding values. `f` is given each group with
/// the place of its samples in `bytes`, for [`each_float_from`]. `None` if the section cannot be read to its end; `f`
/// was given all before then.
#[must_use]
pub fn group_floats(
    bytes: &[u8],
    group: impl Fn(SeriesRef) -> u32,
    mut f: impl FnMut(u32, FloatsFrom, Range<usize>),
) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let FloatsFrom { mut series, mut ts } = FloatsFrom::default();
    let mut current: Option<(u32, FloatsFrom, usize)> = None;
    let mut whole = Some(());
    let mut end = 0;
    while !cursor.is_empty() {
        let before = FloatsFrom { series, ts };
        if skip_float(&mut cursor, &mut series, &mut ts).is_none() {
            whole = None;
            break;
        }
        let this = group(SeriesRef(series));
        match &current {
            Some((g, ..)) if *g == this => {}
            _ => {
                if let Some((g, from, start)) = current.replace((this, before, end)) {
                    f(g, from, start..end);
                }
            }
        }
        end = bytes.len() - cursor.len();
    }
    if let Some((g, from, start)) = current {
        f(g, from, start..end);
    }
    whole
}

#[inline]
fn skip_float(cursor: &mut Cursor<'_>, series: &mut u64, ts: &mut Timestamp) -> Option<()> {
    let control = cursor.u8()?;
    let step = if control & NEXT_SERIES != 0 { 1 } else { cursor.signed()? };
    *series = series.wrapping_add(step as u64);
    if control & SAME_TIME == 0 {
        *ts = ts.wrapping_add(cursor.signed()?);
    }
    let n = usize::from(control & 15);
    (n <= 8).then_some(())?;
    cursor.take(n).map(drop)
}

/// Calls `f` with every sample of a section of histograms.
#[must_use]
pub fn each_histogram(
    bytes: &[u8],
    mut f: impl FnMut(SeriesRef, Timestamp, Arc<FloatHistogram>),
) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let (mut series, mut ts) = (0u64, 0i64);
    while !cursor.is_empty() {
        series = series.wrapping_add(cursor.signed()? as u64);
        ts = ts.wrapping_add(cursor.signed()?);
        f(SeriesRef(series), ts, Arc::new(take_histogram(&mut cursor, None)?));
    }
    Some(())
}

/// Calls `f` with every sample of a section of samples of all kinds.
#[must_use]
pub fn each_sample(bytes: &[u8], mut f: impl FnMut(LoggedSample)) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let (mut series, mut ts) = (0u64, 0i64);
    while !cursor.is_empty() {
        let flags = cursor.u8()?;
        if flags & !(IS_HISTOGRAM | HAS_START | IS_OUT_OF_ORDER) != 0 {
            return None;
        }
        series = series.wrapping_add(cursor.signed()? as u64);
        ts = ts.wrapping_add(cursor.signed()?);
        let start = if flags & HAS_START != 0 { ts.wrapping_sub(cursor.signed()?) } else { 0 };
        let value = if flags & IS_HISTOGRAM != 0 {
            SampleValue::Histogram(Arc::new(take_histogram(&mut cursor, None)?))
        } else {
            SampleValue::Float(f64::from_bits(cursor.u64()?))
        };
        let out_of_order = flags & IS_OUT_OF_ORDER != 0;
        f(LoggedSample { series: SeriesRef(series), ts, start, value, out_of_order });
    }
    Some(())
}

/// Calls `f` with every exemplar of a section of exemplars.
#[must_use]
pub fn each_exemplar(bytes: &[u8], mut f: impl FnMut(SeriesRef, Exemplar)) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let (mut series, mut ts) = (0u64, 0i64);
    while !cursor.is_empty() {
        series = series.wrapping_add(cursor.signed()? as u64);
        ts = ts.wrapping_add(cursor.signed()?);
        let value = f64::from_bits(cursor.u64()?);
        let mut pairs = Vec::new();
        for _ in 0..cursor.count()? {
            pairs.push((cursor.text()?, cursor.text()?));
        }
        f(SeriesRef(series), Exemplar { labels: Labels::from_pairs(pairs), value, ts });
    }
    Some(())
}

/// The bytes of a compressed section of series, as they were before.
#[must_use]
pub fn decompress_series(bytes: &[u8]) -> Option<Vec<u8>> {
    let n = u32_at(bytes, 0)? as usize;
    if n > SERIES_BYTES_MAX {
        return None;
    }
    zstd::bulk::decompress(bytes.get(4..)?, n).ok()
}

/// Calls `f` with every series of a section: its reference and its label pairs.
#[must_use]
pub fn each_series<'a>(bytes: &'a [u8], mut f: impl FnMut(SeriesRef, &[(&'a str, &'a str)])) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let mut pairs = Vec::new();
    while !cursor.is_empty() {
        let series = SeriesRef(cursor.varint()?);
        let n = cursor.uint(4)?;
        pairs.clear();
        for _ in 0..n {
            pairs.push((cursor.text()?, cursor.text()?));
        }
        f(series, &pairs);
    }
    Some(())
}

/// Calls `f` with every metric family of a section of metadata.
#[must_use]
pub fn each_metadata(bytes: &[u8], mut f: impl FnMut(&str, Metadata)) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        let family = cursor.text()?;
        let metric_type = metric_type(cursor.u8()?);
        let (help, unit) = (cursor.text()?.to_owned(), cursor.text()?.to_owned());
        f(family, Metadata { metric_type, help, unit });
    }
    Some(())
}

const TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

fn type_code(t: MetricType) -> u8 {
    TYPES.iter().position(|x| *x == t).unwrap_or(0) as u8
}

fn metric_type(code: u8) -> MetricType {
    TYPES.get(usize::from(code)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_marker;
    use crate::storage::chunk::histograms::{same_bits, tests::any_histogram};
    use proptest::prelude::*;

    fn payload(bytes: &[u8]) -> Option<&[u8]> {
        Header::of(bytes, true)?.payload(bytes)
    }

    fn any_sample() -> impl Strategy<Value = LoggedSample> {
        let value = prop_oneof![
            any::<u64>().prop_map(|bits| SampleValue::Float(f64::from_bits(bits))),
            any_histogram().prop_map(|h| SampleValue::Histogram(Arc::new(h))),
        ];
        let start = prop_oneof![Just(0i64), any::<i64>()];
        (any::<u64>(), any::<i64>(), start, value, any::<bool>()).prop_map(
            |(series, ts, start, value, out_of_order)| LoggedSample {
                series: SeriesRef(series),
                ts,
                start,
                value,
                out_of_order,
            },
        )
    }

    proptest! {
        #[test]
        fn a_frame_comes_back(
            floats in proptest::collection::vec((any::<u64>(), any::<i64>(), prop_oneof![
                any::<u64>().prop_map(f64::from_bits), any::<f64>(), Just(0.0), Just(-0.0), Just(stale_marker()),
                (-5000i64..5000).prop_map(|i| i as f64), (-5000i64..5000).prop_map(|i| i as f64 / 1000.0), Just(1e15), Just(2251799813685248.0)]), 0..50),
            histograms in proptest::collection::vec((any::<u64>(), any::<i64>(), any_histogram()), 0..4),
            series in proptest::collection::vec((any::<u64>(), proptest::collection::btree_map(".{0,5}", ".{1,400}", 0..4)), 0..20),
            help in ".{0,20}",
            samples in proptest::collection::vec(any_sample(), 0..10),
            exemplars in proptest::collection::vec((any::<u64>(), any::<i64>(), -1e9f64..1e9, proptest::collection::btree_map(".{1,5}", ".{1,9}", 0..3)), 0..5),
        ) {
            let exemplars: Vec<_> = exemplars
                .into_iter()
                .map(|(s, ts, value, l)| (SeriesRef(s), Exemplar { labels: Labels::from_pairs(l), value, ts }))
                .collect();
            let mut b = FrameBuilder::default();
            b.begin_floats();
            for (s, t, v) in &floats {
                b.float(SeriesRef(*s), *t, v.to_bits());
            }
            b.end_floats();
            let histograms: Vec<_> = histograms.into_iter().map(|(s, t, h)| (SeriesRef(s), t, Arc::new(h))).collect();
            b.histograms(histograms.iter().map(|(s, t, h)| (*s, *t, h)));
            let series: Vec<_> = series.into_iter().map(|(s, l)| (SeriesRef(s), Labels::from_pairs(l))).collect();
            b.series(series.iter().map(|(s, l)| (*s, l.iter())));
            let metadata = Metadata { metric_type: MetricType::Info, help, unit: "s".into() };
            b.metadata([("a", &metadata)]);
            b.samples(&samples);
            b.late_mark(true);
            b.exemplars(exemplars.iter().map(|(s, e)| (*s, e)));
            let bytes = b.finish().to_vec();
            let (mut f, mut h, mut s, mut m) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let (mut all, mut ex) = (Vec::new(), Vec::new());
            for section in sections(payload(&bytes).unwrap()) {
                match section {
                    Section::Floats(x) => each_float(x, |s, t, v| f.push((s.0, t, v))).unwrap(),
                    Section::Histograms(x) => each_histogram(x, |s, t, v| h.push((s, t, v))).unwrap(),
                    Section::Series(x) => each_series(x, |r, l| s.push((r, Labels::from_sorted(l.iter().copied())))).unwrap(),
                    Section::SeriesCompressed(x) => {
                        let x = decompress_series(x).unwrap();
                        each_series(&x, |r, l| s.push((r, Labels::from_sorted(l.iter().copied())))).unwrap();
                    }
                    Section::Metadata(x) => each_metadata(x, |n, x| m.push((n.to_owned(), x))).unwrap(),
                    Section::Samples(x) => each_sample(x, |x| all.push(x)).unwrap(),
                    Section::Exemplars(x) => each_exemplar(x, |s, e| ex.push((s, e))).unwrap(),
                    Section::LateMark { done } => prop_assert!(done),
                    Section::CheckpointEnd(_) | Section::SegmentBefore { .. } => unreachable!(),
                }
            }
            // The same in groups, one after the other.
            let (mut grouped, mut last) = (Vec::new(), None);
            for section in sections(payload(&bytes).unwrap()) {
                if let Section::Floats(x) = section {
                    group_floats(x, |s| s.0 as u32 % 3, |group, from, range| {
                        assert_ne!(last.replace(group), Some(group));
                        each_float_from(&x[range], from, |s, t, v| {
                            assert_eq!(s.0 as u32 % 3, group);
                            grouped.push((s.0, t, v));
                        }).unwrap();
                    }).unwrap();
                }
            }
            prop_assert_eq!(&grouped, &f);
            prop_assert_eq!(&f, &floats.iter().map(|(s, t, v)| (*s, *t, v.to_bits())).collect::<Vec<_>>());
            prop_assert_eq!(&s, &series);
            prop_assert_eq!(m, vec![("a".to_owned(), metadata)]);
            prop_assert_eq!(h.len(), histograms.len());
            for (a, b) in h.iter().zip(&histograms) {
                prop_assert!(a.0 == b.0 && a.1 == b.1 && same_bits(&a.2, &b.2));
            }
            prop_assert_eq!(ex, exemplars);
            prop_assert_eq!(all.len(), samples.len());
            for (a, b) in all.iter().zip(&samples) {
                let same_value = match (&a.value, &b.value) {
                    (SampleValue::Float(a), SampleValue::Float(b)) => a.to_bits() == b.to_bits(),
                    (SampleValue::Histogram(a), SampleValue::Histogram(b)) => same_bits(a, b),
                    _ => false,
                };
                prop_assert!(same_value && (a.series, a.ts, a.start, a.out_of_order) == (b.series, b.ts, b.start, b.out_of_order));
            }
            let counts = Counts { samples: (f.len() + h.len() + all.len()) as u32, series: s.len() as u32 };
            prop_assert_eq!(Header::of(&bytes, false).unwrap().counts, Some(counts));
            for at in [2, 5, 9, 13, 17, 21, bytes.len() / 2, bytes.len() - 1] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 4;
                prop_assert!(payload(&damaged).is_none());
                let header = (at >= 20).then_some(counts);
                prop_assert_eq!(Header::of(&damaged, false).and_then(|h| h.counts), header, "{}", at);
            }
            let before = frame_before(payload(&bytes).unwrap());
            prop_assert_eq!(payload(&before), payload(&bytes));
            prop_assert_eq!(Header::of(&before, true).unwrap().counts, None);
        }

        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = payload(&bytes);
            for _ in sections(&bytes) {}
            let mut read = Vec::new();
            let whole = each_float(&bytes, |s, t, v| read.push((s, t, v)));
            let mut grouped = Vec::new();
            let grouped_whole = group_floats(&bytes, |s| s.0 as u32 >> 3, |_, from, range| {
                each_float_from(&bytes[range], from, |s, t, v| grouped.push((s, t, v))).unwrap();
            });
            prop_assert_eq!((whole, read), (grouped_whole, grouped));
            let _ = each_histogram(&bytes, |_, _, _| {});
            let _ = each_series(&bytes, |_, _| {});
            let _ = each_metadata(&bytes, |_, _| {});
            let _ = each_sample(&bytes, |_| {});
            let _ = each_exemplar(&bytes, |_, _| {});
            let _ = decompress_series(&bytes);
        }
    }
}
