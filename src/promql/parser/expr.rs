//! Expressions, by climbing precedences.

use super::duration::Context;
use super::error::nearest;
use super::{Depth, Features, ParseError, hints};
use crate::promql::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, ExprKind, Matching,
    MatrixSelector, Pos, RangeMode, Subquery, TimeShift,
};
use crate::promql::functions;
use crate::promql::lexer::{Kind, Token, Tokens, describe};
use crate::promql::quote::{quoted, quoted_bytes, unquoted};

/// How tightly `*` and a sign bind.
const MUL: u8 = 5;
/// How tightly `^` binds.
const POW: u8 = 6;

/// The state of parsing: the tokens, and how far it got.
pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// What is wrong with the text, if the last token is an error.
    lexical: String,
    next: usize,
    pub(super) features: Features,
    /// How many calls of this parser are within each other.
    depth: usize,
    /// How many aggregations are open: an unexpected token then is one "in aggregation".
    aggregations: usize,
    /// Bytes of the regular expressions so far.
    pub(super) regex_bytes: u64,
    /// Asked before each regular expression, for to compile one may take some ten milliseconds.
    pub(super) stop: &'a dyn Fn() -> bool,
}

/// An expression, and how deeply it nests.
type Parsed = Result<(Expr, usize), ParseError>;

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, tokens: Tokens, features: Features, stop: &'a dyn Fn() -> bool) -> Self {
        let Tokens { tokens, error } = tokens;
        Parser {
            text,
            tokens,
            lexical: error,
            next: 0,
            features,
            depth: 0,
            aggregations: 0,
            regex_bytes: 0,
            stop,
        }
    }

    /// All tokens of the text, as far as it could be cut.
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(super) fn peek(&self) -> Kind {
        self.peek_token().kind
    }

    pub(super) fn peek_token(&self) -> &Token {
        // The last token is the end or an error, and is never taken.
        &self.tokens[self.next]
    }

    fn peek_second(&self) -> Kind {
        self.tokens.get(self.next + 1).map_or(Kind::Eof, |t| t.kind)
    }

    pub(super) fn take(&mut self) -> Token {
        let token = self.tokens[self.next].clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    pub(super) fn accept(&mut self, kind: Kind) -> bool {
        let ok = self.peek() == kind;
        if ok {
            self.take();
        }
        ok
    }

    /// Where the token that was taken last ends.
    pub(super) fn taken_end(&self) -> usize {
        self.next.checked_sub(1).map_or(0, |i| self.tokens[i].pos.end)
    }

    pub(super) fn text_of(&self, token: &Token) -> &'a str {
        &self.text[token.pos.clone()]
    }

    pub(super) fn error(&self, pos: Pos, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, pos, message)
    }

    /// The error that the next token does not fit. What the lexer could not read takes precedence.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.peek_token();
        if token.kind == Kind::Error {
            return self.error(token.pos.clone(), self.lexical.clone());
        }
        let mut message = format!("unexpected {}", describe(token, self.text));
        let context = if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(token.pos.clone(), message)
    }

    pub(super) fn too_deep(&self, pos: Pos, limit: usize) -> ParseError {
        let (depth, most) = (self.features.depth.tree(), Depth::RANGE.end());
        let hint = format!("--query.max-expression-depth is {depth} and may be up to {most}");
        self.error(pos, format!("expression nests deeper than {limit} levels")).with_hint(Some(hint))
    }

    /// One more call within a call.
    pub(super) fn enter(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        let most = self.features.depth.nesting();
        if self.depth <= most {
            return Ok(());
        }
        Err(self.too_deep(self.peek_token().pos.clone(), most))
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// The whole text has been read.
    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.peek() == Kind::Eof { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    /// An expression.
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        self.binary(0).map(|(expr, _)| expr)
    }

    fn node(&self, kind: ExprKind, pos: Pos, children: usize) -> Parsed {
        let depth = self.nested(children, &pos)?;
        Ok((Expr { kind, pos }, depth))
    }

    /// Operands joined by operators that bind at least as tightly as `min`.
    fn binary(&mut self, min: u8) -> Parsed {
        self.enter()?;
        let operand = self.unary();
        let whole = match operand {
            Ok((lhs, depth)) if binary_op(self.peek()).is_some() => self.operators(lhs, depth, min),
            alone => alone,
        };
        self.leave();
        whole
    }

    /// What follows the first operand. Apart from [`Parser::binary`], as much here is apart, so that the stack of an
    /// operand within parentheses holds only what it needs.
    fn operators(&mut self, mut lhs: Expr, mut depth: usize, min: u8) -> Parsed {
        while let Some((op, precedence)) = binary_op(self.peek())
            && precedence >= min
        {
            self.take();
            let (return_bool, matching) = self.binary_modifiers()?;
            let next = if op == BinaryOp::Pow { POW } else { precedence + 1 };
            let (rhs, rhs_depth) = self.binary(next)?;
            let pos = lhs.pos.start..rhs.pos.end;
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if fills && !self.features.binop_fill_modifiers {
                let hint = Some("they need --enable-feature=promql-binop-fill-modifiers".to_owned());
                let message = "binop fill modifiers are experimental and not enabled";
                return Err(self.error(pos, message).with_hint(hint));
            }
            let binary = Binary { op, lhs, rhs, return_bool, matching: Some(matching) };
            (lhs, depth) = self.node(ExprKind::Binary(Box::new(binary)), pos, depth.max(rhs_depth))?;
        }
        Ok((lhs, depth))
    }

    /// `bool`, `on (…) group_left (…)`, `fill (…)` behind an operator.
    fn binary_modifiers(&mut self) -> Result<(bool, Matching), ParseError> {
        let return_bool = self.accept(Kind::Bool);
        let mut matching = Matching::default();
        if matches!(self.peek(), Kind::On | Kind::Ignoring) {
            matching.on = self.take().kind == Kind::On;
            matching.labels = self.labels()?;
            matching.cardinality = match self.peek() {
                Kind::GroupLeft => Cardinality::ManyToOne,
                Kind::GroupRight => Cardinality::OneToMany,
                _ => Cardinality::OneToOne,
            };
            if matching.cardinality != Cardinality::OneToOne {
                self.take();
                if self.peek() == Kind::LeftParen || !self.continues_operation() {
                    matching.include = self.labels()?;
                }
            }
        }
        match self.peek() {
            Kind::Fill => {
                matching.fill_left = Some(self.fill_value()?);
                matching.fill_right = matching.fill_left;
            }
            Kind::FillLeft => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek() == Kind::FillRight {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Kind::FillRight => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek() == Kind::FillLeft {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((return_bool, matching))
    }

    /// Whether the next token may stand behind `group_left`: the right operand begins with it, or `fill` follows.
    fn continues_operation(&self) -> bool {
        let kind = self.peek();
        kind.is_metric_name()
            || matches!(
                kind,
                Kind::Number | Kind::Duration | Kind::String | Kind::LeftParen | Kind::LeftBrace
            )
            || matches!(kind, Kind::Add | Kind::Sub | Kind::Fill | Kind::FillLeft | Kind::FillRight)
    }

    /// The number in parentheses behind `fill`.
    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.take();
        if !self.accept(Kind::LeftParen) {
            return Err(self.unexpected("", ""));
        }
        let value = self.signed_number("", "")?;
        if !self.accept(Kind::RightParen) {
            return Err(self.unexpected("", ""));
        }
        Ok(value)
    }

    fn signed_number(&mut self, context: &str, expected: &str) -> Result<f64, ParseError> {
        let negate = match self.peek() {
            Kind::Add | Kind::Sub => self.take().kind == Kind::Sub,
            _ => false,
        };
        if !matches!(self.peek(), Kind::Number | Kind::Duration) {
            return Err(self.unexpected(context, expected));
        }
        let token = self.take();
        let value = self.number_value(&token)?;
        Ok(if negate { -value } else { value })
    }

    fn unary(&mut self) -> Parsed {
        if matches!(self.peek(), Kind::Add | Kind::Sub) { self.signed() } else { self.postfix() }
    }

    fn signed(&mut self) -> Parsed {
        let sign = self.take();
        let negate = sign.kind == Kind::Sub;
        let (operand, depth) = self.binary(MUL + 1)?;
        let pos = sign.pos.start..operand.pos.end;
        let signed = |value: f64| if negate { -value } else { value };
        let kind = match operand.kind {
            ExprKind::Number(value) => ExprKind::Number(signed(value)),
            ExprKind::Duration(value) => ExprKind::Duration(signed(value)),
            _ => return self.node(ExprKind::Unary { negate, expr: Box::new(operand) }, pos, depth),
        };
        Ok((Expr { kind, pos }, depth))
    }

    /// A primary with its ranges, offsets and the like.
    fn postfix(&mut self) -> Parsed {
        let primary = self.primary();
        match (self.peek(), primary) {
            (
                Kind::LeftBracket | Kind::Offset | Kind::At | Kind::Anchored | Kind::Smoothed,
                Ok((expr, depth)),
            ) => self.modified(expr, depth),
            (_, alone) => alone,
        }
    }

    fn modified(&mut self, mut expr: Expr, mut depth: usize) -> Parsed {
        loop {
            match self.peek() {
                Kind::LeftBracket => (expr, depth) = self.range(expr, depth)?,
                Kind::Offset => {
                    self.take();
                    let (offset, nested) = self.offset_duration()?;
                    depth = depth.max(nested);
                    self.set_offset(&mut expr, offset)?;
                    expr.pos.end = self.taken_end();
                }
                Kind::At => {
                    self.take();
                    let at = self.at_time(&expr)?;
                    self.set_at(&mut expr, at)?;
                    expr.pos.end = self.taken_end();
                }
                kind @ (Kind::Anchored | Kind::Smoothed) => {
                    self.take();
                    self.set_mode(&mut expr, kind)?;
                }
                _ => return Ok((expr, depth)),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn range(&mut self, expr: Expr, depth: usize) -> Parsed {
        let bracket = self.take();
        let (range, range_depth) = self.positive_duration(Context::Range)?;
        let depth = depth.max(range_depth);
        if self.accept(Kind::Colon) {
            let (step, depth) = if self.peek() == Kind::RightBracket {
                (None, depth)
            } else {
                let (step, step_depth) = self.positive_duration(Context::Step)?;
                (Some(step), depth.max(step_depth))
            };
            if !self.accept(Kind::RightBracket) {
                return Err(self.unexpected("subquery selector", r#""]""#));
            }
            let pos = expr.pos.start..self.taken_end();
            let subquery = Subquery { expr, range, step, shift: TimeShift::default() };
            return self.node(ExprKind::Subquery(Box::new(subquery)), pos, depth);
        }
        if !self.accept(Kind::RightBracket) {
            return Err(self.unexpected("subquery or range", r#"":" or "]""#));
        }
        let pos = expr.pos.start..self.taken_end();
        let problem = match expr.kind {
            ExprKind::Vector(vector) => {
                let timed = matches!(vector.shift.at, Some(At::Time(_)));
                if vector.shift.offset.is_some() {
                    "no offset modifiers allowed before range"
                } else if timed {
                    "no @ modifiers allowed before range"
                } else {
                    return self.node(ExprKind::Matrix(MatrixSelector { vector, range }), pos, depth);
                }
            }
            _ => "ranges only allowed for vector selectors",
        };
        Err(self.error(bracket.pos.start..self.taken_end(), problem))
    }

    fn set_offset(&self, expr: &mut Expr, offset: DurationExpr) -> Result<(), ParseError> {
        let pos = expr.pos.clone();
        let Some(shift) = shift_of(expr) else {
            return Err(self.error(
                pos,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ));
        };
        if shift.offset.is_some() {
            return Err(self.error(pos, "offset may not be set multiple times"));
        }
        // No offset and an offset of nothing are the same.
        shift.offset = (offset != DurationExpr::Literal(0)).then_some(offset);
        Ok(())
    }

    /// What stands behind `@`.
    fn at_time(&mut self, expr: &Expr) -> Result<At, ParseError> {
        let (context, expected) = ("@", "timestamp");
        if let kind @ (Kind::Start | Kind::End) = self.peek() {
            self.take();
            if !(self.accept(Kind::LeftParen) && self.accept(Kind::RightParen)) {
                return Err(self.unexpected(context, expected));
            }
            return Ok(if kind == Kind::Start { At::Start } else { At::End });
        }
        let seconds = self.signed_number(context, expected)?;
        // Milliseconds have to fit too, which upstream leaves open.
        if !seconds.is_finite() || (seconds * 1000.0).abs() >= i64::MAX as f64 {
            let shown = if seconds.is_infinite() {
                if seconds > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
            } else {
                format!("{seconds:.6}")
            };
            let message = format!("timestamp out of bounds for @ modifier: {shown}");
            return Err(self.error(expr.pos.clone(), message));
        }
        Ok(At::Time((seconds * 1000.0).round() as i64))
    }

    fn set_at(&self, expr: &mut Expr, at: At) -> Result<(), ParseError> {
        let pos = expr.pos.clone();
        let Some(shift) = shift_of(expr) else {
            return Err(self.error(
                pos,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ));
        };
        if shift.at.is_some() {
            return Err(self.error(pos, "@ <timestamp> may not be set multiple times"));
        }
        shift.at = Some(at);
        Ok(())
    }

    fn set_mode(&self, expr: &mut Expr, kind: Kind) -> Result<(), ParseError> {
        let pos = expr.pos.clone();
        let (word, mode) = match kind {
            Kind::Anchored => ("anchored", RangeMode::Anchored),
            _ => ("smoothed", RangeMode::Smoothed),
        };
        if !self.features.extended_range_selectors {
            let hint = Some("it needs --enable-feature=promql-extended-range-selectors".to_owned());
            let message = format!("{word} modifier is experimental and not enabled");
            return Err(self.error(pos, message).with_hint(hint));
        }
        let set = match &mut expr.kind {
            ExprKind::Vector(v) => &mut v.mode,
            ExprKind::Matrix(m) => &mut m.vector.mode,
            ExprKind::Subquery(_) => {
                return Err(self.error(pos, format!("{word} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error(pos, format!("{word} modifier not implemented"))),
        };
        if *set != RangeMode::Plain && *set != mode {
            return Err(self.error(pos, "anchored and smoothed modifiers cannot be used together"));
        }
        *set = mode;
        expr.pos.end = self.taken_end();
        Ok(())
    }

    fn primary(&mut self) -> Parsed {
        match self.peek() {
            Kind::Number | Kind::Duration | Kind::String => self.literal(),
            Kind::LeftParen => self.parenthesized(),
            kind if kind.is_aggregation()
                && matches!(self.peek_second(), Kind::LeftParen | Kind::By | Kind::Without) =>
            {
                self.aggregate()
            }
            Kind::Identifier
            | Kind::Start
            | Kind::End
            | Kind::Step
            | Kind::Range
            | Kind::MinOf
            | Kind::MaxOf
                if self.peek_second() == Kind::LeftParen =>
            {
                self.call()
            }
            kind if kind == Kind::LeftBrace || kind.is_metric_name() => self.selector().map(|s| (s, 1)),
            _ => Err(self.unexpected("", "")),
        }
    }

    fn literal(&mut self) -> Parsed {
        let token = self.take();
        let kind = match token.kind {
            Kind::String => ExprKind::String(self.string_value(&token)),
            Kind::Duration => ExprKind::Duration(self.number_value(&token)?),
            _ => ExprKind::Number(self.number_value(&token)?),
        };
        Ok((Expr { kind, pos: token.pos }, 1))
    }

    fn parenthesized(&mut self) -> Parsed {
        let start = self.take().pos.start;
        let (inner, depth) = self.binary(0)?;
        if !self.accept(Kind::RightParen) {
            return Err(self.unexpected("", ""));
        }
        self.node(ExprKind::Paren(Box::new(inner)), start..self.taken_end(), depth)
    }

    fn call(&mut self) -> Parsed {
        let token = self.take();
        let written = self.text_of(&token);
        let (args, depth) = self.arguments()?;
        // The words of the language are the same in any case, other names are not.
        let lower = written.to_ascii_lowercase();
        let name = if token.kind == Kind::Identifier { written } else { lower.as_str() };
        let Some(function) = functions::lookup(name) else {
            let message = format!("unknown function with name {}", quoted(name));
            return Err(self.error(token.pos, message).with_hint(nearest(name, hints::callable())));
        };
        if function.experimental && !self.features.experimental_functions {
            let message = format!("function \"{name}\" is not enabled");
            let hint = Some("it needs --enable-feature=promql-experimental-functions".to_owned());
            return Err(self.error(token.pos, message).with_hint(hint));
        }
        let pos = token.pos.start..self.taken_end();
        self.node(ExprKind::Call(Call { function: function.name, args }), pos, depth)
    }

    /// `(a, b)`, and how deeply the deepest nests.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize), ParseError> {
        if !self.accept(Kind::LeftParen) {
            return Err(self.unexpected("", ""));
        }
        let (mut args, mut deepest) = (Vec::new(), 0);
        if self.accept(Kind::RightParen) {
            return Ok((args, deepest));
        }
        loop {
            let (arg, depth) = self.binary(0)?;
            args.push(arg);
            deepest = deepest.max(depth);
            if self.accept(Kind::RightParen) {
                return Ok((args, deepest));
            }
            if self.peek() != Kind::Comma {
                return Err(self.unexpected("", ""));
            }
            let comma = self.take();
            if cannot_begin(self.peek()) {
                return Err(self.error(comma.pos, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn aggregate(&mut self) -> Parsed {
        let token = self.take();
        let (_, name, op) = *AGGREGATIONS
            .iter()
            .find(|(kind, ..)| *kind == token.kind)
            .expect("every kind of token that is an aggregation is in the table");
        self.aggregations += 1;
        let mut grouping = self.grouping()?;
        if op == AggregateOp::CountValues
            && self.peek() == Kind::LeftParen
            && self.peek_second() == Kind::String
        {
            self.check_count_values_label()?;
        }
        let (mut args, depth) = self.arguments()?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        self.aggregations -= 1;
        let pos = token.pos.start..self.taken_end();
        let (without, labels) = grouping.unwrap_or_default();
        let takes_param = op.takes_param();
        if args.is_empty() {
            return Err(self.error(pos, "no arguments for aggregate expression provided"));
        }
        if functions::aggregation(op).experimental && !self.features.experimental_functions {
            let message = format!(
                "{name}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            );
            return Err(self.error(pos, message));
        }
        let (got, expected) = (args.len(), 1 + usize::from(takes_param));
        let (Some(expr), true) = (args.pop(), got == expected) else {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {got}"
            );
            return Err(self.error(pos, message));
        };
        let aggregate = Aggregate { op, expr, param: args.pop(), without, labels };
        self.node(ExprKind::Aggregate(Box::new(aggregate)), pos, depth)
    }

    /// The string behind the parenthesis will be a label name; if it is no UTF-8 the error says so.
    fn check_count_values_label(&self) -> Result<(), ParseError> {
        let token = &self.tokens[self.next + 1];
        match String::from_utf8(unquoted(self.text_of(token))) {
            Ok(_) => Ok(()),
            Err(e) => {
                let message = format!("invalid label name {}", quoted_bytes(e.as_bytes()));
                Err(self.error(token.pos.clone(), message))
            }
        }
    }

    /// `by (…)` or `without (…)`; true for the latter.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        if !matches!(self.peek(), Kind::By | Kind::Without) {
            return Ok(None);
        }
        let without = self.take().kind == Kind::Without;
        Ok(Some((without, self.labels()?)))
    }
}

/// The time shift of a node that may have one.
fn shift_of(expr: &mut Expr) -> Option<&mut TimeShift> {
    match &mut expr.kind {
        ExprKind::Vector(v) => Some(&mut v.shift),
        ExprKind::Matrix(m) => Some(&mut m.vector.shift),
        ExprKind::Subquery(s) => Some(&mut s.shift),
        _ => None,
    }
}

/// Whether no expression starts with this token.
fn cannot_begin(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Eof
            | Kind::RightParen
            | Kind::RightBrace
            | Kind::LeftBracket
            | Kind::RightBracket
            | Kind::Comma
            | Kind::Colon
            | Kind::Assign
            | Kind::At
            | Kind::Mul
            | Kind::Div
            | Kind::Mod
            | Kind::Pow
            | Kind::Equal
            | Kind::NotEqual
            | Kind::Less
            | Kind::LessEqual
            | Kind::Greater
            | Kind::GreaterEqual
            | Kind::RegexMatch
            | Kind::RegexNotMatch
            | Kind::TrimUpper
            | Kind::TrimLower
    )
}

/// The operator that a token is, and how tightly it binds.
fn binary_op(kind: Kind) -> Option<(BinaryOp, u8)> {
    Some(match kind {
        Kind::Or => (BinaryOp::Or, 1),
        Kind::And => (BinaryOp::And, 2),
        Kind::Unless => (BinaryOp::Unless, 2),
        Kind::Equal => (BinaryOp::Equal, 3),
        Kind::NotEqual => (BinaryOp::NotEqual, 3),
        Kind::Less => (BinaryOp::Less, 3),
        Kind::LessEqual => (BinaryOp::LessEqual, 3),
        Kind::Greater => (BinaryOp::Greater, 3),
        Kind::GreaterEqual => (BinaryOp::GreaterEqual, 3),
        Kind::TrimUpper => (BinaryOp::TrimUpper, 3),
        Kind::TrimLower => (BinaryOp::TrimLower, 3),
        Kind::Add => (BinaryOp::Add, 4),
        Kind::Sub => (BinaryOp::Sub, 4),
        Kind::Mul => (BinaryOp::Mul, MUL),
        Kind::Div => (BinaryOp::Div, MUL),
        Kind::Mod => (BinaryOp::Mod, MUL),
        Kind::Atan2 => (BinaryOp::Atan2, MUL),
        Kind::Pow => (BinaryOp::Pow, POW),
        _ => return None,
    })
}

/// The aggregations with their tokens and names.
pub(super) const AGGREGATIONS: [(Kind, &str, AggregateOp); 14] = [
    (Kind::Sum, "sum", AggregateOp::Sum),
    (Kind::Avg, "avg", AggregateOp::Avg),
    (Kind::Count, "count", AggregateOp::Count),
    (Kind::Min, "min", AggregateOp::Min),
    (Kind::Max, "max", AggregateOp::Max),
    (Kind::Group, "group", AggregateOp::Group),
    (Kind::Stddev, "stddev", AggregateOp::Stddev),
    (Kind::Stdvar, "stdvar", AggregateOp::Stdvar),
    (Kind::TopK, "topk", AggregateOp::TopK),
    (Kind::BottomK, "bottomk", AggregateOp::BottomK),
    (Kind::CountValues, "count_values", AggregateOp::CountValues),
    (Kind::Quantile, "quantile", AggregateOp::Quantile),
    (Kind::LimitK, "limitk", AggregateOp::LimitK),
    (Kind::LimitRatio, "limit_ratio", AggregateOp::LimitRatio),
];
