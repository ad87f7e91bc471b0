//! All reading of YAML: spans, null as default, problems with file, line and column, hints.
//!
//! The way of a file: [`Source`] holds its text; [`Source::parse`] gives a raw struct whose leaves are
//! [`Spanned`]; the module that owns the section resolves it into checked values and adds what is wrong to
//! [`Problems`], so that one run reports every problem.
//!
//! Rules for raw structs: `#[serde(deny_unknown_fields)]`, no `flatten`, no `untagged`; every field that Go would
//! leave at its zero value when it is null carries `#[serde(default, deserialize_with = "null_is_default")]` or is
//! an `Option`; a leaf that can be wrong is an `Option<Spanned<T>>`.

mod problem;
mod source;

pub use problem::{Problem, Problems};
pub use serde_saphyr::Spanned;
pub use source::{Mark, Source, mark, null_is_default};
