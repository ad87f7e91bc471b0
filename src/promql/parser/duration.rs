//! Durations within brackets and behind `offset`, and calculations with them.
//!
//! Behind `offset` a duration ends early: `foo offset 1m + 1` is a sum of two expressions, `foo offset (1m + 1)` is
//! one selector. Within brackets all is duration.

use super::ParseError;
use super::expr::Parser;
use crate::promql::ast::{BinaryOp, DurationExpr, Pos};
use crate::promql::lexer::Kind;

/// What Go's 64 bits of nanoseconds hold, in seconds.
const MAX_SECONDS: f64 = 9_223_372_036.854_776;

/// Which operators bind how; the higher the tighter.
const UNARY: u8 = 2;
const POW: u8 = 3;

/// A duration, where it stands, and how deeply it nests.
type Parsed = (DurationExpr, Pos, usize);

impl Parser<'_> {
    /// The duration of a range or a step: if it is known, it is more than nothing.
    pub(super) fn positive_duration(
        &mut self,
        context: Context,
    ) -> Result<(DurationExpr, usize), ParseError> {
        let (duration, pos, depth) = self.duration(0, context)?;
        let positive = match duration {
            DurationExpr::Number(seconds) => seconds > 0.0,
            DurationExpr::Literal(ms) => ms > 0,
            _ => true,
        };
        if !positive {
            return Err(self.error(pos, "duration must be greater than 0"));
        }
        Ok((whole(duration), depth))
    }

    /// The duration behind `offset`.
    pub(super) fn offset_duration(&mut self) -> Result<(DurationExpr, usize), ParseError> {
        let context = Context::Offset;
        let mut negative = false;
        while matches!(self.peek(), Kind::Add | Kind::Sub) {
            negative ^= self.take().kind == Kind::Sub;
        }
        let (mut duration, _, depth) = self.duration_primary(context)?;
        if negative {
            duration = negated(duration);
        }
        Ok((whole(duration), depth + 1))
    }

    fn duration(&mut self, min: u8, context: Context) -> Result<Parsed, ParseError> {
        let (mut lhs, mut pos, mut depth) = match self.peek() {
            Kind::Add | Kind::Sub => {
                let sign = self.take();
                self.enter()?;
                let (operand, pos, depth) = self.duration(UNARY + 1, context)?;
                self.leave();
                let pos = sign.pos.start..pos.end;
                (if sign.kind == Kind::Sub { negated(operand) } else { operand }, pos, depth + 1)
            }
            _ => self.duration_primary(context)?,
        };
        loop {
            let (op, precedence) = match self.peek() {
                Kind::Add => (BinaryOp::Add, 1),
                Kind::Sub => (BinaryOp::Sub, 1),
                Kind::Mul => (BinaryOp::Mul, 2),
                Kind::Div => (BinaryOp::Div, 2),
                Kind::Mod => (BinaryOp::Mod, 2),
                Kind::Pow => (BinaryOp::Pow, POW),
                _ => return Ok((lhs, pos, depth)),
            };
            if precedence < min {
                return Ok((lhs, pos, depth));
            }
            let token = self.take();
            self.enter()?;
            let next = if op == BinaryOp::Pow { POW } else { precedence + 1 };
            let (rhs, rhs_pos, rhs_depth) = self.duration(next, context)?;
            self.leave();
            let zero =
                matches!(rhs, DurationExpr::Literal(0)) || matches!(rhs, DurationExpr::Number(n) if n == 0.0);
            match op {
                BinaryOp::Div if zero => return Err(self.error(token.pos, "division by zero")),
                BinaryOp::Mod if zero => return Err(self.error(token.pos, "modulo by zero")),
                _ => {}
            }
            pos = pos.start..rhs_pos.end;
            depth = self.nested(depth.max(rhs_depth), &pos)?;
            lhs = DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), pos: pos.clone() };
        }
    }

    fn duration_primary(&mut self, context: Context) -> Result<Parsed, ParseError> {
        let start = self.peek_token().pos.start;
        let duration = match self.peek() {
            Kind::Number => {
                let token = self.take();
                let seconds = self.number_value(&token)?;
                if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
                    return Err(self.error(token.pos, "duration out of range"));
                }
                return Ok((DurationExpr::Number(seconds), token.pos, 1));
            }
            Kind::Duration => {
                let token = self.take();
                return Ok((DurationExpr::Literal(self.duration_ms(&token)?), token.pos, 1));
            }
            kind @ (Kind::Step | Kind::Range) => {
                self.take();
                if !(self.accept(Kind::LeftParen) && self.accept(Kind::RightParen)) {
                    return Err(self.unexpected_in(context));
                }
                (if kind == Kind::Step { DurationExpr::Step } else { DurationExpr::Range }, 1)
            }
            kind @ (Kind::MinOf | Kind::MaxOf) => {
                self.take();
                if !self.accept(Kind::LeftParen) {
                    return Err(self.unexpected_in(context));
                }
                self.enter()?;
                let (a, _, a_depth) = self.duration(0, context)?;
                if !self.accept(Kind::Comma) {
                    return Err(self.unexpected_in(context));
                }
                let (b, _, b_depth) = self.duration(0, context)?;
                self.leave();
                if !self.accept(Kind::RightParen) {
                    return Err(self.unexpected_in(context));
                }
                let (a, b) = (Box::new(a), Box::new(b));
                let both =
                    if kind == Kind::MinOf { DurationExpr::Min(a, b) } else { DurationExpr::Max(a, b) };
                (both, a_depth.max(b_depth) + 1)
            }
            Kind::LeftParen => {
                self.take();
                self.enter()?;
                let (inner, _, depth) = self.duration(0, context)?;
                self.leave();
                if !self.accept(Kind::RightParen) {
                    return Err(self.unexpected_in(context));
                }
                match inner {
                    // Parentheses around a single duration leave no trace, as upstream.
                    DurationExpr::Literal(_) | DurationExpr::Number(_) => (inner, depth + 1),
                    _ => (DurationExpr::Paren(Box::new(inner)), depth + 1),
                }
            }
            _ => return Err(self.unexpected_in(context)),
        };
        let pos = start..self.taken_end();
        let depth = self.nested(duration.1, &pos)?;
        Ok((duration.0, pos, depth))
    }

    fn unexpected_in(&self, context: Context) -> ParseError {
        let (context, expected) = match context {
            Context::Range => ("subquery or range selector", "number, duration, step(), or range()"),
            Context::Step => ("subquery selector", "number, duration, step(), range(), or \"]\""),
            Context::Offset => ("offset", "number, duration, step(), or range()"),
        };
        self.unexpected(context, expected)
    }

    /// Refuses a node over children of this depth if the tree gets too deep.
    pub(super) fn nested(&self, depth: usize, pos: &Pos) -> Result<usize, ParseError> {
        let most = self.features.depth.tree();
        if depth < most { Ok(depth + 1) } else { Err(self.too_deep(pos.clone(), most)) }
    }
}

/// Where a duration stands, for errors.
#[derive(Clone, Copy)]
pub(super) enum Context {
    Range,
    Step,
    Offset,
}

fn negated(duration: DurationExpr) -> DurationExpr {
    match duration {
        DurationExpr::Literal(ms) => DurationExpr::Literal(-ms),
        DurationExpr::Number(seconds) => DurationExpr::Number(-seconds),
        other => DurationExpr::Negate(Box::new(other)),
    }
}

/// A number that stands alone is a duration in seconds.
fn whole(duration: DurationExpr) -> DurationExpr {
    match duration {
        DurationExpr::Number(seconds) => DurationExpr::Literal(((seconds * 1e9).round() / 1e6) as i64),
        other => other,
    }
}
