//! From text to a checked tree.
//!
//! Tokens come from the [lexer](super::lexer); `expr` climbs precedences over them, with `selector` for what stands in
//! braces, `duration` for what stands in brackets and behind `offset`, `literal` for numbers and strings; `check`
//! then checks types. The first fault ends it, with Prometheus's text and place.
//!
//! Invariant: any text at all gives a tree or an error, with bounded recursion; a tree that came out is
//! well typed, so that the engine need not check again.

mod check;
mod duration;
mod error;
mod expr;
mod features;
mod hints;
mod literal;
mod selector;
#[cfg(test)]
mod tests;

pub use error::ParseError;
pub use features::{Depth, FEATURES, FeatureSpec, Features, RegexMemory};

use super::ast::{Expr, ExprKind};
use super::lexer::{Kind, tokenize};
use crate::model::Matcher;
use expr::Parser;

/// The longest text of an expression, in bytes: generous for what people and dashboards write, and small enough that
/// a tree of it does no harm.
pub const MAX_LENGTH: usize = 256 * 1024;

/// How deep a tree may get unless [`Features::depth`] says otherwise. It bounds the stack that recursion over the tree takes.
pub const MAX_DEPTH: usize = 400;

/// How many parentheses, calls, signs and `^` may stand within each other then: the parser takes more stack for a level than
/// those who walk the tree later.
pub const MAX_NESTING: usize = 128;

/// Parses and type-checks with the default features.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, Features::default())
}

/// Parses and type-checks.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_with(text: &str, features: Features) -> Result<Expr, ParseError> {
    parse_until(text, features, &|| false)
}

/// As [`parse_with`]. Once `stop` says so it ends soon, with an error that means nothing.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_until(text: &str, features: Features, stop: &dyn Fn() -> bool) -> Result<Expr, ParseError> {
    let mut parser = start(text, features, stop)?;
    if parser.peek() == Kind::Eof {
        return Err(parser.error(0..text.len(), "no expression found in input"));
    }
    let parsed = parser.expr().and_then(|expr| parser.end().map(|()| expr));
    let mut expr = parsed.map_err(|e| {
        let hint = e.hint.clone().or_else(|| hints::of(text, parser.tokens(), e.pos.start));
        e.with_hint(hint)
    })?;
    check::check(&mut expr, text)?;
    Ok(expr)
}

/// Parses a series selector as in `match[]`: `up{job="node"}`. It may select everything.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    parse_selector_until(text, &|| false)
}

/// As [`parse_selector`]. Once `stop` says so it ends soon, with an error that means nothing.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_selector_until(text: &str, stop: &dyn Fn() -> bool) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = start(text, Features::default(), stop)?;
    if !(parser.peek().is_metric_name() || parser.peek() == Kind::LeftBrace) {
        return Err(parser.unexpected("", ""));
    }
    let selector = parser.selector()?;
    parser.end()?;
    match selector.kind {
        ExprKind::Vector(v) => Ok(v.matchers),
        _ => unreachable!("a selector is parsed to a vector selector"),
    }
}

fn start<'a>(
    text: &'a str,
    features: Features,
    stop: &'a dyn Fn() -> bool,
) -> Result<Parser<'a>, ParseError> {
    if text.len() > MAX_LENGTH {
        let message = format!("expression of {} bytes is longer than {MAX_LENGTH}", text.len());
        return Err(ParseError::new(text, MAX_LENGTH..text.len(), message));
    }
    Ok(Parser::new(text, tokenize(text), features, stop))
}
