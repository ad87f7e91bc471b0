//! Walks over a `Request` of remote write 2.0: strings stand once in a table, and series refer to them.
//!
//! Fields may come in any order, so that the table is read first ([`Symbols::read`]), and the labels of each series
//! before its values ([`Request::next`]).
//!
//! Source: the remote write 2.0 specification; Prometheus `prompb/io/prometheus/write/v2/types.proto`. Experimental
//! senders state one `created_timestamp` for a series (field 6); later ones a `start_timestamp` with each sample.

use super::decode::{metric_type, text};
use super::histogram::decode_histogram;
use super::wire::{BYTES, Cursor, FIXED64, VARINT, WireError, push_bytes};
use crate::model::{FloatHistogram, MetricType, Timestamp};

/// Strings of one request; more are refused.
pub const SYMBOLS_MAX: usize = 1 << 22;
/// References of the labels of one series; more are refused.
const REFS_MAX: usize = 1 << 16;

/// The strings of a request, as places in its message.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    at: Vec<(u32, u32)>,
}

impl Symbols {
    /// Reads the table of a message of less than 4 GiB; what was in here before is gone.
    ///
    /// # Errors
    /// When the message is malformed, or has more than [`SYMBOLS_MAX`].
    pub fn read(&mut self, message: &[u8]) -> Result<(), WireError> {
        self.at.clear();
        let mut cursor = Cursor::new(message);
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (4, BYTES) => {
                    let len = cursor.bytes()?.len();
                    if self.at.len() >= SYMBOLS_MAX {
                        return Err(WireError::TooMany { what: "symbols", limit: SYMBOLS_MAX });
                    }
                    let end = message.len() - cursor.rest.len();
                    self.at.push(((end - len) as u32, end as u32));
                }
                (4, _) => return Err(WireError::FieldType { message: "Request", field: 4 }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(())
    }

    /// The bytes of a string of the same message; they may be no UTF-8.
    ///
    /// # Errors
    /// When there is no such string.
    pub fn get<'a>(&self, message: &'a [u8], reference: u32) -> Result<&'a [u8], WireError> {
        let (from, to) =
            self.at.get(reference as usize).ok_or(WireError::Symbol { reference, count: self.at.len() })?;
        Ok(&message[*from as usize..*to as usize])
    }

    /// As [`Symbols::get`], checked.
    ///
    /// # Errors
    /// As it, and when it is no UTF-8.
    pub fn text<'a>(&self, message: &'a [u8], reference: u32) -> Result<&'a str, WireError> {
        text(self.get(message, reference)?, "a symbol")
    }

    /// Bytes of memory that the table keeps.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.at.capacity() * size_of::<(u32, u32)>()
    }
}

/// `Request { symbols = 4; timeseries = 5 }`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    cursor: Cursor<'a>,
}

/// `TimeSeries { labels_refs = 1; samples = 2; histograms = 3; exemplars = 4; metadata = 5; created_timestamp = 6 }`.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// The field as it stands; empty if there is none.
    pub metadata: &'a [u8],
    /// In ms; 0 if it is not stated.
    pub created: Timestamp,
    values: Cursor<'a>,
}

/// `Metadata { type = 1; help_ref = 3; unit_ref = 4 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesMetadata {
    pub metric_type: MetricType,
    pub help_ref: u32,
    pub unit_ref: u32,
}

/// One sample or exemplar of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SeriesItem<'a> {
    /// The start time is in ms, and 0 if it is not stated.
    Float { ts: Timestamp, start: Timestamp, value: f64 },
    /// [`Series::histogram`] decodes it.
    Histogram(&'a [u8]),
    /// [`exemplar`] decodes it.
    Exemplar(&'a [u8]),
}

impl<'a> Request<'a> {
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Request { cursor: Cursor::new(message) }
    }

    /// The next series, its label references in `refs` (name before value); `None` at the end.
    ///
    /// # Errors
    /// Where the message is malformed; nothing after it can be trusted.
    #[allow(clippy::should_implement_trait, reason = "an error ends the walk")]
    pub fn next(&mut self, refs: &mut Vec<u32>) -> Result<Option<Series<'a>>, WireError> {
        while !self.cursor.rest.is_empty() {
            match self.cursor.key()? {
                (5, BYTES) => return Series::read(self.cursor.bytes()?, refs).map(Some),
                (5, _) => return Err(WireError::FieldType { message: "Request", field: 5 }),
                (_, wire_type) => self.cursor.skip(wire_type)?,
            }
        }
        Ok(None)
    }
}

