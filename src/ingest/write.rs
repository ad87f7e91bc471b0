//! Remote write 1.0 and 2.0: a compressed request becomes samples.
//!
//! The request is walked over once without a lock: each series is known by the hash of its encoded labels. Then all
//! are looked up under one lock; only labels that are new are decoded, checked and looked up in the storage. The
//! benchmark is `remote_write_append`. Labels of 2.0 are written as those of 1.0 first (`v2`): what follows is the same.

mod v2;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::budget::{BudgetFull, Charge};
use super::families::{FAMILY_BYTES, FamilyNote};
use super::handle::{Ingest, Inner};
use super::hash::WideHash;
use super::labels::{LabelBounds, LabelError, check_named, check_sorted};
use super::series_cache::Expected;
use super::{IngestError, IngestMetrics};
use crate::exposition::remote_write::{
    Encoding, Item, LabelPairs, TimeSeries, Value, WireError, WriteRequest, decompress,
};
use crate::model::{FloatHistogram, Labels, Span, Timestamp};
use crate::storage::{
    AppendError, Appender, CommitStats, Exemplar, ExemplarError, SampleValue, SeriesRef, StorageError,
};

/// What a request brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteWriteStats {
    /// Floats that were taken.
    pub samples: u64,
    /// Native histograms that were taken.
    pub histograms: u64,
    /// Exemplars that were taken; none where they are not kept.
    pub exemplars: u64,
    pub series: u64,
}

/// Which message a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteWriteVersion {
    /// `prometheus.WriteRequest`.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

const SOURCE: &str = "remote_write";

/// How many buffers are kept for later requests, and up to which size each.
const SCRATCH_KEPT: usize = 8;
const SCRATCH_BYTES_MAX: usize = 4 << 20;

/// Buffers of one request, used again by a later one.
#[derive(Debug, Default)]
pub(super) struct WriteScratch {
    message: Vec<u8>,
    parts: Parts,
}

/// A request, taken apart.
#[derive(Debug, Default)]
struct Parts {
    series: Vec<Part>,
    floats: Vec<(Timestamp, f64)>,
    /// The start times of the floats, in ms, 0 where there is none; empty if none is wanted.
    starts: Vec<Timestamp>,
    /// With the series that they belong to, ascending.
    histograms: Vec<PartHistogram>,
    /// The same.
    exemplars: Vec<(u32, Exemplar)>,
    /// Bytes of the histograms and exemplars, and of what is said of families, about.
    held: usize,
    families: BTreeMap<String, FamilyNote>,
    /// Series without a label, which are no series.
    unnamed: u64,
    v2: v2::Scratch,
}

#[derive(Debug)]
struct PartHistogram {
    of: u32,
    ts: Timestamp,
    /// 0: none.
    start: Timestamp,
    value: Arc<FloatHistogram>,
}

/// One series of a request.
#[derive(Clone, Copy, Debug)]
struct Part {
    hash: WideHash,
    /// Where the encoded labels stand: in the message, or in what `v2` wrote.
    labels_at: u32,
    labels_len: u32,
    /// Where its floats end; they begin where those of the series before end.
    floats_end: u32,
    series: Option<SeriesRef>,
}

impl Ingest {
    /// Stores a remote write request. `body` is compressed as `encoding` says. Samples of one request are one batch.
    ///
    /// # Errors
    /// [`IngestError::Partial`] when some series or samples were refused and the rest was taken; any other error
    /// means that nothing was.
    pub fn remote_write(
        &self,
        body: &[u8],
        encoding: Encoding,
        version: RemoteWriteVersion,
    ) -> Result<RemoteWriteStats, IngestError> {
        let inner = &*self.inner;
        let pooled = inner.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = pooled.unwrap_or_default();
        let result = inner.remote_write(body, encoding, version, &mut scratch);
        match &result {
            Ok(stats) | Err(IngestError::Partial { stats, .. }) => {
                inner.metrics.taken(SOURCE, stats.samples + stats.histograms);
            }
            Err(_) => inner.metrics.batch_failed(SOURCE),
        }
        if scratch.bytes() <= SCRATCH_BYTES_MAX {
            let mut pool = inner.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            if pool.len() < SCRATCH_KEPT {
                pool.push(scratch);
            }
        }
        result
    }
}

