//! Functions of single elements, and the dispatch of all other calls.

use chrono::{Datelike, Timelike};

use super::columns::{ABSENT, Columns, FLOAT, HISTOGRAM};
use super::context::{Context, Grid, Result, fail, unwrap_parens};
use super::rows::{Duplicates, Rows};
use super::selector::Take;
use super::{Out, histogram, labels};
use crate::model::{FloatHistogram, Labels, kahan_add};
use crate::promql::ast::{Call, Expr, ExprKind};

/// What happens to each element.
enum Change {
    Float(fn(f64) -> f64),
    Histogram(fn(&FloatHistogram) -> f64),
    /// By steps: the least and the greatest value.
    Clamp(Vec<f64>, Vec<f64>),
    /// By steps: the number whose multiples are rounded to.
    Round(Vec<f64>),
    /// From a Unix time.
    Date(fn(&chrono::DateTime<chrono::Utc>) -> f64),
    /// The evaluation time.
    Timestamp,
}

fn change_of(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Option<Change>> {
    let scalar = |i: usize| call.args.get(i).map(|a| ctx.scalar(a, grid)).transpose();
    let constant = |v: f64| vec![v; grid.len];
    Ok(Some(match call.function {
        "clamp" => Change::Clamp(
            scalar(1)?.unwrap_or_else(|| constant(f64::NEG_INFINITY)),
            scalar(2)?.unwrap_or_else(|| constant(f64::INFINITY)),
        ),
        "clamp_min" => {
            Change::Clamp(scalar(1)?.unwrap_or_else(|| constant(f64::NEG_INFINITY)), constant(f64::INFINITY))
        }
        "clamp_max" => {
            Change::Clamp(constant(f64::NEG_INFINITY), scalar(1)?.unwrap_or_else(|| constant(f64::INFINITY)))
        }
        "round" => Change::Round(scalar(1)?.unwrap_or_else(|| constant(1.0))),
        "timestamp" => Change::Timestamp,
        name => match (float_function(name), histogram_function(name), date_function(name)) {
            (Some(f), _, _) => Change::Float(f),
            (_, Some(f), _) => Change::Histogram(f),
            (_, _, Some(f)) => Change::Date(f),
            _ => return Ok(None),
        },
    }))
}

fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

fn histogram_function(name: &str) -> Option<fn(&FloatHistogram) -> f64> {
    Some(match name {
        "histogram_avg" => |h| h.sum / h.count,
        "histogram_count" => |h| h.count,
        "histogram_sum" => |h| h.sum,
        "histogram_stddev" => |h| spread(h).sqrt(),
        "histogram_stdvar" => spread,
        _ => return None,
    })
}

/// The variance of a histogram's observations, each taken to be in the middle of its bucket.
fn spread(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut variance, mut c) = (0.0, 0.0);
    for b in h.all_buckets().iter().filter(|b| b.count != 0.0) {
        let value = if h.has_custom_buckets() {
            f64::midpoint(b.lower, b.upper)
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            (b.upper * b.lower).sqrt().copysign(b.upper)
        };
        let delta = value - mean;
        (variance, c) = kahan_add(b.count * delta * delta, variance, c);
    }
    (variance + c) / h.count
}

fn date_function(name: &str) -> Option<fn(&chrono::DateTime<chrono::Utc>) -> f64> {
    Some(match name {
        "day_of_month" => |t| f64::from(t.day()),
        "day_of_week" => |t| f64::from(t.weekday().num_days_from_sunday()),
        "day_of_year" => |t| f64::from(t.ordinal()),
        "days_in_month" => |t| f64::from(t.num_days_in_month()),
        "hour" => |t| f64::from(t.hour()),
        "minute" => |t| f64::from(t.minute()),
        "month" => |t| f64::from(t.month()),
        "year" => |t| f64::from(t.year()),
        _ => return None,
    })
}

/// A Unix time in seconds as a date; NaN for times that no calendar has.
fn date(seconds: f64, f: fn(&chrono::DateTime<chrono::Utc>) -> f64) -> f64 {
    // NaN and infinities become a fixed time, as the conversion to an integer makes of them.
    let seconds = if seconds.is_nan() { i64::MIN } else { seconds as i64 };
    chrono::DateTime::from_timestamp(seconds, 0).as_ref().map_or(f64::NAN, f)
}

