//! Which metrics an expression reads, as far as its text tells.

use std::collections::BTreeSet;

use crate::model::{METRIC_NAME, MatchOp};
use crate::promql::ast::{Expr, ExprKind, VectorSelector};

/// The metric names that an expression selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    names: BTreeSet<String>,
    /// A selector does not name its metric.
    anything: bool,
}

impl Reads {
    pub fn of(expr: &Expr) -> Self {
        let mut reads = Reads::default();
        reads.walk(expr);
        reads
    }

    /// Reads what nobody knows.
    pub fn anything() -> Self {
        Reads { anything: true, ..Reads::default() }
    }

    /// Whether a metric of this name may be read.
    pub fn may_read(&self, name: &str) -> bool {
        self.anything || self.names.contains(name)
    }

    fn selector(&mut self, selector: &VectorSelector) {
        let named = |m: &&crate::model::Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal;
        match selector.matchers.iter().find(named) {
            Some(m) => {
                self.names.insert(m.value.clone());
            }
            None => self.anything = true,
        }
    }

    fn walk(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Duration(_) => {}
            ExprKind::Paren(e) => self.walk(e),
            ExprKind::Unary { expr, .. } => self.walk(expr),
            ExprKind::Binary(b) => {
                self.walk(&b.lhs);
                self.walk(&b.rhs);
            }
            ExprKind::Aggregate(a) => {
                self.walk(&a.expr);
                if let Some(param) = &a.param {
                    self.walk(param);
                }
            }
            // The second argument of info() is a selector whose metric is implied.
            ExprKind::Call(call) if call.function == "info" => self.anything = true,
            ExprKind::Call(call) => call.args.iter().for_each(|a| self.walk(a)),
            ExprKind::Vector(v) => self.selector(v),
            ExprKind::Matrix(m) => self.selector(&m.vector),
            ExprKind::Subquery(s) => self.walk(&s.expr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand() {
        let reads = |q: &str| Reads::of(&crate::promql::parse(q).unwrap());
        let r = reads("sum by (x) (rate(a[5m])) / on (x) max_over_time((b offset 1m)[5m:1m]) > -c{d=\"e\"}");
        for name in ["a", "b", "c"] {
            assert!(r.may_read(name), "{name}");
        }
        assert!(!r.may_read("d"));
        assert!(reads("{job=\"x\"}").may_read("anything"));
        assert!(reads("{__name__=~\"a.*\"}").may_read("b"));
        assert!(!reads("{__name__=\"a\"}").may_read("b"));
        assert!(!reads("vector(1)").may_read("b"));
    }
}
