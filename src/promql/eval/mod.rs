//! Evaluation by series and column: every operator works on all steps of a series at once.
//!
//! [`run`] evaluates a whole query. [`Context::eval`] evaluates one node over a [`Grid`] of times to an [`Out`]:
//! numbers per step, a table of series ([`Columns`]), or a string. Nodes that treat each series for itself
//! (selectors, range functions, functions and operators on single elements) are [`rows`]: recipes that fill any part of
//! the rows on any thread, so that an aggregation above them folds the rows away as they are made, without ever holding
//! all of them.
//!
//! Reading order: `context` (limits, grid), `pace` (how soon a query stops), `columns` (the table), `rows`, `selector`,
//! `source` and `subquery` (where range vectors come from), `window` (how windows slide over them),
//! `over_time`/`rate`/`extended` (range functions), `pointwise` (functions of single elements), `histogram` (quantiles
//! and fractions), `grouping`, `aggregate`, `aggregate_k` and `count_values`, `binary` and `matching`, `labels`, `info`.
//!
//! **Invariant:** nothing here depends on the order in which storage hands out series, nor on the number of threads,
//! beyond rounding in sums.

mod aggregate;
mod aggregate_k;
mod binary;
mod columns;
mod context;
mod cost;
mod count_values;
mod extended;
mod grouping;
mod histogram;
mod info;
mod labels;
mod matching;
mod notes;
mod over_time;
mod pace;
mod pointwise;
mod profile;
mod quantile;
mod rate;
mod resets;
mod rows;
mod selector;
mod shared;
mod sorted;
mod source;
mod subquery;
mod times;
mod trend;
mod uses;
mod window;
mod xxhash;

#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::columns::{Columns, FLOAT, HISTOGRAM, Point, without_metadata};
use self::context::{Context, Grid, Result, SampleCount, fail, unwrap_parens};
use self::pace::LABELS;
use super::ast::{AggregateOp, Expr, ExprKind, ValueType};
use super::{
    Engine, EngineOptions, MatrixSeries, PointValue, QueryRequest, QueryResult, QueryStats, Selections,
    StepSamples, Value, VectorSample, functions, uses::Use,
};
use crate::model::{Labels, Matcher};
use crate::storage::Reader;

/// The value of a node over a grid.
enum Out {
    /// One number per step.
    Scalar(Vec<f64>),
    Vector(Columns),
    String(String),
}

/// Whether a query is so little work that it may be done where it is asked.
pub(super) fn is_small(
    options: &EngineOptions,
    expr: &Expr,
    request: &QueryRequest,
    reader: &Reader,
) -> bool {
    cost::is_small(expr, request, request.lookback_ms.unwrap_or(options.lookback_ms), reader)
}

/// Calls `f` with the matchers of each selector and what it reads in an instant query.
pub(super) fn each_use_at(options: &EngineOptions, expr: &Expr, ts: i64, f: &mut dyn FnMut(&[Matcher], Use)) {
    let times = times::Times::of(options, &QueryRequest::instant(ts));
    uses::each_use(&times, expr, Grid::at(ts), f);
}

