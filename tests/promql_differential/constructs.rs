//! What the language consists of, taken from the engine's own tables, and a count of it in expressions.

use std::collections::BTreeMap;

use streamgate::model::MatchOp;
use streamgate::promql::ast::{
    At, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, RangeMode, TimeShift, VectorSelector,
};
use streamgate::promql::functions;

/// Functions that the Prometheus compared with does not have yet, each with a call of it: a test shows that it refuses it.
pub const NEWER_FUNCTIONS: &[(&str, &str)] = &[
    ("end", "end()"),
    ("first_over_time", "first_over_time(memory[5m])"),
    ("histogram_quantiles", "histogram_quantiles(hist, \"q\", 0.5)"),
    ("max_of", "max_of(1, 2)"),
    ("min_of", "min_of(1, 2)"),
    ("range", "range()"),
    ("start", "start()"),
    ("start_timestamp", "start_timestamp(memory)"),
    ("step", "step()"),
    ("ts_of_first_over_time", "ts_of_first_over_time(memory[5m])"),
];

/// The same of what is no function.
pub const NEWER: &[(&str, &str)] = &[
    ("word anchored", "rate(memory[5m] anchored)"),
    ("word smoothed", "rate(memory[5m] smoothed)"),
    ("word fill", "memory + fill (0) memory"),
    ("word fill_left", "memory + fill_left (0) memory"),
    ("word fill_right", "memory + fill_right (0) memory"),
    ("operator </", "hist </ 1"),
    ("operator >/", "hist >/ 1"),
    ("duration step()", "rate(memory[step() + 5m])"),
    ("duration range()", "rate(memory[range() + 5m])"),
    ("duration min_of", "rate(memory[min_of(5m, 10m)])"),
    ("duration max_of", "rate(memory[max_of(5m, 10m)])"),
];

pub const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "== bool", "!= bool", "> bool",
    "< bool", ">= bool", "<= bool", "and", "or", "unless",
];

/// What is neither a function nor an aggregation nor an operator.
pub const MODIFIERS: &[&str] = &[
    "offset",
    "negative offset",
    "@",
    "@ start()",
    "@ end()",
    "subquery",
    "subquery with the default step",
    "offset of a subquery",
    "@ of a subquery",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "group_left with labels",
    "group_right with labels",
    "unary minus",
    "unary plus",
    "duration as a number",
    "duration expression",
    "matcher =",
    "matcher !=",
    "matcher =~",
    "matcher !~",
    "quoted name",
    "string",
];

/// Whether the Prometheus compared with lacks this function.
pub fn is_newer(function: &str) -> bool {
    NEWER_FUNCTIONS.iter().any(|(name, _)| *name == function)
}

/// Every construct that the Prometheus compared with has, by name.
pub fn constructs() -> Vec<String> {
    let functions =
        functions::all().iter().filter(|f| !is_newer(f.name)).map(|f| format!("function {}", f.name));
    let aggregations = functions::aggregations().iter().map(|a| format!("aggregation {}", a.op.as_str()));
    let operators = OPERATORS.iter().map(|o| format!("operator {o}"));
    let modifiers = MODIFIERS.iter().map(|m| format!("modifier {m}"));
    functions.chain(aggregations).chain(operators).chain(modifiers).collect()
}

/// Every word of the engine's table is a construct, or newer than what is compared with.
#[test]
fn every_word_is_compared_or_newer() {
    let all = constructs();
    for word in functions::keywords() {
        let w = word.word;
        let compared = match w {
            "bool" => all.contains(&"operator == bool".to_owned()),
            _ => all.contains(&format!("operator {w}")) || all.contains(&format!("modifier {w}")),
        };
        assert!(
            compared || NEWER.iter().any(|(n, _)| *n == format!("word {w}")),
            "{w} is neither compared nor newer"
        );
    }
}

/// Counts by name.
pub type Counts = BTreeMap<String, usize>;

