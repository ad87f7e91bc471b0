//! Operators between numbers, and between a number and the elements of a vector.

use std::sync::Arc;

use super::columns::{Columns, FLOAT, HISTOGRAM};
use super::context::{Context, Grid, Result, fail};
use super::notes::Notes;
use super::rows::{Duplicates, Rows};
use super::{Out, labels, value_type};
use crate::model::{CounterResetHint, FloatHistogram};
use crate::promql::ast::{Binary, BinaryOp, Expr, Pos, ValueType};

pub(super) fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp as B;
    matches!(op, B::Equal | B::NotEqual | B::Greater | B::Less | B::GreaterEqual | B::LessEqual)
}

/// Whether the result is no longer what the metric's name says.
pub(super) fn changes_meaning(op: BinaryOp) -> bool {
    use BinaryOp as B;
    matches!(op, B::Add | B::Sub | B::Mul | B::Div | B::Mod | B::Pow | B::Atan2)
}

pub(super) fn symbol(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
        BinaryOp::Atan2 => "atan2",
        BinaryOp::Equal => "==",
        BinaryOp::NotEqual => "!=",
        BinaryOp::Greater => ">",
        BinaryOp::Less => "<",
        BinaryOp::GreaterEqual => ">=",
        BinaryOp::LessEqual => "<=",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Unless => "unless",
        BinaryOp::TrimUpper => "</",
        BinaryOp::TrimLower => ">/",
    }
}

#[inline]
fn arithmetic(op: BinaryOp, l: f64, r: f64) -> f64 {
    match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        BinaryOp::Atan2 => l.atan2(r),
        _ => f64::NAN,
    }
}

#[inline]
#[allow(clippy::float_cmp, reason = "equality is what the operator means")]
fn compare(op: BinaryOp, l: f64, r: f64) -> bool {
    match op {
        BinaryOp::Equal => l == r,
        BinaryOp::NotEqual => l != r,
        BinaryOp::Greater => l > r,
        BinaryOp::Less => l < r,
        BinaryOp::GreaterEqual => l >= r,
        BinaryOp::LessEqual => l <= r,
        _ => false,
    }
}

/// One side of an operator between elements.
#[derive(Clone, Copy)]
pub(super) enum Element<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl<'a> Element<'a> {
    /// What stands in a slot.
    pub fn of<L>(columns: &'a Columns<L>, slot: usize) -> Option<Self> {
        match columns.kinds[slot] {
            FLOAT => Some(Element::Float(columns.values[slot])),
            HISTOGRAM => columns.hist(slot).map(Element::Histogram),
            _ => None,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Element::Float(_) => "float",
            Element::Histogram(_) => "histogram",
        }
    }
}

/// The result of an operator between elements.
pub(super) enum Result2 {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
    /// A comparison that is false.
    Dropped,
    /// The operator does not apply; a note has been made.
    Nothing,
}

/// Applies an operator to two elements. For a comparison the result is the left element, or nothing.
pub(super) fn apply(op: BinaryOp, l: Element<'_>, r: Element<'_>, notes: &Notes, pos: &Pos) -> Result2 {
    use BinaryOp as B;
    let changed = |h: &FloatHistogram, f: &dyn Fn(&mut FloatHistogram)| {
        let mut h = h.clone();
        f(&mut h);
        h.compact();
        Result2::Histogram(Arc::new(h))
    };
    let combined = |a: &FloatHistogram, b: &FloatHistogram, minus: bool| {
        let mut sum = a.clone();
        let (done, operation) =
            if minus { (sum.subtract(b), "subtraction") } else { (sum.add(b), "addition") };
        let Ok(done) = done else {
            notes.incompatible_layout(symbol(op), pos);
            return Result2::Nothing;
        };
        if done.reset_collision {
            notes.reset_collision(operation, pos);
            return Result2::Nothing;
        }
        if done.bounds_reconciled {
            notes.bounds_reconciled(operation, pos);
        }
        if minus {
            sum.counter_reset_hint = CounterResetHint::Gauge;
        }
        sum.compact();
        Result2::Histogram(Arc::new(sum))
    };
    match (l, r) {
        (Element::Float(a), Element::Float(b)) if changes_meaning(op) => Result2::Float(arithmetic(op, a, b)),
        (Element::Float(a), Element::Float(b)) if is_comparison(op) => {
            if compare(op, a, b) {
                Result2::Float(a)
            } else {
                Result2::Dropped
            }
        }
        (Element::Float(a), Element::Histogram(h)) if op == B::Mul => changed(h, &|h| h.scale(a)),
        (Element::Histogram(h), Element::Float(b)) if op == B::Mul => changed(h, &|h| h.scale(b)),
        (Element::Histogram(h), Element::Float(b)) if op == B::Div => changed(h, &|h| h.divide(b)),
        (Element::Histogram(h), Element::Float(b)) if op == B::TrimUpper => changed(h, &|h| h.keep_below(b)),
        (Element::Histogram(h), Element::Float(b)) if op == B::TrimLower => changed(h, &|h| h.keep_above(b)),
        (Element::Histogram(a), Element::Histogram(b)) if op == B::Add => combined(a, b, false),
        (Element::Histogram(a), Element::Histogram(b)) if op == B::Sub => combined(a, b, true),
        (Element::Histogram(a), Element::Histogram(b)) if matches!(op, B::Equal | B::NotEqual) => {
            if a.same_as(b) == (op == B::Equal) {
                Result2::Histogram(Arc::clone(a))
            } else {
                Result2::Dropped
            }
        }
        _ => {
            notes.incompatible_types(l.kind(), symbol(op), r.kind(), pos);
            Result2::Nothing
        }
    }
}

