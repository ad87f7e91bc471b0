//! The series that a rule writes: their references, and which of them end.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::{Labels, Timestamp, stale_marker};
use crate::promql::PointValue;
use crate::storage::{AppendError, Appender, SeriesRef};

/// What one rule has written, by series. A series that the rule does not state again gets a staleness marker.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    entries: HashMap<Labels, Entry, RandomState>,
    /// The number of the evaluation that is going on.
    evaluation: u64,
    claimed: usize,
    /// What the rule states in this evaluation.
    batch: Vec<(Labels, PointValue)>,
}

#[derive(Debug, Default)]
struct Entry {
    series: Option<SeriesRef>,
    /// The last evaluation that stated it.
    stated: u64,
    /// It has been written and not been marked stale since.
    live: bool,
}

impl SeriesCache {
    /// Begins an evaluation; what was stated and not written is dropped.
    pub fn begin(&mut self) {
        self.evaluation += 1;
        self.claimed = 0;
        self.batch.clear();
    }

    /// States a sample. False if this evaluation has stated one with these labels before.
    pub fn state(&mut self, labels: Labels, value: PointValue) -> bool {
        if let Some(entry) = self.entries.get_mut(&labels) {
            if entry.stated == self.evaluation {
                return false;
            }
            entry.stated = self.evaluation;
        } else {
            let entry = Entry { series: None, stated: self.evaluation, live: false };
            self.entries.insert(labels.clone(), entry);
        }
        self.claimed += 1;
        self.batch.push((labels, value));
        true
    }

    /// Gives up what this evaluation has stated: the series of the one before stay as they are.
    pub fn abandon(&mut self) {
        self.batch.clear();
        let (now, before) = (self.evaluation, self.evaluation - 1);
        for entry in self.entries.values_mut().filter(|e| e.stated == now) {
            entry.stated = before;
        }
        self.entries.retain(|_, e| e.live);
    }

    /// Writes what was stated, at `ts`, and staleness markers for what was not stated again. Gives the number of samples
    /// and the first error.
    pub fn write(&mut self, appender: &mut Appender, ts: Timestamp) -> (u64, Option<AppendError>) {
        let mut error = None;
        let mut written = 0;
        for (labels, value) in self.batch.drain(..) {
            let Some(entry) = self.entries.get_mut(&labels) else { continue };
            match append(appender, entry, &labels, ts, &value) {
                Ok(()) => {
                    entry.live = true;
                    written += 1;
                }
                Err(e) => error = error.or(Some(e)),
            }
        }
        if self.entries.len() > self.claimed {
            let now = self.evaluation;
            self.entries.retain(|labels, entry| {
                if entry.stated == now {
                    return true;
                }
                if entry.live {
                    // A marker that comes too late says nothing that would be missed.
                    let _ = append(appender, entry, labels, ts, &PointValue::Float(stale_marker()));
                }
                false
            });
        }
        (written, error)
    }

    /// The series that have been written and not been marked stale.
    pub fn live(&self) -> impl Iterator<Item = &Labels> {
        self.entries.iter().filter(|(_, e)| e.live).map(|(l, _)| l)
    }
}

fn append(
    appender: &mut Appender,
    entry: &mut Entry,
    labels: &Labels,
    ts: Timestamp,
    value: &PointValue,
) -> Result<(), AppendError> {
    // A reference goes stale when its series leaves the ring; then one more look by labels finds or makes it.
    for fresh in [false, true] {
        let series = match entry.series.filter(|_| !fresh) {
            Some(series) => series,
            None => *entry.series.insert(appender.series(labels)?),
        };
        let result = match value {
            PointValue::Float(v) => appender.append(series, ts, *v),
            PointValue::Histogram(h) => appender.append_histogram(series, ts, Arc::clone(h)),
        };
        if result != Err(AppendError::UnknownSeries) || fresh {
            return result;
        }
    }
    Err(AppendError::UnknownSeries)
}
