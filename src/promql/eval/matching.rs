//! Operators between two vectors: which series belong together, and what becomes of them.
//!
//! Signatures (the labels that have to agree) are computed once per series. The rules about uniqueness hold per step,
//! for the series that have a point there: they are looked at only where a signature has several series on a side that
//! must be unique.
//!
//! Below, "many" is the left side and "one" the right side, except with `group_right`, where they are swapped.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::binary::{Element, Result2, apply, changes_meaning, is_comparison};
use super::columns::{ABSENT, Columns, FLOAT, Lazy, Part, Point, describes_metric};
use super::context::{Context, Grid, Result, fail};
use super::grouping::Grouping;
use super::labels;
use super::pace::{LABELS, Pace};
use crate::model::Labels;
use crate::promql::ast::{Binary, BinaryOp, Cardinality, Expr, Matching, Pos};

/// The rows of both sides that have one signature.
#[derive(Default)]
struct Signature {
    many: Vec<usize>,
    one: Vec<usize>,
}

fn signatures(
    matching: &Matching,
    many: &Lazy,
    one: &Lazy,
    pace: &mut Pace<'_, '_>,
) -> Result<Vec<Signature>> {
    let names = matching.labels.iter().map(String::as_str);
    let mut grouping = Grouping::new(names, !matching.on);
    let mut out: Vec<Signature> = Vec::new();
    for (lazy, is_many) in [(many, true), (one, false)] {
        for (row, s) in lazy.columns.series.iter().enumerate() {
            pace.work(LABELS)?;
            let (signature, new) = grouping.find(&lazy.table, &s.labels);
            if new {
                out.push(Signature::default());
            }
            let rows = if is_many { &mut out[signature].many } else { &mut out[signature].one };
            rows.push(row);
        }
    }
    Ok(out)
}

/// Whether any of the rows has a point at each step.
fn presence(
    columns: &Part,
    rows: impl IntoIterator<Item = usize>,
    pace: &mut Pace<'_, '_>,
) -> Result<Vec<bool>> {
    let mut present = vec![false; columns.steps];
    for row in rows {
        pace.work(columns.steps + 1)?;
        for (p, kind) in present.iter_mut().zip(columns.row_kinds(row)) {
            *p |= *kind != ABSENT;
        }
    }
    Ok(present)
}

impl Context<'_> {
    pub fn vector_vector(&self, expr: &Expr, b: &Binary, grid: Grid) -> Result<Columns> {
        let lhs = self.lazy_vector(&b.lhs, grid)?;
        let rhs = self.lazy_vector(&b.rhs, grid)?;
        let default = Matching::default();
        let matching = b.matching.as_ref().unwrap_or(&default);
        let held = lhs.columns.samples() + rhs.columns.samples();
        let out = match b.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                self.set_operation(b.op, matching, lhs, rhs)?
            }
            _ => {
                let swapped = matching.cardinality == Cardinality::OneToMany;
                let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
                let mut join = Join {
                    ctx: self,
                    binary: b,
                    matching,
                    pos: &expr.pos,
                    swapped,
                    many: &many.columns,
                    one: &one.columns,
                    many_rows: &many,
                    one_rows: &one,
                    pace: self.pace(),
                    many_present: None,
                    matched: Vec::new(),
                    out: Columns::new(grid.len),
                    rows: HashMap::default(),
                    contributors: Vec::new(),
                };
                join.run()?;
                let mut out = join.out;
                out.drop_empty_rows(&mut self.pace())?;
                out
            }
        };
        self.samples.release(held);
        self.hold(out.samples())?;
        Ok(out)
    }

    fn set_operation(&self, op: BinaryOp, matching: &Matching, lhs: Lazy, rhs: Lazy) -> Result<Columns> {
        let mut pace = self.pace();
        let pace = &mut pace;
        let signatures = signatures(matching, &lhs, &rhs, pace)?;
        let mask =
            |columns: &mut Part, rows: &[usize], present: &[bool], keep: bool, pace: &mut Pace<'_, '_>| {
                for &row in rows {
                    pace.work(present.len() + 1)?;
                    for (slot, present) in columns.span(row).zip(present) {
                        if *present != keep {
                            columns.clear(slot);
                        }
                    }
                }
                Ok(())
            };
        if op == BinaryOp::Or {
            let mut rest = rhs;
            for s in &signatures {
                if !s.many.is_empty() && !s.one.is_empty() {
                    let present = presence(&lhs.columns, s.many.iter().copied(), pace)?;
                    mask(&mut rest.columns, &s.one, &present, false, pace)?;
                }
            }
            rest.columns.drop_empty_rows(pace)?;
            let mut all = lhs.made(pace)?;
            all.append_part(rest.made(pace)?, pace)?;
            return labels::unite(self, all);
        }
        let mut lhs = lhs;
        for s in signatures.iter().filter(|s| !s.many.is_empty()) {
            let present = presence(&rhs.columns, s.one.iter().copied(), pace)?;
            mask(&mut lhs.columns, &s.many, &present, op == BinaryOp::And, pace)?;
        }
        lhs.columns.drop_empty_rows(pace)?;
        lhs.made(pace)
    }
}

