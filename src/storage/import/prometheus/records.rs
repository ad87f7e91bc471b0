//! The records of Prometheus's WAL.
//!
//! Source: Prometheus `tsdb/record/record.go`.

use std::sync::Arc;

use super::bytes::Bytes;
use crate::model::{CounterResetHint, FloatHistogram, Labels, Metadata, MetricType, Span, Timestamp};
use crate::storage::exemplars::Exemplar;

/// What one entry of a record says. Series are Prometheus's references; a start time of 0 means none.
#[derive(Clone, Debug)]
pub enum Record {
    Float(u64, Timestamp, Timestamp, f64),
    Histogram(u64, Timestamp, Timestamp, Arc<FloatHistogram>),
    /// Series, first and last time.
    Deleted(u64, Timestamp, Timestamp),
    Metadata(u64, Metadata),
    Exemplar(u64, Exemplar),
    /// A kind that is not known here.
    Unknown,
}

/// Spans and buckets of one histogram; more are damage.
const BUCKETS_MAX: u64 = 1 << 16;
const LABELS_MAX: u64 = 1 << 16;
const CUT: &str = "a record makes no sense";

/// Calls `f` with every series of a record of series.
pub fn each_series(record: &[u8], mut f: impl FnMut(u64, Labels)) -> Result<(), &'static str> {
    let mut cursor = Bytes::new(record, 1);
    while !cursor.is_empty() {
        let series = cursor.u64().ok_or(CUT)?;
        f(series, Labels::from_pairs(labels(&mut cursor).ok_or(CUT)?));
    }
    Ok(())
}

fn labels<'a>(cursor: &mut Bytes<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let n = cursor.uvarint().filter(|n| *n <= LABELS_MAX)?;
    (0..n).map(|_| Some((cursor.text()?, cursor.text()?))).collect()
}

/// Calls `f` with every entry of a record.
pub fn read_record(
    record: &[u8],
    f: &mut dyn FnMut(Record) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut cursor = Bytes::new(record, 0);
    match cursor.u8() {
        Some(2) => based(&mut cursor, f, |c, s, t| Some(Record::Float(s, t, 0, float(c)?))),
        Some(3) => {
            while !cursor.is_empty() {
                let one = (|| Some((cursor.u64()?, cursor.varint()?, cursor.varint()?)))();
                let (series, from, to) = one.ok_or(CUT)?;
                f(Record::Deleted(series, from, to))?;
            }
            Ok(())
        }
        Some(4) => based(&mut cursor, f, |c, series, ts| {
            let value = float(c)?;
            let labels = Labels::from_pairs(labels(c)?);
            Some(Record::Exemplar(series, Exemplar { labels, value, ts }))
        }),
        Some(6) => {
            while !cursor.is_empty() {
                let (series, metadata) = metadata(&mut cursor).ok_or(CUT)?;
                f(Record::Metadata(series, metadata))?;
            }
            Ok(())
        }
        Some(7 | 9) => based(&mut cursor, f, |c, s, t| Some(Record::Histogram(s, t, 0, integers(c)?))),
        Some(8 | 10) => based(&mut cursor, f, |c, s, t| Some(Record::Histogram(s, t, 0, floats(c)?))),
        Some(11) => chained(&mut cursor, f, |c, s, t, st| Some(Record::Float(s, t, st, float(c)?))),
        Some(12) => chained(&mut cursor, f, |c, s, t, st| Some(Record::Histogram(s, t, st, integers(c)?))),
        Some(13) => chained(&mut cursor, f, |c, s, t, st| Some(Record::Histogram(s, t, st, floats(c)?))),
        Some(_) => f(Record::Unknown),
        None => Ok(()),
    }
}

/// Entries whose series and time are differences from those in front of all.
fn based<'a>(
    cursor: &mut Bytes<'a>,
    f: &mut dyn FnMut(Record) -> Result<(), &'static str>,
    read: impl Fn(&mut Bytes<'a>, u64, Timestamp) -> Option<Record>,
) -> Result<(), &'static str> {
    if cursor.is_empty() {
        return Ok(());
    }
    let base = (|| Some((cursor.u64()?, cursor.u64()? as i64)))();
    let (series, ts) = base.ok_or(CUT)?;
    while !cursor.is_empty() {
        let one = (|| {
            let series = series.wrapping_add(cursor.varint()? as u64);
            let ts = ts.wrapping_add(cursor.varint()?);
            read(cursor, series, ts)
        })();
        f(one.ok_or(CUT)?)?;
    }
    Ok(())
}