fn apply(change: &Change, columns: &mut Columns, grid: Grid) {
    let steps = columns.steps.max(1);
    let mut floats = |f: &mut dyn FnMut(usize, f64) -> Option<f64>| {
        let (kinds, values) = (&mut columns.kinds, &mut columns.values);
        for (slot, (kind, value)) in kinds.iter_mut().zip(values.iter_mut()).enumerate() {
            match *kind {
                FLOAT => match f(slot % steps, *value) {
                    Some(v) => *value = v,
                    None => *kind = ABSENT,
                },
                HISTOGRAM => *kind = ABSENT,
                _ => {}
            }
        }
        columns.hists = Vec::new();
    };
    match change {
        Change::Float(f) => floats(&mut |_, v| Some(f(v))),
        Change::Clamp(least, greatest) => floats(&mut |step, v| {
            let (least, greatest) = (least[step], greatest[step]);
            (!(greatest < least)).then(|| go_max(least, go_min(greatest, v)))
        }),
        Change::Round(to) => floats(&mut |step, v| {
            let inverse = 1.0 / to[step];
            Some((v * inverse + 0.5).floor() / inverse)
        }),
        Change::Date(f) => floats(&mut |_, v| Some(date(v, *f))),
        Change::Histogram(f) => {
            for slot in 0..columns.kinds.len() {
                match columns.hist(slot).map(|h| f(h)) {
                    Some(v) => {
                        columns.kinds[slot] = FLOAT;
                        columns.values[slot] = v;
                    }
                    None => columns.kinds[slot] = ABSENT,
                }
            }
            columns.hists = Vec::new();
        }
        Change::Timestamp => {
            for slot in 0..columns.kinds.len() {
                if columns.kinds[slot] != ABSENT {
                    columns.kinds[slot] = FLOAT;
                    columns.values[slot] = grid.time(slot % steps) as f64 / 1000.0;
                }
            }
            columns.hists = Vec::new();
        }
    }
}

/// Go's `math.Max`: NaN if either is.
fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Go's `math.Min`: NaN if either is.
fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Changes the sign of every value.
pub(super) fn negate(columns: &mut Columns) {
    columns.values.iter_mut().for_each(|v| *v = -*v);
    for h in columns.hists.iter_mut().flatten() {
        std::sync::Arc::make_mut(h).scale(-1.0);
    }
}

/// A function of single elements over rows.
pub(super) fn rows<'e>(ctx: &'e Context<'_>, call: &'e Call, grid: Grid) -> Result<Option<Rows<'e>>> {
    let Some(argument) = call.args.first() else { return Ok(None) };
    if call.function == "timestamp"
        && let ExprKind::Vector(v) = &unwrap_parens(argument).kind
    {
        let (offset, at) = ctx.shift(&v.shift)?;
        if at.is_some() && grid.len > 1 {
            return Ok(None);
        }
        let times = at.map_or(grid, |t| Grid { start: t, ..grid }).shifted(-offset);
        let inner = ctx.plain_rows(v, times, Take::Time);
        return Ok(Some(ctx.map_rows(inner, Duplicates::Unite, grid, |columns| {
            times_to_seconds(columns);
            Ok(())
        })));
    }
    if !is_pointwise(call.function) {
        return Ok(None);
    }
    let Some(inner) = ctx.rows(argument, grid)? else { return Ok(None) };
    let Some(change) = change_of(ctx, call, grid)? else { return Ok(None) };
    Ok(Some(ctx.map_rows(inner, Duplicates::Unite, grid, move |columns| {
        apply(&change, columns, grid);
        Ok(())
    })))
}

fn is_pointwise(name: &str) -> bool {
    matches!(name, "clamp" | "clamp_min" | "clamp_max" | "round" | "timestamp")
        || float_function(name).is_some()
        || histogram_function(name).is_some()
        || date_function(name).is_some()
}

/// Sample times in milliseconds, as [`Take::Time`] leaves them, to seconds.
fn times_to_seconds(columns: &mut Columns) {
    for (kind, value) in columns.kinds.iter_mut().zip(&mut columns.values) {
        if *kind != ABSENT {
            *kind = FLOAT;
            *value /= 1000.0;
        }
    }
    columns.hists = Vec::new();
}

