//! A parsed expression as JSON, with the keys and words of Prometheus's `/api/v1/parse_query`.

use serde_json::{Value, json};

use crate::model::Matcher;
use crate::promql::ast::{
    At, Cardinality, DurationExpr, Expr, ExprKind, Matching, RangeMode, TimeShift, VectorSelector,
};
use crate::promql::functions;

/// The tree. A duration that has to be calculated counts as 0 (or as the default step), as upstream.
pub(super) fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(v) | ExprKind::Duration(v) => {
            json!({"type": "numberLiteral", "val": crate::promql::format_number(*v)})
        }
        ExprKind::String(s) => json!({"type": "stringLiteral", "val": s}),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": tree(inner)}),
        ExprKind::Unary { negate, expr } => {
            json!({"type": "unaryExpr", "op": if *negate { "-" } else { "+" }, "expr": tree(expr)})
        }
        ExprKind::Binary(b) => json!({
            "type": "binaryExpr",
            "op": b.op.as_str(),
            "lhs": tree(&b.lhs),
            "rhs": tree(&b.rhs),
            "matching": b.matching.as_ref().map(matching),
            "bool": b.return_bool,
        }),
        ExprKind::Aggregate(a) => json!({
            "type": "aggregation",
            "op": a.op.as_str(),
            "expr": tree(&a.expr),
            "param": a.param.as_ref().map(tree),
            "grouping": a.labels,
            "without": a.without,
        }),
        ExprKind::Call(c) => {
            let spec = functions::lookup(c.function);
            json!({
                "type": "call",
                "func": {
                    "name": c.function,
                    "argTypes": spec.map_or_else(Vec::new, |s| s.args.iter().map(|t| t.as_str()).collect()),
                    "variadic": spec.map_or(0, |s| s.variadic),
                    "returnType": spec.map_or("vector", |s| s.returns.as_str()),
                },
                "args": c.args.iter().map(tree).collect::<Vec<_>>(),
            })
        }
        ExprKind::Vector(v) => selector("vectorSelector", v),
        ExprKind::Matrix(m) => {
            let mut node = selector("matrixSelector", &m.vector);
            node["range"] = milliseconds(Some(&m.range));
            node
        }
        ExprKind::Subquery(s) => {
            let mut node = json!({
                "type": "subquery",
                "expr": tree(&s.expr),
                "range": milliseconds(Some(&s.range)),
                "step": milliseconds(s.step.as_ref()),
            });
            shift(&mut node, &s.shift);
            node
        }
    }
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
    node["offset"] = milliseconds(shift.offset.as_ref());
    let (timestamp, start_or_end) = match shift.at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (json!(ms), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
    };
    node["timestamp"] = timestamp;
    node["startOrEnd"] = start_or_end;
}

fn milliseconds(duration: Option<&DurationExpr>) -> Value {
    match duration {
        Some(DurationExpr::Literal(ms)) => json!(ms),
        Some(DurationExpr::Paren(inner)) => milliseconds(Some(inner)),
        _ => json!(0),
    }
}
