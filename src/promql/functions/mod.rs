//! The functions of the language.
//!
//! [`table`] is the single source for their names, argument types, result types and one-line docs: the type checker,
//! the printer, the docs and the completion in the UI read it. [`reference`] has the same of aggregations and other
//! words, and writes the page `docs/promql.md`. What a function computes is keyed by its name.

mod reference;
pub mod table;

pub use reference::{AggregationSpec, KeywordSpec, aggregation, aggregations, keywords, markdown};
pub use table::{FunctionSpec, all, lookup};
