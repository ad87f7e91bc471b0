//! Walks over a body.

use std::borrow::Cow;

use crate::exposition::remote_write::{LabelPairs, decode_label, histogram};
use crate::exposition::wire::{BYTES, Cursor, FIXED64, VARINT, WireError, push_bytes};
use crate::model::{CounterResetHint, FloatHistogram, MetricType, Timestamp};

/// A body that is no protobuf exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the protobuf body{family}: {reason}")]
pub struct ProtobufError {
    /// Where the family begins, from 0.
    pub offset: usize,
    /// ` (metric family "x")`, or empty where its name is not known yet.
    pub family: String,
    pub reason: String,
}

/// The families of a body.
#[derive(Clone, Copy, Debug)]
pub struct MetricFamilies<'a> {
    len: usize,
    cursor: Cursor<'a>,
    /// Where the last family begins.
    offset: usize,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyType {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

/// `MetricFamily { name = 1; help = 2; type = 3; metric = 4; unit = 5 }`.
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub unit: &'a str,
    pub family_type: FamilyType,
    metrics: Cursor<'a>,
}

/// `Metric { label = 1; gauge = 2; counter = 3; summary = 4; untyped = 5; timestamp_ms = 6; histogram = 7 }`.
#[derive(Clone, Debug, Default)]
pub struct Metric<'a> {
    /// The label fields as they stand: equal bytes mean equal labels.
    pub labels: Cow<'a, [u8]>,
    /// In ms, if it is stated.
    pub ts: Option<Timestamp>,
    gauge: &'a [u8],
    counter: &'a [u8],
    summary: &'a [u8],
    untyped: &'a [u8],
    histogram: &'a [u8],
}

/// What a counter, a gauge or an untyped metric says. A start time is in ms and 0 where none is stated, here and below.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number<'a> {
    pub value: f64,
    pub start: Timestamp,
    /// [`exemplar`](Metric::exemplar) decodes it.
    pub exemplar: Option<&'a [u8]>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: f64,
    pub sum: f64,
    /// Quantiles and their values, as they stand.
    pub quantiles: Vec<(f64, f64)>,
    pub start: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram<'a> {
    pub count: f64,
    pub sum: f64,
    /// Of the classic histogram, as they stand; the one of +Inf may be missing.
    pub buckets: Vec<ClassicBucket<'a>>,
    pub start: Timestamp,
    /// Whether it is a native histogram (too).
    pub is_native: bool,
    /// Of the native histogram.
    pub exemplars: Vec<&'a [u8]>,
    native: Native,
}

/// The parts of a native histogram, before they are checked.
#[derive(Clone, Debug, Default, PartialEq)]
struct Native {
    /// Counts, zero counts: as integers and as floats.
    counts: (f64, f64),
    zeros: (f64, f64),
    schema: i32,
    zero_threshold: f64,
    negative: histogram::Buckets,
    positive: histogram::Buckets,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassicBucket<'a> {
    pub upper_bound: f64,
    pub cumulative_count: f64,
    pub exemplar: Option<&'a [u8]>,
}

/// An exemplar: label pairs, value, time in ms if it is stated.
type Exemplar<'a> = (Vec<(&'a str, &'a str)>, f64, Option<Timestamp>);

impl FamilyType {
    #[must_use]
    pub fn metric_type(self) -> MetricType {
        match self {
            FamilyType::Counter => MetricType::Counter,
            FamilyType::Gauge => MetricType::Gauge,
            FamilyType::Summary => MetricType::Summary,
            FamilyType::Untyped => MetricType::Unknown,
            FamilyType::Histogram => MetricType::Histogram,
            FamilyType::GaugeHistogram => MetricType::GaugeHistogram,
        }
    }
}

