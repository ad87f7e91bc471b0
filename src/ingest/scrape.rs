//! A scraped body becomes samples.
//!
//! The body is followed along the lines of the target's last scrape ([`ScrapeCache`]): a line that stands where it
//! stood, byte for byte but for its value, costs a hash, a number and a buffered append. Any other line is parsed,
//! relabelled and looked up by its labels, as is any sample of protobuf (`protobuf`), and any line where a feature needs
//! to know the family that it belongs to (`context`): start times (`created`), type and unit as labels, and classic
//! histograms that become native ones (`classic`).
//!
//! Source: Prometheus `scrape/scrape.go` (which samples are kept, counted and marked stale).

mod classic;
mod context;
mod created;
mod protobuf;
mod target_labels;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use self::classic::Classic;
use self::context::Context;
use self::created::Created;
use self::target_labels::add_target_labels;
use super::ScrapeError;
use super::families::FamilyNote;
use super::handle::{Ingest, Inner};
use super::hash::WideHash;
use super::labels::{LabelBounds, LabelError, check_named, check_sorted, sort_pairs};
use super::scrape_cache::{Follower, Line, LineKind, NumberLabel, ResolvedWith, ScrapeCache};
use crate::exposition::{BodyFormat, Entry, Parser, Sample, format_openmetrics_float, parse_float};
use crate::model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, MetricType, Timestamp, stale_marker};
use crate::relabel::Rules;
use crate::storage::{AppendError, Appender, Exemplar, SampleValue, SeriesRef, StorageError};

/// How a target's samples are taken.
#[derive(Clone, Debug)]
pub struct ScrapeOptions {
    /// Added to every series, `job` and `instance` among them.
    pub target_labels: Labels,
    /// Whether a label of the body wins over the target's; otherwise it is renamed `exported_…`.
    pub honor_labels: bool,
    /// Whether timestamps in the body are taken.
    pub honor_timestamps: bool,
    /// Whether series with timestamps in the body are marked stale too.
    pub track_timestamps_staleness: bool,
    pub metric_relabel: Arc<Rules>,
    /// Samples after relabelling; a scrape with more fails. 0 means no limit, here and below.
    pub sample_limit: usize,
    pub label_limit: usize,
    pub label_name_length_limit: usize,
    pub label_value_length_limit: usize,
    /// The format of a body whose `Content-Type` is missing or unknown; `None` refuses it.
    pub fallback_format: Option<BodyFormat>,
    pub histograms: HistogramOptions,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        ScrapeOptions {
            target_labels: Labels::empty(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            metric_relabel: Arc::default(),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            fallback_format: None,
            histograms: HistogramOptions::default(),
        }
    }
}

/// How a target's histograms are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramOptions {
    /// Whether native histograms are taken; of a histogram that is both, only the native one then.
    pub native: bool,
    /// Whether a classic histogram is taken beside the native one, too.
    pub classic_always: bool,
    /// Whether a classic histogram becomes a native one with custom buckets.
    pub classic_converted: bool,
    /// Buckets of a native histogram: its resolution is lowered as far as needed, and the scrape fails if that does not
    /// help. 0 means no limit.
    pub bucket_limit: usize,
    /// The highest resolution of a native histogram; finer ones are lowered to it.
    pub schema_max: i32,
}

impl Default for HistogramOptions {
    fn default() -> Self {
        HistogramOptions {
            native: false,
            classic_always: false,
            classic_converted: false,
            bucket_limit: 0,
            schema_max: SCHEMA_MAX,
        }
    }
}

/// The range of exponential schemas.
pub const SCHEMA_MIN: i32 = -4;
pub const SCHEMA_MAX: i32 = 8;

/// What a scrape brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeStats {
    /// Samples in the body.
    pub scraped: usize,
    /// Samples after relabelling.
    pub post_relabel: usize,
    /// Series that the scrape before did not have.
    pub series_added: usize,
    /// Samples that the storage refused, such as a second value for one series and time.
    pub rejected: usize,
}

/// The series that tell about a scrape, in the order of [`ScrapeCache`]'s report.
const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

