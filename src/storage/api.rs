//! The interface, for now over a plain in-memory map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{FloatHistogram, Labels, Matcher, Metadata, Timestamp};

/// How a storage is set up.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// The data directory; `None` keeps everything in memory.
    pub dir: Option<PathBuf>,
    /// Samples older than this fall off.
    pub retention_ms: i64,
    /// Bytes on disk past which the oldest window falls off; `None` means no bound.
    pub retention_bytes: Option<u64>,
    /// The length of one window of the ring.
    pub window_ms: i64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        StorageOptions {
            dir: None,
            retention_ms: 15 * 86_400_000,
            retention_bytes: None,
            window_ms: 2 * 3_600_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the data directory {path} cannot be used: {reason}")]
    Open { path: String, reason: String },
    /// Nothing of the batch was taken.
    #[error("samples cannot be written: {0}")]
    Write(String),
}

/// A handle to a series, cheap to keep. It goes stale when the series leaves the ring: then
/// [`Appender::append`] answers [`AppendError::UnknownSeries`] and the caller asks again by labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// Why one sample was not taken; the rest of its batch is unharmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("unknown series reference")]
    UnknownSeries,
    /// Older than the newest sample of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// Same time as the newest sample of its series, other value.
    #[error("duplicate sample for timestamp")]
    DuplicateTimestamp,
    /// Older than what the head takes.
    #[error("sample too old")]
    TooOld,
    /// Further ahead of the clock than is sensible.
    #[error("sample too far in the future")]
    TooFarAhead,
    /// The limit on the number of series is reached.
    #[error("too many series")]
    TooManySeries,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    pub samples: u64,
    pub series_created: u64,
}

/// Columns of one series. Floats and histograms stand apart; `ts` and `vs` have equal length; each `ts` is strictly
/// ascending, in ms; no timestamp is in both. Staleness markers are samples like any other here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    pub ts: Vec<Timestamp>,
    pub vs: Vec<f64>,
    pub hist_ts: Vec<Timestamp>,
    pub hists: Vec<Arc<FloatHistogram>>,
}

impl Samples {
    /// Empties the columns, keeping their memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.vs.clear();
        self.hist_ts.clear();
        self.hists.clear();
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.hist_ts.is_empty()
    }
}

/// The ring. Cloning gives a handle to the same one.
#[derive(Clone, Debug)]
pub struct Storage {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_labels: BTreeMap<Labels, usize>,
    series: Vec<(Labels, Samples)>,
    metadata: BTreeMap<String, Metadata>,
}

impl Storage {
    /// Opens the data directory, replays what was not sealed, and is ready to append and read.
    ///
    /// # Errors
    /// When the directory cannot be used or another process holds it.
    pub fn open(_options: StorageOptions) -> Result<Self, StorageError> {
        Ok(Storage { inner: Arc::default() })
    }

