//! Walks over a `WriteRequest`.

use super::histogram::decode_histogram;
use super::wire::{BYTES, Cursor, FIXED64, VARINT, WireError};
use crate::model::{FloatHistogram, Metadata, MetricType, Timestamp};

/// `WriteRequest { timeseries = 1; metadata = 3 }`.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    cursor: Cursor<'a>,
}

/// What a request holds.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Series(TimeSeries<'a>),
    Metadata(FamilyMetadata<'a>),
}

/// `TimeSeries { labels = 1; samples = 2; exemplars = 3; histograms = 4 }`.
#[derive(Clone, Copy, Debug)]
pub struct TimeSeries<'a> {
    /// The label fields as they stand: equal bytes mean equal labels.
    pub labels: &'a [u8],
    values: Cursor<'a>,
}

/// `MetricMetadata { type = 1; metric_family_name = 2; help = 4; unit = 5 }`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FamilyMetadata<'a> {
    pub family: &'a str,
    pub metric_type: MetricType,
    pub help: &'a str,
    pub unit: &'a str,
}

/// One sample or exemplar of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Float {
        ts: Timestamp,
        value: f64,
    },
    /// [`Value::histogram`] decodes it.
    Histogram(&'a [u8]),
    /// [`Value::exemplar`] decodes it.
    Exemplar(&'a [u8]),
}

/// `Exemplar { labels = 1; value = 2; timestamp = 3 }`: label pairs, value, time in ms.
pub type DecodedExemplar<'a> = (Vec<(&'a str, &'a str)>, f64, Timestamp);

const LABEL_KEY: u8 = 1 << 3 | BYTES;
const SAMPLE_KEY: u8 = 2 << 3 | BYTES;

impl<'a> WriteRequest<'a> {
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        WriteRequest { cursor: Cursor::new(message) }
    }

    /// The next series or metadata; `None` at the end.
    ///
    /// # Errors
    /// Where the message is malformed; nothing after it can be trusted.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "an error ends the walk")]
    pub fn next(&mut self) -> Result<Option<Item<'a>>, WireError> {
        while !self.cursor.rest.is_empty() {
            match self.cursor.key()? {
                (1, BYTES) => return TimeSeries::new(self.cursor.bytes()?).map(|s| Some(Item::Series(s))),
                (3, BYTES) => return metadata(self.cursor.bytes()?).map(|m| Some(Item::Metadata(m))),
                (field @ (1 | 3), _) => return Err(WireError::FieldType { message: "WriteRequest", field }),
                (_, wire_type) => self.cursor.skip(wire_type)?,
            }
        }
        Ok(None)
    }
}

impl<'a> TimeSeries<'a> {
    #[inline]
    fn new(message: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(message);
        while cursor.rest.first() == Some(&LABEL_KEY) {
            cursor.rest = &cursor.rest[1..];
            cursor.bytes()?;
        }
        let labels = &message[..message.len() - cursor.rest.len()];
        Ok(TimeSeries { labels, values: cursor })
    }

    /// The labels, decoded one by one.
    #[must_use]
    pub fn label_pairs(&self) -> LabelPairs<'a> {
        LabelPairs::new(self.labels)
    }

    /// The samples, in their order.
    #[inline]
    #[must_use]
    pub fn values(&self) -> Values<'a> {
        Values { cursor: self.values }
    }
}

/// The label fields of a series, decoded: names and values as they are sent, in any order, perhaps empty or twice.
#[derive(Clone, Copy, Debug)]
pub struct LabelPairs<'a> {
    cursor: Cursor<'a>,
}

impl<'a> LabelPairs<'a> {
    /// From [`TimeSeries::labels`].
    #[must_use]
    pub fn new(labels: &'a [u8]) -> Self {
        LabelPairs { cursor: Cursor::new(labels) }
    }

    /// Appends all that are left to `pairs`.
    ///
    /// # Errors
    /// Where the message is malformed, or not UTF-8.
    pub fn read_into(self, pairs: &mut Vec<(&'a str, &'a str)>) -> Result<(), WireError> {
        let before = pairs.len();
        // Lengths below 128 are valid UTF-8 themselves, so that one look at the whole does for all names and values.
        if let Ok(text) = std::str::from_utf8(self.cursor.rest)
            && plain_pairs(text, pairs).is_some()
        {
            return Ok(());
        }
        pairs.truncate(before);
        for pair in self {
            pairs.push(pair?);
        }
        Ok(())
    }

    fn pair(&mut self) -> Result<(&'a str, &'a str), WireError> {
        self.cursor.key()?;
        label(self.cursor.bytes()?)
    }
}