/// A step at which matches are not unique.
struct Clash {
    step: usize,
    /// Two rows of the "one" side that are the same to the matching; else two of the "many" side find one match.
    one: Option<[usize; 2]>,
}

/// An operator at work on two matched vectors.
struct Join<'a, 'c> {
    ctx: &'a Context<'c>,
    binary: &'a Binary,
    matching: &'a Matching,
    pos: &'a Pos,
    swapped: bool,
    many: &'a Part,
    one: &'a Part,
    /// The same with the table of their labels.
    many_rows: &'a Lazy,
    one_rows: &'a Lazy,
    pace: Pace<'a, 'c>,
    /// At which steps any row of the "many" side has a point, once that is needed.
    many_present: Option<Vec<bool>>,
    /// The steps at which the "one" side of the signature in hand has met a value that goes with it; empty if nobody asks.
    matched: Vec<bool>,
    out: Columns,
    rows: HashMap<Labels, usize, RandomState>,
    /// For each row of `out`: what it was made of so far, as (signature, many, one).
    contributors: Vec<Vec<(usize, Side, Side)>>,
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().collect()
}

/// A side of a pair: a row, or the value that stands for a missing one.
#[derive(Clone, Copy)]
enum Side {
    Row(usize),
    Fill(f64),
}

impl Side {
    fn element<'a>(self, columns: &'a Part, step: usize) -> Option<Element<'a>> {
        match self {
            Side::Row(row) => Element::of(columns, row * columns.steps + step),
            Side::Fill(v) => Some(Element::Float(v)),
        }
    }
}

impl Join<'_, '_> {
    fn run(&mut self) -> Result<()> {
        // The values that stand for a missing "one" and a missing "many" series.
        let (fill_one, fill_many) = (self.matching.fill_right, self.matching.fill_left);
        if fill_one.is_none() && fill_many.is_none() && (self.many.is_empty() || self.one.is_empty()) {
            return Ok(());
        }
        let all = signatures(self.matching, self.many_rows, self.one_rows, &mut self.pace)?;
        for (n, s) in all.iter().enumerate() {
            if self.clash(s)?.is_some() {
                return self.first_clash(&all);
            }
            if fill_many.is_some() {
                self.pace.work(self.out.steps)?;
                self.matched = vec![false; self.out.steps];
            }
            for &many in &s.many {
                for &one in &s.one {
                    self.pair(n, Side::Row(many), Side::Row(one), None)?;
                }
            }
            if let Some(fill) = fill_one {
                let present = presence(self.one, s.one.iter().copied(), &mut self.pace)?;
                for &many in &s.many {
                    self.pair(n, Side::Row(many), Side::Fill(fill), Some(&present))?;
                }
            }
            if let Some(fill) = fill_many {
                let matched = std::mem::take(&mut self.matched);
                for &one in &s.one {
                    self.pair(n, Side::Fill(fill), Side::Row(one), Some(&matched))?;
                }
            }
        }
        Ok(())
    }

    /// What Prometheus says, which goes from step to step: what is wrong at the first of them.
    fn first_clash(&mut self, all: &[Signature]) -> Result<()> {
        let mut first: Option<Clash> = None;
        for s in all {
            first = first.into_iter().chain(self.clash(s)?).min_by_key(|c| (c.step, c.one.is_none()));
        }
        let Some(Clash { one: Some([first, second]), .. }) = first else {
            return fail(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            );
        };
        let mut both = [first, second].map(|row| self.one_rows.labels(row));
        both.sort();
        let [first, second] = both;
        fail(format!(
            "found duplicate series for the match group {} on the {} hand-side of the operation: [{}, {}]\
             ;many-to-many matching not allowed: matching labels must be unique on one side",
            labels::plain(&self.match_labels(&second)),
            if self.swapped { "left" } else { "right" },
            labels::plain(&first),
            labels::plain(&second),
        ))
    }