    /// A batch. Nothing is visible before [`Appender::commit`]; dropping it drops the batch.
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender { storage: self.clone(), floats: Vec::new(), histograms: Vec::new(), created: 0 }
    }

    /// A consistent view: a batch is seen whole or not at all.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { storage: self.clone() }
    }

    /// Notes type, help and unit of a metric family.
    pub fn set_metadata(&self, family: &str, metadata: Metadata) {
        self.lock().metadata.insert(family.to_owned(), metadata);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Collects a batch of samples.
#[derive(Debug)]
pub struct Appender {
    storage: Storage,
    floats: Vec<(usize, Timestamp, f64)>,
    histograms: Vec<(usize, Timestamp, Arc<FloatHistogram>)>,
    created: u64,
}

impl Appender {
    /// The series with these labels, made if it is new.
    ///
    /// # Errors
    /// [`AppendError::TooManySeries`].
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let mut inner = self.storage.lock();
        if let Some(i) = inner.by_labels.get(labels) {
            return Ok(SeriesRef(*i as u64));
        }
        let i = inner.series.len();
        inner.series.push((labels.clone(), Samples::default()));
        inner.by_labels.insert(labels.clone(), i);
        self.created += 1;
        Ok(SeriesRef(i as u64))
    }

    /// Adds a sample to the batch. A sample with the time and value (by bits) of the newest one is ignored.
    ///
    /// # Errors
    /// Why this sample was refused; the batch goes on.
    pub fn append(&mut self, series: SeriesRef, ts: Timestamp, value: f64) -> Result<(), AppendError> {
        self.check(series, ts)?;
        self.floats.push((series.0 as usize, ts, value));
        Ok(())
    }

    /// Adds a native histogram to the batch.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub fn append_histogram(
        &mut self,
        series: SeriesRef,
        ts: Timestamp,
        value: Arc<FloatHistogram>,
    ) -> Result<(), AppendError> {
        self.check(series, ts)?;
        self.histograms.push((series.0 as usize, ts, value));
        Ok(())
    }

    fn check(&self, series: SeriesRef, ts: Timestamp) -> Result<(), AppendError> {
        let inner = self.storage.lock();
        let (_, samples) = inner.series.get(series.0 as usize).ok_or(AppendError::UnknownSeries)?;
        let last = samples.ts.last().max(samples.hist_ts.last());
        if last.is_some_and(|l| *l > ts) { Err(AppendError::OutOfOrder) } else { Ok(()) }
    }

    /// Writes the batch to the WAL and makes it visible. On return it survives a kill of the process.
    ///
    /// # Errors
    /// When it cannot be written: nothing of it was taken.
    pub fn commit(self) -> Result<CommitStats, StorageError> {
        let mut inner = self.storage.lock();
        let samples = (self.floats.len() + self.histograms.len()) as u64;
        for (i, ts, v) in self.floats {
            let column = &mut inner.series[i].1;
            if column.ts.last().is_none_or(|l| *l < ts) {
                column.ts.push(ts);
                column.vs.push(v);
            }
        }
        for (i, ts, h) in self.histograms {
            let column = &mut inner.series[i].1;
            if column.hist_ts.last().is_none_or(|l| *l < ts) {
                column.hist_ts.push(ts);
                column.hists.push(h);
            }
        }
        Ok(CommitStats { samples, series_created: self.created })
    }
}

/// Reads.
#[derive(Clone, Debug)]
pub struct Reader {
    storage: Storage,
}

impl Reader {
    /// The series that all `matchers` select and that may have samples in `from..=to` (ms), in no particular order.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], _from: Timestamp, _to: Timestamp) -> Vec<SeriesSnapshot> {
        let inner = self.storage.lock();
        let wanted = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
        let found = inner.by_labels.iter().filter(|(l, _)| wanted(l));
        found
            .map(|(l, i)| SeriesSnapshot { labels: l.clone(), samples: inner.series[*i].1.clone() })
            .collect()
    }

    /// Names of the labels that series in `from..=to` which `matchers` select have, ascending.
    #[must_use]
    pub fn label_names(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<String> {
        let names: BTreeSet<String> = self
            .select(matchers, from, to)
            .iter()
            .flat_map(|s| s.labels.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>())
            .collect();
        names.into_iter().collect()
    }

    /// Values of one label, ascending.
    #[must_use]
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<String> {
        let values: BTreeSet<String> = self
            .select(matchers, from, to)
            .iter()
            .filter_map(|s| s.labels.get(name).map(str::to_owned))
            .collect();
        values.into_iter().collect()
    }

    /// What is known of metric families, by name, ascending.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        self.storage.lock().metadata.iter().map(|(n, m)| (n.clone(), m.clone())).collect()
    }
}

/// One selected series: its labels, and access to its samples as of the selection.
#[derive(Clone, Debug)]
pub struct SeriesSnapshot {
    labels: Labels,
    samples: Samples,
}

impl SeriesSnapshot {
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Appends the samples in `from..=to` (ms) to `out`'s columns.
    pub fn read(&self, from: Timestamp, to: Timestamp, out: &mut Samples) {
        let range = |ts: &[Timestamp]| ts.partition_point(|t| *t < from)..ts.partition_point(|t| *t <= to);
        let floats = range(&self.samples.ts);
        out.ts.extend_from_slice(&self.samples.ts[floats.clone()]);
        out.vs.extend_from_slice(&self.samples.vs[floats]);
        let hists = range(&self.samples.hist_ts);
        out.hist_ts.extend_from_slice(&self.samples.hist_ts[hists.clone()]);
        out.hists.extend_from_slice(&self.samples.hists[hists]);
    }
}
