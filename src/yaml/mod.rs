//! All reading of YAML: spans, null as default, problems with file, line and column, hints.
//!
//! The way of a file: [`Source`] holds its text; [`Source::parse`] gives a raw struct whose leaves are
//! [`Spanned`]; the module that owns the section resolves it into checked values and adds what is wrong to
//! [`Problems`], so that one run reports every problem.
//!
//! Rules for raw structs: `#[serde(deny_unknown_fields)]`, no `flatten`, no `untagged`; every field that Go would
//! leave at its zero value when it is null carries `#[serde(default, deserialize_with = "null_is_default")]` or is
//! an `Option`; a leaf that can be wrong is an `Option<Spanned<T>>`. A mapping whose keys are free is a
//! [`Pairs`], which keeps their order and places.
//!
//! A key that exists upstream and not here is listed in an [`Upstream`] table and refused by name.

mod problem;
mod scalar;
mod source;
mod value;

pub use problem::{Problem, Problems, nearest};
pub use serde_saphyr::Spanned;
pub use source::{Mark, Source, Upstream, mark};
pub use value::{Pairs, null_is_default, to_string};