impl WriteScratch {
    fn bytes(&self) -> usize {
        self.message.capacity() + self.parts.bytes()
    }
}

impl Inner {
    fn remote_write(
        &self,
        body: &[u8],
        encoding: Encoding,
        version: RemoteWriteVersion,
        scratch: &mut WriteScratch,
    ) -> Result<RemoteWriteStats, IngestError> {
        let WriteScratch { message, parts } = scratch;
        // Positions within a message are 32 bits wide.
        let limit = self.limits.write_bytes_max.min(u32::MAX as usize);
        let mut charge = self.budget.charge();
        decompress(encoding, body, limit, message)?;
        charge.grow_to(message.len())?;
        parts.clear();
        match version {
            RemoteWriteVersion::V1 => parts.take_apart(message, self, &mut charge)?,
            RemoteWriteVersion::V2 => parts.take_apart_v2(message, self, &mut charge)?,
        }
        if !parts.exemplars.is_empty() && !self.storage.keeps_exemplars() {
            parts.exemplars.clear();
        }
        self.look_up(parts);
        let mut append = Append {
            ingest: self,
            app: self.storage.appender(),
            labels: match version {
                RemoteWriteVersion::V1 => message,
                RemoteWriteVersion::V2 => parts.v2.labels(),
            },
            version,
            bounds: LabelBounds::from(&self.limits),
            resolved: Vec::new(),
            refusals: Refusals { metrics: &self.metrics, count: 0, first: None },
            stats: RemoteWriteStats::default(),
            unknown: 0,
        };
        append.unnamed(parts.unnamed);
        append.resolve_unknown(&mut parts.series);
        append.all(parts);
        let Append { app, resolved, mut refusals, mut stats, unknown, .. } = append;
        let committed = app.commit()?;
        self.metrics.committed(&committed);
        if committed.unknown_series > unknown {
            // A series left the ring between its lookup and the commit. Sent again, it is found again; what was
            // taken is there already then, and ignored.
            return Err(StorageError::Write("a series left the ring meanwhile".to_owned()).into());
        }
        // Most refusals show only now. Series that had left the ring before were asked for again.
        let refused = committed.refused() - committed.unknown_series;
        if refused > 0 {
            let taken = committed.samples - committed.zeros + committed.repeated;
            stats.samples = taken.saturating_sub(stats.histograms);
            refusals.commit(&committed, refused);
        }
        if !resolved.is_empty() {
            let mut cache = self.series_cache.lock().unwrap_or_else(PoisonError::into_inner);
            for (hash, series) in resolved {
                cache.insert(hash, series);
            }
        }
        if !parts.families.is_empty() {
            self.families.note(&self.storage, &self.limits, std::mem::take(&mut parts.families));
        }
        match refusals.first {
            None => Ok(stats),
            Some(reason) => Err(IngestError::Partial { rejected: refusals.count, reason, stats }),
        }
    }

    fn look_up(&self, parts: &mut Parts) {
        let mut misses = 0;
        {
            let mut cache = self.series_cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.begin_request();
            let mut expected = Expected::default();
            for part in &mut parts.series {
                part.series = cache.get(part.hash, &mut expected);
                misses += u64::from(part.series.is_none());
            }
        }
        self.metrics.series_cache_misses.inc_by(misses);
        self.metrics.series_cache_hits.inc_by(parts.series.len() as u64 - misses);
    }
}

impl Parts {
    fn clear(&mut self) {
        self.series.clear();
        self.floats.clear();
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.families.clear();
        (self.held, self.unnamed) = (0, 0);
    }

    /// What its lists have room for.
    fn bytes(&self) -> usize {
        self.series.capacity() * size_of::<Part>()
            + self.floats.capacity() * size_of::<(Timestamp, f64)>()
            + self.starts.capacity() * size_of::<Timestamp>()
            + self.v2.bytes()
    }

    /// What it takes while it grows, at most: a full list is copied to one of twice the size.
    #[inline]
    fn growing_bytes(&self) -> usize {
        let lists = self.series.len() * size_of::<Part>()
            + self.floats.len() * size_of::<(Timestamp, f64)>()
            + self.starts.len() * size_of::<Timestamp>()
            + self.histograms.len() * size_of::<PartHistogram>()
            + self.exemplars.len() * size_of::<(u32, Exemplar)>();
        3 * lists + self.held
    }