    /// The first step at which series of one signature cannot be matched.
    fn clash(&mut self, s: &Signature) -> Result<Option<Clash>> {
        let one = self.clash_on_one_side(s)?;
        let many = self.clash_on_many_side(s)?;
        Ok(one.into_iter().chain(many).min_by_key(|c| (c.step, c.one.is_none())))
    }

    /// Of the series on the "one" side with one signature, at most one may have a point at a step.
    fn clash_on_one_side(&mut self, s: &Signature) -> Result<Option<Clash>> {
        if s.one.len() < 2 {
            return Ok(None);
        }
        let steps = self.one.steps;
        let fills = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        let many_present = match self.many_present.take() {
            Some(present) => present,
            None if fills => vec![true; steps],
            None => presence(self.many, 0..self.many.rows(), &mut self.pace)?,
        };
        let mut clash = None;
        for step in (0..steps).filter(|step| many_present[*step]) {
            self.pace.work(s.one.len())?;
            let mut present = s.one.iter().filter(|row| self.one.kinds[**row * steps + step] != ABSENT);
            if let (Some(first), Some(second)) = (present.next(), present.next()) {
                clash = Some(Clash { step, one: Some([*first, *second]) });
                break;
            }
        }
        self.many_present = Some(many_present);
        Ok(clash)
    }

    /// Without grouping, of the series on the "many" side at most one may find a match at a step.
    fn clash_on_many_side(&mut self, s: &Signature) -> Result<Option<Clash>> {
        if self.matching.cardinality != Cardinality::OneToOne || s.many.len() < 2 {
            return Ok(None);
        }
        let steps = self.many.steps;
        let matched = presence(self.one, s.one.iter().copied(), &mut self.pace)?;
        let fill = self.matching.fill_right.map(Side::Fill);
        for step in (0..steps).filter(|step| matched[*step] || fill.is_some()) {
            self.pace.work(s.many.len() + s.one.len())?;
            let row = |row: &&usize| self.one.kinds[**row * steps + step] != ABSENT;
            let Some(one) = s.one.iter().find(row).map(|row| Side::Row(*row)).or(fill) else { continue };
            if s.many.iter().filter(|row| self.goes_with(Side::Row(**row), one, step)).nth(1).is_some() {
                return Ok(Some(Clash { step, one: None }));
            }
        }
        Ok(None)
    }

    /// Whether the two sides have points at a step that the operator goes with, be it that a comparison drops them.
    fn goes_with(&self, many: Side, one: Side, step: usize) -> bool {
        let (m, o) = (many.element(self.many, step), one.element(self.one, step));
        let (l, r) = if self.swapped { (o, m) } else { (m, o) };
        let (Some(l), Some(r)) = (l, r) else { return false };
        !matches!(apply(self.binary.op, l, r, &self.ctx.notes, self.pos), Result2::Nothing)
    }

    /// The labels of the match group that `labels` belongs to.
    fn match_labels(&self, labels: &Labels) -> Labels {
        if self.matching.on {
            labels.keep(&self.matching.labels)
        } else {
            labels.without(&self.matching.labels)
        }
    }

    /// The labels of the result of a match: those of the "many" side that the operator and the matching leave, and
    /// those of the "one" side that `group_left` or `group_right` names. `many` and `one` ascend by name.
    fn result_labels(&self, many: &[(&str, &str)], one: &[(&str, &str)]) -> Labels {
        let names = &self.matching.labels;
        let bare = changes_meaning(self.binary.op);
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let kept = |n: &str| {
            let unmatched = one_to_one && self.matching.on != names.iter().any(|k| k == n);
            !(unmatched || bare && describes_metric(n))
        };
        // What a comparison makes true or false has no name, included or not.
        let nameless = self.binary.return_bool && !self.ctx.delayed();
        let left = |n: &str| !(nameless && describes_metric(n));
        let include = &self.matching.include;
        let own = many.iter().copied().filter(|(n, _)| kept(n) && left(n));
        if include.is_empty() {
            return Labels::from_sorted(own);
        }
        let mut pairs: Vec<(&str, &str)> = own.filter(|(n, _)| !include.iter().any(|i| i == n)).collect();
        for name in include.iter().filter(|n| left(n)) {
            pairs.extend(one.iter().filter(|(n, _)| n == name));
        }
        Labels::from_pairs(pairs)
    }