/// Counts the constructs of an expression under the names of [`constructs`]. The matches have no wildcard: what is new
/// in the tree does not compile until it is counted here.
pub fn count(expr: &Expr, counts: &mut Counts) {
    match &expr.kind {
        ExprKind::Number(_) => {}
        ExprKind::Duration(_) => add(counts, "modifier", "duration as a number"),
        ExprKind::String(_) => add(counts, "modifier", "string"),
        ExprKind::Paren(e) => count(e, counts),
        ExprKind::Unary { expr, negate } => {
            add(counts, "modifier", if *negate { "unary minus" } else { "unary plus" });
            count(expr, counts);
        }
        ExprKind::Binary(b) => {
            add(counts, "operator", &operator(b.op, b.return_bool));
            if let Some(m) = &b.matching {
                if m.on {
                    add(counts, "modifier", "on");
                } else if !m.labels.is_empty() {
                    add(counts, "modifier", "ignoring");
                }
                let group = match m.cardinality {
                    Cardinality::ManyToOne => Some("group_left"),
                    Cardinality::OneToMany => Some("group_right"),
                    Cardinality::OneToOne | Cardinality::ManyToMany => None,
                };
                if let Some(group) = group {
                    add(counts, "modifier", group);
                    if !m.include.is_empty() {
                        add(counts, "modifier", &format!("{group} with labels"));
                    }
                }
                for (side, fill) in [("fill_left", m.fill_left), ("fill_right", m.fill_right)] {
                    if fill.is_some() {
                        add(counts, "modifier", side);
                    }
                }
            }
            count(&b.lhs, counts);
            count(&b.rhs, counts);
        }
        ExprKind::Aggregate(a) => {
            add(counts, "aggregation", a.op.as_str());
            if a.without {
                add(counts, "modifier", "without");
            } else if !a.labels.is_empty() {
                add(counts, "modifier", "by");
            }
            count(&a.expr, counts);
            a.param.iter().for_each(|p| count(p, counts));
        }
        ExprKind::Call(c) => {
            add(counts, "function", c.function);
            c.args.iter().for_each(|a| count(a, counts));
        }
        ExprKind::Vector(v) => count_selector(v, counts),
        ExprKind::Matrix(m) => {
            count_duration(&m.range, counts);
            count_selector(&m.vector, counts);
        }
        ExprKind::Subquery(s) => {
            let name = if s.step.is_some() { "subquery" } else { "subquery with the default step" };
            add(counts, "modifier", name);
            if s.shift.offset.is_some() {
                add(counts, "modifier", "offset of a subquery");
            }
            if s.shift.at.is_some() {
                add(counts, "modifier", "@ of a subquery");
            }
            count_duration(&s.range, counts);
            count_shift(&s.shift, counts);
            count(&s.expr, counts);
        }
    }
}

fn add(counts: &mut Counts, kind: &str, name: &str) {
    *counts.entry(format!("{kind} {name}")).or_default() += 1;
}

fn operator(op: BinaryOp, return_bool: bool) -> String {
    match op {
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Mod
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Greater
        | BinaryOp::Less
        | BinaryOp::GreaterEqual
        | BinaryOp::LessEqual
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Unless
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => op.as_str().to_owned() + if return_bool { " bool" } else { "" },
    }
}

fn count_selector(v: &VectorSelector, counts: &mut Counts) {
    match v.mode {
        RangeMode::Plain => {}
        RangeMode::Anchored => add(counts, "modifier", "anchored"),
        RangeMode::Smoothed => add(counts, "modifier", "smoothed"),
    }
    for m in v.matchers.iter().filter(|m| m.name != "__name__") {
        let name = match m.op {
            MatchOp::Equal => "matcher =",
            MatchOp::NotEqual => "matcher !=",
            MatchOp::Regex => "matcher =~",
            MatchOp::NotRegex => "matcher !~",
        };
        add(counts, "modifier", name);
    }
    if v.name.as_ref().is_some_and(|n| n.contains('.'))
        || v.matchers.iter().any(|m| m.value.contains('.') && m.name == "__name__")
    {
        add(counts, "modifier", "quoted name");
    }
    count_shift(&v.shift, counts);
}

fn count_duration(duration: &DurationExpr, counts: &mut Counts) {
    match duration {
        DurationExpr::Literal(_) | DurationExpr::Number(_) => {}
        DurationExpr::Step
        | DurationExpr::Range
        | DurationExpr::Negate(_)
        | DurationExpr::Binary { .. }
        | DurationExpr::Min(..)
        | DurationExpr::Max(..)
        | DurationExpr::Paren(_) => add(counts, "modifier", "duration expression"),
    }
}

fn count_shift(shift: &TimeShift, counts: &mut Counts) {
    match &shift.offset {
        Some(DurationExpr::Literal(ms)) if *ms < 0 => add(counts, "modifier", "negative offset"),
        Some(DurationExpr::Negate(_)) => add(counts, "modifier", "negative offset"),
        Some(_) => add(counts, "modifier", "offset"),
        None => {}
    }
    match shift.at {
        Some(At::Time(_)) => add(counts, "modifier", "@"),
        Some(At::Start) => add(counts, "modifier", "@ start()"),
        Some(At::End) => add(counts, "modifier", "@ end()"),
        None => {}
    }
}
