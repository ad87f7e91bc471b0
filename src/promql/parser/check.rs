//! Types: every operand is of a type that its operator takes.

use super::ParseError;
use crate::model::METRIC_NAME;
use crate::promql::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, ExprKind, Pos, ValueType, VectorSelector,
};
use crate::promql::functions::{self, FunctionSpec};
use crate::promql::quote::quoted;

/// Checks the tree over `text`, and settles how vectors match in it.
pub(super) fn check(expr: &mut Expr, text: &str) -> Result<ValueType, ParseError> {
    Checker { text }.expr(expr)
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn fail<T>(&self, pos: &Pos, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.text, pos.clone(), message))
    }

    /// Walks down. What a node demands stands in functions of its own, so that the walk takes little stack.
    fn expr(&self, expr: &mut Expr) -> Result<ValueType, ParseError> {
        let pos = &expr.pos;
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) => Ok(ValueType::Scalar),
            ExprKind::String(_) => Ok(ValueType::String),
            ExprKind::Paren(inner) => self.expr(inner),
            ExprKind::Unary { expr: inner, .. } => {
                let found = self.expr(inner);
                found.and_then(|found| self.unary(found, pos))
            }
            ExprKind::Binary(binary) => {
                let lhs = self.expr(&mut binary.lhs);
                let rhs = if lhs.is_ok() { self.expr(&mut binary.rhs) } else { Ok(ValueType::Scalar) };
                lhs.and_then(|lhs| rhs.and_then(|rhs| self.binary(binary, lhs, rhs, pos)))
            }
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate),
            ExprKind::Call(call) => self.call(call, pos),
            ExprKind::Vector(vector) => self.selector(vector, pos, false).map(|()| ValueType::Vector),
            ExprKind::Matrix(matrix) => self.selector(&matrix.vector, pos, false).map(|()| ValueType::Matrix),
            ExprKind::Subquery(subquery) => {
                let found = self.expr(&mut subquery.expr);
                found.and_then(|found| self.subquery(found, pos))
            }
        }
    }

    fn unary(&self, found: ValueType, pos: &Pos) -> Result<ValueType, ParseError> {
        if matches!(found, ValueType::Scalar | ValueType::Vector) {
            return Ok(found);
        }
        let found = found.documented();
        let message = format!(
            "unary expression only allowed on expressions of type scalar or instant vector, got \"{found}\""
        );
        self.fail(pos, message)
    }

    fn subquery(&self, found: ValueType, pos: &Pos) -> Result<ValueType, ParseError> {
        if found == ValueType::Vector {
            return Ok(ValueType::Matrix);
        }
        let found = found.as_str();
        self.fail(pos, format!("subquery is only allowed on instant vector, got {found} instead"))
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
        let found = self.expr(expr)?;
        if found == wanted {
            return Ok(());
        }
        let (wanted, found) = (wanted.documented(), found.documented());
        self.fail(&expr.pos, format!("expected type {wanted} in {context}, got {found}"))
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Result<ValueType, ParseError> {
        self.expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression")?;
        let Some(param) = &mut aggregate.param else { return Ok(ValueType::Vector) };
        let wanted = match aggregate.op {
            AggregateOp::CountValues => ValueType::String,
            _ => ValueType::Scalar,
        };
        self.expect(param, wanted, "aggregation parameter").map(|()| ValueType::Vector)
    }

    fn binary(
        &self,
        binary: &mut Binary,
        lhs: ValueType,
        rhs: ValueType,
        pos: &Pos,
    ) -> Result<ValueType, ParseError> {
        let op = binary.op;
        let operator = self.operator_pos(binary);
        let (both_scalars, both_vectors) = (
            lhs == ValueType::Scalar && rhs == ValueType::Scalar,
            lhs == ValueType::Vector && rhs == ValueType::Vector,
        );
        if binary.return_bool && !op.is_comparison() {
            return self.fail(&operator, "bool modifier can only be used on comparison operators");
        }
        if op.is_comparison() && !binary.return_bool && both_scalars {
            return self.fail(&operator, "comparisons between scalars must use BOOL modifier");
        }
        let mut matching = binary.matching.take().unwrap_or_default();
        if matching.on
            && let Some(label) = matching.labels.iter().find(|l| matching.include.contains(l))
        {
            let message = format!("label {} must not occur in ON and GROUP clause at once", quoted(label));
            return self.fail(&operator, message);
        }
        for (found, operand) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.fail(&operand.pos, message);
            }
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if !both_vectors {
            if !matching.labels.is_empty() {
                return self.fail(pos, "vector matching only allowed between instant vectors");
            }
            if fills {
                return self.fail(pos, "filling in missing series only allowed between instant vectors");
            }
            if op.is_set() {
                let op = op.as_str();
                return self
                    .fail(pos, format!("set operator \"{op}\" not allowed in binary scalar expression"));
            }
            return Ok(if both_scalars { ValueType::Scalar } else { ValueType::Vector });
        }
        if op.is_set() {
            if matching.cardinality != Cardinality::OneToOne {
                return self.fail(pos, format!("no grouping allowed for \"{}\" operation", op.as_str()));
            }
            if fills {
                return self.fail(pos, "filling in missing series not allowed for set operators");
            }
            matching.cardinality = Cardinality::ManyToMany;
        }
        binary.matching = Some(matching);
        Ok(ValueType::Vector)
    }

    /// Where the operator stands, with its modifiers.
    fn operator_pos(&self, binary: &Binary) -> Pos {
        let (start, end) = (binary.lhs.pos.end, binary.rhs.pos.start);
        let between = self.text.get(start..end).unwrap_or_default();
        let blanks = between.len() - between.trim_start().len();
        start + blanks..start + blanks + between.trim().len()
    }

    fn call(&self, call: &mut Call, pos: &Pos) -> Result<ValueType, ParseError> {
        let function = functions::lookup(call.function).expect("a call is made from the table of functions");
        let name = function.name;
        self.arity(function, call.args.len(), pos)?;
        let info = name == "info";
        if info && let Some(arg) = call.args.get(1) {
            match &arg.kind {
                _ if arg.value_type() != ValueType::Vector => {
                    let message = format!(
                        "expected type instant vector in call to function \"info\", got {}",
                        arg.value_type().documented()
                    );
                    return self.fail(pos, message);
                }
                ExprKind::Vector(v) if v.name.is_some() => {
                    return self.fail(&arg.pos, "expected label selectors only, got vector selector instead");
                }
                ExprKind::Vector(_) => {}
                _ => return self.fail(&arg.pos, "expected label selectors only"),
            }
        }
        for (i, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = function.arg_type(i) else { break };
            let found = match &arg.kind {
                // The second argument of `info` may select every info series.
                ExprKind::Vector(v) if info && i == 1 => {
                    self.selector(v, &arg.pos, true)?;
                    ValueType::Vector
                }
                _ => self.expr(arg)?,
            };
            if found != wanted {
                let (wanted, found) = (wanted.documented(), found.documented());
                let message = format!("expected type {wanted} in call to function \"{name}\", got {found}");
                return self.fail(&arg.pos, message);
            }
        }
        Ok(function.returns)
    }

    fn arity(&self, function: &FunctionSpec, got: usize, pos: &Pos) -> Result<(), ParseError> {
        let (name, least) = (function.name, function.min_args());
        let (word, wanted) = match function.max_args() {
            Some(most) if most == least && function.variadic == 0 && got != most => ("", most),
            _ if function.variadic != 0 && got < least => ("at least ", least),
            Some(most) if function.variadic != 0 && got > most => ("at most ", most),
            _ => return Ok(()),
        };
        self.fail(pos, format!("expected {word}{wanted} argument(s) in call to \"{name}\", got {got}"))
    }

    fn selector(&self, selector: &VectorSelector, pos: &Pos, may_be_empty: bool) -> Result<(), ParseError> {
        if let Some(name) = &selector.name {
            // The last matcher is the one made from the name in front of the braces.
            let others = selector.matchers.split_last().map_or(&[][..], |(_, others)| others);
            return match others.iter().find(|m| m.name == METRIC_NAME) {
                Some(m) => {
                    let (name, other) = (quoted(name), quoted(&m.value));
                    self.fail(pos, format!("metric name must not be set twice: {name} or {other}"))
                }
                None => Ok(()),
            };
        }
        if may_be_empty || selector.matchers.iter().any(|m| !m.matches("")) {
            return Ok(());
        }
        self.fail(pos, "vector selector must contain at least one non-empty matcher")
    }
}

impl Expr {
    /// The type of the value. The tree has been checked.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => inner.value_type(),
            ExprKind::Binary(b) => match (b.lhs.value_type(), b.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            ExprKind::Call(call) => functions::lookup(call.function).map_or(ValueType::Vector, |f| f.returns),
            ExprKind::Aggregate(_) | ExprKind::Vector(_) => ValueType::Vector,
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
        }
    }
}
