//! The functions of the language.
//!
//! [`table`] is the single source for their names, argument types, result types and one-line docs: the type checker,
//! the printer, the docs and the completion in the UI read it. What a function computes is keyed by its name.

pub mod table;

pub use table::{FunctionSpec, all, lookup};
