//! From text to a checked tree.

use super::ast::{Expr, Pos};

/// Which optional parts of the language are on; the names are Prometheus's `--enable-feature` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub experimental_functions: bool,
    pub duration_expressions: bool,
    pub extended_range_selectors: bool,
    pub binop_fill_modifiers: bool,
    pub delayed_name_removal: bool,
}

/// Why a text is no valid expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    /// The offending bytes of the text.
    pub pos: Pos,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
}

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
pub fn parse_with(text: &str, _features: Features) -> Result<Expr, ParseError> {
    Err(ParseError { pos: 0..text.len(), line: 1, column: 1, message: "the parser is not there yet".into() })
}
