//! What a template may call: sets of functions, and those that Go's text/template always has.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::printf;
use super::value::Value;

/// The type of a parameter, as far as it restricts what may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Any,
    String,
    Int,
    /// An [`Object`](super::Object) or list with this Go type name, or nil.
    Object(&'static str),
}

impl Type {
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Type::Any => "interface {}",
            Type::String => "string",
            Type::Int => "int",
            Type::Object(name) => name,
        }
    }
}

/// The parameters of a function; `rest` is the type of any number of further ones.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    pub params: &'static [Type],
    pub rest: Option<Type>,
}

/// Functions that templates may call besides Go's builtins; one with a builtin's name hides it.
pub trait Functions {
    /// `None` if there is no function of that name.
    fn signature(&self, name: &str) -> Option<Signature>;

    /// Calls a function that has a signature, with arguments that fit it.
    ///
    /// # Errors
    /// What the function says; the executor adds where.
    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String>;
}

pub(super) fn signature(name: &str) -> Option<Signature> {
    use Type::{Any, String};
    let (params, rest): (&'static [Type], _) = match name {
        "not" | "len" => (&[Any], None),
        "and" | "or" | "index" | "slice" | "call" | "eq" => (&[Any], Some(Any)),
        "ne" | "lt" | "le" | "gt" | "ge" => (&[Any, Any], None),
        "print" | "println" | "html" | "js" | "urlquery" => (&[], Some(Any)),
        "printf" => (&[String], Some(Any)),
        _ => return None,
    };
    Some(Signature { params, rest })
}

pub(super) fn call(name: &str, args: &[Value], bytes_max: usize) -> Result<Value, String> {
    match (name, args) {
        ("not", [v]) => Ok(Value::Bool(!v.truth())),
        ("len", [v]) => length(v),
        ("index", [of, keys @ ..]) => keys.iter().try_fold(of.clone(), |v, key| index(&v, key)),
        ("slice", [of, bounds @ ..]) => slice(of, bounds),
        ("eq", [first, rest @ ..]) => equal_any(first, rest).map(Value::Bool),
        ("ne", [a, b]) => equal_any(a, std::slice::from_ref(b)).map(|e| Value::Bool(!e)),
        ("lt", [a, b]) => less(a, b).map(Value::Bool),
        ("le", [a, b]) => less_or_equal(a, b).map(Value::Bool),
        ("gt", [a, b]) => less_or_equal(a, b).map(|v| Value::Bool(!v)),
        ("ge", [a, b]) => less(a, b).map(|v| Value::Bool(!v)),
        ("print", args) => Ok(Value::str(printf::sprint(args))),
        ("println", args) => Ok(Value::str(printf::sprintln(args))),
        ("printf", [Value::String(format), args @ ..]) => {
            printf::sprintf(format, args, bytes_max).map(Value::str)
        }
        ("html", args) => Ok(Value::str(html(&text_of(args)))),
        ("js", args) => Ok(Value::str(js(&text_of(args)))),
        ("urlquery", args) => Ok(Value::str(url_query(&text_of(args)))),
        ("call", [f, ..]) => Err(format!("non-function {} of type {}", f.to_text(), f.type_name())),
        _ => Err("wrong arguments".to_owned()),
    }
}

fn text_of(args: &[Value]) -> String {
    printf::sprint(args)
}

fn length(v: &Value) -> Result<Value, String> {
    let n = match v {
        Value::String(s) => s.len(),
        Value::List(l) => l.len(),
        Value::Map(m) => m.len(),
        Value::Labels(l) => l.len(),
        Value::Object(o) if o.elements().is_some() => o.elements().map_or(0, |e| e.len()),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(n as i64))
}

fn position(key: &Value, length: usize) -> Result<usize, String> {
    match key {
        Value::Int(i) => match usize::try_from(*i) {
            Ok(at) if at < length => Ok(at),
            _ => Err(format!("index out of range: {i}")),
        },
        Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(of: &Value, key: &Value) -> Result<Value, String> {
    let no_key = |key: &Value| match key {
        Value::Nil => "value is nil; should be of type string".to_owned(),
        key => format!("value has type {}; should be string", key.type_name()),
    };
    match (of, key) {
        (Value::Map(m), Value::String(k)) => Ok(m.get(&**k).cloned().unwrap_or_default()),
        (Value::Labels(l), Value::String(k)) => Ok(Value::str(l.get(k).unwrap_or(""))),
        (Value::Map(_) | Value::Labels(_), key) => Err(no_key(key)),
        (Value::List(l), key) => Ok(l[position(key, l.len())?].clone()),
        (Value::String(s), key) => Ok(Value::Int(i64::from(s.as_bytes()[position(key, s.len())?]))),
        (Value::Object(o), key) => match o.elements() {
            Some(e) => Ok(e[position(key, e.len())?].clone()),
            None => Err(format!("can't index item of type {}", o.type_name())),
        },
        (Value::Nil, _) => Err("index of untyped nil".to_owned()),
        (other, _) => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(of: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match of {
        Value::String(s) => s.len(),
        Value::List(l) => l.len(),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    if bounds.len() == 3 && matches!(of, Value::String(_)) {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut at = [0, length, length];
    for (slot, bound) in at.iter_mut().zip(bounds) {
        *slot = position(bound, length + 1)?;
    }
    let [from, to, _] = at;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match of {
        Value::String(s) => Value::str(String::from_utf8_lossy(&s.as_bytes()[from..to]).into_owned()),
        Value::List(l) => Value::List(l[from..to].to_vec().into()),
        _ => Value::Nil,
    })
}

/// The kinds that can be compared with each other.
fn basic_kind(v: &Value) -> Option<u8> {
    match v {
        Value::Bool(_) => Some(0),
        Value::Int(_) | Value::Duration(_) => Some(1),
        Value::Float(_) => Some(2),
        Value::String(_) => Some(3),
        _ => None,
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn equal_any(first: &Value, rest: &[Value]) -> Result<bool, String> {
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in rest {
        let same = match (first, other) {
            (Value::Nil, Value::Nil) => true,
            (Value::Nil, _) | (_, Value::Nil) => false,
            (Value::Time(a), Value::Time(b)) => a == b,
            (a, b) if basic_kind(a) != basic_kind(b) => return Err(incompatible(a, b)),
            (a, b) if basic_kind(a).is_none() => {
                return Err(format!(
                    "non-comparable types {}: {}, {}: {}",
                    a.to_text(),
                    a.type_name(),
                    b.type_name(),
                    b.to_text()
                ));
            }
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (a, b) => compare(a, b) == Some(Ordering::Equal),
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    let kind = basic_kind(a).ok_or("invalid type for comparison")?;
    let other = basic_kind(b).ok_or("invalid type for comparison")?;
    if kind != other {
        return Err(incompatible(a, b));
    }
    if kind == 0 {
        return Err("invalid type for comparison".to_owned());
    }
    Ok(compare(a, b) == Some(Ordering::Less))
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(less(a, b)? || equal_any(a, std::slice::from_ref(b))?)
}

/// Go's `template.HTMLEscapeString`.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

/// Go's `template.JSEscapeString`.
fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Go's `url.QueryEscape`.
pub(super) fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}