impl<'a> MetricFamilies<'a> {
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        MetricFamilies { len: body.len(), cursor: Cursor::new(body), offset: 0 }
    }

    /// The next family; `None` at the end.
    ///
    /// # Errors
    /// Where the body is malformed; nothing after it can be trusted.
    #[allow(clippy::should_implement_trait, reason = "an error ends the walk")]
    pub fn next(&mut self) -> Result<Option<Family<'a>>, ProtobufError> {
        if self.cursor.rest.is_empty() {
            return Ok(None);
        }
        self.offset = self.len - self.cursor.rest.len();
        let message = self.cursor.bytes().map_err(|e| self.error("", e))?;
        Family::read(message).map(Some).map_err(|(name, reason)| self.error(name, reason))
    }

    /// An error in the last family, for what is wrong with it or its metrics.
    #[must_use]
    pub fn error(&self, family: &str, reason: impl std::fmt::Display) -> ProtobufError {
        let family = if family.is_empty() { String::new() } else { format!(" (metric family {family:?})") };
        ProtobufError { offset: self.offset, family, reason: reason.to_string() }
    }
}

impl<'a> Family<'a> {
    fn read(message: &'a [u8]) -> Result<Self, (&'a str, String)> {
        let mut family = Family {
            name: "",
            help: "",
            unit: "",
            family_type: FamilyType::Counter,
            metrics: Cursor::new(message),
        };
        let read = family.fields(Cursor::new(message));
        read.map_err(|e| (family.name, e.to_string()))?;
        if family.name.is_empty() {
            return Err(("", "the metric family has no name".to_owned()));
        }
        let unit = family.unit;
        let is_suffix = |name: &str| name.strip_suffix(unit).is_some_and(|n| n.ends_with('_'));
        let bare = match family.family_type {
            FamilyType::Counter => family.name.strip_suffix("_total").unwrap_or(family.name),
            _ => family.name,
        };
        if unit.is_empty() || is_suffix(bare) {
            return Ok(family);
        }
        Err((family.name, format!("unit {unit:?} not a suffix of the metric's name")))
    }

    fn fields(&mut self, mut cursor: Cursor<'a>) -> Result<(), FieldError> {
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, BYTES) => self.name = text(cursor.bytes()?, "the metric's name")?,
                (2, BYTES) => self.help = text(cursor.bytes()?, "the help text")?,
                (3, VARINT) => {
                    self.family_type = match cursor.varint()? {
                        0 => FamilyType::Counter,
                        1 => FamilyType::Gauge,
                        2 => FamilyType::Summary,
                        3 => FamilyType::Untyped,
                        4 => FamilyType::Histogram,
                        5 => FamilyType::GaugeHistogram,
                        other => return Err(FieldError::Type(other)),
                    }
                }
                (5, BYTES) => self.unit = text(cursor.bytes()?, "the unit")?,
                (field @ (1..=3 | 5), _) => {
                    return Err(WireError::FieldType { message: "MetricFamily", field }.into());
                }
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(())
    }

    /// The next metric; `None` at the end.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn next_metric(&mut self) -> Result<Option<Metric<'a>>, WireError> {
        let cursor = &mut self.metrics;
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (4, BYTES) => return Metric::read(cursor.bytes()?).map(Some),
                (4, _) => return Err(WireError::FieldType { message: "MetricFamily", field: 4 }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(None)
    }
}

/// What can be wrong with a family's own fields.
#[derive(Debug, thiserror::Error)]
enum FieldError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("unknown metric type {0}")]
    Type(u64),
}