/// Evaluates a query.
pub(super) fn run(
    engine: &Engine,
    query: &str,
    expr: &Expr,
    request: &QueryRequest,
    reader: &Reader,
    others: Option<&Selections>,
) -> Result<QueryResult> {
    let Engine { options, held, clock, .. } = engine;
    let timeout = request.timeout.map_or(options.limits.timeout, |t| t.min(options.limits.timeout));
    let times = times::Times::of(options, request);
    let grid = match request.step_ms {
        0 => Grid::at(request.start),
        _ => query_grid(request),
    };
    let mut ctx = Context {
        reader,
        options,
        times,
        clock,
        deadline: clock.monotonic() + timeout,
        cancelled: &request.cancelled,
        notes: notes::Notes::default(),
        samples: SampleCount::of(held),
        profile: request.profile.then(|| profile::Profile::new(expr)),
        shared: shared::Shared::of(expr, &times, grid),
        others,
        stats: context::stats_selectors(expr),
        threads: threads(),
    };
    ctx.check()?;
    if request.per_step {
        ctx.check_slots(1, grid.len)?;
        ctx.samples.count_steps(grid.len);
    }
    let ctx = ctx;
    let value =
        if request.step_ms == 0 { ctx.instant(expr, request.start)? } else { ctx.range(expr, request)? };
    if let Some(note) = reader.partial_note() {
        ctx.notes.partial(note);
    }
    let series = match &value {
        Value::Vector(vector) => vector.len(),
        Value::Matrix(matrix) => matrix.len(),
        Value::Scalar { .. } | Value::String { .. } => 1,
    };
    ctx.check_series(series)?;
    let bytes = value.bytes();
    ctx.hold(context::Held { samples: 0, bytes })?;
    let charge = ctx.samples.hand_over(bytes);
    Ok(QueryResult {
        value,
        annotations: ctx.notes.finish(query),
        stats: QueryStats {
            total_samples: ctx.samples.total.load(Ordering::Relaxed),
            samples_read: ctx.samples.fetched.load(Ordering::Relaxed),
            peak_samples: ctx.samples.peak(),
            series_selected: ctx.samples.series.load(Ordering::Relaxed),
            peak_bytes: ctx.samples.peak_bytes(),
            samples_reused: ctx.shared.tally().map_or(0, |t| t.reused()),
        },
        samples_per_step: (0..)
            .zip(ctx.samples.steps())
            .map(|(i, (total, read))| StepSamples { ts: grid.time(i), total, read })
            .collect(),
        profile: ctx.profile.map_or_else(Vec::new, |p| p.finish(expr)),
        charge,
    })
}

/// The times of a range query; none if it ends before it starts.
fn query_grid(request: &QueryRequest) -> Grid {
    let step = request.step_ms.max(1);
    let span = request.end.saturating_sub(request.start);
    let len =
        if span < 0 { 0 } else { usize::try_from(span / step).map_or(usize::MAX, |n| n.saturating_add(1)) };
    Grid { start: request.start, step, len }
}

