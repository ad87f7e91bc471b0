//! What works on labels alone: `label_replace`, `label_join`, sorting, `absent`, and uniting equal series.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::columns::{ABSENT, Columns, FLOAT};
use super::context::{Context, Grid, Held, Result, fail, unwrap_parens};
use super::over_time::checked_label_name;
use super::pace::LABELS;
use super::sorted;
use super::string_literal;
use crate::model::{GoRegex, Labels, LabelsBuilder, METRIC_NAME, MatchOp};
use crate::promql::ast::{Call, Expr, ExprKind};

/// The longest value that `label_replace` and `label_join` make, in bytes: what may be ingested, too.
const VALUE_BYTES_MAX: usize = 64 * 1024;

const DUPLICATES: &str = "vector cannot contain metrics with the same labelset";

/// Whether a name may be a label's: any text that is not empty. What is no UTF-8 has become U+FFFD in the parser.
pub(super) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER)
}

/// Whether two rows have the same labels.
fn has_duplicates(ctx: &Context<'_>, columns: &Columns) -> Result<bool> {
    if columns.rows() < 2 {
        return Ok(false);
    }
    let mut pace = ctx.pace();
    let mut seen: HashSet<&str, RandomState> =
        HashSet::with_capacity_and_hasher(columns.rows(), RandomState::default());
    for s in &columns.series {
        pace.work(LABELS)?;
        if !seen.insert(s.labels.as_packed()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fails if two rows have the same labels.
pub(super) fn refuse_duplicates(ctx: &Context<'_>, columns: &Columns) -> Result<()> {
    if has_duplicates(ctx, columns)? { fail(DUPLICATES) } else { Ok(()) }
}

/// Makes one row of those that have the same labels; fails if two have a point at the same step.
pub(super) fn unite(ctx: &Context<'_>, columns: Columns) -> Result<Columns> {
    if !has_duplicates(ctx, &columns)? {
        return Ok(columns);
    }
    let mut pace = ctx.pace();
    let mut out = Columns::new(columns.steps);
    let mut rows: HashMap<Labels, usize> = HashMap::new();
    for row in 0..columns.rows() {
        pace.work(columns.steps + LABELS)?;
        let s = &columns.series[row];
        let to = *rows
            .entry(s.labels.clone())
            .or_insert_with_key(|labels| out.push_row(labels.clone(), s.drop_name));
        for (i, slot) in columns.span(row).enumerate() {
            if columns.kinds[slot] == ABSENT {
                continue;
            }
            let target = to * out.steps + i;
            if out.kinds[target] != ABSENT {
                return fail(DUPLICATES);
            }
            out.set(target, columns.point(slot));
        }
    }
    Ok(out)
}

/// Refuses a value of so many bytes if that is too long.
fn check_length(function: &str, bytes: usize) -> Result<()> {
    if bytes > VALUE_BYTES_MAX {
        return fail(format!("{function}() would make a label value of more than {VALUE_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Notes that labels that were made are held: every label of the row is copied.
fn hold_labels(ctx: &Context<'_>, labels: &Labels) -> Result<()> {
    ctx.hold(Held { samples: 0, bytes: labels.as_packed().len() as u64 })
}

/// `label_replace` may take so many steps for one value at the very worst, for it cannot be stopped in between: some 50 ms.
const EXPAND_STEPS_MAX: usize = 1 << 23;

/// `label_replace(v, dst, replacement, src, regex)`.
pub(super) fn replace(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let text = |i: usize| call.args.get(i).map_or(Ok(""), string_literal);
    let (dst, replacement, src, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
    let invalid = || fail(format!("invalid regular expression in label_replace(): {pattern}"));
    let Ok(regex) = GoRegex::anchored(pattern) else { return invalid() };
    regex.check_groups().or_else(|e| fail(format!("label_replace() has too many groups: {e}")))?;
    // One stands in the other where calls stand within each other.
    let held = Held { samples: 0, bytes: regex.bytes() + regex.expand_bytes() };
    ctx.hold(held)?;
    // Prometheus reads the pattern within a group: a `\Q` without its `\E` takes what closes that.
    if pattern.contains("\\Q") && GoRegex::unanchored(&format!("^(?s:{pattern})$")).is_err() {
        return invalid();
    }
    checked_label_name(dst, "label_replace", "destination")?;
    let mut columns = ctx.vector(&call.args[0], grid)?;
    let references = replacement.matches('$').count();
    let mut pace = ctx.pace();
    for s in &mut columns.series {
        let source = s.labels.get(src).unwrap_or("");
        // No group is longer than what it is a part of: this is refused before it is made.
        check_length("label_replace", references.saturating_mul(source.len()))?;
        let steps = regex.expand_steps(source.len());
        if steps > EXPAND_STEPS_MAX {
            return fail(format!(
                "label_replace() would take too long: its regular expression is too large for a value of {} bytes",
                source.len()
            ));
        }
        pace.work(2 * LABELS + steps + replacement.len())?;
        let value = regex.expand(source, replacement);
        let Some(value) = value else { continue };
        check_length("label_replace", value.len())?;
        s.labels = s.labels.with(dst, &value);
        hold_labels(ctx, &s.labels)?;
        if dst == METRIC_NAME {
            s.drop_name = false;
        }
    }
    drop(regex);
    ctx.samples.release(held);
    unite(ctx, columns)
}

/// `label_join(v, dst, separator, src…)`.
pub(super) fn join(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let dst = call.args.get(1).map_or(Ok(""), string_literal)?;
    let separator = call.args.get(2).map_or(Ok(""), string_literal)?;
    let sources: Vec<&str> = call.args.iter().skip(3).map(string_literal).collect::<Result<_>>()?;
    for source in &sources {
        checked_label_name(source, "label_join", "source")?;
    }
    checked_label_name(dst, "label_join", "destination")?;
    let mut columns = ctx.vector(&call.args[0], grid)?;
    let mut pace = ctx.pace();
    for s in &mut columns.series {
        let values: Vec<&str> = sources.iter().map(|n| s.labels.get(n).unwrap_or("")).collect();
        let separators = separator.len().saturating_mul(values.len().saturating_sub(1));
        let bytes = values.iter().map(|v| v.len()).sum::<usize>().saturating_add(separators);
        check_length("label_join", bytes)?;
        pace.work(2 * LABELS + values.len() + bytes / 8)?;
        s.labels = s.labels.with(dst, &values.join(separator));
        hold_labels(ctx, &s.labels)?;
        if dst == METRIC_NAME {
            s.drop_name = false;
        }
    }
    unite(ctx, columns)
}

/// `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`. A range has no order: only the kinds are filtered then.
pub(super) fn sort(ctx: &Context<'_>, call: &Call, grid: Grid) -> Result<Columns> {
    let mut columns = ctx.vector(&call.args[0], grid)?;
    let by_value = matches!(call.function, "sort" | "sort_desc");
    if by_value {
        ctx.in_pieces(columns.kinds.len(), |slots| {
            for slot in slots {
                if columns.kinds[slot] != FLOAT {
                    columns.clear(slot);
                }
            }
        })?;
        columns.drop_empty_rows(&mut ctx.pace())?;
    }
    if columns.steps != 1 {
        return Ok(columns);
    }
    let mut order: Vec<usize> = (0..columns.rows()).collect();
    if by_value {
        let descending = call.function == "sort_desc";
        // NaN comes last either way.
        sorted::sort_by(
            &mut order,
            || ctx.check(),
            |a, b| {
                let (a, b) = (columns.values[*a], columns.values[*b]);
                let ordered = if descending { b.total_cmp(&a) } else { a.total_cmp(&b) };
                a.is_nan().cmp(&b.is_nan()).then(if a == b { Ordering::Equal } else { ordered })
            },
        )?;
    } else {
        let names: Vec<&str> = call.args.iter().skip(1).map(string_literal).collect::<Result<_>>()?;
        let descending = call.function == "sort_by_label_desc";
        sorted::sort_by(
            &mut order,
            || ctx.check(),
            |a, b| {
                let (a, b) = (&columns.series[*a].labels, &columns.series[*b].labels);
                let by_names = names.iter().map(|n| natural(a.get(n).unwrap_or(""), b.get(n).unwrap_or("")));
                let ordering = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b));
                if descending { ordering.reverse() } else { ordering }
            },
        )?;
    }
    columns.pick(&order, &mut ctx.pace())
}

/// Compares texts with the numbers in them taken as numbers: `node2` before `node10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let text = |s: &str| s.bytes().take_while(|c| !c.is_ascii_digit()).count();
        let (da, db) = (digits(a), digits(b));
        let (la, lb, ordering) = if da > 0 && db > 0 {
            let (na, nb) = (a[..da].trim_start_matches('0'), b[..db].trim_start_matches('0'));
            (da, db, na.len().cmp(&nb.len()).then_with(|| na.cmp(nb)).then_with(|| db.cmp(&da)))
        } else {
            let (ta, tb) = (text(a).max(da), text(b).max(db));
            (ta, tb, a[..ta].cmp(&b[..tb]))
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
        (a, b) = (&a[la..], &b[lb..]);
    }
    a.len().cmp(&b.len())
}

/// The answer of `absent` and `absent_over_time`: 1 where nothing is present, with the labels that the selector pins.
pub(super) fn absent(argument: &Expr, present: &[bool]) -> Columns {
    let mut columns = Columns::new(present.len());
    if present.iter().all(|p| *p) {
        return columns;
    }
    let matchers = match &unwrap_parens(argument).kind {
        ExprKind::Vector(v) => &v.matchers[..],
        ExprKind::Matrix(m) => &m.vector.matchers[..],
        _ => &[],
    };
    let mut labels = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if m.op == MatchOp::Equal && !seen.contains(&m.name.as_str()) {
            labels.set(&m.name, &m.value);
            seen.push(&m.name);
        } else {
            labels.remove(&m.name);
        }
    }
    columns.push_row(labels.build(), false);
    for (i, p) in present.iter().enumerate().filter(|(_, p)| !**p) {
        debug_assert!(!p);
        columns.kinds[i] = FLOAT;
        columns.values[i] = 1.0;
    }
    columns
}

/// Labels as Prometheus prints them in errors: the name like any other label.
pub(super) fn plain(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(n, v)| {
            if crate::model::is_legacy_label_name(n) { format!("{n}={v:?}") } else { format!("{n:?}={v:?}") }
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_are_numbers() {
        let check = |sorted: &[&str]| {
            for pair in sorted.windows(2) {
                assert_eq!(natural(pair[0], pair[1]), Ordering::Less, "{pair:?}");
                assert_eq!(natural(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            }
        };
        check(&["", "2", "10", "node2", "node10", "node10a", "nodes"]);
        check(&["1.9", "1.10", "2.1"]);
        check(&["é1", "é2", "é10"]);
    }
}