const SOURCE: &str = "scrape";

impl Ingest {
    /// Stores a scrape: its samples, `up` = 1, and what else tells about it, as one batch. Series that went away
    /// since the last scrape are marked stale. `ts` is the scrape's time in ms, `body` is decompressed.
    ///
    /// # Errors
    /// When the body cannot be taken. Then `up` = 0 is stored, and every series of the target is marked stale.
    pub fn scrape(
        &self,
        cache: &mut ScrapeCache,
        options: &ScrapeOptions,
        body: &[u8],
        content_type: Option<&str>,
        ts: Timestamp,
        duration_s: f64,
    ) -> Result<ScrapeStats, ScrapeError> {
        let inner = &*self.inner;
        let format = match BodyFormat::from_content_type(content_type) {
            Ok(format) => Ok(format),
            Err(e) => options.fallback_format.ok_or(e),
        };
        let mut stats = ScrapeStats::default();
        let stored = match format {
            Ok(format) => inner.scrape_body(cache, options, body, format, ts, duration_s, &mut stats),
            Err(e) => Err(e.into()),
        };
        match stored {
            Ok(()) => {
                inner.metrics.taken(SOURCE, stats.post_relabel as u64);
                Ok(stats)
            }
            Err(e) => {
                inner.metrics.batch_failed(SOURCE);
                stats.series_added = 0;
                if let Err(second) = inner.report_failure(cache, options, ts, duration_s, stats) {
                    self.note_unstored(&second, ts);
                }
                Err(e)
            }
        }
    }

    /// Writes to the log that the state of a target could not be stored: once for all targets, for what keeps the samples of
    /// one from being written keeps those of all.
    fn note_unstored(&self, error: &StorageError, ts: Timestamp) {
        let mut said = self.inner.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repeated) = said.say(&error.to_string(), ts) {
            tracing::warn!(%error, repeated, "The state of a target cannot be stored");
        }
    }

    /// Stores that a scrape failed before there was a body: `up` = 0 and staleness markers.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn scrape_failed(
        &self,
        cache: &mut ScrapeCache,
        options: &ScrapeOptions,
        ts: Timestamp,
        duration_s: f64,
    ) -> Result<(), StorageError> {
        self.inner.metrics.batch_failed(SOURCE);
        self.inner
            .report_failure(cache, options, ts, duration_s, ScrapeStats::default())
            .inspect_err(|e| self.note_unstored(e, ts))
    }

    /// Stores that a target is gone: staleness markers for all of its series and for those about its scrapes.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn end_of_target(
        &self,
        cache: &mut ScrapeCache,
        options: &ScrapeOptions,
        ts: Timestamp,
    ) -> Result<(), StorageError> {
        let inner = &*self.inner;
        let mut app = inner.storage.appender();
        for series in cache.live_series() {
            mark_stale(&mut app, series, ts);
        }
        if cache.report.is_some() {
            inner.append_report(&mut app, cache, options, ts, [stale_marker(); 5]);
        }
        app.commit().inspect_err(|e| self.note_unstored(e, ts))?;
        *cache = ScrapeCache::default();
        Ok(())
    }
}

