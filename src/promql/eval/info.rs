//! `info`: each series with the labels of the info series that belong to it.
//!
//! Source: Prometheus, `promql/info.go`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::columns::{ABSENT, Columns, FLOAT, HISTOGRAM};
use super::context::{Context, Grid, Result, fail, unwrap_parens};
use super::pace::LABELS;
use super::selector::Take;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use crate::promql::ast::{Call, Expr, ExprKind, TimeShift};

/// By these labels series and info series find each other.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metric that is meant if none is named.
const DEFAULT_INFO_METRIC: &str = "target_info";

/// `info(v, {selector})`.
pub(super) fn info(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let base = ctx.vector(&call.args[0], grid)?;
    let given: &[Matcher] = match call.args.get(1).map(|a| &unwrap_parens(a).kind) {
        Some(ExprKind::Vector(v)) => &v.matchers,
        Some(_) => return fail("expected label selectors as the second argument to info function"),
        None => &[],
    };
    let (mut name_matchers, data_matchers): (Vec<Matcher>, Vec<Matcher>) =
        given.iter().cloned().partition(|m| m.name == METRIC_NAME);
    if name_matchers.is_empty() {
        name_matchers.push(Matcher::equal(METRIC_NAME, DEFAULT_INFO_METRIC));
    } else if name_matchers.iter().all(|m| matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex)) {
        // Names that are only excluded leave all other info metrics, not all other metrics.
        name_matchers.extend(Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info"));
    }
    // Info series are not enriched themselves.
    let is_info = |labels: &Labels| name_matchers.iter().all(|m| m.matches(labels.metric_name()));
    let ignored: Vec<bool> = base.series.iter().map(|s| is_info(&s.labels)).collect();
    let mut wanted = name_matchers;
    wanted.extend(data_matchers.iter().cloned());
    let infos = info_series(ctx, call, &base, &ignored, wanted, grid)?;
    combine(ctx, base, &infos, &ignored, &data_matchers)
}

/// The info series that may belong to the base series; values are the samples' times in ms.
fn info_series(
    ctx: &Context<'_>,
    call: &Call,
    base: &Columns,
    ignored: &[bool],
    mut matchers: Vec<Matcher>,
    grid: Grid,
) -> Result<Columns> {
    // Series without one of the labels belong to info series without it.
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut pace = ctx.pace();
    for (s, _) in base.series.iter().zip(ignored).filter(|(_, ignored)| !**ignored) {
        pace.work(2 * LABELS)?;
        for name in IDENTIFYING {
            values.entry(name).or_default().insert(s.labels.get(name).unwrap_or(""));
        }
    }
    if values.values().all(|of_one| of_one.iter().all(|v| v.is_empty())) {
        return Ok(Columns::new(grid.len));
    }
    for (name, values) in &values {
        if let [only] = values.iter().copied().collect::<Vec<&str>>()[..] {
            matchers.push(Matcher::equal(*name, only));
        } else if values.len() <= 1000 {
            let escaped: Vec<String> = values.iter().map(|v| regex_syntax::escape(v)).collect();
            if let Ok(m) = Matcher::new(MatchOp::Regex, *name, escaped.join("|")) {
                matchers.push(m);
            }
        }
    }
    // Info series are looked at when the first selector of the argument looks at its series.
    let (offset, at) = match first_shift(&call.args[0]) {
        Some(shift) => ctx.times.shift(shift)?,
        None => (0, None),
    };
    let once = at.map_or(grid, Grid::at).shifted(-offset);
    let found = ctx.select(&matchers, ctx.times.newest(once))?;
    let rows = ctx.latest_rows(found, once, Take::Time, false);
    let columns = ctx.materialise(rows, once)?;
    if let Some(slot) = columns.kinds.iter().position(|k| *k == HISTOGRAM) {
        let labels = &columns.series[slot / columns.steps].labels;
        return fail(format!("this should be an info metric, with float samples: {labels}"));
    }
    ctx.check_slots(columns.rows(), grid.len)?;
    if at.is_some() { columns.broadcast(grid.len, &mut ctx.pace()) } else { Ok(columns) }
}

/// The offset and pinned time of the first selector in an expression.
fn first_shift(expr: &Expr) -> Option<&TimeShift> {
    match &expr.kind {
        ExprKind::Vector(v) => Some(&v.shift),
        ExprKind::Matrix(m) => Some(&m.vector.shift),
        ExprKind::Subquery(s) => first_shift(&s.expr),
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => first_shift(e),
        ExprKind::Binary(b) => first_shift(&b.lhs).or_else(|| first_shift(&b.rhs)),
        ExprKind::Aggregate(a) => first_shift(&a.expr),
        ExprKind::Call(c) => c.args.iter().find_map(first_shift),
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => None,
    }
}