impl Context<'_> {
    fn instant(&self, expr: &Expr, ts: i64) -> Result<Value> {
        let grid = Grid::at(ts);
        if let ExprKind::Matrix(_) | ExprKind::Subquery(_) = &unwrap_parens(expr).kind {
            return Ok(Value::Matrix(self.instant_matrix(unwrap_parens(expr), ts)?));
        }
        match self.eval(expr, grid)? {
            Out::Scalar(v) => Ok(Value::Scalar { ts, value: v[0] }),
            Out::String(value) => Ok(Value::String { ts, value }),
            Out::Vector(columns) => {
                let columns = self.finish_names(columns)?;
                let mut samples = Vec::with_capacity(columns.rows());
                let mut pace = self.pace();
                for slot in 0..columns.rows() {
                    pace.work(LABELS)?;
                    let value = match columns.point(slot) {
                        Point::None => continue,
                        Point::Float(v) => PointValue::Float(v),
                        Point::Histogram(h) => PointValue::Histogram(h),
                    };
                    samples.push(VectorSample { labels: columns.series[slot].labels.clone(), ts, value });
                }
                Ok(Value::Vector(samples))
            }
        }
    }

    fn range(&self, expr: &Expr, request: &QueryRequest) -> Result<Value> {
        let grid = query_grid(request);
        let len = grid.len;
        if len == 0 {
            return Ok(Value::Matrix(Vec::new()));
        }
        self.check_slots(1, len)?;
        if let Some(matrix) = self.counted_values(expr, grid)? {
            return Ok(Value::Matrix(matrix));
        }
        let columns = match self.eval(expr, grid)? {
            Out::Vector(columns) => self.finish_names(columns)?,
            Out::Scalar(v) => {
                let mut columns = Columns::new(len);
                columns.push_row(Labels::empty(), false);
                columns.kinds.fill(FLOAT);
                columns.values = v;
                columns
            }
            Out::String(_) => {
                return fail(
                    "invalid expression type \"string\" for range query, must be Scalar or instant Vector",
                );
            }
        };
        let mut order: Vec<usize> = (0..columns.rows()).filter(|row| columns.has_points(*row)).collect();
        sorted::sort_by(
            &mut order,
            || self.check(),
            |a, b| columns.series[*a].labels.cmp(&columns.series[*b].labels),
        )?;
        let mut matrix = Vec::with_capacity(order.len());
        for (done, row) in order.into_iter().enumerate() {
            if done.is_multiple_of(256) {
                self.check()?;
            }
            let labels = columns.series[row].labels.clone();
            let mut series = MatrixSeries { labels, ..MatrixSeries::default() };
            if columns.all_floats(row) {
                let values = columns.row_values(row).iter().enumerate();
                series.floats = values.map(|(i, v)| (grid.time(i), *v)).collect();
                matrix.push(series);
                continue;
            }
            let kinds = columns.row_kinds(row);
            series.floats.reserve_exact(kinds.iter().filter(|k| **k == FLOAT).count());
            for (i, slot) in columns.span(row).enumerate() {
                match columns.kinds[slot] {
                    FLOAT => series.floats.push((grid.time(i), columns.values[slot])),
                    HISTOGRAM => {
                        if let Some(h) = columns.hist(slot) {
                            series.histograms.push((grid.time(i), Arc::clone(h)));
                        }
                    }
                    _ => {}
                }
            }
            matrix.push(series);
        }
        Ok(Value::Matrix(matrix))
    }

    /// The answer to a range query for nothing but `count_values`: of its series most have few points, so that they are
    /// never put into a table.
    fn counted_values(&self, expr: &Expr, grid: Grid) -> Result<Option<Vec<MatrixSeries>>> {
        let node = unwrap_parens(expr);
        let ExprKind::Aggregate(a) = &node.kind else { return Ok(None) };
        if a.op != AggregateOp::CountValues || is_step_invariant(node) {
            return Ok(None);
        }
        let work = || self.count_values_matrix(a, grid);
        let Some(profile) = &self.profile else { return work().map(Some) };
        let matrix = profile.timed(node, self.clock, work)?;
        profile.gave(node, matrix.len(), matrix.iter().map(|s| s.floats.len() as u64).sum());
        Ok(Some(matrix))
    }

    /// Drops the metric names that were kept for the end, and unites the series that are then the same.
    fn finish_names(&self, mut columns: Columns) -> Result<Columns> {
        let mut pace = self.pace();
        for s in columns.series.iter_mut().filter(|s| s.drop_name) {
            pace.work(LABELS)?;
            s.labels = without_metadata(&s.labels);
            s.drop_name = false;
        }
        labels::unite(self, columns)
    }

    /// Evaluates a node at every time of the grid.
    fn eval(&self, expr: &Expr, grid: Grid) -> Result<Out> {
        self.check()?;
        if grid.len > 1 && is_step_invariant(expr) {
            // The same at every step: evaluated once.
            let once = self.samples.repeated(grid.len, || self.eval_node(expr, Grid { len: 1, ..grid }))?;
            return Ok(match once {
                Out::Scalar(v) => Out::Scalar(vec![v[0]; grid.len]),
                Out::String(s) => Out::String(s),
                Out::Vector(columns) => {
                    self.check_slots(columns.rows(), grid.len)?;
                    let columns = columns.broadcast(grid.len, &mut self.pace())?;
                    self.hold(columns.samples())?;
                    Out::Vector(columns)
                }
            });
        }
        self.eval_node(expr, grid)
    }

    fn eval_node(&self, expr: &Expr, grid: Grid) -> Result<Out> {
        let out = match &self.profile {
            None => return self.eval_kind(expr, grid),
            Some(profile) => profile.timed(expr, self.clock, || self.eval_kind(expr, grid))?,
        };
        if let (Some(profile), Out::Vector(columns)) = (&self.profile, &out) {
            profile.gave(expr, columns.rows(), columns.samples().samples);
        }
        Ok(out)
    }

    fn eval_kind(&self, expr: &Expr, grid: Grid) -> Result<Out> {
        if let Some(rows) = self.rows_of(expr, grid)? {
            return Ok(Out::Vector(self.materialise(rows, grid)?));
        }
        match &expr.kind {
            ExprKind::Number(v) | ExprKind::Duration(v) => {
                Ok(Out::Scalar(self.collect_in_pieces(grid.len, |_| *v)?))
            }
            ExprKind::String(s) => Ok(Out::String(s.clone())),
            ExprKind::Paren(e) => self.eval(e, grid),
            ExprKind::Unary { negate, expr } => match self.eval(expr, grid)? {
                Out::Scalar(mut v) => {
                    if *negate {
                        v.iter_mut().for_each(|v| *v = -*v);
                    }
                    Ok(Out::Scalar(v))
                }
                Out::Vector(mut columns) => {
                    if *negate {
                        pointwise::negate(self, &mut columns)?;
                        self.drop_names(&mut columns)?;
                        if !self.delayed() {
                            columns = labels::unite(self, columns)?;
                        }
                    }
                    Ok(Out::Vector(columns))
                }
                Out::String(_) => {
                    fail("unary expression only allowed on expressions of type scalar or instant vector")
                }
            },
            ExprKind::Binary(b) => self.binary(expr, b, grid),
            ExprKind::Aggregate(a) => Ok(Out::Vector(self.aggregate(expr, a, grid)?)),
            ExprKind::Call(call) => self.call(expr, call, grid),
            ExprKind::Vector(selector) => Ok(Out::Vector(self.vector_selector(selector, &expr.pos, grid)?)),
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => fail(
                "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
            ),
        }
    }

    /// A node that the type checker knows to be an instant vector.
    fn vector(&self, expr: &Expr, grid: Grid) -> Result<Columns> {
        match self.eval(expr, grid)? {
            Out::Vector(columns) => Ok(columns),
            _ => fail("expected an instant vector"),
        }
    }

    /// A node that the type checker knows to be a scalar.
    fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>> {
        match self.eval(expr, grid)? {
            Out::Scalar(v) => Ok(v),
            _ => fail("expected a scalar"),
        }
    }

    /// Marks or drops the metric names of a result whose values are no longer the metric's.
    fn drop_names(&self, columns: &mut Columns) -> Result<()> {
        let mut pace = self.pace();
        for s in &mut columns.series {
            pace.work(LABELS)?;
            s.drop_name = true;
            if !self.delayed() {
                s.labels = without_metadata(&s.labels);
            }
        }
        Ok(())
    }
}

