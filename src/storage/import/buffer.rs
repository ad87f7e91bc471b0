//! Samples that wait to be written, in any order.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use crate::model::{FloatHistogram, Labels, Timestamp};
use crate::storage::api::Samples;
use crate::storage::block::BlockWriter;
use crate::storage::columns::{Collisions, SampleRef, ValueRef};

/// Bytes of labels and histograms past which the buffer is large however few samples it has.
const BYTES_MAX: usize = 128 << 20;
/// What a series takes besides the text of its labels, about.
const SERIES_BYTES: usize = 128;

/// One sample; `series` is a place in [`Buffer::series`].
#[derive(Clone, Debug)]
pub struct Row {
    pub series: u32,
    pub ts: Timestamp,
    start: Timestamp,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Samples and the labels of their series.
#[derive(Debug, Default)]
pub struct Buffer {
    places: HashMap<Labels, u32, foldhash::fast::RandomState>,
    series: Vec<Labels>,
    rows: Vec<Row>,
    bytes: usize,
    last: Option<u32>,
}

impl Buffer {
    pub fn push(&mut self, labels: &Labels, sample: SampleRef<'_>) {
        // Most come series by series.
        let known = self.last.filter(|i| self.series[*i as usize] == *labels);
        let series = known.or_else(|| self.places.get(labels).copied()).unwrap_or_else(|| {
            let place = self.series.len() as u32;
            self.bytes += labels.as_packed().len() * 2 + SERIES_BYTES;
            self.places.insert(labels.clone(), place);
            self.series.push(labels.clone());
            place
        });
        self.last = Some(series);
        let value = match sample.value {
            ValueRef::Float(v) => Value::Float(v),
            ValueRef::Histogram(h) => {
                self.bytes += size_of::<FloatHistogram>()
                    + 8 * (h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len())
                    + 8 * (h.positive_spans.len() + h.negative_spans.len());
                Value::Histogram(Arc::clone(h))
            }
        };
        self.rows.push(Row { series, ts: sample.ts, start: sample.start, value });
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether labels and histograms take much memory.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Puts the samples in the order of their times; those of one time stay as they came.
    pub fn sort(&mut self) {
        self.rows.sort_by_key(|r| r.ts);
    }

    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.places.clear();
        self.series.clear();
        self.bytes = 0;
        self.last = None;
    }

    /// Writes some of the rows, which ascend in time, as a block. Of several of one series and time the first stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_block(
        &self,
        rows: &[Row],
        range: (Timestamp, Timestamp),
        out: impl Write,
    ) -> io::Result<Collisions> {
        let used: BTreeSet<u32> = rows.iter().map(|r| r.series).collect();
        let mut pairs: Vec<(&str, &str)> =
            used.iter().flat_map(|s| self.series[*s as usize].iter()).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let ranks_of = |series: u32| -> Vec<u32> {
            let labels = self.series[series as usize].iter();
            labels.map(|pair| pairs.partition_point(|p| *p < pair) as u32).collect()
        };
        let mut series: Vec<(Vec<u32>, u32)> = used.iter().map(|s| (ranks_of(*s), *s)).collect();
        series.sort_unstable();
        let mut order: Vec<&Row> = rows.iter().collect();
        order.sort_by_key(|r| (r.series, r.ts));
        let mut writer = BlockWriter::new(out, range, &pairs)?;
        let mut collisions = Collisions::default();
        let (mut samples, mut one) = (Samples::default(), Samples::default());
        for (ranks, series) in &series {
            let begin = order.partition_point(|r| r.series < *series);
            samples.clear();
            let mut last = None;
            for row in order[begin..].iter().take_while(|r| r.series == *series) {
                if last == Some(row.ts) {
                    // Rare: let the merge say whether it is the same.
                    one.clear();
                    one.push(row.sample());
                    samples.merge(&mut one, &mut collisions);
                } else {
                    samples.push(row.sample());
                }
                last = Some(row.ts);
            }
            writer.series(ranks, &samples)?;
        }
        writer.finish()?;
        Ok(collisions)
    }
}

impl Row {
    fn sample(&self) -> SampleRef<'_> {
        let value = match &self.value {
            Value::Float(v) => ValueRef::Float(*v),
            Value::Histogram(h) => ValueRef::Histogram(h),
        };
        SampleRef { ts: self.ts, start: self.start, value }
    }
}
