//! A parsed expression as JSON, with the keys and words of Prometheus's `/api/v1/parse_query`.

use serde_json::{Value, json};

use crate::model::Matcher;
use crate::promql::ast::{
    At, Cardinality, DurationExpr, Expr, ExprKind, Matching, RangeMode, TimeShift, VectorSelector,
};
use crate::promql::functions;

/// The tree. A duration that has to be calculated counts as 0 and stands as a tree of its own beside that, as upstream.
pub(super) fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(v) | ExprKind::Duration(v) => {
            json!({"type": "numberLiteral", "val": crate::promql::format_number(*v)})
        }
        ExprKind::String(s) => json!({"type": "stringLiteral", "val": s}),
        ExprKind::Paren(inner) => node([("type", json!("parenExpr")), ("expr", tree(inner))]),
        ExprKind::Unary { negate, expr } => node([
            ("type", json!("unaryExpr")),
            ("op", json!(if *negate { "-" } else { "+" })),
            ("expr", tree(expr)),
        ]),
        ExprKind::Binary(b) => node([
            ("type", json!("binaryExpr")),
            ("op", json!(b.op.as_str())),
            ("lhs", tree(&b.lhs)),
            ("rhs", tree(&b.rhs)),
            ("matching", b.matching.as_ref().map_or(Value::Null, matching)),
            ("bool", json!(b.return_bool)),
        ]),
        ExprKind::Aggregate(a) => node([
            ("type", json!("aggregation")),
            ("op", json!(a.op.as_str())),
            ("expr", tree(&a.expr)),
            ("param", a.param.as_ref().map_or(Value::Null, tree)),
            ("grouping", json!(a.labels)),
            ("without", json!(a.without)),
        ]),
        ExprKind::Call(c) => {
            let spec = functions::lookup(c.function);
            let func = json!({
                "name": c.function,
                "argTypes": spec.map_or_else(Vec::new, |s| s.args.iter().map(|t| t.as_str()).collect()),
                "variadic": spec.map_or(0, |s| s.variadic),
                "returnType": spec.map_or("vector", |s| s.returns.as_str()),
            });
            let args = Value::Array(c.args.iter().map(tree).collect());
            node([("type", json!("call")), ("func", func), ("args", args)])
        }
        ExprKind::Vector(v) => selector("vectorSelector", v),
        ExprKind::Matrix(m) => {
            let mut node = selector("matrixSelector", &m.vector);
            span(&mut node, "range", Some(&m.range));
            node
        }
        ExprKind::Subquery(s) => {
            let mut node = node([("type", json!("subquery")), ("expr", tree(&s.expr))]);
            span(&mut node, "range", Some(&s.range));
            span(&mut node, "step", s.step.as_ref());
            shift(&mut node, &s.shift);
            node
        }
    }
}

/// An object of these fields. Unlike `json!`, which writes what is put into it anew, it takes its fields as they are: else a tree
/// would be written as often as it is deep.
fn node<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn selector(kind: &str, v: &VectorSelector) -> Value {
    let mut node = json!({
        "type": kind,
        "name": v.name.as_deref().unwrap_or(""),
        "matchers": v.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "anchored": v.mode == RangeMode::Anchored,
        "smoothed": v.mode == RangeMode::Smoothed,
    });
    shift(&mut node, &v.shift);
    node
}

fn matcher(m: &Matcher) -> Value {
    json!({"name": m.name, "type": m.op.as_str(), "value": m.value})
}

fn matching(m: &Matching) -> Value {
    json!({
        "card": match m.cardinality {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        },
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": {"lhs": m.fill_left, "rhs": m.fill_right},
    })
}

fn shift(node: &mut Value, shift: &TimeShift) {
    span(node, "offset", shift.offset.as_ref());
    let (timestamp, start_or_end) = match shift.at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (json!(ms), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
    };
    node["timestamp"] = timestamp;
    node["startOrEnd"] = start_or_end;
}

/// A duration in milliseconds, and its tree if it has to be calculated.
fn span(node: &mut Value, name: &str, duration: Option<&DurationExpr>) {
    let (ms, calculated) = match duration {
        None => (0, Value::Null),
        Some(DurationExpr::Literal(ms)) => (*ms, Value::Null),
        Some(other) => (0, calculation(other, false)),
    };
    node[name] = json!(ms);
    node[format!("{name}Expr")] = calculated;
}

fn calculation(duration: &DurationExpr, wrapped: bool) -> Value {
    let (op, lhs, rhs) = match duration {
        DurationExpr::Literal(ms) => return number(*ms as f64 / 1000.0, true),
        DurationExpr::Number(v) => return number(*v, false),
        DurationExpr::Paren(inner) => return calculation(inner, true),
        DurationExpr::Step => ("step", None, None),
        DurationExpr::Range => ("range", None, None),
        DurationExpr::Negate(of) => ("-", None, Some(of)),
        DurationExpr::Min(a, b) => ("min_of", Some(a), Some(b)),
        DurationExpr::Max(a, b) => ("max_of", Some(a), Some(b)),
        DurationExpr::Binary { op, lhs, rhs, .. } => (op.as_str(), Some(lhs), Some(rhs)),
    };
    let side = |side: Option<&Box<DurationExpr>>| side.map_or(Value::Null, |d| calculation(d, false));
    node([
        ("type", json!("durationExpr")),
        ("op", json!(op)),
        ("lhs", side(lhs)),
        ("rhs", side(rhs)),
        ("wrapped", json!(wrapped)),
    ])
}

fn number(value: f64, duration: bool) -> Value {
    json!({"type": "numberLiteral", "val": crate::promql::format_number(value), "duration": duration})
}