impl Inner {
    #[allow(clippy::too_many_arguments, reason = "the scrape's call, split where it can fail")]
    fn scrape_body(
        &self,
        cache: &mut ScrapeCache,
        options: &ScrapeOptions,
        body: &[u8],
        format: BodyFormat,
        ts: Timestamp,
        duration_s: f64,
        stats: &mut ScrapeStats,
    ) -> Result<(), ScrapeError> {
        cache.prepare(options);
        let was_live = cache.live;
        let mut walk = Walk {
            ingest: self,
            options,
            bounds: LabelBounds::from(&self.limits),
            app: self.storage.appender(),
            ts,
            stats,
            number_label: NumberLabel::None,
            untracked: Vec::new(),
            notes: BTreeMap::new(),
            keeps_exemplars: self.storage.keeps_exemplars(),
            context: None,
            created: Created::default(),
            classic: None,
            scratch: Vec::new(),
        };
        let mut lines = std::mem::take(&mut cache.lines);
        let mut follower = Follower::new(&mut lines);
        let walked = match format {
            BodyFormat::Text(format) => {
                let features = self.features;
                if features.type_and_unit_labels
                    || features.start_times() && format.is_openmetrics()
                    || options.histograms.classic_converted
                {
                    walk.context = Some(Context::default());
                }
                if features.start_times() && format.is_openmetrics() {
                    walk.created = Created::read(body, &self.hasher);
                }
                walk.body(&mut follower, Parser::new(format, body))
            }
            BodyFormat::Protobuf => walk.protobuf(&mut follower, body),
        };
        let Walk { mut app, mut untracked, notes, .. } = walk;
        if let Err(e) = walked {
            follower.abandon();
            cache.lines = lines;
            return Err(e);
        }
        let mut gone = follower.finish();
        gone.append(&mut untracked);
        if !was_live {
            gone.clear();
        }
        gone.append(&mut cache.outdated);
        cache.lines = lines;
        cache.live = true;
        let report =
            [1.0, duration_s, stats.scraped as f64, stats.post_relabel as f64, stats.series_added as f64];
        self.append_report(&mut app, cache, options, ts, report);
        // Last: a series that came after all has a sample of this time already, which stands.
        for series in gone {
            mark_stale(&mut app, series, ts);
        }
        // Nobody will send them again, and what else the target says is no less true.
        app.leave_out_histograms();
        let committed = app.commit()?;
        self.metrics.committed(&committed);
        let refused = committed.refused() - committed.unknown_series;
        stats.rejected += usize::try_from(refused).unwrap_or(usize::MAX);
        if !notes.is_empty() {
            self.families.note(&self.storage, &self.limits, notes);
        }
        Ok(())
    }

    fn report_failure(
        &self,
        cache: &mut ScrapeCache,
        options: &ScrapeOptions,
        ts: Timestamp,
        duration_s: f64,
        stats: ScrapeStats,
    ) -> Result<(), StorageError> {
        let mut app = self.storage.appender();
        for series in cache.live_series() {
            mark_stale(&mut app, series, ts);
        }
        let report = [0.0, duration_s, stats.scraped as f64, stats.post_relabel as f64, 0.0];
        self.append_report(&mut app, cache, options, ts, report);
        app.commit()?;
        cache.live = false;
        cache.outdated.clear();
        Ok(())
    }

    /// The series about the scrape itself. They are of the server's making and count against no limit.
    fn append_report(
        &self,
        app: &mut Appender,
        cache: &mut ScrapeCache,
        options: &ScrapeOptions,
        ts: Timestamp,
        values: [f64; 5],
    ) {
        // A series that left the ring is asked for once more.
        for _ in 0..2 {
            let series = match cache.report {
                Some(series) => series,
                None => match report_series(app, options) {
                    Ok(series) => *cache.report.insert(series),
                    Err(e) => return self.metrics.reject_series(e),
                },
            };
            let unknown = |(s, v): (SeriesRef, f64)| app.append(s, ts, v) == Err(AppendError::UnknownSeries);
            if !series.into_iter().zip(values).map(unknown).fold(false, |any, u| any | u) {
                return;
            }
            cache.report = None;
        }
    }
}

fn report_series(app: &mut Appender, options: &ScrapeOptions) -> Result<[SeriesRef; 5], AppendError> {
    let mut series = [SeriesRef(0); 5];
    for (slot, name) in series.iter_mut().zip(REPORT) {
        *slot = app.series(&options.target_labels.with(METRIC_NAME, name))?;
    }
    Ok(series)
}

/// A marker that the storage refuses marks nothing that a reader could see: the series has left the ring, or has a
/// newer sample.
fn mark_stale(app: &mut Appender, series: SeriesRef, ts: Timestamp) {
    let _ = app.append(series, ts, stale_marker());
}