    fn take_apart(&mut self, message: &[u8], ingest: &Inner, charge: &mut Charge) -> Result<(), IngestError> {
        let mut request = WriteRequest::new(message);
        while let Some(item) = request.next()? {
            match item {
                Item::Series(series) => self.add_series(&series, message, ingest)?,
                Item::Metadata(m) => {
                    self.note_family(m.family, m.to_metadata().into());
                }
            }
            self.charge(message, charge)?;
        }
        Ok(())
    }

    /// What is known of the request so far is in memory.
    #[inline]
    fn charge(&self, message: &[u8], charge: &mut Charge) -> Result<(), BudgetFull> {
        charge.grow_to(message.len() + self.growing_bytes())
    }

    fn note_family(&mut self, family: &str, note: FamilyNote) {
        let texts = [&note.help, &note.unit].map(|t| t.as_ref().map_or(0, String::len));
        self.held += FAMILY_BYTES + family.len() + texts.iter().sum::<usize>();
        self.families.insert(family.to_owned(), note);
    }

    fn add_histogram(&mut self, ts: Timestamp, start: Timestamp, h: FloatHistogram) {
        let values = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
        let spans = h.positive_spans.len() + h.negative_spans.len();
        self.held += size_of::<FloatHistogram>() + values * size_of::<f64>() + spans * size_of::<Span>();
        let of = self.series.len() as u32;
        self.histograms.push(PartHistogram { of, ts, start, value: Arc::new(h) });
    }

    fn add_exemplar(&mut self, exemplar: Exemplar) {
        self.held += exemplar.labels.iter().map(|(n, v)| n.len() + v.len() + 8).sum::<usize>();
        self.exemplars.push((self.series.len() as u32, exemplar));
    }

    #[inline]
    fn add_series(
        &mut self,
        series: &TimeSeries<'_>,
        message: &[u8],
        ingest: &Inner,
    ) -> Result<(), WireError> {
        if series.labels.is_empty() {
            self.unnamed += 1;
            return Ok(());
        }
        let mut values = series.values();
        while let Some(value) = values.next()? {
            match value {
                Value::Float { ts, value } => self.floats.push((ts, value)),
                Value::Exemplar(_) => {
                    if let Some((labels, value, ts)) = value.exemplar()? {
                        self.add_exemplar(Exemplar { labels: Labels::from_pairs(labels), value, ts });
                    }
                }
                Value::Histogram(_) => {
                    if let Some((ts, h)) = value.histogram()? {
                        self.add_histogram(ts, 0, h);
                    }
                }
            }
        }
        // The slice lies within the message, so the distance of their beginnings is its place.
        let labels_at = (series.labels.as_ptr() as usize).wrapping_sub(message.as_ptr() as usize) as u32;
        self.series.push(Part {
            hash: ingest.hasher.hash(series.labels),
            labels_at,
            labels_len: series.labels.len() as u32,
            floats_end: self.floats.len() as u32,
            series: None,
        });
        Ok(())
    }
}

/// What was refused while the rest is taken.
struct Refusals<'a> {
    metrics: &'a IngestMetrics,
    count: u64,
    first: Option<String>,
}

impl Refusals<'_> {
    /// A sample or series that is refused at once.
    fn append(&mut self, error: AppendError, labels: &[u8], part: &Part) {
        self.metrics.reject_series(error);
        if self.first.is_none() {
            let hint = error.hint().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            self.first = Some(format!("{error} for {}{hint}", shown(labels_of(labels, part))));
        }
        // The others are in the commit's statistics too and are counted there.
        self.count += u64::from(matches!(error, AppendError::UnknownSeries | AppendError::TooManySeries(_)));
    }

    /// What the commit refused.
    fn commit(&mut self, stats: &CommitStats, refused: u64) {
        self.count += refused;
        if self.first.is_none() {
            let why = [
                (stats.out_of_order, AppendError::OutOfOrder),
                (stats.duplicates, AppendError::DuplicateTimestamp),
                (stats.too_old, AppendError::TooOld),
                (stats.too_far_ahead, AppendError::TooFarAhead),
            ];
            self.first = why.iter().find(|(count, _)| *count > 0).map(|(_, e)| e.to_string());
        }
    }

    fn label(&mut self, error: &LabelError) {
        self.metrics.reject("invalid_labels");
        self.add(|| error.to_string());
    }

    fn add(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(reason());
        }
    }
}

