//! The intermediate value: series by row, steps by column.

use std::sync::Arc;

use super::context::{Held, Result};
use super::pace::{LABELS, Pace};
use crate::model::{FloatHistogram, Labels, METRIC_NAME};
use crate::storage::LabelTable;

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
pub(super) struct Series<L = Labels> {
    pub labels: L,
    /// The metric name goes at the end of the evaluation (delayed name removal).
    pub drop_name: bool,
}

/// The labels of a row that has not left the engine yet: mostly those of a selected series, which stand in the table
/// of its selection. Making a label set of each costs more than reading the samples.
#[derive(Clone, Debug)]
pub(super) enum RowLabels {
    Made(Labels),
    /// Of this series of the table; without what describes the metric if `bare`.
    Stored {
        series: u32,
        bare: bool,
    },
}

impl RowLabels {
    /// The labels without the metric's name, type and unit.
    pub fn without_metadata(&self) -> RowLabels {
        match self {
            RowLabels::Made(labels) => RowLabels::Made(without_metadata(labels)),
            RowLabels::Stored { series, .. } => RowLabels::Stored { series: *series, bare: true },
        }
    }

    /// The value of a label.
    pub fn get<'a>(&'a self, table: &'a LabelTable, name: &str) -> Option<&'a str> {
        match self {
            RowLabels::Made(labels) => labels.get(name),
            RowLabels::Stored { bare: true, .. } if describes_metric(name) => None,
            RowLabels::Stored { series, .. } => {
                table.pairs(*series).find(|(n, _)| *n == name).map(|(_, v)| v)
            }
        }
    }

    /// The pairs, ascending by name, into `out`.
    pub fn pairs_into<'a>(&'a self, table: &'a LabelTable, out: &mut Vec<(&'a str, &'a str)>) {
        out.clear();
        match self {
            RowLabels::Made(labels) => out.extend(labels.iter()),
            RowLabels::Stored { series, bare: false } => out.extend(table.pairs(*series)),
            RowLabels::Stored { series, bare: true } => {
                out.extend(table.pairs(*series).filter(|(n, _)| !describes_metric(n)));
            }
        }
    }

    /// As a label set of its own.
    pub fn make(&self, table: &LabelTable) -> Labels {
        match self {
            RowLabels::Made(labels) => labels.clone(),
            RowLabels::Stored { series, bare: false } => table.labels(*series),
            RowLabels::Stored { series, bare: true } => {
                Labels::from_sorted(table.pairs(*series).filter(|(n, _)| !describes_metric(n)))
            }
        }
    }
}

/// Rows as recipes make them: each row's labels may stand in the recipe's table.
pub(super) type Part = Columns<RowLabels>;

/// Rows whose labels are not made yet, and the table in which they stand.
#[derive(Debug)]
pub(super) struct Lazy {
    pub columns: Part,
    pub table: Arc<LabelTable>,
}

impl Lazy {
    /// With a label set for each row.
    pub fn made(self, pace: &mut Pace<'_, '_>) -> Result<Columns> {
        let Columns { steps, series, kinds, values, hists } = self.columns;
        let made = |s: Series<RowLabels>| {
            pace.work(LABELS)?;
            Ok(Series { labels: s.labels.make(&self.table), drop_name: s.drop_name })
        };
        let series = series.into_iter().map(made).collect::<Result<_>>()?;
        Ok(Columns { steps, series, kinds, values, hists })
    }

    /// The labels of one row.
    pub fn labels(&self, row: usize) -> Labels {
        self.columns.series[row].labels.make(&self.table)
    }
}

impl From<Columns> for Lazy {
    fn from(columns: Columns) -> Self {
        let Columns { steps, series, kinds, values, hists } = columns;
        let series = series
            .into_iter()
            .map(|s| Series { labels: RowLabels::Made(s.labels), drop_name: s.drop_name })
            .collect();
        Lazy { columns: Columns { steps, series, kinds, values, hists }, table: Arc::default() }
    }
}

/// Rows of `steps` slots each, in one piece of memory per kind of datum.
///
/// `kinds` and `values` have `series.len() * steps` elements; `hists` has as many, or none at all while no slot holds
/// a histogram. The value of a slot that is not a float means nothing.
#[derive(Clone, Debug)]
pub(super) struct Columns<L = Labels> {
    pub steps: usize,
    pub series: Vec<Series<L>>,
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

impl<L> Columns<L> {
    pub fn new(steps: usize) -> Self {
        Columns { steps, series: Vec::new(), kinds: Vec::new(), values: Vec::new(), hists: Vec::new() }
    }

    /// Room for so many rows, as far as that is a sensible amount; what is not used costs nothing. A large table that
    /// grew would be copied as a whole, which takes the system some 0.3 s and cannot be stopped.
    pub fn with_capacity(steps: usize, rows: usize) -> Self {
        const SLOTS_MAX: usize = 1 << 27;
        let rows = rows.min(SLOTS_MAX / steps.max(1));
        let mut columns = Columns::new(steps);
        // Where there is no such room, the table grows, and the limits say how far.
        let _room = columns.series.try_reserve_exact(rows);
        let _room = columns.kinds.try_reserve_exact(rows * steps);
        let _room = columns.values.try_reserve_exact(rows * steps);
        columns
    }