impl ScrapeCache {
    /// Forgets the lines if they were resolved with other settings.
    fn prepare(&mut self, options: &ScrapeOptions) {
        let same = self.resolved_with.as_ref().is_none_or(|w| {
            w.target_labels == options.target_labels
                && w.honor_labels == options.honor_labels
                && Arc::ptr_eq(&w.metric_relabel, &options.metric_relabel)
        });
        if !same {
            self.outdated = self.live_series().collect();
            self.outdated.extend(self.report.into_iter().flatten());
            self.lines.clear();
            self.report = None;
        }
        if !same || self.resolved_with.is_none() {
            self.resolved_with = Some(ResolvedWith {
                target_labels: options.target_labels.clone(),
                honor_labels: options.honor_labels,
                metric_relabel: Arc::clone(&options.metric_relabel),
            });
        }
    }
}

/// One scrape on its way into the appender.
struct Walk<'w> {
    ingest: &'w Inner,
    options: &'w ScrapeOptions,
    bounds: LabelBounds,
    app: Appender,
    ts: Timestamp,
    stats: &'w mut ScrapeStats,
    number_label: NumberLabel,
    /// Series that went away though their line did not: they state their own time now, or are under another type.
    untracked: Vec<SeriesRef>,
    notes: BTreeMap<String, FamilyNote>,
    keeps_exemplars: bool,
    /// The family that lines belong to; `None` where nobody needs to know.
    context: Option<Context>,
    /// The times at which series began to count, as other lines of the body state them.
    created: Created,
    /// The classic histogram that is being collected.
    classic: Option<Classic>,
    scratch: Vec<u8>,
}

/// A sample on its way to its series.
#[derive(Debug)]
struct Incoming {
    /// What it is known by from scrape to scrape, and how long that is at the beginning of a line.
    hash: WideHash,
    len: u32,
    /// The time that the body states.
    stated: Option<Timestamp>,
    /// When the series began to count; 0 if nobody says so.
    start: Timestamp,
    value: SampleValue,
}

/// An exemplar on its way, with the time that is stated.
#[derive(Debug)]
struct Traced {
    labels: Vec<(String, String)>,
    value: f64,
    stated: Option<Timestamp>,
}

