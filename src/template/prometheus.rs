//! Prometheus's template functions.
//!
//! Source: Prometheus, `template/template.go`.

use std::sync::Arc;

use super::builtins::{Functions, Signature, Type, url_query};
use super::number;
use super::value::{Object, Value};
use crate::model::{GoRegex, Labels, Timestamp, parse_duration_ms};

/// Answers a query at the time of the evaluation: labels and value of each element.
pub type QueryFn<'a> = dyn Fn(&str) -> Result<Vec<(Labels, f64)>, String> + 'a;

/// Prometheus's functions, with what they need of the outside.
pub struct PrometheusFunctions<'a> {
    pub query: &'a QueryFn<'a>,
    /// `--web.external-url`
    pub external_url: &'a str,
    /// The time of the evaluation.
    pub now: Timestamp,
}

const SAMPLE: &str = "*template.sample";
const VECTOR: &str = "template.queryResult";

/// One element of a query's result.
#[derive(Debug)]
struct Sample {
    labels: Labels,
    value: f64,
}

impl Object for Sample {
    fn type_name(&self) -> &str {
        SAMPLE
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Labels" => Some(Value::Labels(self.labels.clone())),
            "Value" => Some(Value::Float(self.value)),
            _ => None,
        }
    }

    fn display(&self) -> String {
        let labels = Value::Labels(self.labels.clone()).to_text();
        format!("{{{labels} {}}}", number::format(self.value, 'g', None))
    }
}

/// A query's result.
#[derive(Debug)]
struct Vector(Vec<Value>);

impl Object for Vector {
    fn type_name(&self) -> &str {
        VECTOR
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn elements(&self) -> Option<Vec<Value>> {
        Some(self.0.clone())
    }

    fn display(&self) -> String {
        let all: Vec<String> = self.0.iter().map(Value::to_text).collect();
        format!("[{}]", all.join(" "))
    }
}

impl Functions for PrometheusFunctions<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        use Type::{Any, String};
        let (params, rest): (&'static [Type], _) = match name {
            "query" | "graphLink" | "tableLink" | "safeHtml" | "title" | "toUpper" | "toLower"
            | "stripPort" | "stripDomain" | "parseDuration" | "urlQueryEscape" => (&[String], None),
            "first" => (&[Type::Object(VECTOR)], None),
            "label" => (&[String, Type::Object(SAMPLE)], None),
            "value" | "strvalue" => (&[Type::Object(SAMPLE)], None),
            "args" => (&[], Some(Any)),
            "reReplaceAll" => (&[String, String, String], None),
            "match" => (&[String, String], None),
            "sortByLabel" => (&[String, Type::Object(VECTOR)], None),
            "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage" | "humanizeTimestamp"
            | "toTime" | "toDuration" => (&[Any], None),
            "now" | "pathPrefix" | "externalURL" => (&[], None),
            _ => return None,
        };
        Some(Signature { params, rest })
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        match (name, args) {
            ("query", [Value::String(q)]) => {
                let samples = (self.query)(q)?;
                let samples = samples.into_iter().map(|(labels, value)| {
                    let sample: Arc<dyn Object> = Arc::new(Sample { labels, value });
                    Value::Object(sample)
                });
                Ok(Value::Object(Arc::new(Vector(samples.collect()))))
            }
            ("first", [v]) => match elements(v).into_iter().next() {
                Some(first) => Ok(first),
                None => Err("first() called on vector with no elements".to_owned()),
            },
            ("label", [Value::String(name), sample]) => Ok(label_of(sample, name)?),
            ("strvalue", [sample]) => label_of(sample, "__value__"),
            ("value", [Value::Object(o)]) => o.field("Value").ok_or_else(|| "no sample".to_owned()),
            ("value", _) => Err(NIL_POINTER.to_owned()),
            ("sortByLabel", [Value::String(name), v]) => {
                let mut all = elements(v);
                all.sort_by_cached_key(|s| label_of(s, name).map_or_else(|_| String::new(), |v| v.to_text()));
                Ok(Value::Object(Arc::new(Vector(all))))
            }
            ("args", args) => {
                let map = args.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone()));
                Ok(Value::Map(Arc::new(map.collect())))
            }
            ("reReplaceAll", [Value::String(pattern), Value::String(replacement), Value::String(text)]) => {
                let regex = GoRegex::unanchored(pattern).map_err(|e| e.message)?;
                regex.check_groups().map_err(|e| e.message)?;
                Ok(Value::str(regex.replace_all(text, replacement)))
            }
            ("match", [Value::String(pattern), Value::String(text)]) => {
                let regex = GoRegex::unanchored(pattern).map_err(|e| e.message)?;
                Ok(Value::Bool(regex.is_match(text)))
            }
            ("safeHtml", [v]) => Ok(v.clone()),
            ("title", [Value::String(s)]) => Ok(Value::str(title(s))),
            ("toUpper", [Value::String(s)]) => Ok(Value::str(s.to_uppercase())),
            ("toLower", [Value::String(s)]) => Ok(Value::str(s.to_lowercase())),
            ("graphLink", [Value::String(q)]) => {
                Ok(Value::str(format!("/graph?g0.expr={}&g0.tab=0", url_query(q))))
            }
            ("tableLink", [Value::String(q)]) => {
                Ok(Value::str(format!("/graph?g0.expr={}&g0.tab=1", url_query(q))))
            }
            ("urlQueryEscape", [Value::String(s)]) => Ok(Value::str(url_query(s))),
            ("stripPort", [Value::String(s)]) => {
                Ok(Value::str(split_host_port(s).map_or(&**s, |(host, _)| host)))
            }
            ("stripDomain", [Value::String(s)]) => Ok(Value::str(strip_domain(s))),
            ("humanize", [v]) => Ok(Value::str(humanize(to_float(v)?))),
            ("humanize1024", [v]) => Ok(Value::str(humanize1024(to_float(v)?))),
            ("humanizeDuration", [v]) => Ok(Value::str(humanize_duration(to_float(v)?))),
            ("humanizePercentage", [v]) => Ok(Value::str(format!("{}%", four_digits(to_float(v)? * 100.0)))),
            ("humanizeTimestamp", [v]) => {
                let v = to_float(v)?;
                if !v.is_finite() {
                    return Ok(Value::str(four_digits(v)));
                }
                Ok(Value::str(time_of(v)?.to_text()))
            }
            ("toTime", [v]) => time_of(to_float(v)?),
            ("toDuration", [v]) => Ok(Value::Duration((to_float(v)? * 1e9) as i64)),
            ("parseDuration", [Value::String(s)]) => {
                parse_duration_ms(s).map(|ms| Value::Float(ms as f64 / 1000.0)).map_err(|e| e.to_string())
            }
            ("now", []) => Ok(Value::Float(self.now as f64 / 1000.0)),
            ("externalURL", []) => Ok(Value::str(self.external_url)),
            ("pathPrefix", []) => {
                let after_scheme = self.external_url.split_once("://").map_or("", |(_, rest)| rest);
                Ok(Value::str(after_scheme.find('/').map_or("", |i| &after_scheme[i..])))
            }
            _ => Err("wrong arguments".to_owned()),
        }
    }
}