/// A request on its way into the appender.
struct Append<'a> {
    ingest: &'a Inner,
    app: Appender,
    /// What the places of labels count in.
    labels: &'a [u8],
    version: RemoteWriteVersion,
    bounds: LabelBounds,
    /// For the cache, once the batch is committed.
    resolved: Vec<(WideHash, SeriesRef)>,
    refusals: Refusals<'a>,
    stats: RemoteWriteStats,
    /// How often a series was not known any more.
    unknown: u64,
}

/// So many new series are made at once: readers wait for that long.
const RESOLVE_AT_ONCE: usize = 256;
/// Room for their labels that is made before they are read.
const RESOLVE_BYTES_EXPECTED_MAX: usize = 256 << 10;

impl<'a> Append<'a> {
    /// Refuses series without labels.
    fn unnamed(&mut self, count: u64) {
        for _ in 0..count {
            self.ingest.metrics.reject("invalid_labels");
        }
        if count > 0 {
            self.refusals.add(|| LabelError::NoMetricName.to_string());
            self.refusals.count += count - 1;
        }
    }

    /// Finds the series that the cache does not know by their labels, or makes them. Those that are refused stay
    /// unknown.
    fn resolve_unknown(&mut self, parts: &mut [Part]) {
        let mut unknown = parts.iter_mut().filter(|p| p.series.is_none()).peekable();
        let (mut pairs, mut some, mut series) = (Vec::new(), Vec::new(), Vec::new());
        while unknown.peek().is_some() {
            let bytes = unknown.peek().map_or(0, |p| p.labels_len as usize);
            // The others may be longer than the first.
            let bytes = (bytes + bytes / 8).saturating_mul(RESOLVE_AT_ONCE).min(RESOLVE_BYTES_EXPECTED_MAX);
            let mut sets = self.app.label_sets();
            sets.reserve(RESOLVE_AT_ONCE, bytes);
            while sets.len() < RESOLVE_AT_ONCE
                && let Some(part) = unknown.next()
            {
                if self.read_labels(part, &mut pairs) {
                    sets.push_sorted(pairs.iter().copied());
                    some.push(part);
                }
            }
            self.app.series_all(sets, &mut series);
            for (part, series) in some.drain(..).zip(&series) {
                self.resolved(part, *series);
            }
        }
    }

    /// The labels of a series, sorted; whether they can be a series.
    fn read_labels(&mut self, part: &Part, pairs: &mut Vec<(&'a str, &'a str)>) -> bool {
        pairs.clear();
        if let Err(e) = LabelPairs::new(labels_of(self.labels, part)).read_into(pairs) {
            self.ingest.metrics.reject("invalid_labels");
            self.refusals.add(|| e.to_string());
            return false;
        }
        if !pairs.is_sorted_by(|a, b| a.0 <= b.0) {
            pairs.sort_by(|a, b| a.0.cmp(b.0));
        }
        let checked = check_sorted(pairs, self.bounds).and_then(|()| check_named(pairs));
        if let Err(e) = &checked {
            self.refusals.label(e);
        }
        checked.is_ok()
    }

    fn resolved(&mut self, part: &mut Part, series: Result<SeriesRef, AppendError>) {
        match series {
            Ok(series) => {
                part.series = Some(series);
                self.resolved.push((part.hash, series));
            }
            Err(e) => self.refusals.append(e, self.labels, part),
        }
    }

