//! Aggregations that fold many rows into one: `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar`,
//! `quantile`.
//!
//! The folding ones keep an accumulator per group and step. Each thread folds its share of the rows into accumulators
//! of its own, which are merged at the end, so the rows themselves are never held together.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::columns::{ABSENT, Columns, FLOAT, HISTOGRAM, Lazy, Part, Point, RowLabels};
use super::context::{Context, Grid, Result, fail, unwrap_parens};
use super::grouping::Grouping;
use super::over_time::HistogramSum;
use super::pace::LABELS;
use super::pointwise::{go_max, go_min};
use super::quantile::quantile;
use crate::model::{Labels, METRIC_NAME, kahan_add};
use crate::promql::ast::{Aggregate, AggregateOp, Expr, Pos};
use crate::storage::LabelTable;

/// What adding a histogram costs, in units of work.
const HISTOGRAM_ADDED: usize = 64;

// What an accumulator has seen.
const SEEN_FLOAT: u8 = 1;
const SEEN_HISTOGRAM: u8 = 2;
/// The histograms do not fit together.
const INCOMPATIBLE: u8 = 4;
/// The mean is calculated incrementally, for the sum would overflow.
const INCREMENTAL: u8 = 8;

/// The accumulators of all groups. Each vector has `groups * steps` elements, or none if the operator needs none.
struct Folded<'a> {
    op: AggregateOp,
    steps: usize,
    grouping: Grouping<'a>,
    series: Vec<(Labels, bool)>,
    seen: Vec<u8>,
    /// Sum, extreme, or sum of squared deviations.
    value: Vec<f64>,
    /// Compensation of the sum; the mean, for the deviations.
    extra: Vec<f64>,
    count: Vec<f64>,
    histograms: HashMap<usize, HistogramSum, RandomState>,
}

impl<'a> Folded<'a> {
    fn new(a: &'a Aggregate, steps: usize) -> Self {
        Folded {
            op: a.op,
            steps,
            grouping: Grouping::new(a.labels.iter().map(String::as_str), a.without),
            series: Vec::new(),
            seen: Vec::new(),
            value: Vec::new(),
            extra: Vec::new(),
            count: Vec::new(),
            histograms: HashMap::default(),
        }
    }

    fn group(&mut self, table: &Arc<LabelTable>, labels: &RowLabels, drop_name: bool) -> usize {
        let (group, new) = self.grouping.find(table, labels);
        if new {
            self.series.push((self.grouping.labels(table, labels), drop_name));
            let slots = self.series.len() * self.steps;
            self.seen.resize(slots, 0);
            self.value.resize(slots, 0.0);
            if !matches!(
                self.op,
                AggregateOp::Min | AggregateOp::Max | AggregateOp::Group | AggregateOp::Count
            ) {
                self.extra.resize(slots, 0.0);
            }
            if !matches!(self.op, AggregateOp::Sum | AggregateOp::Min | AggregateOp::Max | AggregateOp::Group)
            {
                self.count.resize(slots, 0.0);
            }
        }
        self.series[group].1 |= drop_name;
        group
    }

