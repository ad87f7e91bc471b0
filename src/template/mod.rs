//! Go's text/template as alerts and notifications use it; the caller passes in functions and data.
//!
//! The way of a text: the lexer splits it into tokens, the parser makes a tree and refuses what Go's parser
//! refuses (with the place), [`Template::execute`] walks the tree over a [`Value`]. What a template may call is a
//! [`Functions`] set: Go's builtins are always there, [`PrometheusFunctions`] adds Prometheus's. Data that is more
//! than a plain value (a sample, an alert, a list with methods) implements [`Object`].
//!
//! Reading order: `value`, `lex`, `ast`, `parse`, `exec`, `builtins`, `printf`, then `prometheus` and `alert`.
//!
//! Invariants: a template cannot run forever or write without bound ([`Limits`]); a missing map key is the
//! element type's zero value (`missingkey=zero`, as Prometheus and Alertmanager set it); a type error is an error and never a
//! guess, because `check rules` has to refuse what Prometheus refuses.
//!
//! Source: Go's packages text/template, text/template/parse, fmt and strconv; Prometheus, `template/template.go`.

mod alert;
mod ast;
mod builtins;
mod exec;
mod lex;
mod number;
mod parse;
mod printf;
mod prometheus;
mod time;
mod value;

pub use alert::{AlertData, AlertTemplate, QueryFn, expand_alert};
pub use builtins::{Functions, Signature, Type};
pub use exec::Limits;
pub use parse::Template;
pub use prometheus::{PrometheusFunctions, humanize_duration};
pub use value::{Object, TemplateError, Value};
