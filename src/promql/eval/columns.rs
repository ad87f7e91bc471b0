//! The intermediate value: series by row, steps by column.

use std::sync::Arc;

use super::context::Held;
use crate::model::{FloatHistogram, Labels, METRIC_NAME};

/// What a slot takes in memory: its kind and its value.
pub(super) const SLOT_BYTES: u64 = 9;

/// What a row takes besides its slots: about the size of its labels' handle and of its entries in maps.
const ROW_BYTES: u64 = 64;

/// What stands in a slot.
pub(super) const ABSENT: u8 = 0;
pub(super) const FLOAT: u8 = 1;
pub(super) const HISTOGRAM: u8 = 2;

/// One row's identity.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub labels: Labels,
    /// The metric name goes at the end of the evaluation (delayed name removal).
    pub drop_name: bool,
}

/// Rows of `steps` slots each, in one piece of memory per kind of datum.
///
/// `kinds` and `values` have `series.len() * steps` elements; `hists` has as many, or none at all while no slot holds
/// a histogram. The value of a slot that is not a float means nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    pub steps: usize,
    pub series: Vec<Series>,
    pub kinds: Vec<u8>,
    pub values: Vec<f64>,
    pub hists: Vec<Option<Arc<FloatHistogram>>>,
}

/// A value in a slot.
#[derive(Clone, Debug)]
pub(super) enum Point {
    None,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Point {
    pub fn histogram(h: FloatHistogram) -> Self {
        Point::Histogram(Arc::new(h))
    }
}

impl Columns {
    pub fn new(steps: usize) -> Self {
        Columns { steps, ..Columns::default() }
    }

    pub fn rows(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Adds a row of absent slots and answers its number.
    pub fn push_row(&mut self, labels: Labels, drop_name: bool) -> usize {
        self.series.push(Series { labels, drop_name });
        let slots = self.series.len() * self.steps;
        self.kinds.resize(slots, ABSENT);
        self.values.resize(slots, 0.0);
        if !self.hists.is_empty() {
            self.hists.resize(slots, None);
        }
        self.series.len() - 1
    }

    /// Takes back the last row.
    pub fn pop_row(&mut self) {
        self.series.pop();
        let slots = self.series.len() * self.steps;
        self.kinds.truncate(slots);
        self.values.truncate(slots);
        if !self.hists.is_empty() {
            self.hists.truncate(slots);
        }
    }

    pub fn span(&self, row: usize) -> std::ops::Range<usize> {
        row * self.steps..(row + 1) * self.steps
    }

    pub fn row_kinds(&self, row: usize) -> &[u8] {
        &self.kinds[self.span(row)]
    }

    pub fn row_values(&self, row: usize) -> &[f64] {
        &self.values[self.span(row)]
    }

    /// Whether every slot of the row is a float: then its values can be walked without looking at the kinds.
    pub fn all_floats(&self, row: usize) -> bool {
        self.row_kinds(row).iter().all(|k| *k == FLOAT)
    }

    pub fn has_points(&self, row: usize) -> bool {
        self.row_kinds(row).iter().any(|k| *k != ABSENT)
    }

    /// The histogram in a slot that holds one.
    pub fn hist(&self, slot: usize) -> Option<&Arc<FloatHistogram>> {
        if self.kinds[slot] == HISTOGRAM { self.hists.get(slot).and_then(Option::as_ref) } else { None }
    }

    pub fn point(&self, slot: usize) -> Point {
        match self.kinds[slot] {
            FLOAT => Point::Float(self.values[slot]),
            HISTOGRAM => self.hist(slot).map_or(Point::None, |h| Point::Histogram(Arc::clone(h))),
            _ => Point::None,
        }
    }

    pub fn set(&mut self, slot: usize, point: Point) {
        match point {
            Point::None => self.clear(slot),
            Point::Float(v) => {
                self.kinds[slot] = FLOAT;
                self.values[slot] = v;
            }
            Point::Histogram(h) => {
                self.kinds[slot] = HISTOGRAM;
                if self.hists.is_empty() {
                    self.hists.resize(self.kinds.len(), None);
                }
                self.hists[slot] = Some(h);
            }
        }
    }

    pub fn clear(&mut self, slot: usize) {
        if self.kinds[slot] == HISTOGRAM {
            self.hists[slot] = None;
        }
        self.kinds[slot] = ABSENT;
    }

    /// What the table takes: how many slots hold something (a histogram counts by its size, as Prometheus counts
    /// samples), and the bytes of all slots.
    pub fn samples(&self) -> Held {
        let floats = self.kinds.iter().map(|k| u64::from(*k == FLOAT)).sum::<u64>();
        let in_histograms = self.hists.iter().flatten().map(|h| h.size_in_samples()).sum::<u64>();
        let bytes = SLOT_BYTES * self.kinds.len() as u64
            + ROW_BYTES * self.series.len() as u64
            + 8 * self.hists.len() as u64
            + 16 * in_histograms;
        Held { samples: floats + in_histograms, bytes }
    }

    /// Appends `other`'s rows. Both have the same number of steps.
    pub fn append(&mut self, mut other: Columns) {
        if self.series.is_empty() {
            *self = other;
            return;
        }
        if !self.hists.is_empty() || !other.hists.is_empty() {
            self.hists.resize(self.kinds.len(), None);
            other.hists.resize(other.kinds.len(), None);
            self.hists.append(&mut other.hists);
        }
        self.series.append(&mut other.series);
        self.kinds.append(&mut other.kinds);
        self.values.append(&mut other.values);
    }

    /// A new table of these rows, in this order.
    pub fn pick(&self, rows: &[usize]) -> Columns {
        let mut out = Columns::new(self.steps);
        out.series.reserve(rows.len());
        for &row in rows {
            out.series.push(self.series[row].clone());
            out.kinds.extend_from_slice(self.row_kinds(row));
            out.values.extend_from_slice(self.row_values(row));
            if !self.hists.is_empty() {
                out.hists.extend_from_slice(&self.hists[self.span(row)]);
            }
        }
        out
    }

    /// Drops rows without any point.
    pub fn drop_empty_rows(&mut self) {
        let kept: Vec<usize> = (0..self.rows()).filter(|r| self.has_points(*r)).collect();
        if kept.len() < self.rows() {
            *self = self.pick(&kept);
        }
    }

    /// One step's worth of every row, repeated for `steps` steps.
    pub fn broadcast(self, steps: usize) -> Columns {
        if self.steps == steps || self.steps != 1 {
            return self;
        }
        let mut out = Columns { steps, ..Columns::default() };
        for slot in 0..self.rows() {
            out.kinds.resize(out.kinds.len() + steps, self.kinds[slot]);
            out.values.resize(out.values.len() + steps, self.values[slot]);
            if !self.hists.is_empty() {
                out.hists.resize(out.hists.len() + steps, self.hists[slot].clone());
            }
        }
        out.series = self.series;
        out
    }
}

/// The labels without what describes the metric itself: its name, type and unit.
pub(super) fn without_metadata(labels: &Labels) -> Labels {
    let described = |n: &str| n == METRIC_NAME || n == "__type__" || n == "__unit__";
    if labels.iter().any(|(n, _)| described(n)) {
        Labels::from_sorted(labels.iter().filter(|(n, _)| !described(n)))
    } else {
        labels.clone()
    }
}