impl<'a> Metric<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut metric = Metric::default();
        let mut cursor = Cursor::new(message);
        // Labels come first, almost always.
        let mut labels_end = 0;
        while !cursor.rest.is_empty() {
            let at = message.len() - cursor.rest.len();
            match cursor.key()? {
                (1, BYTES) => {
                    let label = cursor.bytes()?;
                    if at == labels_end {
                        labels_end = message.len() - cursor.rest.len();
                        metric.labels = Cow::Borrowed(&message[..labels_end]);
                    } else {
                        push_bytes(metric.labels.to_mut(), 1, label);
                    }
                }
                (2, BYTES) => metric.gauge = cursor.bytes()?,
                (3, BYTES) => metric.counter = cursor.bytes()?,
                (4, BYTES) => metric.summary = cursor.bytes()?,
                (5, BYTES) => metric.untyped = cursor.bytes()?,
                (6, VARINT) => metric.ts = Some(cursor.varint()? as i64).filter(|ts| *ts != 0),
                (7, BYTES) => metric.histogram = cursor.bytes()?,
                (field @ 1..=7, _) => return Err(WireError::FieldType { message: "Metric", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(metric)
    }

    /// The labels, decoded one by one; without the metric's name.
    #[must_use]
    pub fn label_pairs(&self) -> LabelPairs<'_> {
        LabelPairs::new(&self.labels)
    }

    /// What the metric says if its family is of type `of`, which is neither a summary nor a histogram.
    ///
    /// # Errors
    /// When it is malformed, here and below.
    pub fn number(&self, of: FamilyType) -> Result<Number<'a>, WireError> {
        let (message, name) = match of {
            FamilyType::Counter => (self.counter, "Counter"),
            FamilyType::Gauge => (self.gauge, "Gauge"),
            _ => (self.untyped, "Untyped"),
        };
        let mut cursor = Cursor::new(message);
        let mut number = Number::default();
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, FIXED64) => number.value = cursor.double()?,
                (2, BYTES) => number.exemplar = Some(cursor.bytes()?),
                (3, BYTES) => number.start = timestamp(cursor.bytes()?)?,
                (field @ 1..=3, _) => return Err(WireError::FieldType { message: name, field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(number)
    }

    /// `Summary { sample_count = 1; sample_sum = 2; quantile = 3; created_timestamp = 4 }`.
    ///
    /// # Errors
    /// As [`Metric::number`].
    pub fn summary(&self) -> Result<Summary, WireError> {
        let mut cursor = Cursor::new(self.summary);
        let mut summary = Summary::default();
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, VARINT) => summary.count = cursor.varint()? as f64,
                (2, FIXED64) => summary.sum = cursor.double()?,
                (3, BYTES) => summary.quantiles.push(quantile(cursor.bytes()?)?),
                (4, BYTES) => summary.start = timestamp(cursor.bytes()?)?,
                (field @ 1..=4, _) => return Err(WireError::FieldType { message: "Summary", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(summary)
    }

    /// `Histogram`: the fields are named where they are read.
    ///
    /// # Errors
    /// As [`Metric::number`].
    pub fn histogram(&self) -> Result<Histogram<'a>, WireError> {
        let mut cursor = Cursor::new(self.histogram);
        let mut h = Histogram::default();
        let mut native = Native::default();
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, VARINT) => native.counts.0 = cursor.varint()? as f64,
                (2, FIXED64) => h.sum = cursor.double()?,
                (3, BYTES) => h.buckets.push(ClassicBucket::read(cursor.bytes()?)?),
                (4, FIXED64) => native.counts.1 = cursor.double()?,
                (5, VARINT) => native.schema = crate::exposition::wire::zigzag(cursor.varint()?) as i32,
                (6, FIXED64) => native.zero_threshold = cursor.double()?,
                (7, VARINT) => native.zeros.0 = cursor.varint()? as f64,
                (8, FIXED64) => native.zeros.1 = cursor.double()?,
                (9, BYTES) => native.negative.span(cursor.bytes()?)?,
                (10, wire_type) => native.negative.deltas(&mut cursor, wire_type)?,
                (11, wire_type) => native.negative.counts(&mut cursor, wire_type)?,
                (12, BYTES) => native.positive.span(cursor.bytes()?)?,
                (13, wire_type) => native.positive.deltas(&mut cursor, wire_type)?,
                (14, wire_type) => native.positive.counts(&mut cursor, wire_type)?,
                (15, BYTES) => h.start = timestamp(cursor.bytes()?)?,
                (16, BYTES) => h.exemplars.push(cursor.bytes()?),
                (field @ 1..=16, _) => return Err(WireError::FieldType { message: "Histogram", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        h.count = if native.counts.1 > 0.0 { native.counts.1 } else { native.counts.0 };
        h.is_native = !native.negative.spans().is_empty()
            || !native.positive.spans().is_empty()
            || native.zero_threshold > 0.0
            || native.zeros.0 > 0.0
            || native.zeros.1 > 0.0;
        h.native = native;
        Ok(h)
    }

    /// `Exemplar { label = 1; value = 2; timestamp = 3 }`.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn exemplar(message: &'a [u8]) -> Result<Exemplar<'a>, WireError> {
        let mut cursor = Cursor::new(message);
        let (mut pairs, mut value, mut ts) = (Vec::new(), 0.0, None);
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, BYTES) => pairs.push(decode_label(cursor.bytes()?)?),
                (2, FIXED64) => value = cursor.double()?,
                (3, BYTES) => ts = Some(timestamp(cursor.bytes()?)?),
                (field @ 1..=3, _) => return Err(WireError::FieldType { message: "Exemplar", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok((pairs, value, ts))
    }
}

impl Histogram<'_> {
    /// The native histogram, without empty buckets. It has float counts if any of its totals is stated as a float.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn native(&self, of: FamilyType) -> Result<FloatHistogram, WireError> {
        let parts = &self.native;
        let is_float = parts.counts.1 > 0.0 || parts.zeros.1 > 0.0;
        let of_kind = |pair: (f64, f64)| if is_float { pair.1 } else { pair.0 };
        let (negative_spans, negative_buckets) = parts.negative.of_kind(is_float);
        let (positive_spans, positive_buckets) = parts.positive.of_kind(is_float);
        let mut h = FloatHistogram {
            counter_reset_hint: match of {
                FamilyType::GaugeHistogram => CounterResetHint::Gauge,
                _ => CounterResetHint::Unknown,
            },
            schema: parts.schema,
            zero_threshold: parts.zero_threshold,
            zero_count: of_kind(parts.zeros),
            count: of_kind(parts.counts),
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: Vec::new(),
        };
        histogram::admit(&mut h, !is_float).map_err(WireError::Histogram)?;
        h.compact();
        Ok(h)
    }
}