const NIL_POINTER: &str = "runtime error: invalid memory address or nil pointer dereference";

fn elements(v: &Value) -> Vec<Value> {
    match v {
        Value::Object(o) => o.elements().unwrap_or_default(),
        Value::List(l) => l.to_vec(),
        _ => Vec::new(),
    }
}

fn label_of(sample: &Value, name: &str) -> Result<Value, String> {
    match sample {
        Value::Object(o) => match o.field("Labels") {
            Some(Value::Labels(l)) => Ok(Value::str(l.get(name).unwrap_or(""))),
            _ => Ok(Value::str("")),
        },
        _ => Err(NIL_POINTER.to_owned()),
    }
}

/// Go's `strings.Title`: the first letter of each word becomes upper case.
fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut before = ' ';
    for c in s.chars() {
        let separator =
            !(before.is_alphanumeric() || before == '_') && (before.is_ascii() || before.is_whitespace());
        if separator {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

/// Go's `net.SplitHostPort`; `None` where that gives an error.
fn split_host_port(s: &str) -> Option<(&str, &str)> {
    let colon = s.rfind(':')?;
    let (host, port) = (&s[..colon], &s[colon + 1..]);
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return (!inner.contains(['[', ']'])).then_some((inner, port));
    }
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

fn strip_domain(s: &str) -> String {
    let (host, port) = split_host_port(s).unwrap_or((s, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return s.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    match port {
        "" => first.to_owned(),
        port => format!("{first}:{port}"),
    }
}

fn to_float(v: &Value) -> Result<f64, String> {
    match v {
        Value::Float(f) => Ok(*f),
        Value::Int(i) => Ok(*i as f64),
        Value::Duration(ns) => Ok(*ns as f64 / 1e9),
        Value::String(s) => s
            .parse::<f64>()
            .map_err(|_| format!("strconv.ParseFloat: parsing {}: invalid syntax", super::printf::quote(s))),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn time_of(seconds: f64) -> Result<Value, String> {
    let ns = seconds * 1e9;
    if !(ns.is_finite() && (-9.223_372_036_854_775e18..=9.223_372_036_854_775e18).contains(&ns)) {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            number::format(seconds, 'g', None)
        ));
    }
    Ok(Value::Time((ns as i64).div_euclid(1_000_000)))
}

/// `%.4g`
fn four_digits(v: f64) -> String {
    number::format(v, 'g', Some(4))
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

/// Divides `v` by `base` until it is below that; the prefix says how often.
fn shrink(mut v: f64, base: f64, prefixes: [&'static str; 8]) -> (f64, &'static str) {
    let mut prefix = "";
    for p in prefixes {
        if v.abs() < base {
            break;
        }
        prefix = p;
        v /= base;
    }
    (v, prefix)
}

fn grow(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for p in SMALL {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = p;
        v *= 1000.0;
    }
    (v, prefix)
}

fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return four_digits(v);
    }
    let (v, prefix) =
        if v.abs() >= 1.0 { shrink(v, 1000.0, ["k", "M", "G", "T", "P", "E", "Z", "Y"]) } else { grow(v) };
    format!("{}{prefix}", four_digits(v))
}

fn humanize1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return four_digits(v);
    }
    let (v, prefix) = shrink(v, 1024.0, ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"]);
    format!("{}{prefix}", four_digits(v))
}

/// Seconds for people: `1d 2h 3m 4s`, `2.1ms`.
#[must_use]
pub fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return four_digits(v);
    }
    if v == 0.0 {
        return format!("{}s", four_digits(v));
    }
    if v.abs() >= 1.0 {
        let sign = if v < 0.0 { "-" } else { "" };
        let v = v.abs();
        let total = v as i64;
        let (seconds, minutes, hours, days) =
            (total % 60, total / 60 % 60, total / 3600 % 24, total / 86_400);
        return if days != 0 {
            format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
        } else if hours != 0 {
            format!("{sign}{hours}h {minutes}m {seconds}s")
        } else if minutes != 0 {
            format!("{sign}{minutes}m {seconds}s")
        } else {
            format!("{sign}{}s", four_digits(v))
        };
    }
    let (v, prefix) = grow(v);
    format!("{}{prefix}s", four_digits(v))
}