    fn all(&mut self, parts: &Parts) {
        let mut begin = 0;
        let mut histograms = parts.histograms.as_slice();
        let mut exemplars = parts.exemplars.as_slice();
        for (i, part) in parts.series.iter().enumerate() {
            let end = part.floats_end as usize;
            let floats = &parts.floats[begin..end];
            let starts = parts.starts.get(begin..end).unwrap_or(&[]);
            begin = end;
            let own = histograms.iter().take_while(|h| h.of as usize == i).count();
            let (own, rest) = histograms.split_at(own);
            histograms = rest;
            let exemplars_here = exemplars.iter().take_while(|(of, _)| *of as usize == i).count();
            let (own_exemplars, rest) = exemplars.split_at(exemplars_here);
            exemplars = rest;
            let Some(mut series) = part.series else { continue };
            self.stats.series += 1;
            let features = self.ingest.features;
            if features.zero_ingestion {
                // Of all that a series brings: who has the first has the others too.
                let start = |ts: Timestamp, start: Timestamp| (start != 0 && start < ts).then_some(start);
                if let (Some((ts, _)), Some(stated)) = (floats.first(), starts.first())
                    && let Some(start) = start(*ts, *stated)
                {
                    self.app.append_zero(series, start, None);
                } else if let Some(h) = own.first()
                    && let Some(start) = start(h.ts, h.start)
                {
                    self.app.append_zero(series, start, Some(&h.value));
                }
            }
            // One without a start time would else come before those with one.
            let floats_started = features.st_storage && starts.iter().any(|s| *s != 0);
            let own_started = features.st_storage && own.iter().any(|h| h.start != 0);
            for (at, (ts, value)) in floats.iter().enumerate() {
                let append = |app: &mut Appender, series| {
                    if floats_started {
                        app.append_among_started(series, *ts, starts[at], SampleValue::Float(*value))
                    } else {
                        app.append(series, *ts, *value)
                    }
                };
                let mut result = append(&mut self.app, series);
                self.unknown += u64::from(result == Err(AppendError::UnknownSeries));
                if result == Err(AppendError::UnknownSeries)
                    && part.series == Some(series)
                    && let Some(again) = self.resolve_again(part)
                {
                    series = again;
                    result = append(&mut self.app, series);
                }
                match result {
                    Ok(()) => self.stats.samples += 1,
                    Err(e) => self.refusals.append(e, self.labels, part),
                }
            }
            for h in own {
                let append = |app: &mut Appender, series| {
                    let value = Arc::clone(&h.value);
                    if own_started {
                        app.append_among_started(series, h.ts, h.start, SampleValue::Histogram(value))
                    } else {
                        app.append_histogram(series, h.ts, value)
                    }
                };
                let mut result = append(&mut self.app, series);
                self.unknown += u64::from(result == Err(AppendError::UnknownSeries));
                if result == Err(AppendError::UnknownSeries)
                    && part.series == Some(series)
                    && let Some(again) = self.resolve_again(part)
                {
                    series = again;
                    result = append(&mut self.app, series);
                }
                match result {
                    Ok(()) => self.stats.histograms += 1,
                    Err(e) => self.refusals.append(e, self.labels, part),
                }
            }
            for (_, exemplar) in own_exemplars {
                // What is refused is counted by the storage. As in Prometheus a request of 1.0 is fine all the same, and
                // one of 2.0 is told of exemplars that come too late.
                match self.app.append_exemplar(series, exemplar.clone()) {
                    Ok(()) => self.stats.exemplars += 1,
                    Err(e @ (ExemplarError::OutOfOrder | ExemplarError::TooFarAhead))
                        if self.version == RemoteWriteVersion::V2 =>
                    {
                        let labels = self.labels;
                        self.refusals.add(|| format!("{e} for {}", shown(labels_of(labels, part))));
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// The series by its labels, though the cache knows one: that has left the ring. `None` if it is refused.
    #[cold]
    fn resolve_again(&mut self, part: &Part) -> Option<SeriesRef> {
        let mut again = [Part { series: None, ..*part }];
        self.resolve_unknown(&mut again);
        again[0].series
    }
}

fn labels_of<'a>(labels: &'a [u8], part: &Part) -> &'a [u8] {
    let at = part.labels_at as usize;
    &labels[at..at + part.labels_len as usize]
}

/// Labels for a message, cut where they are long.
fn shown(encoded: &[u8]) -> String {
    let pairs: Vec<(&str, &str)> = LabelPairs::new(encoded).filter_map(Result::ok).take(32).collect();
    let text = Labels::from_pairs(pairs).to_string();
    text.chars().take(300).collect()
}