/// How many threads one query may use. Asking the system reads a dozen files of /proc and /sys, which took a third of
/// the time of a rule's evaluation: so it is asked once.
fn threads() -> usize {
    static THREADS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(16))
}

/// A string literal, through parentheses.
fn string_literal(expr: &Expr) -> Result<&str> {
    match &unwrap_parens(expr).kind {
        ExprKind::String(s) => Ok(s),
        _ => fail("expected a string literal"),
    }
}

/// The type of a node's value.
fn value_type(expr: &Expr) -> ValueType {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) => ValueType::Scalar,
        ExprKind::String(_) => ValueType::String,
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => value_type(e),
        ExprKind::Binary(b) => match (value_type(&b.lhs), value_type(&b.rhs)) {
            (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
            _ => ValueType::Vector,
        },
        ExprKind::Aggregate(_) | ExprKind::Vector(_) => ValueType::Vector,
        ExprKind::Call(c) => functions::lookup(c.function).map_or(ValueType::Vector, |f| f.returns),
        ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
    }
}

/// Whether a node has the same value at every evaluation time, since all its selectors are pinned by `@`.
fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => true,
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => is_step_invariant(e),
        ExprKind::Binary(b) => is_step_invariant(&b.lhs) && is_step_invariant(&b.rhs),
        ExprKind::Aggregate(a) => {
            is_step_invariant(&a.expr) && a.param.as_ref().is_none_or(is_step_invariant)
        }
        ExprKind::Call(c) => {
            !functions::lookup(c.function).is_none_or(|f| f.timed) && c.args.iter().all(is_step_invariant)
        }
        ExprKind::Vector(v) => v.shift.at.is_some(),
        ExprKind::Matrix(m) => m.vector.shift.at.is_some(),
        ExprKind::Subquery(s) => s.shift.at.is_some(),
    }
}