    /// Takes back all rows, keeping their memory.
    pub fn clear_rows(&mut self) {
        self.series.clear();
        self.kinds.clear();
        self.values.clear();
        self.hists.clear();
    }

    pub fn rows(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Adds a row of absent slots and answers its number.
    pub fn push_row(&mut self, labels: L, drop_name: bool) -> usize {
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
        // Mostly it is so: no look stops early, so that many are taken at a time.
        self.row_kinds(row).iter().fold(true, |all, k| all & (*k == FLOAT))
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
        self.samples_from(0)
    }

    /// As [`Columns::samples`], from this row on.
    pub fn samples_from(&self, row: usize) -> Held {
        let from = row * self.steps;
        let kinds = &self.kinds[from..];
        let hists = self.hists.get(from..).unwrap_or(&[]);
        let floats = kinds.iter().map(|k| u64::from(*k == FLOAT)).sum::<u64>();
        let in_histograms = hists.iter().flatten().map(|h| h.size_in_samples()).sum::<u64>();
        let bytes = SLOT_BYTES * kinds.len() as u64
            + ROW_BYTES * (self.series.len() - row) as u64
            + 8 * hists.len() as u64
            + 16 * in_histograms;
        Held { samples: floats + in_histograms, bytes }
    }

    /// Appends `other`'s rows. Both have the same number of steps.
    pub fn append(&mut self, mut other: Columns<L>) {
        if self.series.is_empty() && self.values.capacity() < other.values.len() {
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

    /// As [`Columns::append`], for a part that may be large.
    pub fn append_part(&mut self, mut other: Columns<L>, pace: &mut Pace<'_, '_>) -> Result<()> {
        let rows = other.rows();
        let from = self.kinds.len();
        if from == 0 || !self.hists.is_empty() || !other.hists.is_empty() {
            pace.work(rows)?;
            self.append(other);
            return Ok(());
        }
        self.series.append(&mut other.series);
        self.kinds.reserve_exact(other.kinds.len());
        self.values.reserve_exact(other.values.len());
        let slots = 1 << 16;
        for (kinds, values) in other.kinds.chunks(slots).zip(other.values.chunks(slots)) {
            pace.work(slots)?;
            self.kinds.extend_from_slice(kinds);
            self.values.extend_from_slice(values);
        }
        Ok(())
    }

    /// One step's worth of every row, repeated for `steps` steps.
    pub fn broadcast(self, steps: usize, pace: &mut Pace<'_, '_>) -> Result<Self> {
        if self.steps == steps || self.steps != 1 {
            return Ok(self);
        }
        let mut out = Columns::new(steps);
        for slot in 0..self.rows() {
            pace.work(steps)?;
            out.kinds.resize(out.kinds.len() + steps, self.kinds[slot]);
            out.values.resize(out.values.len() + steps, self.values[slot]);
            if !self.hists.is_empty() {
                out.hists.resize(out.hists.len() + steps, self.hists[slot].clone());
            }
        }
        out.series = self.series;
        Ok(out)
    }
}

impl<L: Clone> Columns<L> {
    /// A new table of these rows, in this order.
    pub fn pick(&self, rows: &[usize], pace: &mut Pace<'_, '_>) -> Result<Self> {
        let mut out = Columns::new(self.steps);
        out.series.reserve(rows.len());
        for &row in rows {
            pace.work(self.steps + LABELS)?;
            out.series.push(self.series[row].clone());
            out.kinds.extend_from_slice(self.row_kinds(row));
            out.values.extend_from_slice(self.row_values(row));
            if !self.hists.is_empty() {
                out.hists.extend_from_slice(&self.hists[self.span(row)]);
            }
        }
        Ok(out)
    }

    /// Drops rows without any point.
    pub fn drop_empty_rows(&mut self, pace: &mut Pace<'_, '_>) -> Result<()> {
        let mut kept = Vec::with_capacity(self.rows());
        for row in 0..self.rows() {
            pace.work(self.steps)?;
            if self.has_points(row) {
                kept.push(row);
            }
        }
        if kept.len() < self.rows() {
            *self = self.pick(&kept, pace)?;
        }
        Ok(())
    }
}

/// Whether a label says something about the metric, not about the series.
pub(super) fn describes_metric(name: &str) -> bool {
    name.starts_with("__") && (name == METRIC_NAME || name == "__type__" || name == "__unit__")
}

/// The labels without what describes the metric itself: its name, type and unit.
pub(super) fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(n, _)| describes_metric(n)) {
        Labels::from_sorted(labels.iter().filter(|(n, _)| !describes_metric(n)))
    } else {
        labels.clone()
    }
}
