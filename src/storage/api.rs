//! What the rest of the program says to storage and hears from it: options, errors, references, columns.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::chunk::starts::Starts;
use crate::model::{FloatHistogram, Timestamp};

/// When the WAL is put on the disk. A batch that was acknowledged survives a kill of the process under each policy;
/// this says what survives a loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// What the operating system has written by then.
    #[default]
    Never,
    /// What was acknowledged before the last call of [`Storage::relieve`](super::Storage::relieve) or
    /// [`Storage::maintain`](super::Storage::maintain).
    Interval,
    /// Everything acknowledged.
    Always,
}

/// How a storage is set up.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// The data directory; `None` keeps everything in memory.
    pub dir: Option<PathBuf>,
    /// Opens the directory to look at it: nothing in it is written, moved or cut, damage is left where it is, and no
    /// sample is taken. It needs no right to write, and a directory that a server has open is refused.
    pub read_only: bool,
    /// Blocks whose samples are all so much older than the newest sample of the blocks fall off.
    pub retention_ms: i64,
    /// Bytes on disk past which the oldest window falls off; `None` means no bound.
    pub retention_bytes: Option<u64>,
    /// The length of one window of the ring.
    pub window_ms: i64,
    /// How many series the head takes; 0 means no bound but memory's.
    pub series_max: usize,
    /// Bytes of memory for series and their newest samples. At three quarters of it the oldest samples are sealed
    /// early; past it no new series is taken, and past half of it in native histograms no batch with more of them.
    /// 0 means no bound.
    pub memory_bytes_max: u64,
    /// The time of the opening, where one is known, until the first [`Storage::maintain`](super::Storage::maintain): a replay
    /// that is short of memory seals nothing newer.
    pub now: Option<Timestamp>,
    /// Samples and exemplars that are further ahead of the time last given to
    /// [`Storage::maintain`](super::Storage::maintain), or of `now`, are refused. `None`, and as long as neither is known:
    /// any time is taken.
    pub ahead_max_ms: Option<i64>,
    /// Samples older than the newest of their series are taken if they are at most this much older than the newest
    /// sample of all; 0 takes none. [`Storage::set_out_of_order_window`](super::Storage::set_out_of_order_window)
    /// changes it.
    pub out_of_order_window_ms: i64,
    /// Exemplars that are kept, of all series together; 0 keeps none.
    pub exemplars_max: usize,
    /// Bytes of the head's full chunks that stay in memory, to be read without a system call, or an eighth of
    /// `memory_bytes_max` if that is less. More go to a file without a name in the directory, if there is one.
    pub full_chunk_bytes_max: u64,
    pub fsync: FsyncPolicy,
    /// A WAL segment that is longer is ended.
    pub wal_segment_bytes: u64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        StorageOptions {
            dir: None,
            read_only: false,
            retention_ms: 15 * 86_400_000,
            retention_bytes: None,
            window_ms: 2 * 3_600_000,
            series_max: 0,
            memory_bytes_max: 0,
            now: None,
            ahead_max_ms: Some(600_000),
            out_of_order_window_ms: 0,
            exemplars_max: 0,
            full_chunk_bytes_max: 32 << 20,
            fsync: FsyncPolicy::Never,
            wal_segment_bytes: 64 << 20,
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
    /// The batch was taken and survives a kill of the process, but not a loss of power.
    #[error("samples cannot be put on the disk: {0}")]
    Sync(String),
    /// Nothing of the batch, which has native histograms, was taken.
    #[error(
        "the native histograms in memory take half of its limit of {} (--storage.memory-limit) until older ones are in a block; send it again later",
        Size(*memory_bytes_max)
    )]
    TooManyHistograms { memory_bytes_max: u64 },
    /// So many single deletions are kept beside the blocks already.
    #[error("too many deletions are waiting (hint: clean the tombstones first)")]
    TooManyDeletions,
    /// The directory was opened to be read.
    #[error("the data directory is open for reading only")]
    ReadOnly,
}

