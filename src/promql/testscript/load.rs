//! What a script has loaded, and a storage full of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::points::{Point, renamed};
use super::script::Loaded;
use crate::model::{CounterResetHint, FloatHistogram, Labels, Span, Timestamp};
use crate::storage::{SampleValue, Storage, StorageOptions};

/// The schema of native histograms with custom buckets.
const CUSTOM_BUCKETS: i32 = -53;

/// The bucket label of classic histograms.
const BUCKET_BOUND: &str = "le";

/// All samples so far, by series and time.
#[derive(Default)]
pub(super) struct Data {
    series: BTreeMap<Labels, BTreeMap<Timestamp, Started>>,
    /// A storage with just this in it.
    storage: Option<Storage>,
}

/// A sample with its start time; 0 means none.
type Started = (SampleValue, Timestamp);

impl Data {
    /// Adds series whose points are `step_ms` apart, the first at 0. With `classic_too` classic histograms are added
    /// as native ones with custom buckets as well.
    pub(super) fn load(&mut self, step_ms: i64, classic_too: bool, series: &[Loaded]) {
        self.storage = None;
        let mut classics = BTreeMap::new();
        for Loaded { labels, points, starts } in series {
            for (i, point) in points.iter().enumerate() {
                let ts = step_ms.saturating_mul(i as i64);
                let sample = match point {
                    Point::None => continue,
                    Point::Float(v) => SampleValue::Float(*v),
                    Point::Histogram { value, .. } => SampleValue::Histogram(value.clone()),
                };
                let start = starts.get(i).copied().flatten().map_or(0, |offset| ts.saturating_add(offset));
                if classic_too && let SampleValue::Float(v) = sample {
                    note_classic(&mut classics, labels, ts, v);
                }
                self.series.entry(labels.clone()).or_default().insert(ts, (sample, start));
            }
        }
        for ((labels, ts), classic) in classics {
            let sample = SampleValue::Histogram(Arc::new(classic.converted()));
            self.series.entry(labels).or_default().insert(ts, (sample, 0));
        }
    }

    /// A storage in memory with all of it.
    pub(super) fn storage(&mut self) -> Result<Storage, String> {
        if let Some(storage) = &self.storage {
            return Ok(storage.clone());
        }
        // One window and no retention: scripts use any time.
        let options = StorageOptions {
            dir: None,
            retention_ms: i64::MAX / 4,
            window_ms: i64::MAX / 4,
            ..StorageOptions::default()
        };
        let storage = Storage::open(options).map_err(|e| e.to_string())?;
        for (labels, samples) in &self.series {
            append(&storage, labels, samples).map_err(|e| format!("loading {labels}: {e}"))?;
        }
        self.storage = Some(storage.clone());
        Ok(storage)
    }
}

/// Appends one series. Samples of one kind fill a batch of their own, since a batch has no order between the kinds.
fn append(storage: &Storage, labels: &Labels, samples: &BTreeMap<Timestamp, Started>) -> Result<(), String> {
    let samples: Vec<(&Timestamp, &Started)> = samples.iter().collect();
    let kind = |s: &Started| (std::mem::discriminant(&s.0), s.1 != 0);
    let mut hints = Hints::default();
    for run in samples.chunk_by(|a, b| kind(a.1) == kind(b.1)) {
        let mut appender = storage.appender();
        let series = appender.series(labels).map_err(|e| e.to_string())?;
        for (ts, (sample, start)) in run {
            let stored = match sample {
                SampleValue::Float(v) => {
                    hints = Hints::default();
                    SampleValue::Float(*v)
                }
                SampleValue::Histogram(h) => SampleValue::Histogram(hints.stored(h)),
            };
            appender.append_with_start(series, **ts, *start, stored).map_err(|e| e.to_string())?;
        }
        let stats = appender.commit().map_err(|e| e.to_string())?;
        if stats.samples != run.len() as u64 {
            return Err(format!("the storage took {} of {} samples", stats.samples, run.len()));
        }
    }
    Ok(())
}

/// The counter reset hints that histograms have once a storage has kept them: it compares each with the one before,
/// and starts a new chunk where a reset or another layout is found. What a chunk starts with has no certain
/// predecessor, so its hint is unknown; within a chunk there is no reset.
///
/// Source: Prometheus, `tsdb/chunkenc/float_histogram.go` (`counterResetHint`).
#[derive(Default)]
struct Hints {
    before: Option<Arc<FloatHistogram>>,
}

impl Hints {
    fn stored(&mut self, h: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
        let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        // What a script says of a reset that did not happen is not believed.
        let unhinted = FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..(**h).clone() };
        let continues = |b: &FloatHistogram| {
            !is_gauge(b)
                && !b.is_stale_marker()
                && b.schema == h.schema
                && b.zero_threshold == h.zero_threshold
                && b.custom_values == h.custom_values
                && h.counter_reset_hint != CounterResetHint::Reset
                && !unhinted.is_reset_after(b)
        };
        let hint = match &self.before {
            _ if is_gauge(h) => CounterResetHint::Gauge,
            Some(b) if continues(b) => CounterResetHint::NotReset,
            _ => CounterResetHint::Unknown,
        };
        self.before = Some(h.clone());
        if hint == h.counter_reset_hint {
            return h.clone();
        }
        let mut stored = (**h).clone();
        stored.counter_reset_hint = hint;
        Arc::new(stored)
    }
}

/// The parts of a classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Bounds with cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    /// The native histogram with custom buckets that says the same.
    fn converted(mut self) -> FloatHistogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, earlier| later.0 == earlier.0);
        let highest = self.buckets.last().map_or(0.0, |(_, count)| *count);
        let count = self.count.unwrap_or(highest);
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let counts: Vec<f64> = self
            .buckets
            .iter()
            .map(|(_, cumulative)| cumulative - std::mem::replace(&mut below, *cumulative))
            .collect();
        let mut h = FloatHistogram {
            schema: CUSTOM_BUCKETS,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).unwrap_or(u32::MAX) }],
            positive_buckets: counts,
            custom_values: self.buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect(),
            ..FloatHistogram::default()
        };
        h.compact();
        h
    }
}

/// Puts a sample where it belongs if it is part of a classic histogram.
fn note_classic(
    classics: &mut BTreeMap<(Labels, Timestamp), Classic>,
    labels: &Labels,
    ts: Timestamp,
    value: f64,
) {
    let name = labels.metric_name();
    if let Some(base) = name.strip_suffix("_bucket") {
        let bound = labels.get(BUCKET_BOUND).and_then(|b| b.parse::<f64>().ok()).filter(|b| !b.is_nan());
        let Some(bound) = bound else { return };
        let labels = renamed(&labels.with(BUCKET_BOUND, ""), base);
        classics.entry((labels, ts)).or_default().buckets.push((bound, value));
    } else if let Some(base) = name.strip_suffix("_count") {
        classics.entry((renamed(labels, base), ts)).or_default().count = Some(value);
    } else if let Some(base) = name.strip_suffix("_sum") {
        classics.entry((renamed(labels, base), ts)).or_default().sum = value;
    }
}