/// Applies an operator between the elements of a table and one number per step. `swapped`: the number is on the left.
fn with_scalar<L>(
    ctx: &Context<'_>,
    b: &Binary,
    columns: &mut Columns<L>,
    scalars: &[f64],
    swapped: bool,
    pos: &Pos,
) -> Result<()> {
    let op = b.op;
    let steps = columns.steps.max(1);
    if columns.hists.is_empty() && changes_meaning(op) {
        let mut pace = ctx.pace();
        // Absent slots are calculated too: their values mean nothing.
        for row in columns.values.chunks_mut(steps) {
            pace.work(steps)?;
            for (v, s) in row.iter_mut().zip(scalars) {
                *v = if swapped { arithmetic(op, *s, *v) } else { arithmetic(op, *v, *s) };
            }
        }
        return Ok(());
    }
    ctx.in_pieces(columns.kinds.len(), |slots| {
        with_scalar_in(b, columns, slots, scalars, swapped, &ctx.notes, pos);
    })
}

/// [`with_scalar`] for some of the slots, whatever stands there.
fn with_scalar_in<L>(
    b: &Binary,
    columns: &mut Columns<L>,
    slots: std::ops::Range<usize>,
    scalars: &[f64],
    swapped: bool,
    notes: &Notes,
    pos: &Pos,
) {
    let op = b.op;
    let steps = columns.steps.max(1);
    for slot in slots {
        let scalar = Element::Float(scalars[slot % steps]);
        let Some(own) = Element::of(columns, slot) else { continue };
        let (l, r) = if swapped { (scalar, own) } else { (own, scalar) };
        match apply(op, l, r, notes, pos) {
            Result2::Nothing => columns.clear(slot),
            Result2::Dropped if b.return_bool => {
                columns.clear(slot);
                columns.kinds[slot] = FLOAT;
                columns.values[slot] = 0.0;
            }
            Result2::Dropped => columns.clear(slot),
            _ if b.return_bool => {
                columns.clear(slot);
                columns.kinds[slot] = FLOAT;
                columns.values[slot] = 1.0;
            }
            // A comparison keeps the vector's element, on whichever side it stands.
            _ if is_comparison(op) => {}
            Result2::Float(v) => {
                columns.clear(slot);
                columns.kinds[slot] = FLOAT;
                columns.values[slot] = v;
            }
            Result2::Histogram(h) => columns.set(slot, super::columns::Point::Histogram(h)),
        }
    }
}

/// An operator between a vector that is a recipe for rows and a number, itself as a recipe.
pub(super) fn rows<'e>(
    ctx: &'e Context<'_>,
    pos: &'e Pos,
    b: &'e Binary,
    grid: Grid,
) -> Result<Option<Rows<'e>>> {
    let (vector, scalar, swapped) = match (value_type(&b.lhs), value_type(&b.rhs)) {
        (ValueType::Vector, ValueType::Scalar) => (&b.lhs, &b.rhs, false),
        (ValueType::Scalar, ValueType::Vector) => (&b.rhs, &b.lhs, true),
        _ => return Ok(None),
    };
    if !(changes_meaning(b.op) || b.return_bool) {
        // Filters keep the names, and are not worth a recipe of their own kind.
        return Ok(None);
    }
    let Some(inner) = ctx.rows(vector, grid)? else { return Ok(None) };
    let scalars = ctx.scalar(scalar, grid)?;
    Ok(Some(ctx.map_rows(inner, Duplicates::Unite, grid, move |columns| {
        with_scalar(ctx, b, columns, &scalars, swapped, pos)
    })))
}

impl Context<'_> {
    pub fn binary(&self, expr: &Expr, b: &Binary, grid: Grid) -> Result<Out> {
        match (value_type(&b.lhs), value_type(&b.rhs)) {
            (ValueType::Scalar, ValueType::Scalar) => {
                let l = self.scalar(&b.lhs, grid)?;
                let r = self.scalar(&b.rhs, grid)?;
                let of = |i: usize| match is_comparison(b.op) {
                    true => f64::from(u8::from(compare(b.op, l[i], r[i]))),
                    false => arithmetic(b.op, l[i], r[i]),
                };
                Ok(Out::Scalar(self.collect_in_pieces(l.len().min(r.len()), of)?))
            }
            (ValueType::Vector, ValueType::Scalar) => self.vector_scalar(expr, b, grid, false),
            (ValueType::Scalar, ValueType::Vector) => self.vector_scalar(expr, b, grid, true),
            (ValueType::Vector, ValueType::Vector) => Ok(Out::Vector(self.vector_vector(expr, b, grid)?)),
            _ => fail("binary expression must contain only scalar and instant vector types"),
        }
    }

    fn vector_scalar(&self, expr: &Expr, b: &Binary, grid: Grid, swapped: bool) -> Result<Out> {
        let (vector, scalar) = if swapped { (&b.rhs, &b.lhs) } else { (&b.lhs, &b.rhs) };
        let mut columns = self.vector(vector, grid)?;
        let scalars = self.scalar(scalar, grid)?;
        let before = columns.samples();
        with_scalar(self, b, &mut columns, &scalars, swapped, &expr.pos)?;
        columns.drop_empty_rows(&mut self.pace())?;
        self.samples.release(before);
        self.hold(columns.samples())?;
        if changes_meaning(b.op) || b.return_bool {
            self.drop_names(&mut columns)?;
            if !self.delayed() {
                columns = labels::unite(self, columns)?;
            }
        }
        Ok(Out::Vector(columns))
    }
}
