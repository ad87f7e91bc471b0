//! Aggregations that keep some of the rows: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::cmp::Ordering;

use super::columns::{ABSENT, Columns, FLOAT, HISTOGRAM, Lazy, Part};
use super::context::{Context, Grid, Result, fail, unwrap_parens};
use super::pace::LABELS;
use super::sorted;
use super::xxhash::label_hash;
use crate::model::GoFloat;
use crate::promql::ast::{Aggregate, AggregateOp, Expr};

impl Context<'_> {
    pub fn aggregate_k(&self, expr: &Expr, a: &Aggregate, grid: Grid) -> Result<Columns> {
        let Some(param) = a.param.as_ref().map(unwrap_parens) else { return fail("a parameter is missing") };
        let params = self.scalar(param, grid)?;
        let rows = self.lazy_vector(unwrap_parens(&a.expr), grid)?;
        let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        for p in &params {
            least = least.min(*p);
            greatest = greatest.max(*p);
        }
        let any_nan = params.iter().any(|p| p.is_nan());
        if a.op == AggregateOp::LimitRatio {
            if greatest == 0.0 && least == 0.0 {
                return Ok(Columns::new(grid.len));
            }
            if any_nan {
                return fail("Ratio value is NaN");
            }
            if greatest > 1.0 {
                self.notes.invalid_ratio(greatest, 1.0, &param.pos);
            }
            if least < -1.0 {
                self.notes.invalid_ratio(least, -1.0, &param.pos);
            }
        } else {
            if greatest < 1.0 && !(any_nan && greatest == f64::NEG_INFINITY) {
                return Ok(Columns::new(grid.len));
            }
            if any_nan {
                return fail("Parameter value is NaN");
            }
            // The largest float below 2^63 and the smallest above -2^63.
            if least <= -9_223_372_036_854_775_808.0 {
                return fail(format!("Scalar value {} underflows int64", GoFloat(least)));
            }
            if greatest >= 9_223_372_036_854_774_784.0 {
                return fail(format!("Scalar value {} overflows int64", GoFloat(greatest)));
            }
        }
        let out = match a.op {
            AggregateOp::TopK | AggregateOp::BottomK => self.best(expr, a, rows, &params)?,
            AggregateOp::LimitK => self.first(a, rows, &params)?,
            _ => self.sample(rows, &params)?,
        };
        out.made(&mut self.pace())
    }

    /// `topk` and `bottomk`: the rows with the best values, at each step for itself.
    fn best(&self, expr: &Expr, a: &Aggregate, lazy: Lazy, params: &[f64]) -> Result<Lazy> {
        let top = a.op == AggregateOp::TopK;
        let name = super::aggregate::op_name(a.op);
        let columns = &lazy.columns;
        let steps = columns.steps;
        // NaN is worse than anything.
        let better = |x: &f64, y: &f64| {
            x.is_nan().cmp(&y.is_nan()).then_with(|| {
                let ordering = x.partial_cmp(y).unwrap_or(Ordering::Equal);
                if top { ordering.reverse() } else { ordering }
            })
        };
        let mut keep = vec![false; columns.kinds.len()];
        let mut order: Vec<usize> = Vec::new();
        let mut candidates: Vec<(f64, usize)> = Vec::new();
        let mut pace = self.pace();
        for (_, _, rows) in self.group_rows(a, &lazy)? {
            for (step, k) in params.iter().enumerate() {
                pace.work(4 * rows.len() + 1)?;
                candidates.clear();
                for &row in &rows {
                    let slot = row * steps + step;
                    match columns.kinds[slot] {
                        FLOAT => candidates.push((columns.values[slot], row)),
                        HISTOGRAM => self.notes.histogram_ignored_in_aggregation(name, &expr.pos),
                        _ => {}
                    }
                }
                let k = if *k < 1.0 { 0 } else { (*k as usize).min(candidates.len()) };
                if k == 0 {
                    continue;
                }
                let by_value = |x: &(f64, usize), y: &(f64, usize)| better(&x.0, &y.0).then(x.1.cmp(&y.1));
                if k < candidates.len() {
                    candidates.select_nth_unstable_by(k - 1, by_value);
                    candidates.truncate(k);
                }
                if steps == 1 {
                    sorted::sort_by(&mut candidates, || self.check(), by_value)?;
                    order.extend(candidates.iter().map(|(_, row)| *row));
                }
                for (_, row) in &candidates {
                    keep[row * steps + step] = true;
                }
            }
        }
        if steps == 1 {
            self.samples.release((columns.rows() - order.len()) as u64);
            return Ok(Lazy { columns: columns.pick(&order, &mut pace)?, table: lazy.table });
        }
        self.kept(lazy, &keep)
    }

    /// `limitk`: the first rows of each group that have a point, at each step for itself.
    fn first(&self, a: &Aggregate, lazy: Lazy, params: &[f64]) -> Result<Lazy> {
        let columns = &lazy.columns;
        let steps = columns.steps;
        let mut keep = vec![false; columns.kinds.len()];
        let mut pace = self.pace();
        for (_, _, rows) in self.group_rows(a, &lazy)? {
            for (step, k) in params.iter().enumerate() {
                pace.work(rows.len() + 1)?;
                let k = if *k < 1.0 { 0 } else { *k as usize };
                let present =
                    rows.iter().map(|row| row * steps + step).filter(|s| columns.kinds[*s] != ABSENT);
                for slot in present.take(k) {
                    keep[slot] = true;
                }
            }
        }
        self.kept(lazy, &keep)
    }

    /// `limit_ratio`: the rows whose hash lies in the ratio's part of the hash space; a negative ratio takes the
    /// part that the positive one's complement leaves.
    fn sample(&self, lazy: Lazy, params: &[f64]) -> Result<Lazy> {
        let columns = &lazy.columns;
        let mut keep = vec![false; columns.kinds.len()];
        let mut pace = self.pace();
        for row in 0..columns.rows() {
            pace.work(2 * LABELS + params.len())?;
            let place = label_hash(&lazy.labels(row)) as f64 / u64::MAX as f64;
            for (slot, ratio) in columns.span(row).zip(params) {
                let ratio = ratio.clamp(-1.0, 1.0);
                keep[slot] = (ratio > 0.0 && place < ratio) || (ratio < 0.0 && place >= 1.0 + ratio);
            }
        }
        self.kept(lazy, &keep)
    }

    /// Only the slots that are to be kept.
    fn kept(&self, mut lazy: Lazy, keep: &[bool]) -> Result<Lazy> {
        let columns: &mut Part = &mut lazy.columns;
        let before = columns.samples();
        self.in_pieces(keep.len(), |slots| {
            for slot in slots.filter(|s| !keep[*s]) {
                columns.clear(slot);
            }
        })?;
        columns.drop_empty_rows(&mut self.pace())?;
        self.samples.release(before - columns.samples());
        Ok(lazy)
    }
}