impl<'a> ClassicBucket<'a> {
    /// `Bucket { cumulative_count = 1; upper_bound = 2; exemplar = 3; cumulative_count_float = 4 }`.
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(message);
        let (mut bucket, mut count) = (ClassicBucket::default(), (0.0, 0.0));
        while !cursor.rest.is_empty() {
            match cursor.key()? {
                (1, VARINT) => count.0 = cursor.varint()? as f64,
                (2, FIXED64) => bucket.upper_bound = cursor.double()?,
                (3, BYTES) => bucket.exemplar = Some(cursor.bytes()?),
                (4, FIXED64) => count.1 = cursor.double()?,
                (field @ 1..=4, _) => return Err(WireError::FieldType { message: "Bucket", field }),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        bucket.cumulative_count = if count.1 > 0.0 { count.1 } else { count.0 };
        Ok(bucket)
    }
}

/// `Quantile { quantile = 1; value = 2 }`.
fn quantile(message: &[u8]) -> Result<(f64, f64), WireError> {
    let mut cursor = Cursor::new(message);
    let (mut quantile, mut value) = (0.0, 0.0);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, FIXED64) => quantile = cursor.double()?,
            (2, FIXED64) => value = cursor.double()?,
            (field @ 1..=2, _) => return Err(WireError::FieldType { message: "Quantile", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((quantile, value))
}

/// `google.protobuf.Timestamp { seconds = 1; nanos = 2 }`, in ms.
fn timestamp(message: &[u8]) -> Result<Timestamp, WireError> {
    let mut cursor = Cursor::new(message);
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while !cursor.rest.is_empty() {
        match cursor.key()? {
            (1, VARINT) => seconds = cursor.varint()? as i64,
            (2, VARINT) => nanos = i64::from(cursor.varint()? as i32),
            (field @ 1..=2, _) => return Err(WireError::FieldType { message: "Timestamp", field }),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Utf8(what))
}
