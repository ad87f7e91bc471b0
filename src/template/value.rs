//! What templates compute with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{number, time};
use crate::model::{Labels, Timestamp};

/// Why a template cannot be parsed or executed, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offset into the template's text.
    pub offset: usize,
    /// Go's text: `template: NAME:LINE: …` when parsing, `template: NAME:LINE:COLUMN: executing … at <…>: …` when
    /// executing. Without the place if the text is to stand beside one already: see [`TemplateError::reason`].
    pub message: String,
    /// The last part of the message: what is wrong, without the place.
    pub reason: String,
}

impl TemplateError {
    /// An error at a byte offset of `text`.
    pub(super) fn at(text: &str, offset: usize, message: String, reason: String) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        TemplateError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            offset,
            message,
            reason,
        }
    }
}

/// Data with fields and methods. All calls are cheap and may happen many times.
pub trait Object: Send + Sync + fmt::Debug {
    /// Go's name of the type, for errors and `%T`.
    fn type_name(&self) -> &str;

    /// A field; `None` if the type has none of that name.
    fn field(&self, name: &str) -> Option<Value>;

    /// Calls a method; `None` if the type has none of that name.
    fn call(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let _ = (name, args);
        None
    }

    /// The elements, if it is also a list (`range`, `len`, `index` work on them).
    fn elements(&self) -> Option<Vec<Value>> {
        None
    }

    /// As `{{ . }}` prints it.
    fn display(&self) -> String {
        format!("<{}>", self.type_name())
    }
}

/// A value of a template. Number types stay apart, as in Go.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Go's nil or no value at all; printed as `<no value>`.
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Arc<str>),
    List(Arc<Vec<Value>>),
    /// `map[string]interface {}`: a missing key is [`Value::Nil`].
    Map(Arc<BTreeMap<String, Value>>),
    /// `map[string]string`: a missing key is the empty string.
    Labels(Labels),
    /// A point in time, in UTC.
    Time(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    Object(Arc<dyn Object>),
}

impl Value {
    /// A string value.
    pub fn str(text: impl Into<Arc<str>>) -> Self {
        Value::String(text.into())
    }

    /// Go's name of the type.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
            Value::Labels(_) => "map[string]string",
            Value::Time(_) => "*time.Time",
            Value::Duration(_) => "*time.Duration",
            Value::Object(o) => o.type_name(),
        }
        .to_owned()
    }

    /// Go's truth: what is not the zero value; a list or map with elements; any object.
    #[must_use]
    pub fn truth(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::String(s) => !s.is_empty(),
            Value::List(l) => !l.is_empty(),
            Value::Map(m) => !m.is_empty(),
            Value::Labels(l) => !l.is_empty(),
            Value::Time(_) => true,
            Value::Duration(d) => *d != 0,
            Value::Object(o) => o.elements().is_none_or(|e| !e.is_empty()),
        }
    }

    /// As `fmt.Sprint` prints it (`%v`), appended to `out`.
    pub fn print(&self, out: &mut String) {
        match self {
            Value::Nil => out.push_str("<nil>"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(i) => out.push_str(&i.to_string()),
            Value::Float(f) => out.push_str(&number::format(*f, 'g', None)),
            Value::String(s) => out.push_str(s),
            Value::List(l) => {
                out.push('[');
                for (i, v) in l.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    v.print(out);
                }
                out.push(']');
            }
            Value::Map(m) => {
                out.push_str("map[");
                for (i, (k, v)) in m.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    out.push_str(k);
                    out.push(':');
                    v.print(out);
                }
                out.push(']');
            }
            Value::Labels(l) => {
                out.push_str("map[");
                for (i, (k, v)) in l.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    out.push_str(k);
                    out.push(':');
                    out.push_str(v);
                }
                out.push(']');
            }
            Value::Time(t) => out.push_str(&time::format_time(*t)),
            Value::Duration(d) => out.push_str(&time::format_duration(*d)),
            Value::Object(o) => out.push_str(&o.display()),
        }
    }

    /// [`Value::print`] into a new string.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.print(&mut out);
        out
    }
}

impl From<i64> for Value {
    fn from(i: i64) -> Self {
        Value::Int(i)
    }
}

impl From<f64> for Value {
    fn from(f: f64) -> Self {
        Value::Float(f)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::str(s)
    }
}
