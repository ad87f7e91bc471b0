//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of classic and native histograms.

use std::collections::HashMap;

use super::columns::{Columns, FLOAT, HISTOGRAM, Lazy, Point};
use super::context::{Context, Grid, Result, unwrap_parens};
use super::grouping::Grouping;
use super::notes::Forced;
use super::pace::LABELS;
use super::quantile::{Classic, classic_fraction, classic_quantile, native_fraction, native_quantile};
use super::{labels, sorted, string_literal};
use crate::model::{FloatHistogram, Labels, METRIC_NAME};
use crate::promql::ast::{Call, Pos};

/// The rows of one histogram: a classic one's buckets, and a native one with the same labels.
struct Group {
    /// Without `le`.
    labels: Labels,
    drop_name: bool,
    /// Upper bounds and rows.
    buckets: Vec<(f64, usize)>,
    natives: Vec<usize>,
}

/// Collects the rows that belong together. Rows without a usable `le` count only where they hold native histograms.
fn groups(ctx: &Context<'_>, rows: &Lazy, pos: &Pos) -> Result<Vec<Group>> {
    let mut pace = ctx.pace();
    let table = &rows.table;
    let mut grouping = Grouping::all_but(["le"]);
    let mut groups: Vec<Group> = Vec::new();
    // Native histograms whose labels have an `le` all the same, which sets them apart.
    let mut odd: HashMap<Labels, usize> = HashMap::new();
    let new = |labels, drop_name| Group { labels, drop_name, buckets: Vec::new(), natives: Vec::new() };
    // The group's place in `groups`, by its number.
    let mut places: Vec<usize> = Vec::new();
    for (row, s) in rows.columns.series.iter().enumerate() {
        let kinds = rows.columns.row_kinds(row);
        pace.work(LABELS + kinds.len())?;
        let le = s.labels.get(table, "le");
        let mut group_of = |groups: &mut Vec<Group>| {
            let (group, is_new) = grouping.find(table, &s.labels);
            if is_new {
                places.push(groups.len());
                groups.push(new(grouping.labels(table, &s.labels), s.drop_name));
            }
            places[group]
        };
        if kinds.contains(&HISTOGRAM) {
            let at = if le.is_none() {
                group_of(&mut groups)
            } else {
                *odd.entry(s.labels.make(table)).or_insert_with_key(|labels| {
                    groups.push(new(labels.clone(), s.drop_name));
                    groups.len() - 1
                })
            };
            groups[at].natives.push(row);
        }
        if kinds.contains(&FLOAT) {
            let le = le.unwrap_or("");
            match parse_bound(le) {
                Some(bound) => {
                    let at = group_of(&mut groups);
                    groups[at].buckets.push((bound, row));
                }
                None => {
                    let metric = s.labels.get(table, METRIC_NAME).unwrap_or("");
                    ctx.notes.bad_bucket_label(metric, le, pos);
                }
            }
        }
    }
    // Sorted once here, they need no sorting at each step.
    for group in &mut groups {
        pace.work(group.buckets.len())?;
        sorted::sort_by(&mut group.buckets, || ctx.check(), |a, b| a.0.total_cmp(&b.0))?;
    }
    Ok(groups)
}

/// A float as Go's `strconv.ParseFloat` reads it, as far as `le` labels go.
fn parse_bound(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let known = unsigned.eq_ignore_ascii_case("inf")
        || unsigned.eq_ignore_ascii_case("infinity")
        || text.eq_ignore_ascii_case("nan")
        || unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if known { text.parse().ok() } else { None }
}

/// What a native histogram's quantile costs, in units of work.
const NATIVE: usize = 32;

/// Fills a table with what `native` and `classic` make of each histogram at each step.
fn per_histogram(
    ctx: &Context<'_>,
    rows: &Lazy,
    pos: &Pos,
    relabel: impl Fn(&Labels) -> Labels,
    mut native: impl FnMut(usize, &FloatHistogram, &str) -> f64,
    mut classic: impl FnMut(usize, &mut Vec<Classic>, &str) -> f64,
) -> Result<Columns> {
    let columns = &rows.columns;
    let mut out = Columns::new(columns.steps);
    let mut buckets: Vec<Classic> = Vec::new();
    let mut pace = ctx.pace();
    for group in groups(ctx, rows, pos)? {
        pace.work(LABELS)?;
        let row = out.push_row(relabel(&group.labels), group.drop_name);
        let name = group.labels.metric_name();
        for step in 0..columns.steps {
            pace.work(group.buckets.len() + group.natives.len() * NATIVE + 1)?;
            buckets.clear();
            for (upper, row) in &group.buckets {
                let slot = row * columns.steps + step;
                if columns.kinds[slot] == FLOAT {
                    buckets.push(Classic { upper: *upper, count: columns.values[slot] });
                }
            }
            let histogram = group.natives.iter().find_map(|row| columns.hist(row * columns.steps + step));
            let value = match histogram {
                Some(_) if !buckets.is_empty() => {
                    ctx.notes.mixed_classic_native(name, pos);
                    continue;
                }
                Some(h) => native(step, h, name),
                None if !buckets.is_empty() => classic(step, &mut buckets, name),
                None => continue,
            };
            out.set(row * columns.steps + step, Point::Float(value));
        }
        if !out.has_points(row) {
            out.pop_row();
        }
    }
    Ok(out)
}