/// The pairs of labels that are short and have a name, a value and nothing else; `None` at any other.
fn plain_pairs<'a>(mut labels: &'a str, pairs: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
    fn field(key: u8, text: &str) -> Option<(&str, &str)> {
        match text.as_bytes() {
            [k, length @ ..0x80, ..] if *k == key => text.get(2..)?.split_at_checked(usize::from(*length)),
            _ => None,
        }
    }
    while !labels.is_empty() {
        let (label, rest) = field(LABEL_KEY, labels)?;
        let (name, label) = field(1 << 3 | BYTES, label)?;
        let (value, label) = field(2 << 3 | BYTES, label)?;
        if !label.is_empty() {
            return None;
        }
        pairs.push((name, value));
        labels = rest;
    }
    Some(())
}

/// `Label { name = 1; value = 2 }`.
pub fn label(message: &[u8]) -> Result<(&str, &str), WireError> {
    let mut label = Cursor::new(message);
    let (mut name, mut value) = ("", "");
    while !label.rest.is_empty() {
        match label.key()? {
            (1, BYTES) => name = text(label.bytes()?, "a label name")?,
            (2, BYTES) => value = text(label.bytes()?, "a label value")?,
            (field @ (1 | 2), _) => return Err(WireError::FieldType { message: "Label", field }),
            (_, wire_type) => label.skip(wire_type)?,
        }
    }
    Ok((name, value))
}

impl<'a> Iterator for LabelPairs<'a> {
    type Item = Result<(&'a str, &'a str), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.cursor.rest.is_empty()).then(|| self.pair())
    }
}

/// The samples of a series.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Values<'a> {
    /// The next sample; `None` at the end. The benchmark is `remote_write_append`.
    ///
    /// # Errors
    /// Where the message is malformed.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "an error ends the walk")]
    pub fn next(&mut self) -> Result<Option<Value<'a>>, WireError> {
        while let Some(key) = self.cursor.rest.first() {
            if *key == SAMPLE_KEY {
                self.cursor.rest = &self.cursor.rest[1..];
                return sample(self.cursor.bytes()?).map(Some);
            }
            match self.cursor.key()? {
                (3, BYTES) => return Ok(Some(Value::Exemplar(self.cursor.bytes()?))),
                (4, BYTES) => return Ok(Some(Value::Histogram(self.cursor.bytes()?))),
                (1, _) => return Err(WireError::ScatteredLabels),
                (field @ (2..=4), _) => return Err(WireError::FieldType { message: "TimeSeries", field }),
                (_, wire_type) => self.cursor.skip(wire_type)?,
            }
        }
        Ok(None)
    }
}

/// `Sample { value = 1; timestamp = 2 }`; a field that is left out is zero.
#[inline]
fn sample<'a>(message: &[u8]) -> Result<Value<'a>, WireError> {
    let mut cursor = Cursor::new(message);
    let (mut ts, mut value) = (0, 0.0);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, FIXED64) => value = cursor.double()?,
            (2, VARINT) => ts = cursor.varint()? as i64,
            (field @ (1 | 2), _) => return Err(WireError::FieldType { message: "Sample", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(Value::Float { ts, value })
}

impl<'a> Value<'a> {
    /// Decodes an exemplar; `None` for a sample.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn exemplar(&self) -> Result<Option<DecodedExemplar<'a>>, WireError> {
        let Value::Exemplar(message) = self else { return Ok(None) };
        let mut cursor = Cursor::new(message);
        let (mut pairs, mut value, mut ts) = (Vec::new(), 0.0, 0);
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, BYTES) => pairs.push(label(cursor.bytes()?)?),
                (2, FIXED64) => value = cursor.double()?,
                (3, VARINT) => ts = cursor.varint()? as i64,
                (field @ 1..=3, _) => return Err(WireError::FieldType { message: "Exemplar", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(Some((pairs, value, ts)))
    }

    /// Decodes a histogram; `None` for anything else.
    ///
    /// # Errors
    /// When it is malformed or contradicts itself.
    pub fn histogram(&self) -> Result<Option<(Timestamp, FloatHistogram)>, WireError> {
        match self {
            Value::Float { .. } | Value::Exemplar(_) => Ok(None),
            Value::Histogram(message) => decode_histogram(message).map(|(ts, _, h)| Some((ts, h))),
        }
    }
}

impl FamilyMetadata<'_> {
    #[must_use]
    pub fn to_metadata(&self) -> Metadata {
        Metadata { metric_type: self.metric_type, help: self.help.to_owned(), unit: self.unit.to_owned() }
    }
}

/// The type that a message states by number.
pub(super) fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

fn metadata(message: &[u8]) -> Result<FamilyMetadata<'_>, WireError> {
    let mut cursor = Cursor::new(message);
    let mut out = FamilyMetadata::default();
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, VARINT) => out.metric_type = metric_type(cursor.varint()?),
            (2, BYTES) => out.family = text(cursor.bytes()?, "a metric family name")?,
            (4, BYTES) => out.help = text(cursor.bytes()?, "a help text")?,
            (5, BYTES) => out.unit = text(cursor.bytes()?, "a unit")?,
            (field @ (1 | 2 | 4 | 5), _) => {
                return Err(WireError::FieldType { message: "MetricMetadata", field });
            }
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(out)
}

pub(super) fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Utf8(what))
}
