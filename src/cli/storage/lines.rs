//! JSON lines of a dump: everything that is stored, and read back as it was. `docs/format.md` describes them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{
    CounterResetHint, FloatHistogram, Labels, Metadata, MetricType, STALE_NAN_BITS, Span, Timestamp,
    is_stale_marker,
};
use crate::storage::{Exemplar, Importer, SampleRef, Samples, ValueRef};

const VERSION: u32 = 1;
/// The first bytes of a dump, which tell it from OpenMetrics.
pub(super) const BEGIN: &[u8] = b"{\"streamgate\":";
/// A line may not be longer.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// So many samples, and buckets of histograms, are written in one line.
const SAMPLES_PER_LINE: usize = 1000;
const BUCKETS_PER_LINE: usize = 50_000;
/// Buckets of one sign of one histogram.
const BUCKETS_MAX: usize = 1 << 16;

/// A float with all of its bits: JSON has no NaN and no infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bits(f64);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_finite() => to.serialize_f64(v),
            v if v == f64::INFINITY => to.serialize_str("+Inf"),
            v if v == f64::NEG_INFINITY => to.serialize_str("-Inf"),
            v if is_stale_marker(v) => to.serialize_str("stale"),
            v if v.to_bits() == f64::NAN.to_bits() => to.serialize_str("NaN"),
            v => to.serialize_str(&format!("NaN:{:016x}", v.to_bits())),
        }
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Bits;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a number, \"+Inf\", \"-Inf\", \"NaN\", \"NaN:\" and 16 hexadecimal digits, or \"stale\"",
                )
            }
            fn visit_f64<E>(self, v: f64) -> Result<Bits, E> {
                Ok(Bits(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Bits, E> {
                Ok(Bits(v as f64))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Bits, E> {
                Ok(Bits(v as f64))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bits, E> {
                let hex = |digits: &str| {
                    let bits = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)?;
                    Some(f64::from_bits(bits)).filter(|v| v.is_nan())
                };
                match text {
                    "+Inf" => Some(f64::INFINITY),
                    "-Inf" => Some(f64::NEG_INFINITY),
                    "NaN" => Some(f64::NAN),
                    "stale" => Some(f64::from_bits(STALE_NAN_BITS)),
                    other => other.strip_prefix("NaN:").and_then(hex),
                }
                .map(Bits)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Read)
    }
}

/// `[time, value]` or `[time, value, start time]`, times in ms.
#[derive(Clone, Debug, PartialEq)]
struct At<V> {
    ts: Timestamp,
    value: V,
    /// 0: none.
    start: Timestamp,
}

impl<V: Serialize> Serialize for At<V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut tuple = to.serialize_tuple(if self.start == 0 { 2 } else { 3 })?;
        tuple.serialize_element(&self.ts)?;
        tuple.serialize_element(&self.value)?;
        if self.start != 0 {
            tuple.serialize_element(&self.start)?;
        }
        tuple.end()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for At<V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Read<V> {
            type Value = At<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[time, value] or [time, value, start time]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<V>, A::Error> {
                let ts = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let value = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
                let start = seq.next_element()?.unwrap_or(0);
                Ok(At { ts, value, start })
            }
        }
        from.deserialize_seq(Read(std::marker::PhantomData))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistogramLine {
    count: BitsOrZero,
    sum: BitsOrZero,
    schema: i32,
    #[serde(default, skip_serializing_if = "BitsOrZero::is_zero")]
    zero_threshold: BitsOrZero,
    #[serde(default, skip_serializing_if = "BitsOrZero::is_zero")]
    zero_count: BitsOrZero,
    #[serde(default, skip_serializing_if = "Side::is_empty")]
    positive: Side,
    #[serde(default, skip_serializing_if = "Side::is_empty")]
    negative: Side,
    /// Custom bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bounds: Vec<Bits>,
    #[serde(default, skip_serializing_if = "Hint::is_unknown")]
    counter_reset: Hint,
}

/// As [`Bits`], 0 by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct BitsOrZero(Bits);

impl Default for BitsOrZero {
    fn default() -> Self {
        BitsOrZero(Bits(0.0))
    }
}

impl BitsOrZero {
    fn is_zero(&self) -> bool {
        self.0.0.to_bits() == 0
    }
}

/// The buckets of one sign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    /// Offset and length of each.
    spans: Vec<(i32, u32)>,
    counts: Vec<Bits>,
}

impl Side {
    fn new(spans: &[Span], counts: &[f64]) -> Self {
        Side {
            spans: spans.iter().map(|s| (s.offset, s.length)).collect(),
            counts: counts.iter().map(|v| Bits(*v)).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.counts.is_empty()
    }

    fn read(self) -> anyhow::Result<(Vec<Span>, Vec<f64>)> {
        let stated: u64 = self.spans.iter().map(|s| u64::from(s.1)).sum();
        if stated != self.counts.len() as u64 || self.counts.len().max(self.spans.len()) > BUCKETS_MAX {
            bail!("the spans of a histogram state {stated} buckets, there are {}", self.counts.len());
        }
        let spans = self.spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
        Ok((spans, self.counts.into_iter().map(|b| b.0).collect()))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

impl Hint {
    fn is_unknown(&self) -> bool {
        *self == Hint::Unknown
    }
}

impl HistogramLine {
    fn new(h: &FloatHistogram) -> Self {
        HistogramLine {
            count: BitsOrZero(Bits(h.count)),
            sum: BitsOrZero(Bits(h.sum)),
            schema: h.schema,
            zero_threshold: BitsOrZero(Bits(h.zero_threshold)),
            zero_count: BitsOrZero(Bits(h.zero_count)),
            positive: Side::new(&h.positive_spans, &h.positive_buckets),
            negative: Side::new(&h.negative_spans, &h.negative_buckets),
            bounds: h.custom_values.iter().map(|v| Bits(*v)).collect(),
            counter_reset: match h.counter_reset_hint {
                CounterResetHint::Unknown => Hint::Unknown,
                CounterResetHint::Reset => Hint::Reset,
                CounterResetHint::NotReset => Hint::NotReset,
                CounterResetHint::Gauge => Hint::Gauge,
            },
        }
    }

    fn read(self) -> anyhow::Result<FloatHistogram> {
        let (positive_spans, positive_buckets) = self.positive.read()?;
        let (negative_spans, negative_buckets) = self.negative.read()?;
        if self.bounds.len() > BUCKETS_MAX || !(-53..=8).contains(&self.schema) {
            bail!("a histogram has the schema {} and {} bounds", self.schema, self.bounds.len());
        }
        Ok(FloatHistogram {
            counter_reset_hint: match self.counter_reset {
                Hint::Unknown => CounterResetHint::Unknown,
                Hint::Reset => CounterResetHint::Reset,
                Hint::NotReset => CounterResetHint::NotReset,
                Hint::Gauge => CounterResetHint::Gauge,
            },
            schema: self.schema,
            zero_threshold: self.zero_threshold.0.0,
            zero_count: self.zero_count.0.0,
            count: self.count.0.0,
            sum: self.sum.0.0,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.bounds.into_iter().map(|b| b.0).collect(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExemplarLine {
    labels: BTreeMap<String, String>,
    value: Bits,
    ts: Timestamp,
}

/// What a dump has, so that one that was cut off is told from a whole one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Floats and histograms.
    pub samples: u64,
    pub exemplars: u64,
}

/// Any line. What is none of its keys is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    streamgate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    metric_type: Option<MetricType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    samples: Vec<At<Bits>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    histograms: Vec<At<HistogramLine>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exemplars: Vec<ExemplarLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Count>,
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// Writes a dump.
#[derive(Debug)]
pub(super) struct LinesWriter<W> {
    out: W,
    count: Count,
}

impl<W: Write> LinesWriter<W> {
    pub fn begin(out: W) -> anyhow::Result<Self> {
        let mut writer = LinesWriter { out, count: Count::default() };
        let first =
            Line { streamgate: Some("samples".to_owned()), version: Some(VERSION), ..Line::default() };
        writer.line(&first)?;
        Ok(writer)
    }

    pub fn family(&mut self, family: &str, metadata: &Metadata) -> anyhow::Result<()> {
        self.line(&Line {
            family: Some(family.to_owned()),
            metric_type: Some(metadata.metric_type),
            help: Some(metadata.help.clone()),
            unit: Some(metadata.unit.clone()),
            ..Line::default()
        })
    }

    pub fn series(&mut self, labels: &Labels, samples: &Samples) -> anyhow::Result<()> {
        self.count.samples += samples.len() as u64;
        let labels = map(labels);
        let start = |starts: &[Timestamp], i: usize| starts.get(i).copied().unwrap_or(0);
        let floats = samples.ts.iter().zip(&samples.vs).enumerate();
        let floats: Vec<At<Bits>> = floats
            .map(|(i, (ts, v))| At { ts: *ts, value: Bits(*v), start: start(&samples.starts, i) })
            .collect();
        for some in floats.chunks(SAMPLES_PER_LINE) {
            let line = Line { labels: Some(labels.clone()), samples: some.to_vec(), ..Line::default() };
            self.line(&line)?;
        }
        let (mut line, mut buckets) = (Vec::new(), 0);
        for (i, (ts, h)) in samples.hist_ts.iter().zip(&samples.hists).enumerate() {
            buckets += h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
            line.push(At { ts: *ts, value: HistogramLine::new(h), start: start(&samples.hist_starts, i) });
            let full = line.len() >= SAMPLES_PER_LINE || buckets >= BUCKETS_PER_LINE;
            if full || i + 1 == samples.hists.len() {
                let histograms = std::mem::take(&mut line);
                buckets = 0;
                self.line(&Line { labels: Some(labels.clone()), histograms, ..Line::default() })?;
            }
        }
        Ok(())
    }

    pub fn exemplars(&mut self, labels: &Labels, exemplars: &[Exemplar]) -> anyhow::Result<()> {
        self.count.exemplars += exemplars.len() as u64;
        let labels = map(labels);
        for some in exemplars.chunks(SAMPLES_PER_LINE) {
            let line = |e: &Exemplar| ExemplarLine { labels: map(&e.labels), value: Bits(e.value), ts: e.ts };
            let exemplars = some.iter().map(line).collect();
            self.line(&Line { labels: Some(labels.clone()), exemplars, ..Line::default() })?;
        }
        Ok(())
    }

    pub fn end(mut self) -> anyhow::Result<W> {
        self.line(&Line { end: Some(self.count), ..Line::default() })?;
        Ok(self.out)
    }

    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.out, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .context("standard output")
    }
}

/// Takes everything of a dump. `progress` hears how many bytes were read.
///
/// # Errors
/// At the first line that is none of a dump, with its number, and where the end is missing.
pub(super) fn read(
    mut input: impl BufRead,
    into: &mut Importer,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Count> {
    let (mut count, mut number, mut bytes) = (Count::default(), 0usize, 0u64);
    let mut buffer = Vec::new();
    let mut end = None;
    loop {
        buffer.clear();
        let mut line = std::io::Read::take(&mut input, LINE_BYTES_MAX + 1);
        let n = line.read_until(b'\n', &mut buffer).context("it cannot be read")?;
        if n == 0 {
            break;
        }
        number += 1;
        bytes += n as u64;
        progress(bytes);
        let placed = |e: anyhow::Error| e.context(format!("line {number}"));
        if n as u64 > LINE_BYTES_MAX {
            return Err(placed(anyhow!("it is longer than {LINE_BYTES_MAX} bytes")));
        }
        if end.is_some() {
            return Err(placed(anyhow!("there is more after the end")));
        }
        let line: Line =
            serde_json::from_slice(&buffer).map_err(|e| placed(anyhow!("it is no line of a dump: {e}")))?;
        if number == 1 {
            match (&line.streamgate, line.version) {
                (Some(what), Some(VERSION)) if what == "samples" => continue,
                (Some(what), Some(version)) if what == "samples" => {
                    return Err(placed(anyhow!(
                        "a dump of version {version} cannot be read here, only of version {VERSION}"
                    )));
                }
                _ => return Err(placed(anyhow!("it is not the first line of a dump of samples"))),
            }
        }
        end = line.end;
        take(line, into, &mut count).map_err(placed)?;
    }
    match end {
        Some(stated) if stated == count => Ok(count),
        Some(stated) => bail!(
            "line {number}: there were {} samples and {} exemplars, not {} and {} as it says",
            count.samples,
            count.exemplars,
            stated.samples,
            stated.exemplars
        ),
        None => bail!("line {}: the end is missing, so it may have been cut off", number + 1),
    }
}

fn take(line: Line, into: &mut Importer, count: &mut Count) -> anyhow::Result<()> {
    if let Some(family) = line.family {
        let metadata = Metadata {
            metric_type: line.metric_type.unwrap_or_default(),
            help: line.help.unwrap_or_default(),
            unit: line.unit.unwrap_or_default(),
        };
        into.describe(&family, metadata);
    }
    let Some(labels) = line.labels else {
        return if line.samples.is_empty() && line.histograms.is_empty() && line.exemplars.is_empty() {
            Ok(())
        } else {
            Err(anyhow!("samples without labels"))
        };
    };
    let labels = Labels::from_pairs(labels);
    let mut push = |ts, start, value: ValueRef<'_>| {
        count.samples += 1;
        into.push(&labels, SampleRef { ts, start, value }).context("the samples cannot be stored")
    };
    for At { ts, value, start } in line.samples {
        push(ts, start, ValueRef::Float(value.0))?;
    }
    for At { ts, value, start } in line.histograms {
        push(ts, start, ValueRef::Histogram(&Arc::new(value.read()?)))?;
    }
    for e in line.exemplars {
        count.exemplars += 1;
        into.push_exemplar(
            &labels,
            Exemplar { labels: Labels::from_pairs(e.labels), value: e.value.0, ts: e.ts },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{ImportOptions, Storage, StorageOptions};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_float_is_read_as_it_was_written(bits in any::<u64>()) {
            for v in [f64::from_bits(bits), f64::from_bits(bits | 0x7ff0_0000_0000_0000), -0.0, f64::NAN] {
                let text = serde_json::to_string(&At { ts: -5, value: Bits(v), start: 7 }).unwrap();
                let back: At<Bits> = serde_json::from_str(&text).unwrap();
                prop_assert_eq!((back.ts, back.value.0.to_bits(), back.start), (-5, v.to_bits(), 7), "{}", text);
            }
        }

        #[test]
        fn garbage_is_no_panic(text in ".{0,200}", key in "[a-z]{1,10}") {
            for text in [text.clone(), format!("{{\"{key}\":{text}}}")] {
                let _either = serde_json::from_str::<Line>(&text);
            }
        }
    }

    fn refused(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let storage =
            Storage::open(StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() })
                .unwrap();
        let options = ImportOptions {
            latest: Timestamp::MAX,
            kept_from: Timestamp::MIN,
            block_ms: 3_600_000,
            buffer_samples: 500,
        };
        let mut importer = storage.importer(options).unwrap();
        format!("{:#}", read(text.as_bytes(), &mut importer, |_| ()).unwrap_err())
    }

    #[test]
    fn errors_name_the_line() {
        let first = "{\"streamgate\":\"samples\",\"version\":1}\n";
        for (text, expected) in [
            ("{\"streamgate\":\"samples\",\"version\":2}\n", "line 1: a dump of version 2 cannot be read"),
            ("", "line 2: it is no line of a dump"),
            ("{\"labels\":{}}\n", "line 3: the end is missing"),
            ("{\"samples\":[[1,2]]}\n", "line 2: samples without labels"),
            ("{\"labels\":{},\"samples\":[[1]]}\n", "line 2: it is no line of a dump: invalid length 1"),
            (
                "{\"labels\":{},\"samples\":[[1,\"NaN:1\"]]}\n",
                "line 2: it is no line of a dump: invalid value",
            ),
            ("{\"other\":1}\n", "line 2: it is no line of a dump: unknown field `other`"),
            (
                "{\"labels\":{},\"histograms\":[[1,{\"count\":1,\"sum\":1,\"schema\":0,\"positive\":{\"spans\":[[0,2]],\"counts\":[1]}}]]}\n",
                "line 2: the spans of a histogram state 2 buckets, there are 1",
            ),
            (
                "{\"labels\":{},\"samples\":[[1,2]]}\n{\"end\":{\"samples\":2,\"exemplars\":0}}\n",
                "line 3: there were 1 samples and 0 exemplars, not 2 and 0",
            ),
            ("{\"end\":{\"samples\":0,\"exemplars\":0}}\n{}\n", "line 3: there is more after the end"),
        ] {
            let whole = match text {
                "" => format!("{first}\n"),
                text if text.starts_with("{\"streamgate") => text.to_owned(),
                text => format!("{first}{text}"),
            };
            let got = refused(&whole);
            assert!(got.starts_with(expected), "{got}\n{expected}");
        }
    }
}