impl Walk<'_> {
    fn body(&mut self, follower: &mut Follower<'_>, mut parser: Parser<'_>) -> Result<(), ScrapeError> {
        loop {
            let begin = parser.position();
            let mut forced = false;
            match self.known_line(follower, &mut parser) {
                Known::Taken => continue,
                Known::No => {}
                Known::SeriesGone => {
                    parser.seek(begin);
                    forced = true;
                }
            }
            let Some(entry) = parser.next()? else { break };
            match entry {
                Entry::Comment => {}
                Entry::Sample(sample) => self.sample(follower, &parser, &sample, begin, forced)?,
                Entry::Type { family, metric_type } => {
                    self.enter(follower, &family, |c| c.metric_type = metric_type)?;
                    self.number_label = match metric_type {
                        MetricType::Histogram => NumberLabel::Le,
                        MetricType::Summary => NumberLabel::Quantile,
                        _ => NumberLabel::None,
                    };
                    self.note(family).metric_type = Some(metric_type);
                    self.comment(follower, &parser, begin, LineKind::Type(self.number_label));
                }
                Entry::Help { family, text } => {
                    self.enter(follower, &family, |_| {})?;
                    self.note(family).help = Some(text.into_owned());
                    self.comment(follower, &parser, begin, LineKind::Comment);
                }
                Entry::Unit { family, unit } => {
                    self.enter(follower, &family, |c| unit.clone_into(&mut c.unit))?;
                    self.note(family).unit = Some(unit.to_owned());
                    self.comment(follower, &parser, begin, LineKind::Comment);
                }
            }
        }
        self.end_classic(follower)?;
        self.check_sample_limit()
    }

    fn check_sample_limit(&self) -> Result<(), ScrapeError> {
        let limit = match self.options.sample_limit {
            0 => self.ingest.limits.scrape_samples_max,
            own => own.min(self.ingest.limits.scrape_samples_max),
        };
        if self.stats.post_relabel > limit {
            return Err(ScrapeError::SampleLimit { limit });
        }
        Ok(())
    }

    /// The short way: the line is the one that stood here in the last scrape.
    #[inline]
    fn known_line(&mut self, follower: &mut Follower<'_>, parser: &mut Parser<'_>) -> Known {
        let Some(line) = follower.expected().filter(|_| self.context.is_none()) else { return Known::No };
        let len = line.len as usize;
        let Some(bytes) = parser.rest().get(..len) else { return Known::No };
        let needed = match line.kind {
            LineKind::Sample(_, label) | LineKind::Dropped(label) => Some(label),
            LineKind::Comment | LineKind::Type(_) => None,
        };
        if needed.is_some_and(|label| label != self.number_label)
            || self.ingest.hasher.hash(bytes) != line.hash
        {
            return Known::No;
        }
        match line.kind {
            LineKind::Comment | LineKind::Type(_) => {
                if !parser.skip_line(len) {
                    return Known::No;
                }
                if let LineKind::Type(label) = line.kind {
                    self.number_label = label;
                }
            }
            LineKind::Dropped(_) => {
                if parser.sample_after_series(len).is_none() {
                    return Known::No;
                }
                self.stats.scraped += 1;
            }
            LineKind::Sample(series, _) => {
                let tracked = line.tracked;
                let Some((value, stated)) = parser.sample_after_series(len) else { return Known::No };
                let (ts, track) = self.time_of(stated);
                if self.append(series, ts, value).is_err() {
                    return Known::SeriesGone;
                }
                if track != tracked {
                    self.set_tracked(follower, follower.cursor, series, track);
                }
                self.stats.scraped += 1;
                self.stats.post_relabel += 1;
            }
        }
        follower.accept();
        Known::Taken
    }

    /// The long way of a sample's line: see [`Walk::take`].
    fn sample(
        &mut self,
        follower: &mut Follower<'_>,
        parser: &Parser<'_>,
        sample: &Sample<'_>,
        begin: usize,
        forced: bool,
    ) -> Result<(), ScrapeError> {
        let mut start = 0;
        if self.context.is_some() {
            match self.in_context(follower, parser, sample)? {
                InContext::Kept(stated) => start = stated,
                InContext::Consumed => return Ok(()),
            }
        }
        let traced = sample.exemplar.filter(|_| self.keeps_exemplars).map(|e| Traced {
            labels: e.label_pairs(),
            value: e.value,
            stated: e.ts,
        });
        let incoming = Incoming {
            hash: self.identity(sample.series),
            len: u32::try_from(sample.series.len()).unwrap_or(u32::MAX),
            stated: sample.ts,
            start,
            value: SampleValue::Float(sample.value),
        };
        let labels = |walk: &Self| walk.labels(parser);
        self.take(follower, incoming, traced.as_slice(), forced, labels).map_err(|e| match e {
            NotTaken::Label(e) => parser.error_at(begin, e.to_string()).into(),
            NotTaken::BucketLimit(e) => e,
        })
    }

    /// Takes a sample: by what it is known by among all that the last scrape had, else by its labels, which `labels`
    /// gives (`None` if relabelling drops it). `forced` skips what is known, because the storage does not know it any
    /// more.
    fn take(
        &mut self,
        follower: &mut Follower<'_>,
        incoming: Incoming,
        traced: &[Traced],
        forced: bool,
        labels: impl FnOnce(&Self) -> Result<Option<Labels>, LabelError>,
    ) -> Result<(), NotTaken> {
        self.stats.scraped += 1;
        let hash = incoming.hash;
        let (ts, track) = self.time_of(incoming.stated);
        let found = follower.find(hash);
        let mut value = incoming.value;
        if let Some(at) = found
            && !forced
        {
            match follower.lines[at].kind {
                LineKind::Dropped(label) if label == self.number_label => {
                    follower.accept_at(at);
                    return Ok(());
                }
                LineKind::Sample(series, label) if label == self.number_label => {
                    value = self.within_limits(value)?;
                    if self.append_value(series, ts, incoming.start, &value).is_ok() {
                        self.exemplars(series, traced);
                        self.set_tracked(follower, at, series, track);
                        self.stats.post_relabel += 1;
                        follower.accept_at(at);
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        let labels = labels(self)?;
        let len = incoming.len;
        let mut line =
            Line { hash, len, kind: LineKind::Dropped(self.number_label), tracked: false, seen: false };
        if let Some(labels) = labels {
            self.stats.post_relabel += 1;
            value = self.within_limits(value)?;
            match self.app.series(&labels) {
                Ok(series) => {
                    line.kind = LineKind::Sample(series, self.number_label);
                    line.tracked = track;
                    if self.append_value(series, ts, incoming.start, &value).is_err() {
                        self.reject(AppendError::UnknownSeries);
                    }
                    self.exemplars(series, traced);
                }
                // Not remembered: the next scrape asks again.
                Err(e) => {
                    self.reject(e);
                    return Ok(());
                }
            }
        }
        match found {
            Some(at) => {
                // The same bytes now stand for another series.
                let old = &follower.lines[at];
                if old.tracked && old.series() != line.series() {
                    self.untracked.extend(old.series());
                }
                follower.lines[at] = line;
                follower.accept_at(at);
            }
            None => {
                if line.series().is_some() {
                    self.stats.series_added += 1;
                }
                follower.add(line);
            }
        }
        Ok(())
    }

    fn comment(&mut self, follower: &mut Follower<'_>, parser: &Parser<'_>, begin: usize, kind: LineKind) {
        let bytes = parser.line_since(begin);
        let hash = self.ingest.hasher.hash(bytes);
        match follower.find(hash) {
            Some(at) => follower.accept_at(at),
            None => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                follower.add(Line { hash, len, kind, tracked: false, seen: false });
            }
        }
    }

    fn note(&mut self, family: Cow<'_, str>) -> &mut FamilyNote {
        self.notes.entry(family.into_owned()).or_default()
    }

    /// A sample's time, and whether its series is marked stale when it goes.
    #[inline]
    fn time_of(&self, stated: Option<Timestamp>) -> (Timestamp, bool) {
        match stated {
            Some(ts) if self.options.honor_timestamps => (ts, self.options.track_timestamps_staleness),
            _ => (self.ts, true),
        }
    }

    fn set_tracked(&mut self, follower: &mut Follower<'_>, at: usize, series: SeriesRef, track: bool) {
        let line = &mut follower.lines[at];
        if line.tracked && !track {
            self.untracked.push(series);
        }
        line.tracked = track;
    }

    /// Appends; an error only if the series has to be asked for again. The commit counts what else is refused.
    #[inline]
    fn append(&mut self, series: SeriesRef, ts: Timestamp, value: f64) -> Result<(), SeriesGone> {
        match self.app.append(series, ts, value) {
            Err(AppendError::UnknownSeries) => Err(SeriesGone),
            _ => Ok(()),
        }
    }

    /// Appends a value with the time at which its series began to count, as the features say; an error as above.
    fn append_value(
        &mut self,
        series: SeriesRef,
        ts: Timestamp,
        start: Timestamp,
        value: &SampleValue,
    ) -> Result<(), SeriesGone> {
        let features = self.ingest.features;
        if features.zero_ingestion && start != 0 && start < ts {
            let layout = match value {
                SampleValue::Histogram(h) => Some(&**h),
                SampleValue::Float(_) => None,
            };
            self.app.append_zero(series, start, layout);
        }
        let start = if features.st_storage && start <= ts { start } else { 0 };
        match self.app.append_with_start(series, ts, start, value.clone()) {
            Err(AppendError::UnknownSeries) => Err(SeriesGone),
            _ => Ok(()),
        }
    }

    /// Appends exemplars. What is refused is counted by the storage.
    fn exemplars(&mut self, series: SeriesRef, traced: &[Traced]) {
        for e in traced {
            let labels = Labels::from_pairs(e.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let exemplar = Exemplar { labels, value: e.value, ts: e.stated.unwrap_or(self.ts) };
            let _counted = self.app.append_exemplar(series, exemplar);
        }
    }

    /// A native histogram in a resolution that the limits allow.
    fn within_limits(&self, value: SampleValue) -> Result<SampleValue, NotTaken> {
        let options = &self.options.histograms;
        let SampleValue::Histogram(h) = value else { return Ok(value) };
        let buckets = |h: &FloatHistogram| h.positive_buckets.len() + h.negative_buckets.len();
        let too_many = |h: &FloatHistogram| options.bucket_limit > 0 && buckets(h) > options.bucket_limit;
        let too_fine = !h.has_custom_buckets() && h.schema > options.schema_max;
        if !too_fine && !too_many(&h) {
            return Ok(SampleValue::Histogram(h));
        }
        let mut h = Arc::unwrap_or_clone(h);
        if too_fine {
            h.reduce_resolution(options.schema_max);
        }
        while too_many(&h) {
            if h.has_custom_buckets() || h.schema <= SCHEMA_MIN {
                let limit = options.bucket_limit;
                return Err(NotTaken::BucketLimit(ScrapeError::BucketLimit { limit }));
            }
            h.reduce_resolution(h.schema - 1);
        }
        Ok(SampleValue::Histogram(Arc::new(h)))
    }

    #[cold]
    fn reject(&mut self, e: AppendError) {
        self.stats.rejected += 1;
        self.ingest.metrics.reject_series(e);
    }

    /// The stored labels of the parser's last sample; `None` if relabelling drops it.
    fn labels(&self, parser: &Parser<'_>) -> Result<Option<Labels>, LabelError> {
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = parser.labels().collect();
        if let Some(context) = &self.context
            && self.ingest.features.type_and_unit_labels
        {
            context.label(&mut pairs);
        }
        let number = match self.number_label {
            NumberLabel::None => None,
            NumberLabel::Le => Some("le"),
            NumberLabel::Quantile => Some("quantile"),
        };
        for (_, value) in pairs.iter_mut().filter(|(n, _)| Some(n.as_ref()) == number) {
            if let Some(parsed) = parse_float(value.as_bytes()) {
                let mut text = String::new();
                format_openmetrics_float(&mut text, parsed);
                *value = Cow::Owned(text);
            }
        }
        self.composed(pairs)
    }

    /// The stored labels of a sample with these in the body; `None` if relabelling drops it.
    fn composed<'p>(
        &'p self,
        mut pairs: Vec<(Cow<'p, str>, Cow<'p, str>)>,
    ) -> Result<Option<Labels>, LabelError> {
        sort_pairs(&mut pairs);
        check_sorted(&pairs, self.bounds)?;
        add_target_labels(&mut pairs, &self.options.target_labels, self.options.honor_labels);
        pairs.retain(|(_, v)| !v.is_empty());
        sort_pairs(&mut pairs);
        let own = LabelBounds {
            count: self.options.label_limit,
            name_bytes: self.options.label_name_length_limit,
            value_bytes: self.options.label_value_length_limit,
        };
        if self.options.metric_relabel.is_empty() {
            check_named(&pairs)?;
            check_sorted(&pairs, own)?;
            return Ok(Some(Labels::from_sorted(pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())))));
        }
        let mut builder = LabelsBuilder::new();
        for (name, value) in &pairs {
            builder.set(name, value);
        }
        if !self.options.metric_relabel.apply(&mut builder) {
            return Ok(None);
        }
        let pairs: Vec<(&str, &str)> = builder.iter().collect();
        if pairs.is_empty() {
            return Ok(None);
        }
        check_named(&pairs)?;
        check_sorted(&pairs, self.bounds)?;
        check_sorted(&pairs, own)?;
        Ok(Some(Labels::from_sorted(pairs)))
    }
}

/// What became of the expected line.
enum Known {
    Taken,
    No,
    /// The line is known, the storage does not know its series any more.
    SeriesGone,
}

struct SeriesGone;

/// What the family of a line makes of it.
enum InContext {
    /// It is a sample of its own, which began to count then.
    Kept(Timestamp),
    /// It is part of something else.
    Consumed,
}

/// Why a sample ends its scrape.
enum NotTaken {
    Label(LabelError),
    BucketLimit(ScrapeError),
}

impl From<LabelError> for NotTaken {
    fn from(e: LabelError) -> Self {
        NotTaken::Label(e)
    }
}
