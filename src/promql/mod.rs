//! PromQL: text to tree, tree to columns.
//!
//! The way of a query: [`parse`] gives an [`Expr`](ast::Expr) (lexer, Pratt parser, type check); [`Engine`]
//! evaluates it against a [`Reader`](crate::storage::Reader) by series and column, with limits and a deadline
//! that come as arguments; the answer is a [`QueryResult`].

pub mod ast;
mod charge;
mod engine;
mod eval;
pub mod functions;
mod kept;
mod lexer;
mod parser;
mod printer;
pub(crate) mod quote;
mod selections;
pub mod testscript;
#[cfg(test)]
mod twin;
mod uses;
mod value;

pub use ast::selectors;
pub use charge::Charge;
pub use engine::{Engine, EngineOptions, QueryError, QueryLimits, QueryRequest};
pub use parser::{
    Depth, FEATURES, FeatureSpec, Features, MAX_DEPTH, MAX_LENGTH, MAX_NESTING, ParseError, RegexMemory,
    parse, parse_selector, parse_selector_until, parse_until, parse_with,
};
pub use printer::format_number;
pub use selections::Selections;
pub use value::{
    Annotations, MatrixSeries, PointValue, ProfileNode, QueryResult, QueryStats, StepSamples, Value,
    VectorSample,
};
