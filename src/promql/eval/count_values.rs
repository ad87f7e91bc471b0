//! `count_values`: how many rows have each value.
//!
//! Every step may bring values that occur at no other. So counts are kept for the steps that have one, and that is what
//! a query of nothing else answers; only an operator above gets a table with a slot for every step.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::columns::{Columns, Point};
use super::context::{Context, Grid, Held, Result, fail, unwrap_parens};
use super::grouping::Grouping;
use super::{labels, sorted, string_literal};
use crate::model::Labels;
use crate::promql::MatrixSeries;
use crate::promql::ast::Aggregate;

/// What a value that is new is taken to need beside its label's text.
const VALUE_BYTES: u64 = 128;

/// The rows of one value in one group.
struct Counted {
    labels: Labels,
    /// Steps, ascending, with the number of rows that have the value there.
    counts: Vec<(usize, f64)>,
}

impl Context<'_> {
    /// As a table.
    pub fn count_values(&self, a: &Aggregate, grid: Grid) -> Result<Columns> {
        // Refused while they are counted: there may be a new value in every sample.
        let (counted, held) = self.counted(a, grid, |values| self.check_slots(values, grid.len))?;
        let mut out = Columns::with_capacity(grid.len, counted.len());
        for (i, Counted { labels, counts }) in counted.into_iter().enumerate() {
            if i.is_multiple_of(64) {
                self.check()?;
            }
            let row = out.push_row(labels, false);
            for (step, count) in counts {
                out.set(row * grid.len + step, Point::Float(count));
            }
        }
        self.samples.release(held);
        self.hold(out.samples())?;
        Ok(out)
    }

    /// As the answer to a range query, sorted by labels.
    pub fn count_values_matrix(&self, a: &Aggregate, grid: Grid) -> Result<Vec<MatrixSeries>> {
        let (mut counted, _) = self.counted(a, grid, |values| self.check_series(values))?;
        let mut order: Vec<usize> = (0..counted.len()).collect();
        sorted::sort_by(&mut order, || self.check(), |x, y| counted[*x].labels.cmp(&counted[*y].labels))?;
        let series = order.into_iter().map(|i| {
            let counts = std::mem::take(&mut counted[i].counts);
            MatrixSeries {
                labels: counted[i].labels.clone(),
                floats: counts.into_iter().map(|(step, count)| (grid.time(step), count)).collect(),
                ..MatrixSeries::default()
            }
        });
        Ok(series.collect())
    }

    /// The values in the order in which they first occur, and what they hold. `check` is asked at every step whether there
    /// may be so many.
    fn counted(
        &self,
        a: &Aggregate,
        grid: Grid,
        check: impl Fn(usize) -> Result<()>,
    ) -> Result<(Vec<Counted>, Held)> {
        let Some(param) = a.param.as_ref() else { return fail("count_values needs a label name") };
        let label = string_literal(param)?;
        if !labels::is_valid_name(label) {
            return fail(format!("invalid label name {label:?}"));
        }
        let lazy = self.lazy_vector(unwrap_parens(&a.expr), grid)?;
        let columns = &lazy.columns;
        // The values make groups within the groups of the other labels; `without` may leave the values out again.
        let named = a.labels.iter().any(|l| l == label);
        let names = a.labels.iter().map(String::as_str);
        let names: Vec<&str> =
            if a.without { names.chain([label]).collect() } else { names.filter(|n| *n != label).collect() };
        let leave_out = a.without && named;
        let mut grouping = Grouping::new(names, a.without);
        let mut group_labels: Vec<Labels> = Vec::new();
        let mut group_of: Vec<usize> = Vec::with_capacity(columns.rows());
        for (row, s) in columns.series.iter().enumerate() {
            if row.is_multiple_of(ROWS_BETWEEN_CHECKS) {
                self.check()?;
            }
            let (group, new) = grouping.find(&lazy.table, &s.labels);
            if new {
                group_labels.push(grouping.labels(&lazy.table, &s.labels));
            }
            group_of.push(group);
        }
        let mut floats: HashMap<(usize, u64), usize, RandomState> = HashMap::default();
        let mut histograms: HashMap<(usize, String), usize, RandomState> = HashMap::default();
        let mut counted: Vec<Counted> = Vec::new();
        // Values often repeat from step to step: each row's newest, and where it is counted.
        let mut newest: Vec<Option<(u64, usize)>> = vec![None; columns.rows()];
        let mut held = Held::default();
        let mut pace = self.pace();
        for step in 0..grid.len {
            let mut more = Held::default();
            for row in 0..columns.rows() {
                if row.is_multiple_of(ROWS_BETWEEN_CHECKS) {
                    self.check()?;
                    self.hold(more)?;
                    held = held + std::mem::take(&mut more);
                }
                let slot = row * grid.len + step;
                let group = group_of[row];
                let mut count_as_new = |text: &str| {
                    let group = &group_labels[group];
                    let labels = if leave_out { group.clone() } else { group.with(label, text) };
                    more.bytes += VALUE_BYTES + text.len() as u64;
                    counted.push(Counted { labels, counts: Vec::new() });
                    counted.len() - 1
                };
                let (bits, text) = match columns.point(slot) {
                    Point::None => continue,
                    _ if leave_out => (0, None),
                    Point::Float(v) if v.is_nan() => (f64::NAN.to_bits(), None),
                    Point::Float(v) => (v.to_bits(), None),
                    Point::Histogram(h) => {
                        pace.work(HISTOGRAM_TEXT)?;
                        (0, Some(h.to_string()))
                    }
                };
                let target = match (newest[row], text) {
                    (Some((b, target)), None) if b == bits => target,
                    (_, None) => {
                        let target = *floats
                            .entry((group, bits))
                            .or_insert_with(|| count_as_new(&plain_float(columns.values[slot])));
                        newest[row] = Some((bits, target));
                        target
                    }
                    (_, Some(text)) => {
                        *histograms.entry((group, text)).or_insert_with_key(|(_, text)| count_as_new(text))
                    }
                };
                let counts = &mut counted[target].counts;
                match counts.last_mut() {
                    Some((s, count)) if *s == step => *count += 1.0,
                    _ => {
                        counts.push((step, 1.0));
                        more = more + Held::from(1);
                    }
                }
            }
            self.hold(more)?;
            held = held + more;
            check(counted.len())?;
        }
        self.samples.release(columns.samples());
        Ok((counted, held))
    }
}

/// What a histogram's text costs, in units of work.
const HISTOGRAM_TEXT: usize = 500;

const ROWS_BETWEEN_CHECKS: usize = 4096;

/// A float without an exponent, as Go's `FormatFloat(v, 'f', -1, 64)` writes it.
fn plain_float(v: f64) -> String {
    if v.is_infinite() { if v > 0.0 { "+Inf".into() } else { "-Inf".into() } } else { v.to_string() }
}