/// A handle to a series, cheap to keep. It goes stale when the series leaves the ring: then
/// [`Appender::append`](super::Appender::append) answers [`AppendError::UnknownSeries`] and the caller asks again by
/// labels.
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
    /// No new series is taken; those that are there go on.
    #[error("too many series: {0}")]
    TooManySeries(SeriesLimit),
    /// Native histograms take half of the memory limit; see
    /// [`Appender::leave_out_histograms`](super::Appender::leave_out_histograms).
    #[error("native histograms in memory take half of its limit (--storage.memory-limit)")]
    TooManyHistograms,
}

impl AppendError {
    /// What can be done about it, where the message does not say so.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        match self {
            AppendError::TooManySeries(SeriesLimit::Memory(_)) => Some(
                "raise it, or look in /api/v1/status/tsdb for the label whose values keep changing; series that are known are taken",
            ),
            _ => None,
        }
    }
}

/// Which limit keeps new series out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesLimit {
    /// [`StorageOptions::memory_bytes_max`].
    Memory(u64),
    /// [`StorageOptions::series_max`], or how many can be counted at all.
    Number(u64),
}

impl fmt::Display for SeriesLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeriesLimit::Memory(bytes) => {
                let size = Size(*bytes);
                write!(f, "the limit of {size} on the memory for series is reached (--storage.memory-limit)")
            }
            SeriesLimit::Number(n) => write!(f, "the limit of {n} series in memory is reached"),
        }
    }
}

/// A number of bytes as it is written in flags: `512MB`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GB", 30), ("MB", 20), ("KB", 10)];
        // Rounded down where the unit is small beside it.
        let fits =
            |shift: u32| self.0 >> shift > 0 && self.0.trailing_zeros() >= shift || self.0 >> shift >= 100;
        match units.into_iter().find(|(_, shift)| fits(*shift)) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// What a commit did. Samples that [`Appender::append`](super::Appender::append) refused are counted here as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Samples that were taken. A late one whose block has another value at its time is among them: that shows when the block
    /// is written anew, which leaves it out.
    pub samples: u64,
    /// Of these, the ones older than their series' newest.
    pub samples_out_of_order: u64,
    pub series_created: u64,
    /// Of the samples, the zeros that [`Appender::append_zero`](super::Appender::append_zero) put before them.
    pub zeros: u64,
    /// Samples that were there already, bit for bit: ignored, and no error.
    pub repeated: u64,
    pub out_of_order: u64,
    /// Samples whose series has another value at their time.
    pub duplicates: u64,
    pub too_old: u64,
    pub too_far_ahead: u64,
    /// Native histograms for which there was no memory.
    pub histograms_refused: u64,
    /// Samples whose series had left the ring.
    pub unknown_series: u64,
    /// The first sample that was refused, for a message.
    pub first_refused: Option<(SeriesRef, Timestamp, AppendError)>,
}

impl CommitStats {
    /// How many samples were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.out_of_order
            + self.duplicates
            + self.too_old
            + self.too_far_ahead
            + self.histograms_refused
            + self.unknown_series
    }

    pub(super) fn refuse(&mut self, series: SeriesRef, ts: Timestamp, why: AppendError) {
        match why {
            AppendError::UnknownSeries | AppendError::TooManySeries(_) => self.unknown_series += 1,
            AppendError::OutOfOrder => self.out_of_order += 1,
            AppendError::DuplicateTimestamp => self.duplicates += 1,
            AppendError::TooOld => self.too_old += 1,
            AppendError::TooFarAhead => self.too_far_ahead += 1,
            AppendError::TooManyHistograms => self.histograms_refused += 1,
        }
        self.first_refused.get_or_insert((series, ts, why));
    }
}