    /// Applies the operator to two sides at the steps at which both have a point, and `taken` is not set.
    fn pair(&mut self, signature: usize, many: Side, one: Side, taken: Option<&[bool]>) -> Result<()> {
        let steps = self.out.steps;
        self.pace.work(steps + 2 * LABELS)?;
        let labels = match (many, one) {
            (Side::Row(m), Side::Row(o)) => {
                let (mut many, mut one) = (Vec::new(), Vec::new());
                self.many.series[m].labels.pairs_into(&self.many_rows.table, &mut many);
                if !self.matching.include.is_empty() {
                    self.one.series[o].labels.pairs_into(&self.one_rows.table, &mut one);
                }
                self.result_labels(&many, &one)
            }
            (Side::Row(m), Side::Fill(_)) => {
                let labels = self.many_rows.labels(m);
                self.result_labels(&pairs(&labels), &pairs(&self.match_labels(&labels)))
            }
            (Side::Fill(_), Side::Row(o)) => {
                let labels = self.one_rows.labels(o);
                self.result_labels(&pairs(&self.match_labels(&labels)), &pairs(&labels))
            }
            (Side::Fill(_), Side::Fill(_)) => return Ok(()),
        };
        let contributor = (signature, many, one);
        let row = match self.rows.get(&labels) {
            Some(row) => {
                let row = *row;
                self.check_unique(row, contributor, taken)?;
                self.contributors[row].push(contributor);
                row
            }
            None => {
                let row = self.out.push_row(labels.clone(), self.binary.return_bool);
                self.rows.insert(labels, row);
                self.contributors.push(vec![contributor]);
                self.ctx.check_slots(self.out.rows(), steps)?;
                if self.fill_plain(row, many, one) {
                    self.matched.fill(true);
                    return Ok(());
                }
                row
            }
        };
        let b = self.binary;
        for step in 0..steps {
            if taken.is_some_and(|t| t[step]) {
                continue;
            }
            let (Some(m), Some(o)) = (many.element(self.many, step), one.element(self.one, step)) else {
                continue;
            };
            let (l, r) = if self.swapped { (o, m) } else { (m, o) };
            let result = apply(b.op, l, r, &self.ctx.notes, self.pos);
            if let Some(matched) = self.matched.get_mut(step) {
                *matched |= !matches!(result, Result2::Nothing);
            }
            let point = match result {
                Result2::Nothing => continue,
                Result2::Dropped if b.return_bool => Point::Float(0.0),
                Result2::Dropped => continue,
                _ if b.return_bool && is_comparison(b.op) => Point::Float(1.0),
                Result2::Float(v) => Point::Float(v),
                Result2::Histogram(h) => Point::Histogram(h),
            };
            let slot = row * steps + step;
            if self.out.kinds[slot] != ABSENT {
                return fail("vector cannot contain metrics with the same labelset");
            }
            self.out.set(slot, point);
        }
        Ok(())
    }

    /// Fills a new row where both sides are floats at all steps; answers whether it did.
    fn fill_plain(&mut self, row: usize, many: Side, one: Side) -> bool {
        let (Side::Row(m), Side::Row(o)) = (many, one) else { return false };
        let op = self.binary.op;
        if !matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div)
            || !self.many.all_floats(m)
            || !self.one.all_floats(o)
        {
            return false;
        }
        let (m, o) = (self.many.row_values(m), self.one.row_values(o));
        let (l, r) = if self.swapped { (o, m) } else { (m, o) };
        let span = self.out.span(row);
        self.out.kinds[span.clone()].fill(FLOAT);
        let out = &mut self.out.values[span];
        let zipped = out.iter_mut().zip(l).zip(r);
        match op {
            BinaryOp::Add => zipped.for_each(|((v, l), r)| *v = l + r),
            BinaryOp::Sub => zipped.for_each(|((v, l), r)| *v = l - r),
            BinaryOp::Mul => zipped.for_each(|((v, l), r)| *v = l * r),
            _ => zipped.for_each(|((v, l), r)| *v = l / r),
        }
        true
    }

    /// With grouping, the result's labels have to tell apart the matches of one signature.
    fn check_unique(&mut self, row: usize, new: (usize, Side, Side), taken: Option<&[bool]>) -> Result<()> {
        if self.matching.cardinality == Cardinality::OneToOne {
            return Ok(());
        }
        let steps = self.out.steps;
        let is_fill = |side: Side| matches!(side, Side::Fill(_));
        for i in 0..self.contributors[row].len() {
            let (signature, many, one) = self.contributors[row][i];
            if signature != new.0 || is_fill(one) != is_fill(new.2) {
                continue;
            }
            self.pace.work(2 * steps)?;
            let clash = (0..steps)
                .filter(|s| !taken.is_some_and(|t| t[*s]))
                .any(|s| self.goes_with(many, one, s) && self.goes_with(new.1, new.2, s));
            if clash {
                return fail("multiple matches for labels: grouping labels must ensure unique matches");
            }
        }
        Ok(())
    }
}