fn combine(
    ctx: &Context<'_>,
    base: Columns,
    infos: &Columns,
    ignored: &[bool],
    data_matchers: &[Matcher],
) -> Result<Columns> {
    let steps = base.steps;
    let identity = |labels: &Labels| IDENTIFYING.map(|n| labels.get(n).unwrap_or("").to_owned());
    // Info rows by identity, then by metric name.
    let mut by_identity: HashMap<[String; 2], BTreeMap<String, Vec<usize>>> = HashMap::new();
    let mut pace = ctx.pace();
    for (row, s) in infos.series.iter().enumerate() {
        pace.work(3 * LABELS)?;
        let names = by_identity.entry(identity(&s.labels)).or_default();
        names.entry(s.labels.metric_name().to_owned()).or_default().push(row);
    }
    let without_info_is_fine = data_matchers.iter().all(|m| m.matches(""));
    let mut out = Columns::new(steps);
    let mut rows: HashMap<(Labels, bool), usize> = HashMap::new();
    for (row, (s, &ignored)) in base.series.iter().zip(ignored).enumerate() {
        pace.work(2 * LABELS)?;
        let identity = identity(&s.labels);
        // A series without any of the labels has no info series.
        let alone = ignored || identity.iter().all(String::is_empty);
        let candidates = if alone { None } else { by_identity.get(&identity) };
        let candidate_rows = candidates.map_or(0, |c| c.values().map(Vec::len).sum::<usize>());
        // The labels change only when the chosen info rows do.
        let mut before: Option<(Vec<usize>, usize)> = None;
        for step in 0..steps {
            let slot = row * steps + step;
            if base.kinds[slot] == ABSENT {
                continue;
            }
            pace.work(1 + candidate_rows)?;
            let mut chosen = Vec::new();
            for rows in candidates.iter().flat_map(|c| c.values()) {
                if let Some(info) = newest(infos, rows, step)? {
                    chosen.push(info);
                }
            }
            if chosen.is_empty() && !ignored && !without_info_is_fine {
                continue;
            }
            let to = match &before {
                Some((same, to)) if *same == chosen => *to,
                _ => {
                    pace.work(LABELS * (1 + chosen.len()))?;
                    let labels = enriched(&s.labels, infos, &chosen, data_matchers)?;
                    let to = *rows
                        .entry((labels, s.drop_name))
                        .or_insert_with_key(|(labels, drop_name)| out.push_row(labels.clone(), *drop_name));
                    before = Some((chosen, to));
                    to
                }
            };
            let target = to * steps + step;
            if out.kinds[target] != ABSENT {
                return fail("vector cannot contain metrics with the same labelset");
            }
            out.set(target, base.point(slot));
        }
    }
    out.drop_empty_rows(&mut pace)?;
    Ok(out)
}

/// Of info series with the same identity and name, the one with the newest sample.
fn newest(infos: &Columns, rows: &[usize], step: usize) -> Result<Option<usize>> {
    let mut best: Option<(usize, f64)> = None;
    for &row in rows {
        let slot = row * infos.steps + step;
        if infos.kinds[slot] != FLOAT {
            continue;
        }
        let time = infos.values[slot];
        match best {
            Some((other, at)) if at == time => {
                let [existing, new] = [other, row].map(|r| &infos.series[r].labels);
                return fail(format!(
                    "found duplicate series for info metric: existing {} @ {at}, new {} @ {time}",
                    super::labels::plain(existing),
                    super::labels::plain(new),
                ));
            }
            Some((_, at)) if at > time => {}
            _ => best = Some((row, time)),
        }
    }
    Ok(best.map(|(row, _)| row))
}

fn enriched(base: &Labels, infos: &Columns, chosen: &[usize], data_matchers: &[Matcher]) -> Result<Labels> {
    let mut added = LabelsBuilder::new();
    for &row in chosen {
        for (name, value) in infos.series[row].labels.iter() {
            let asked = data_matchers.is_empty() || data_matchers.iter().any(|m| m.name == name);
            if name == METRIC_NAME || !asked {
                continue;
            }
            let before = added.get(name);
            if !before.is_empty() && before != value {
                return fail(format!("conflicting label: {name}"));
            }
            if base.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut labels = LabelsBuilder::from(base);
    for (name, value) in added.iter() {
        labels.set(name, value);
    }
    Ok(labels.build())
}
