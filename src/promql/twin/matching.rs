//! Binary operators at one time.

use std::collections::{BTreeMap, BTreeSet};

use super::{Result, Twin, Value, Vector, error, nameless, unknown};
use crate::model::Labels;
use crate::promql::ast::{Binary, BinaryOp, Cardinality, Matching};

impl Twin<'_> {
    pub fn binary(&self, b: &Binary, time: i64) -> Result<Value> {
        let (lhs, rhs) = (self.eval(&b.lhs, time)?, self.eval(&b.rhs, time)?);
        match (lhs, rhs) {
            (Value::Scalar(l), Value::Scalar(r)) => {
                let (v, holds) = calculate(b.op, l, r)?;
                Ok(Value::Scalar(if b.op.is_comparison() { f64::from(holds) } else { v }))
            }
            (Value::Vector(v), Value::Scalar(s)) => one_sided(b, v, |v| calculate(b.op, v, s)),
            (Value::Scalar(s), Value::Vector(v)) => one_sided(b, v, |v| calculate(b.op, s, v)),
            (Value::Vector(l), Value::Vector(r)) => {
                let Some(matching) = &b.matching else { return unknown("no matching") };
                let both =
                    if b.op.is_set() { sets(b.op, matching, l, &r) } else { pairs(b, matching, l, r)? };
                Ok(Value::Vector(both))
            }
        }
    }
}

/// The result of arithmetic, and whether a comparison holds.
fn calculate(op: BinaryOp, l: f64, r: f64) -> Result<(f64, bool)> {
    Ok(match op {
        BinaryOp::Add => (l + r, true),
        BinaryOp::Sub => (l - r, true),
        BinaryOp::Mul => (l * r, true),
        BinaryOp::Div => (l / r, true),
        BinaryOp::Mod => (l % r, true),
        BinaryOp::Pow => (l.powf(r), true),
        BinaryOp::Atan2 => (l.atan2(r), true),
        BinaryOp::Equal => (l, l == r),
        BinaryOp::NotEqual => (l, l != r),
        BinaryOp::Greater => (l, l > r),
        BinaryOp::Less => (l, l < r),
        BinaryOp::GreaterEqual => (l, l >= r),
        BinaryOp::LessEqual => (l, l <= r),
        _ => return unknown("an operator"),
    })
}

/// A vector with a scalar: what a comparison keeps is the vector's element, on whichever side it stands.
fn one_sided(b: &Binary, vector: Vector, f: impl Fn(f64) -> Result<(f64, bool)>) -> Result<Value> {
    let mut out = Vec::new();
    for (labels, v) in vector {
        let (calculated, holds) = f(v)?;
        if b.return_bool {
            out.push((labels, f64::from(holds)));
        } else if !b.op.is_comparison() {
            out.push((labels, calculated));
        } else if holds {
            out.push((labels, v));
        }
    }
    let keeps_name = b.op.is_comparison() && !b.return_bool;
    if keeps_name { Ok(Value::Vector(out)) } else { nameless(out).map(Value::Vector) }
}

fn signature(matching: &Matching, labels: &Labels) -> Labels {
    if matching.on {
        return labels.keep(&matching.labels);
    }
    let mut ignored = matching.labels.clone();
    ignored.push("__name__".to_owned());
    labels.without(&ignored)
}

fn sets(op: BinaryOp, matching: &Matching, l: Vector, r: &Vector) -> Vector {
    let signatures =
        |v: &Vector| -> BTreeSet<Labels> { v.iter().map(|(l, _)| signature(matching, l)).collect() };
    let (of_left, of_right) = (signatures(&l), signatures(r));
    match op {
        BinaryOp::And => l.into_iter().filter(|(l, _)| of_right.contains(&signature(matching, l))).collect(),
        BinaryOp::Unless => {
            l.into_iter().filter(|(l, _)| !of_right.contains(&signature(matching, l))).collect()
        }
        _ => {
            let rest = r.iter().filter(|(l, _)| !of_left.contains(&signature(matching, l))).cloned();
            l.into_iter().chain(rest).collect()
        }
    }
}

fn pairs(b: &Binary, matching: &Matching, l: Vector, r: Vector) -> Result<Vector> {
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (r, l) } else { (l, r) };
    if many.is_empty() || one.is_empty() {
        return Ok(Vec::new());
    }
    let mut partners: BTreeMap<Labels, (Labels, f64)> = BTreeMap::new();
    for (labels, v) in one {
        if partners.insert(signature(matching, &labels), (labels, v)).is_some() {
            return error("found duplicate series for the match group");
        }
    }
    let (mut out, mut used, mut made) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (labels, v) in many {
        let key = signature(matching, &labels);
        let Some((partner, w)) = partners.get(&key) else { continue };
        let (calculated, holds) = if swapped { calculate(b.op, *w, v)? } else { calculate(b.op, v, *w)? };
        let result = result_labels(b, matching, &labels, partner);
        if matching.cardinality == Cardinality::OneToOne && !used.insert(key) {
            return error("multiple matches for labels: many-to-one matching must be explicit");
        }
        if matching.cardinality != Cardinality::OneToOne && !made.insert(result.clone()) {
            return error("multiple matches for labels: grouping labels must ensure unique matches");
        }
        if b.return_bool {
            out.push((result, f64::from(holds)));
        } else if holds {
            out.push((result, calculated));
        }
    }
    super::unique(out)
}

fn result_labels(b: &Binary, matching: &Matching, many: &Labels, one: &Labels) -> Labels {
    let keeps_name = b.op.is_comparison() && !b.return_bool;
    let mut labels = if keeps_name { many.clone() } else { many.without(&["__name__"]) };
    if matching.cardinality == Cardinality::OneToOne {
        labels = if matching.on { labels.keep(&matching.labels) } else { labels.without(&matching.labels) };
    }
    for name in &matching.include {
        labels = match one.get(name) {
            Some(value) if !value.is_empty() => labels.with(name, value),
            _ => labels.without(&[name]),
        };
    }
    labels
}