impl<'a> Series<'a> {
    fn read(message: &'a [u8], refs: &mut Vec<u32>) -> Result<Self, WireError> {
        refs.clear();
        let mut series = Series { metadata: &[], created: 0, values: Cursor::new(message) };
        let mut cursor = Cursor::new(message);
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, wire_type) => references(&mut cursor, wire_type, refs)?,
                (5, BYTES) => series.metadata = cursor.bytes()?,
                (6, VARINT) => series.created = cursor.varint()? as i64,
                (field @ (5 | 6), _) => return Err(WireError::FieldType { message: "TimeSeries", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        if refs.len() % 2 == 1 { Err(WireError::OddReferences) } else { Ok(series) }
    }

    /// What the field says.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn metadata(&self) -> Result<SeriesMetadata, WireError> {
        let mut cursor = Cursor::new(self.metadata);
        let mut out = SeriesMetadata::default();
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, VARINT) => out.metric_type = metric_type(cursor.varint()?),
                (3, VARINT) => out.help_ref = reference(cursor.varint()?),
                (4, VARINT) => out.unit_ref = reference(cursor.varint()?),
                (field @ (1 | 3 | 4), _) => return Err(WireError::FieldType { message: "Metadata", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(out)
    }

    /// The next sample or exemplar, in their order; `None` at the end.
    ///
    /// # Errors
    /// When it is malformed.
    #[inline]
    pub fn next_item(&mut self) -> Result<Option<SeriesItem<'a>>, WireError> {
        let cursor = &mut self.values;
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (2, BYTES) => return sample(cursor.bytes()?, self.created).map(Some),
                (3, BYTES) => return Ok(Some(SeriesItem::Histogram(cursor.bytes()?))),
                (4, BYTES) => return Ok(Some(SeriesItem::Exemplar(cursor.bytes()?))),
                (field @ (2..=4), _) => return Err(WireError::FieldType { message: "TimeSeries", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(None)
    }

    /// Decodes a histogram of the series: time, start time (0 if it is not stated), value.
    ///
    /// # Errors
    /// When it is malformed or contradicts itself.
    pub fn histogram(&self, message: &[u8]) -> Result<(Timestamp, Timestamp, FloatHistogram), WireError> {
        let (ts, start, value) = decode_histogram(message)?;
        Ok((ts, if start == 0 { self.created } else { start }, value))
    }
}

/// `Sample { value = 1; timestamp = 2; start_timestamp = 3 }`.
#[inline]
fn sample<'a>(message: &[u8], created: Timestamp) -> Result<SeriesItem<'a>, WireError> {
    let mut cursor = Cursor::new(message);
    let (mut ts, mut start, mut value) = (0, 0, 0.0);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, FIXED64) => value = cursor.double()?,
            (2, VARINT) => ts = cursor.varint()? as i64,
            (3, VARINT) => start = cursor.varint()? as i64,
            (field @ 1..=3, _) => return Err(WireError::FieldType { message: "Sample", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(SeriesItem::Float { ts, start: if start == 0 { created } else { start }, value })
}

/// `Exemplar { labels_refs = 1; value = 2; timestamp = 3 }`: references of names and values, value, time in ms.
///
/// # Errors
/// When it is malformed.
pub fn exemplar(message: &[u8]) -> Result<(Vec<u32>, f64, Timestamp), WireError> {
    let mut cursor = Cursor::new(message);
    let (mut refs, mut value, mut ts) = (Vec::new(), 0.0, 0);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, wire_type) => references(&mut cursor, wire_type, &mut refs)?,
            (2, FIXED64) => value = cursor.double()?,
            (3, VARINT) => ts = cursor.varint()? as i64,
            (field @ (2 | 3), _) => return Err(WireError::FieldType { message: "Exemplar", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    if refs.len() % 2 == 1 {
        return Err(WireError::OddReferences);
    }
    Ok((refs, value, ts))
}

/// Repeated references, packed or one by one.
fn references(cursor: &mut Cursor<'_>, wire_type: u8, out: &mut Vec<u32>) -> Result<(), WireError> {
    let mut push = |value: u64| {
        if out.len() >= REFS_MAX {
            return Err(WireError::TooMany { what: "label references in a series", limit: REFS_MAX });
        }
        out.push(reference(value));
        Ok(())
    };
    match wire_type {
        VARINT => push(cursor.varint()?),
        BYTES => {
            let mut packed = Cursor::new(cursor.bytes()?);
            while !packed.rest.is_empty() {
                push(packed.varint()?)?;
            }
            Ok(())
        }
        other => Err(WireError::WireType(other)),
    }
}

/// A reference past 32 bits refers to nothing, as the last one does.
fn reference(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Writes a label as remote write 1.0 has it: what the receiver remembers series by, whatever message they came in.
pub fn push_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let varint_bytes = |n: usize| (64 - (n as u64 | 1).leading_zeros() as usize).div_ceil(7);
    let field = |bytes: &[u8]| 1 + varint_bytes(bytes.len()) + bytes.len();
    super::wire::push_key(out, 1, BYTES);
    super::wire::push_varint(out, (field(name) + field(value)) as u64);
    push_bytes(out, 1, name);
    push_bytes(out, 2, value);
}

#[cfg(test)]
pub mod oracle;
#[cfg(test)]
mod tests;