    /// Folds rows in. `pos` is where annotations about them point.
    fn fold(&mut self, ctx: &Context<'_>, table: &Arc<LabelTable>, columns: &Part, pos: &Pos) -> Result<()> {
        let mut pace = ctx.pace();
        for row in 0..columns.rows() {
            pace.work(self.steps + LABELS)?;
            let s = &columns.series[row];
            let group = self.group(table, &s.labels, s.drop_name);
            let slots = group * self.steps..(group + 1) * self.steps;
            if columns.all_floats(row) {
                self.fold_floats(slots, columns.row_values(row));
                continue;
            }
            for (to, from) in slots.zip(columns.span(row)) {
                match columns.kinds[from] {
                    ABSENT => {}
                    FLOAT => self.fold_floats(to..to + 1, &columns.values[from..=from]),
                    HISTOGRAM => {
                        let metric = s.labels.get(table, METRIC_NAME).unwrap_or("");
                        pace.work(HISTOGRAM_ADDED)?;
                        self.fold_histogram(ctx, to, columns, from, metric, pos);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Folds one float into each of the accumulators.
    fn fold_floats(&mut self, slots: std::ops::Range<usize>, values: &[f64]) {
        let seen = &mut self.seen[slots.clone()];
        let value = &mut self.value[slots.clone()];
        match self.op {
            AggregateOp::Sum => {
                let extra = &mut self.extra[slots];
                let all_seen = seen.iter().fold(true, |all, s| all & (s & SEEN_FLOAT != 0));
                if all_seen {
                    add_all(values, value, extra);
                } else {
                    for i in 0..values.len() {
                        if seen[i] & SEEN_FLOAT == 0 {
                            value[i] = values[i];
                        } else {
                            (value[i], extra[i]) = kahan_add(values[i], value[i], extra[i]);
                        }
                        seen[i] |= SEEN_FLOAT;
                    }
                }
            }
            AggregateOp::Avg => {
                let extra = &mut self.extra[slots.clone()];
                let count = &mut self.count[slots];
                for i in 0..values.len() {
                    count[i] += 1.0;
                    let n = count[i];
                    if seen[i] & SEEN_FLOAT == 0 {
                        seen[i] |= SEEN_FLOAT;
                        value[i] = values[i];
                        continue;
                    }
                    if seen[i] & INCREMENTAL == 0 {
                        let (sum, c) = kahan_add(values[i], value[i], extra[i]);
                        if !sum.is_infinite() {
                            (value[i], extra[i]) = (sum, c);
                            continue;
                        }
                        seen[i] |= INCREMENTAL;
                        value[i] /= n - 1.0;
                        extra[i] /= n - 1.0;
                    }
                    let q = (n - 1.0) / n;
                    (value[i], extra[i]) = kahan_add(values[i] / n, q * value[i], q * extra[i]);
                }
            }
            AggregateOp::Min => {
                for i in 0..values.len() {
                    if seen[i] == 0 || value[i] > values[i] || value[i].is_nan() {
                        value[i] = values[i];
                    }
                    seen[i] |= SEEN_FLOAT;
                }
            }
            AggregateOp::Max => {
                for i in 0..values.len() {
                    if seen[i] == 0 || value[i] < values[i] || value[i].is_nan() {
                        value[i] = values[i];
                    }
                    seen[i] |= SEEN_FLOAT;
                }
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                let mean = &mut self.extra[slots.clone()];
                let count = &mut self.count[slots];
                for i in 0..values.len() {
                    count[i] += 1.0;
                    if seen[i] & SEEN_FLOAT == 0 {
                        seen[i] |= SEEN_FLOAT;
                        mean[i] = values[i];
                        value[i] = if values[i].is_finite() { 0.0 } else { f64::NAN };
                        continue;
                    }
                    let delta = values[i] - mean[i];
                    mean[i] += delta / count[i];
                    value[i] += delta * (values[i] - mean[i]);
                }
            }
            AggregateOp::Count => {
                for (seen, count) in seen.iter_mut().zip(&mut self.count[slots]) {
                    *seen |= SEEN_FLOAT;
                    *count += 1.0;
                }
            }
            _ => seen.iter_mut().for_each(|s| *s |= SEEN_FLOAT),
        }
    }

    fn fold_histogram(
        &mut self,
        ctx: &Context<'_>,
        to: usize,
        columns: &Part,
        from: usize,
        metric: &str,
        pos: &Pos,
    ) {
        match self.op {
            AggregateOp::Count => {
                self.seen[to] |= SEEN_FLOAT;
                self.count[to] += 1.0;
            }
            AggregateOp::Group => self.seen[to] |= SEEN_FLOAT,
            AggregateOp::Sum | AggregateOp::Avg => {
                self.seen[to] |= SEEN_HISTOGRAM;
                let Some(h) = columns.hist(from) else { return };
                if self.seen[to] & INCOMPATIBLE != 0 {
                    return;
                }
                match self.histograms.get_mut(&to) {
                    None => {
                        self.histograms.insert(to, HistogramSum::new(h, self.op == AggregateOp::Avg));
                    }
                    Some(sum) => {
                        if sum.add(h).is_err() {
                            ctx.notes.mixed_schemas(metric, pos);
                            self.seen[to] |= INCOMPATIBLE;
                        }
                    }
                }
            }
            op => ctx.notes.histogram_ignored_in_aggregation(op_name(op), pos),
        }
    }

    /// Takes over what another thread has folded.
    fn merge(&mut self, ctx: &Context<'_>, mut other: Folded<'_>, pos: &Pos) -> Result<()> {
        let none = Arc::default();
        let mut pace = ctx.pace();
        for (from_group, (labels, drop_name)) in std::mem::take(&mut other.series).into_iter().enumerate() {
            // These are the group's labels already.
            let group = self.group(&none, &RowLabels::Made(labels), drop_name);
            pace.work(self.steps + LABELS)?;
            for step in 0..self.steps {
                let (to, from) = (group * self.steps + step, from_group * self.steps + step);
                let seen = other.seen[from];
                if seen & SEEN_FLOAT != 0 {
                    if self.seen[to] & SEEN_FLOAT == 0 {
                        self.value[to] = other.value[from];
                        if let (Some(e), Some(o)) = (self.extra.get_mut(to), other.extra.get(from)) {
                            *e = *o;
                        }
                        if let (Some(c), Some(o)) = (self.count.get_mut(to), other.count.get(from)) {
                            *c = *o;
                        }
                        self.seen[to] |= seen & (SEEN_FLOAT | INCREMENTAL);
                    } else {
                        self.merge_floats(to, &other, from);
                    }
                }
                if seen & SEEN_HISTOGRAM != 0 {
                    self.seen[to] |= seen & (SEEN_HISTOGRAM | INCOMPATIBLE);
                    if let Some(sum) = other.histograms.remove(&from) {
                        pace.work(HISTOGRAM_ADDED)?;
                        self.merge_histograms(ctx, to, sum, pos);
                    }
                }
            }
        }
        Ok(())
    }

    fn merge_floats(&mut self, to: usize, other: &Folded<'_>, from: usize) {
        let v = other.value[from];
        match self.op {
            AggregateOp::Sum => {
                (self.value[to], self.extra[to]) = kahan_add(v, self.value[to], self.extra[to]);
                self.extra[to] += other.extra[from];
            }
            AggregateOp::Avg => {
                let (n, m) = (self.count[to], other.count[from]);
                let both_sums = (self.seen[to] | other.seen[from]) & INCREMENTAL == 0;
                if both_sums {
                    let (sum, c) = kahan_add(v, self.value[to], self.extra[to]);
                    if !sum.is_infinite() {
                        (self.value[to], self.extra[to]) = (sum, c + other.extra[from]);
                        self.count[to] = n + m;
                        return;
                    }
                }
                let mean = |seen: u8, value: f64, extra: f64, count: f64| {
                    if seen & INCREMENTAL == 0 { value / count + extra / count } else { value + extra }
                };
                let a = mean(self.seen[to], self.value[to], self.extra[to], n);
                let b = mean(other.seen[from], v, other.extra[from], m);
                self.value[to] = a * (n / (n + m)) + b * (m / (n + m));
                self.extra[to] = 0.0;
                self.count[to] = n + m;
                self.seen[to] |= INCREMENTAL;
            }
            AggregateOp::Min if self.value[to] > v || self.value[to].is_nan() => self.value[to] = v,
            AggregateOp::Max if self.value[to] < v || self.value[to].is_nan() => self.value[to] = v,
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                // Chan et al.: parallel variance.
                let (n, m) = (self.count[to], other.count[from]);
                let delta = other.extra[from] - self.extra[to];
                self.value[to] += v + delta * delta * n * m / (n + m);
                self.extra[to] += delta * m / (n + m);
                self.count[to] = n + m;
            }
            AggregateOp::Count => self.count[to] += other.count[from],
            _ => {}
        }
    }

    fn merge_histograms(&mut self, ctx: &Context<'_>, to: usize, sum: HistogramSum, pos: &Pos) {
        match self.histograms.get_mut(&to) {
            None => {
                self.histograms.insert(to, sum);
            }
            Some(own) => {
                if own.merge(sum).is_err() {
                    ctx.notes.mixed_schemas("", pos);
                    self.seen[to] |= INCOMPATIBLE;
                }
            }
        }
    }

    fn finish(mut self, ctx: &Context<'_>, pos: &Pos) -> Result<Columns> {
        let mut out = Columns::new(self.steps);
        let mut pace = ctx.pace();
        let series = std::mem::take(&mut self.series);
        for (group, (labels, drop_name)) in series.into_iter().enumerate() {
            let row = out.push_row(labels, drop_name);
            pace.work(self.steps + LABELS)?;
            for step in 0..self.steps {
                let (from, to) = (group * self.steps + step, row * self.steps + step);
                let seen = self.seen[from];
                if seen == 0 {
                    continue;
                }
                if seen & SEEN_HISTOGRAM != 0 {
                    if seen & SEEN_FLOAT != 0 {
                        ctx.notes.mixed_in_aggregation(pos);
                        continue;
                    }
                    pace.work(HISTOGRAM_ADDED)?;
                    let Some(sum) = self.histograms.remove(&from) else { continue };
                    if seen & INCOMPATIBLE != 0 {
                        continue;
                    }
                    if sum.reset_collision() {
                        ctx.notes.reset_collision("aggregation", pos);
                    }
                    if sum.bounds_reconciled {
                        ctx.notes.bounds_reconciled("aggregation", pos);
                    }
                    let mut h = sum.finish();
                    h.compact();
                    out.set(to, Point::histogram(h));
                    continue;
                }
                out.kinds[to] = FLOAT;
                let value = self.value[from];
                out.values[to] = match self.op {
                    AggregateOp::Sum => value + self.extra[from],
                    AggregateOp::Avg if seen & INCREMENTAL != 0 => value + self.extra[from],
                    AggregateOp::Avg => value / self.count[from] + self.extra[from] / self.count[from],
                    AggregateOp::Count => self.count[from],
                    AggregateOp::Group => 1.0,
                    AggregateOp::Stdvar => value / self.count[from],
                    AggregateOp::Stddev => (value / self.count[from]).sqrt(),
                    _ => value,
                };
            }
            if !out.has_points(row) {
                out.pop_row();
            }
        }
        Ok(out)
    }
}

/// Adds to sums with their compensations, as [`kahan_add`] does: written so that there is no branch for each, and
/// several are done at a time.
fn add_all(values: &[f64], sums: &mut [f64], compensations: &mut [f64]) {
    let n = values.len();
    let (sums, compensations) = (&mut sums[..n], &mut compensations[..n]);
    for i in 0..n {
        let (sum, v) = (sums[i], values[i]);
        let total = sum + v;
        let sum_is_larger = sum.abs() >= v.abs();
        let larger = if sum_is_larger { sum } else { v };
        let smaller = if sum_is_larger { v } else { sum };
        let lost = (larger - total) + smaller;
        compensations[i] = if total.is_infinite() { 0.0 } else { compensations[i] + lost };
        sums[i] = total;
    }
}

pub(super) fn op_name(op: AggregateOp) -> &'static str {
    match op {
        AggregateOp::Sum => "sum",
        AggregateOp::Avg => "avg",
        AggregateOp::Min => "min",
        AggregateOp::Max => "max",
        AggregateOp::Count => "count",
        AggregateOp::Group => "group",
        AggregateOp::Stddev => "stddev",
        AggregateOp::Stdvar => "stdvar",
        AggregateOp::TopK => "topk",
        AggregateOp::BottomK => "bottomk",
        AggregateOp::CountValues => "count_values",
        AggregateOp::Quantile => "quantile",
        AggregateOp::LimitK => "limitk",
        AggregateOp::LimitRatio => "limit_ratio",
    }
}

impl Context<'_> {
    pub fn aggregate(&self, expr: &Expr, a: &Aggregate, grid: Grid) -> Result<Columns> {
        match a.op {
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio => {
                self.aggregate_k(expr, a, grid)
            }
            AggregateOp::Quantile => self.aggregate_quantile(a, grid),
            AggregateOp::CountValues => self.count_values(a, grid),
            _ => self.aggregate_fold(a, grid),
        }
    }

    fn aggregate_fold(&self, a: &Aggregate, grid: Grid) -> Result<Columns> {
        let inner = unwrap_parens(&a.expr);
        let pos = &inner.pos;
        let folded = match self.rows(inner, grid)? {
            Some(rows) if rows.duplicates == super::rows::Duplicates::Impossible => {
                let parts = self.fold_rows(
                    &rows,
                    grid,
                    || Folded::new(a, grid.len),
                    |folded, part| {
                        let held = part.samples();
                        self.hold(held)?;
                        folded.fold(self, &rows.table, part, pos)?;
                        self.samples.release(held);
                        self.check_slots(folded.series.len(), grid.len)
                    },
                )?;
                let mut parts = parts.into_iter();
                let mut all = parts.next().unwrap_or_else(|| Folded::new(a, grid.len));
                for part in parts {
                    all.merge(self, part, pos)?;
                }
                all
            }
            rows => {
                // The recipe is used if there is one: for it a subquery has been evaluated.
                let columns = match rows {
                    Some(rows) => self.materialise(rows, grid)?,
                    None => self.vector(inner, grid)?,
                };
                let Lazy { columns, table } = columns.into();
                let mut folded = Folded::new(a, grid.len);
                folded.fold(self, &table, &columns, pos)?;
                self.samples.release(columns.samples());
                folded
            }
        };
        let out = folded.finish(self, pos)?;
        self.hold(out.samples())?;
        Ok(out)
    }

    /// The rows of each group, and its labels; in the order in which the groups first occur.
    pub fn group_rows(&self, a: &Aggregate, lazy: &Lazy) -> Result<Vec<(Labels, bool, Vec<usize>)>> {
        let mut pace = self.pace();
        let mut grouping = Grouping::new(a.labels.iter().map(String::as_str), a.without);
        let mut groups: Vec<(Labels, bool, Vec<usize>)> = Vec::new();
        for (row, s) in lazy.columns.series.iter().enumerate() {
            pace.work(LABELS)?;
            let (group, new) = grouping.find(&lazy.table, &s.labels);
            if new {
                groups.push((grouping.labels(&lazy.table, &s.labels), false, Vec::new()));
            }
            groups[group].1 |= s.drop_name;
            groups[group].2.push(row);
        }
        Ok(groups)
    }

    fn aggregate_quantile(&self, a: &Aggregate, grid: Grid) -> Result<Columns> {
        let Some(param) = a.param.as_ref().map(unwrap_parens) else {
            return fail("quantile needs a parameter");
        };
        let quantiles = self.scalar(param, grid)?;
        let inner = unwrap_parens(&a.expr);
        let lazy = self.lazy_vector(inner, grid)?;
        let columns = &lazy.columns;
        let (least, greatest) = extremes(&quantiles);
        if quantiles.iter().any(|q| q.is_nan()) {
            self.notes.invalid_quantile(f64::NAN, &param.pos);
        }
        if greatest > 1.0 {
            self.notes.invalid_quantile(greatest, &param.pos);
        }
        if least < 0.0 {
            self.notes.invalid_quantile(least, &param.pos);
        }
        let mut out = Columns::new(grid.len);
        let mut scratch = Vec::new();
        let mut pace = self.pace();
        for (labels, drop_name, rows) in self.group_rows(a, &lazy)? {
            let to = out.push_row(labels, drop_name);
            for (step, q) in quantiles.iter().enumerate() {
                pace.work(4 * rows.len() + 1)?;
                scratch.clear();
                for row in &rows {
                    let slot = row * grid.len + step;
                    match columns.kinds[slot] {
                        FLOAT => scratch.push(columns.values[slot]),
                        HISTOGRAM => self.notes.histogram_ignored_in_aggregation("quantile", &inner.pos),
                        _ => {}
                    }
                }
                if !scratch.is_empty() {
                    out.set(to * grid.len + step, Point::Float(quantile(*q, &mut scratch)));
                }
            }
            if !out.has_points(to) {
                out.pop_row();
            }
        }
        self.samples.release(columns.samples());
        self.hold(out.samples())?;
        Ok(out)
    }
}

/// The least and the greatest: NaN wins over all but the infinity of its side.
fn extremes(values: &[f64]) -> (f64, f64) {
    let all = values.iter().copied();
    (all.clone().fold(f64::INFINITY, go_min), all.fold(f64::NEG_INFINITY, go_max))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extremes_take_nan_as_go_does() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (values, least, greatest) in [
            (&[2.0, -1.0, 0.5][..], -1.0, 2.0),
            (&[2.0, nan, 0.5], nan, nan),
            (&[inf, nan], nan, inf),
            (&[nan, -inf], -inf, nan),
        ] {
            let got = extremes(values);
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            assert!(same(got.0, least) && same(got.1, greatest), "{values:?}: {got:?}");
        }
    }

    fn any_float() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => any::<f64>(),
            4 => -1e3..1e3,
            1 => prop_oneof![Just(0.0), Just(-0.0), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::MAX), Just(f64::MIN)],
        ]
    }

    proptest! {
        #[test]
        fn many_sums_at_once_are_the_same_to_the_bit(rows in proptest::collection::vec(proptest::collection::vec(any_float(), 5), 1..20)) {
            let (mut sums, mut compensations) = (rows[0].clone(), vec![0.0; 5]);
            let mut each: Vec<(f64, f64)> = sums.iter().map(|s| (*s, 0.0)).collect();
            for row in &rows[1..] {
                add_all(row, &mut sums, &mut compensations);
                for (each, v) in each.iter_mut().zip(row) {
                    *each = kahan_add(*v, each.0, each.1);
                }
            }
            for (i, (sum, compensation)) in each.into_iter().enumerate() {
                let bits = |v: f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
                prop_assert_eq!((bits(sums[i]), bits(compensations[i])), (bits(sum), bits(compensation)));
            }
        }
    }
}
