//! A request of remote write 2.0, taken apart into what one of 1.0 is taken apart into.

use std::collections::HashSet;

use super::{Part, Parts};
use crate::exposition::remote_write::WireError;
use crate::exposition::remote_write::v2::{Request, Series, SeriesItem, Symbols, exemplar, push_label};
use crate::ingest::IngestError;
use crate::ingest::budget::Charge;
use crate::ingest::families::FamilyNote;
use crate::ingest::features::TypeAndUnit;
use crate::ingest::handle::Inner;
use crate::model::{Labels, METRIC_NAME, Metadata, MetricType};
use crate::storage::Exemplar;

/// Buffers of one request.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    symbols: Symbols,
    refs: Vec<u32>,
    /// The labels of all series, encoded as remote write 1.0 encodes them: what a series is known by does not depend
    /// on where a request keeps its strings.
    labels: Vec<u8>,
}

impl Scratch {
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    pub fn bytes(&self) -> usize {
        self.symbols.capacity_bytes() + self.refs.capacity() * size_of::<u32>() + self.labels.capacity()
    }
}

/// A metric's name and what is said of it, by their references: each is noted once.
type Described<'a> = HashSet<(&'a [u8], &'a [u8], bool)>;

impl Parts {
    pub(super) fn take_apart_v2(
        &mut self,
        message: &[u8],
        ingest: &Inner,
        charge: &mut Charge,
    ) -> Result<(), IngestError> {
        let mut scratch = std::mem::take(&mut self.v2);
        scratch.labels.clear();
        let taken = self.take_all(message, ingest, &mut scratch, charge);
        self.v2 = scratch;
        taken
    }

    fn take_all(
        &mut self,
        message: &[u8],
        ingest: &Inner,
        scratch: &mut Scratch,
        charge: &mut Charge,
    ) -> Result<(), IngestError> {
        scratch.symbols.read(message)?;
        charge.grow_to(message.len() + scratch.bytes())?;
        let mut described = Described::default();
        let mut request = Request::new(message);
        while let Some(series) = request.next(&mut scratch.refs)? {
            self.take_series(series, message, ingest, scratch, &mut described)?;
            charge.grow_to(message.len() + scratch.bytes() + self.growing_bytes())?;
        }
        Ok(())
    }

    fn take_series<'a>(
        &mut self,
        mut series: Series<'a>,
        message: &'a [u8],
        ingest: &Inner,
        scratch: &mut Scratch,
        described: &mut Described<'a>,
    ) -> Result<(), WireError> {
        if scratch.refs.is_empty() {
            self.unnamed += 1;
            return Ok(());
        }
        let wants_starts = ingest.features.start_times();
        let histograms_before = self.histograms.len();
        while let Some(item) = series.next_item()? {
            match item {
                SeriesItem::Float { ts, start, value } => {
                    self.floats.push((ts, value));
                    if wants_starts {
                        self.starts.push(if start <= ts { start } else { 0 });
                    }
                }
                SeriesItem::Histogram(bytes) => {
                    let (ts, start, value) = series.histogram(bytes)?;
                    let start = if wants_starts && start <= ts { start } else { 0 };
                    self.add_histogram(ts, start, value);
                }
                SeriesItem::Exemplar(bytes) => {
                    let (refs, value, ts) = exemplar(bytes)?;
                    let text = |r: &u32| scratch.symbols.text(message, *r);
                    let pairs: Result<Vec<(&str, &str)>, WireError> =
                        refs.chunks_exact(2).map(|pair| Ok((text(&pair[0])?, text(&pair[1])?))).collect();
                    self.add_exemplar(Exemplar { labels: Labels::from_pairs(pairs?), value, ts });
                }
            }
        }
        let labels_at = scratch.labels.len();
        let metadata = series.metadata()?;
        let mut added = TypeAndUnit::default();
        if ingest.features.type_and_unit_labels {
            let unit = scratch.symbols.text(message, metadata.unit_ref).unwrap_or("");
            added = TypeAndUnit { metric_type: metadata.metric_type, unit };
        }
        let mut metric: &[u8] = b"";
        let limit = ingest.limits.write_bytes_max;
        for pair in scratch.refs.chunks_exact(2) {
            let name = scratch.symbols.get(message, pair[0])?;
            let value = scratch.symbols.get(message, pair[1])?;
            if name == METRIC_NAME.as_bytes() {
                metric = value;
            }
            if std::str::from_utf8(name).is_ok_and(|name| added.overrides(name)) {
                continue;
            }
            // A few references can stand for much text: what they stand for counts.
            if scratch.labels.len() + name.len() + value.len() > limit {
                return Err(WireError::LabelBytes { limit });
            }
            push_label(&mut scratch.labels, name, value);
        }
        for (name, value) in added.pairs() {
            push_label(&mut scratch.labels, name.as_bytes(), value.as_bytes());
        }
        let is_native = self.histograms.len() > histograms_before;
        if !series.metadata.is_empty() && described.insert((metric, series.metadata, is_native)) {
            let text = |r: u32| scratch.symbols.text(message, r).unwrap_or("").to_owned();
            let (help, unit) = (text(metadata.help_ref), text(metadata.unit_ref));
            let known = Metadata { metric_type: metadata.metric_type, help, unit };
            if let Ok(metric) = std::str::from_utf8(metric)
                && known != Metadata::default()
            {
                let family = family_of(metric, known.metric_type, is_native);
                self.note_family(family, FamilyNote::from(known));
            }
        }
        let labels = &scratch.labels[labels_at..];
        self.series.push(Part {
            hash: ingest.hasher.hash(labels),
            labels_at: labels_at as u32,
            labels_len: labels.len() as u32,
            floats_end: self.floats.len() as u32,
            series: None,
        });
        Ok(())
    }
}

/// The family of a series of this type: a request says only what series are named.
fn family_of(metric: &str, metric_type: MetricType, is_native: bool) -> &str {
    let suffixes: &[&str] = match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram if !is_native => {
            &["_bucket", "_count", "_sum", "_gcount", "_gsum"]
        }
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|s| metric.strip_suffix(s)).unwrap_or(metric)
}