/// Entries with start times: series as difference from the one before, times from the first.
fn chained<'a>(
    cursor: &mut Bytes<'a>,
    f: &mut dyn FnMut(Record) -> Result<(), &'static str>,
    read: impl Fn(&mut Bytes<'a>, u64, Timestamp, Timestamp) -> Option<Record>,
) -> Result<(), &'static str> {
    let mut first: Option<(Timestamp, Timestamp)> = None;
    let (mut series, mut start) = (0u64, 0i64);
    while !cursor.is_empty() {
        let one = (|| {
            series = series.wrapping_add(cursor.varint()? as u64);
            let ts = match first {
                None => {
                    let ts = cursor.varint()?;
                    start = cursor.varint()?;
                    first = Some((ts, start));
                    ts
                }
                Some((ts, first_start)) => {
                    let ts = ts.wrapping_add(cursor.varint()?);
                    match cursor.u8()? {
                        0 => start = 0,
                        1 => {}
                        _ => start = first_start.wrapping_add(cursor.varint()?),
                    }
                    ts
                }
            };
            read(cursor, series, ts, start)
        })();
        f(one.ok_or(CUT)?)?;
    }
    Ok(())
}

fn float(cursor: &mut Bytes<'_>) -> Option<f64> {
    cursor.u64().map(f64::from_bits)
}

fn metadata(cursor: &mut Bytes<'_>) -> Option<(u64, Metadata)> {
    let series = cursor.uvarint()?;
    let metric_type = match cursor.u8()? {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    };
    let mut metadata = Metadata { metric_type, ..Metadata::default() };
    for _ in 0..cursor.uvarint()? {
        let (name, text) = (cursor.text()?, cursor.text()?);
        match name {
            "UNIT" => text.clone_into(&mut metadata.unit),
            "HELP" => text.clone_into(&mut metadata.help),
            _ => {}
        }
    }
    Some((series, metadata))
}

fn integers(cursor: &mut Bytes<'_>) -> Option<Arc<FloatHistogram>> {
    let mut h = begin(cursor)?;
    h.zero_count = cursor.uvarint()? as f64;
    h.count = cursor.uvarint()? as f64;
    h.sum = float(cursor)?;
    (h.positive_spans, h.negative_spans) = (spans(cursor)?, spans(cursor)?);
    for buckets in [&mut h.positive_buckets, &mut h.negative_buckets] {
        let mut sum = 0i64;
        for _ in 0..count(cursor)? {
            sum = sum.wrapping_add(cursor.varint()?);
            buckets.push(sum as f64);
        }
    }
    end(cursor, h)
}

fn floats(cursor: &mut Bytes<'_>) -> Option<Arc<FloatHistogram>> {
    let mut h = begin(cursor)?;
    h.zero_count = float(cursor)?;
    h.count = float(cursor)?;
    h.sum = float(cursor)?;
    (h.positive_spans, h.negative_spans) = (spans(cursor)?, spans(cursor)?);
    for buckets in [&mut h.positive_buckets, &mut h.negative_buckets] {
        for _ in 0..count(cursor)? {
            buckets.push(float(cursor)?);
        }
    }
    end(cursor, h)
}

fn begin(cursor: &mut Bytes<'_>) -> Option<FloatHistogram> {
    let counter_reset_hint = match cursor.u8()? {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    let schema = i32::try_from(cursor.varint()?).ok()?;
    Some(FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold: float(cursor)?,
        ..FloatHistogram::default()
    })
}

fn end(cursor: &mut Bytes<'_>, mut h: FloatHistogram) -> Option<Arc<FloatHistogram>> {
    if h.has_custom_buckets() {
        for _ in 0..count(cursor)? {
            h.custom_values.push(float(cursor)?);
        }
    }
    let buckets = |spans: &[Span]| spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
    let fits = buckets(&h.positive_spans) == h.positive_buckets.len() as u64
        && buckets(&h.negative_spans) == h.negative_buckets.len() as u64;
    fits.then(|| Arc::new(h))
}

fn count(cursor: &mut Bytes<'_>) -> Option<u64> {
    cursor.uvarint().filter(|n| *n <= BUCKETS_MAX)
}

fn spans(cursor: &mut Bytes<'_>) -> Option<Vec<Span>> {
    let n = count(cursor)?;
    let one = |_| {
        let offset = i32::try_from(cursor.varint()?).ok()?;
        Some(Span { offset, length: u32::try_from(cursor.uvarint()?).ok()? })
    };
    (0..n).map(one).collect()
}