/// Columns of one series. Floats and histograms stand apart; `ts` and `vs` have equal length; each `ts` is strictly
/// ascending, in ms; no timestamp is in both. Staleness markers are samples like any other here.
///
/// `starts` and `hist_starts` are empty as long as no sample of their column has a start time; else they have the
/// column's length, in ms, and 0 where there is none. A start time says when a counter began to count from zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    pub ts: Vec<Timestamp>,
    pub vs: Vec<f64>,
    pub starts: Vec<Timestamp>,
    pub hist_ts: Vec<Timestamp>,
    pub hists: Vec<Arc<FloatHistogram>>,
    pub hist_starts: Vec<Timestamp>,
}

/// The value of one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Samples {
    /// Empties the columns, keeping their memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.vs.clear();
        self.starts.clear();
        self.hist_ts.clear();
        self.hists.clear();
        self.hist_starts.clear();
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.hist_ts.is_empty()
    }

    /// What was appended to the columns has no start times.
    pub(super) fn pad_starts(&mut self) {
        for (starts, len) in [(&mut self.starts, self.ts.len()), (&mut self.hist_starts, self.hist_ts.len())]
        {
            if !starts.is_empty() {
                starts.resize(len, 0);
            }
        }
    }

    /// Adds the start times of what was appended to the columns after `begin` (their lengths then).
    pub(super) fn extend_starts(&mut self, starts: &Starts, begin: (usize, usize)) {
        starts.extend(&self.ts, begin.0, &mut self.starts);
        starts.extend(&self.hist_ts, begin.1, &mut self.hist_starts);
    }
}

/// What storage holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStats {
    /// Series in the head.
    pub series: u64,
    /// Label pairs of the series in the head.
    pub label_pairs: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Full chunks in the head.
    pub head_chunks: u64,
    /// Bytes of the chunks in the head.
    pub head_bytes: u64,
    /// The time of the oldest sample in the head; `None` if there is none.
    pub head_min_ts: Option<Timestamp>,
    pub wal_bytes: u64,
    pub wal_segments: u64,
    pub blocks: u64,
    pub block_bytes: u64,
    pub block_samples: u64,
    /// Bytes that series and their newest samples take in memory, by our own account, and their bound (0: none).
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    /// Damaged files and pieces that were set aside since the start, their bytes, how many of the WAL's do not say what
    /// they held, and the samples that are lost: at least so many if there are such pieces.
    pub damaged: u64,
    pub damaged_bytes: u64,
    pub damaged_uncounted: u64,
    pub lost_samples: u64,
    /// The times of the oldest and the newest sample; `None` if there is none.
    pub min_ts: Option<Timestamp>,
    pub max_ts: Option<Timestamp>,
}

/// Bytes of memory that the head takes, by part, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadMemory {
    /// The table from label sets to series.
    pub table: u64,
    /// The pairs of each series.
    pub lists: u64,
    /// Names and values with their tables.
    pub texts: u64,
    pub postings: u64,
    /// The slots of series.
    pub slots: u64,
    pub open_chunks: u64,
    /// Lists of full chunks.
    pub full_chunks: u64,
    /// Full chunks themselves, as far as they are in memory.
    pub pages: u64,
}

/// What one block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStats {
    pub path: PathBuf,
    /// Tells it from any other block.
    pub identity: u32,
    /// The times that it answers for: from the first up to but not with the second.
    pub range: (Timestamp, Timestamp),
    /// The times of its first and last sample.
    pub ts: (Timestamp, Timestamp),
    pub series: u64,
    pub samples: u64,
    pub chunks: u64,
    pub bytes: u64,
    /// Bytes of values and timestamps; the rest is index.
    pub data_bytes: u64,
    /// Series of which something was deleted and not cleaned yet.
    pub deleted_series: u64,
}

/// Which names and values the series in the head have most, each list descending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Metric names by their series.
    pub series_by_metric: Vec<(String, u64)>,
    /// Label names by their distinct values.
    pub values_by_label: Vec<(String, u64)>,
    /// Label names by the bytes of their values, each counted once a series.
    pub bytes_by_label: Vec<(String, u64)>,
    /// `name=value` by their series.
    pub series_by_pair: Vec<(String, u64)>,
}