impl Context<'_> {
    /// Ends a function that made `out` of `columns`.
    fn replaced(&self, rows: Lazy, mut out: Columns) -> Result<Columns> {
        self.samples.release(rows.columns.samples());
        drop(rows);
        self.hold(out.samples())?;
        self.drop_names(&mut out)?;
        if self.delayed() { Ok(out) } else { labels::unite(self, out) }
    }
}

fn quantile_table(
    ctx: &Context<'_>,
    rows: &Lazy,
    grid: Grid,
    quantiles: &[f64],
    (native_pos, classic_pos): (&Pos, &Pos),
    relabel: impl Fn(&Labels) -> Labels,
) -> Result<Columns> {
    per_histogram(
        ctx,
        rows,
        classic_pos,
        relabel,
        |step, h, name| native_quantile(quantiles[step], h, name, &ctx.notes, native_pos),
        |step, buckets, name| {
            let (value, lifted) = classic_quantile(quantiles[step], buckets);
            if let Some(l) = lifted {
                let name = if ctx.delayed() { name } else { "" };
                let at = grid.time(step);
                let (min_bucket, max_bucket, max_diff) = (l.min_bucket, l.max_bucket, l.max_diff);
                let forced = Forced { min_bucket, max_bucket, max_diff, first: at, last: at, count: 1 };
                ctx.notes.forced_monotonicity(name, classic_pos, forced);
            }
            value
        },
    )
}

fn warn_of_invalid(ctx: &Context<'_>, quantiles: &[f64], pos: &Pos) {
    for q in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        ctx.notes.invalid_quantile(*q, pos);
    }
}

/// `histogram_quantile(q, v)`.
pub(super) fn quantiles(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let [q, v] = [0, 1].map(|i| unwrap_parens(&call.args[i]));
    let quantiles = ctx.scalar(q, grid)?;
    let rows = ctx.lazy_vector(v, grid)?;
    warn_of_invalid(ctx, &quantiles, &q.pos);
    let out = quantile_table(ctx, &rows, grid, &quantiles, (&q.pos, &v.pos), Labels::clone)?;
    ctx.replaced(rows, out)
}

/// `histogram_quantiles(v, label, q…)`.
pub(super) fn many_quantiles(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let v = unwrap_parens(&call.args[0]);
    let label = string_literal(&call.args[1])?;
    let rows = ctx.lazy_vector(v, grid)?;
    let mut out = Columns::new(grid.len);
    for q in call.args.iter().skip(2) {
        let quantiles = ctx.scalar(q, grid)?;
        warn_of_invalid(ctx, &quantiles, &unwrap_parens(q).pos);
        let Some(&first) = quantiles.first() else { continue };
        if quantiles.iter().all(|q| q.to_bits() == first.to_bits()) {
            let text = open_metrics_float(first);
            out.append(quantile_table(ctx, &rows, grid, &quantiles, (&v.pos, &v.pos), |l| {
                l.with(label, &text)
            })?);
            continue;
        }
        // The label changes with the steps: each value of it is a series of its own.
        let mut values: Vec<f64> = quantiles.clone();
        values.sort_by(f64::total_cmp);
        values.dedup_by(|a, b| a.to_bits() == b.to_bits());
        for value in values {
            let text = open_metrics_float(value);
            let mut part =
                quantile_table(ctx, &rows, grid, &quantiles, (&v.pos, &v.pos), |l| l.with(label, &text))?;
            for slot in 0..part.kinds.len() {
                if quantiles[slot % grid.len].to_bits() != value.to_bits() {
                    part.clear(slot);
                }
            }
            part.drop_empty_rows(&mut ctx.pace())?;
            out.append(part);
        }
    }
    ctx.replaced(rows, labels::unite(ctx, out)?)
}

/// A float as OpenMetrics writes it in `le` and `quantile`: with a decimal point or an exponent.
fn open_metrics_float(v: f64) -> String {
    let text = crate::model::GoFloat(v).to_string();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if plain { text + ".0" } else { text }
}

/// `histogram_fraction(lower, upper, v)`.
pub(super) fn fractions(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let lower = ctx.scalar(&call.args[0], grid)?;
    let upper = ctx.scalar(&call.args[1], grid)?;
    let v = unwrap_parens(&call.args[2]);
    let pos = &unwrap_parens(&call.args[0]).pos;
    let rows = ctx.lazy_vector(v, grid)?;
    let out = per_histogram(
        ctx,
        &rows,
        &v.pos,
        Labels::clone,
        |step, h, name| native_fraction(lower[step], upper[step], h, name, &ctx.notes, pos),
        |step, buckets, _| classic_fraction(lower[step], upper[step], buckets),
    )?;
    ctx.replaced(rows, out)
}
