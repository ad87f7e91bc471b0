//! The slow twin: storage as an obviously right map, to compare the real one with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::{AppendError, Samples};
use crate::model::{FloatHistogram, Labels, Matcher, Timestamp};

#[derive(Clone, Debug)]
pub enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

#[derive(Debug, Default)]
pub struct Twin {
    /// Each value with its start time.
    series: BTreeMap<Labels, BTreeMap<Timestamp, (Value, Timestamp)>>,
}

impl Twin {
    /// What becomes of a sample; `None` when it is there already. With `late_from` samples out of order are taken from
    /// then on.
    pub fn append(
        &mut self,
        labels: &Labels,
        ts: Timestamp,
        start: Timestamp,
        value: Value,
        min_valid: Timestamp,
        late_from: Option<Timestamp>,
    ) -> Option<Result<(), AppendError>> {
        let column = self.series.entry(labels.clone()).or_default();
        let newer = column.last_key_value().is_some_and(|(last, _)| *last > ts);
        if ts < min_valid || newer {
            match late_from {
                Some(from) if ts >= from => {}
                None if ts >= min_valid => return Some(Err(AppendError::OutOfOrder)),
                _ => return Some(Err(AppendError::TooOld)),
            }
        }
        if let Some((held, _)) = column.get(&ts) {
            let same = match (held, &value) {
                (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
                (Value::Histogram(a), Value::Histogram(b)) => a == b,
                _ => false,
            };
            return if same { None } else { Some(Err(AppendError::DuplicateTimestamp)) };
        }
        column.insert(ts, (value, start));
        Some(Ok(()))
    }

    /// Whether the series has a sample of that time.
    pub fn has(&self, labels: &Labels, ts: Timestamp) -> bool {
        self.series.get(labels).is_some_and(|column| column.contains_key(&ts))
    }

    /// The selected series that have samples in the range, ascending.
    pub fn query(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<(Labels, Samples)> {
        let wanted = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
        let mut found = Vec::new();
        for (labels, column) in self.series.iter().filter(|(l, _)| wanted(l)) {
            let mut samples = Samples::default();
            for (ts, (value, start)) in column.range(from..=to) {
                match value {
                    Value::Float(v) => {
                        samples.ts.push(*ts);
                        samples.vs.push(*v);
                        samples.starts.push(*start);
                    }
                    Value::Histogram(h) => {
                        samples.hist_ts.push(*ts);
                        samples.hists.push(Arc::clone(h));
                        samples.hist_starts.push(*start);
                    }
                }
            }
            if !samples.is_empty() {
                found.push((labels.clone(), samples));
            }
        }
        found
    }
}