impl Context<'_> {
    /// A call that is not a recipe for rows.
    pub fn call(&self, expr: &Expr, call: &Call, grid: Grid) -> Result<Out> {
        let steps = |f: &dyn Fn(i64) -> f64| (0..grid.len).map(|i| f(grid.time(i))).collect::<Vec<f64>>();
        let args = &call.args;
        if args.len() < crate::promql::functions::lookup(call.function).map_or(0, |f| f.min_args()) {
            return fail(format!("too few arguments to function {}", call.function));
        }
        Ok(match call.function {
            "time" => Out::Scalar(steps(&|t| t as f64 / 1000.0)),
            "pi" => Out::Scalar(vec![std::f64::consts::PI; grid.len]),
            "start" => Out::Scalar(vec![self.query_start as f64 / 1000.0; grid.len]),
            "end" => Out::Scalar(vec![self.query_end as f64 / 1000.0; grid.len]),
            "range" => Out::Scalar(vec![(self.query_end - self.query_start) as f64 / 1000.0; grid.len]),
            "step" => Out::Scalar(vec![self.query_step as f64 / 1000.0; grid.len]),
            "max_of" | "min_of" => {
                let (a, b) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let pick = if call.function == "max_of" { go_max } else { go_min };
                Out::Scalar(a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect())
            }
            "scalar" => Out::Scalar(only_float(&self.vector(&args[0], grid)?)),
            "vector" => {
                let values = self.scalar(&args[0], grid)?;
                Out::Vector(single_row(values))
            }
            "absent" => {
                let columns = self.vector(&args[0], grid)?;
                let mut present = vec![false; grid.len];
                for row in 0..columns.rows() {
                    for (p, kind) in present.iter_mut().zip(columns.row_kinds(row)) {
                        *p |= *kind != ABSENT;
                    }
                }
                self.samples.release(columns.samples());
                Out::Vector(labels::absent(unwrap_parens(&args[0]), &present))
            }
            "absent_over_time" => Out::Vector(self.absent_over_time(call, grid)?),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                if self.query_step != 0 && self.query_start != self.query_end {
                    self.notes.sort_in_range_query(&expr.pos);
                }
                Out::Vector(labels::sort(self, call, grid)?)
            }
            "label_replace" => Out::Vector(labels::replace(self, call, grid)?),
            "label_join" => Out::Vector(labels::join(self, call, grid)?),
            "histogram_quantile" => Out::Vector(histogram::quantiles(self, call, grid)?),
            "histogram_quantiles" => Out::Vector(histogram::many_quantiles(self, call, grid)?),
            "histogram_fraction" => Out::Vector(histogram::fractions(self, call, grid)?),
            "info" => Out::Vector(super::info::info(self, call, grid)?),
            // Samples carry no start times here, so there is nothing to answer.
            "start_timestamp" => Out::Vector(Columns::new(grid.len)),
            name if args.is_empty() && date_function(name).is_some() => {
                let Some(f) = date_function(name) else { return fail("no such function") };
                Out::Vector(single_row(steps(&|t| date(t.div_euclid(1000) as f64, f))))
            }
            "timestamp" if matches!(unwrap_parens(&args[0]).kind, ExprKind::Vector(_)) => {
                // Pinned by `@`: evaluated once, the same at every step.
                let once = self.eval_node(expr, Grid { len: 1, ..grid })?;
                match once {
                    Out::Vector(columns) => Out::Vector(columns.broadcast(grid.len)),
                    other => other,
                }
            }
            name if is_pointwise(name) => {
                let Some(change) = change_of(self, call, grid)? else { return fail("no such function") };
                let mut columns = self.vector(&args[0], grid)?;
                let before = columns.samples();
                apply(&change, &mut columns, grid);
                columns.drop_empty_rows();
                self.samples.release(before);
                self.hold(columns.samples())?;
                self.drop_names(&mut columns);
                Out::Vector(if self.delayed() { columns } else { labels::unite(columns)? })
            }
            name => return fail(format!("unknown function with name {name:?}")),
        })
    }
}

/// A row without labels.
fn single_row(values: Vec<f64>) -> Columns {
    let mut columns = Columns::new(values.len());
    columns.push_row(Labels::empty(), false);
    columns.kinds.fill(FLOAT);
    columns.values = values;
    columns
}

/// At each step the value of the only float, or NaN.
fn only_float(columns: &Columns) -> Vec<f64> {
    let mut found = vec![0u8; columns.steps];
    let mut values = vec![f64::NAN; columns.steps];
    for row in 0..columns.rows() {
        let slots = columns.row_kinds(row).iter().zip(columns.row_values(row));
        for (i, (kind, value)) in slots.enumerate() {
            if *kind == FLOAT {
                values[i] = if found[i] == 0 { *value } else { f64::NAN };
                found[i] = 1;
            }
        }
    }
    values
}
