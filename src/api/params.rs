//! The parameters of a call: those of a form body before those of the URL, as Go's `FormValue` sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};

use super::error::{ApiError, ErrorKind};
use super::pool::check_wanted;
use super::state::ApiState;
use super::{body, time};
use crate::model::{GoRegex, Matcher, Timestamp};
use crate::promql::{RegexMemory, parse_selector_until};

/// More parameters than this are refused.
const PARAMS_MAX: usize = 10_000;
/// More entries than this are never listed, whatever `limit` says; far above what a client can show.
const LIMIT_MAX: usize = 10_000_000;

/// Names with their values, in order; a name may stand several times.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    fn add(&mut self, form: &[u8]) -> Result<(), ApiError> {
        check_form(form).map_err(|why| ApiError::bad_data(format!("error parsing form values: {why}")))?;
        for (name, value) in form_urlencoded::parse(form) {
            if self.pairs.len() == PARAMS_MAX {
                return Err(ApiError::bad_data(format!("more than {PARAMS_MAX} parameters")));
            }
            self.pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(())
    }

    /// The first value of `name`; empty if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of `name`, with or without `[]` behind it, split at commas.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let bracketed = format!("{name}[]");
        let values = self.pairs.iter().filter(|(n, _)| *n == name || *n == bracketed);
        let parts = values.flat_map(|(_, v)| v.split(',')).map(str::trim).filter(|v| !v.is_empty());
        parts.map(str::to_owned).collect()
    }

    /// A time that must be there.
    ///
    /// # Errors
    /// When it is missing or no time.
    pub fn time(&self, name: &str) -> Result<Timestamp, ApiError> {
        let text = self.get(name);
        time::parse_time(text).ok_or_else(|| ApiError::parameter(name, no_time(text)))
    }

    /// A time that may be missing.
    ///
    /// # Errors
    /// When it is no time.
    pub fn time_opt(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        time::parse_time(text).map(Some).ok_or_else(|| {
            let why = no_time(text);
            ApiError::parameter(name, format_args!("invalid time value for '{name}': {why}"))
        })
    }

    /// `start` and `end`, by default all of time; they may be the wrong way round.
    ///
    /// # Errors
    /// When one is no time.
    pub fn range(&self) -> Result<(Timestamp, Timestamp), ApiError> {
        let start = self.time_opt("start")?.unwrap_or(-time::FARTHEST_MS);
        let end = self.time_opt("end")?.unwrap_or(time::FARTHEST_MS);
        Ok((start, end))
    }

    /// A duration in milliseconds that may be missing.
    ///
    /// # Errors
    /// When it is no duration.
    pub fn duration_opt(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        time::parse_duration(text).map(Some).map_err(|e| ApiError::parameter(name, e))
    }

    /// A count that may be missing; 0 means "no limit", as in Prometheus.
    ///
    /// # Errors
    /// When it is no whole number, or negative.
    pub fn limit(&self, name: &str) -> Result<usize, ApiError> {
        match self.limit_opt(name)? {
            None | Some(0) => Ok(LIMIT_MAX),
            Some(n) => Ok(n),
        }
    }

    /// As [`Params::limit`], where Prometheus takes a negative number for no limit.
    ///
    /// # Errors
    /// When it is no whole number.
    pub fn limit_if_positive(&self, name: &str) -> Result<usize, ApiError> {
        match self.get(name).parse::<i64>() {
            Ok(..0) => Ok(LIMIT_MAX),
            _ => self.limit(name),
        }
    }

    /// A count that may be missing.
    ///
    /// # Errors
    /// When it is no whole number, or negative.
    pub fn limit_opt(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        let n: i64 = text.parse().map_err(|_| {
            ApiError::parameter(name, format_args!("cannot parse {text:?} to a whole number"))
        })?;
        let n = usize::try_from(n).map_err(|_| ApiError::parameter(name, "limit must be non-negative"))?;
        Ok(Some(n.min(LIMIT_MAX)))
    }

    /// A switch that is `true` or `1`, `false` or `0`, or missing.
    ///
    /// # Errors
    /// When it is something else.
    pub fn switch(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            "" | "false" | "0" => Ok(false),
            "true" | "1" => Ok(true),
            other => Err(ApiError::parameter(name, format_args!("{other:?} is neither true nor false"))),
        }
    }

    /// The selectors of every `match[]`.
    ///
    /// # Errors
    /// When one is no selector.
    pub fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.selectors_until(&AtomicBool::new(false))
    }

    /// As [`Params::selectors`], on behalf of somebody who may go.
    ///
    /// # Errors
    /// When one is no selector, or `cancelled` becomes true.
    pub fn selectors_until(&self, cancelled: &AtomicBool) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let wrong = |reason: &dyn std::fmt::Display| ApiError::parameter("match[]", reason);
        let (mut all, mut regex_bytes) = (Vec::new(), 0);
        for text in self.all("match[]") {
            check_wanted(cancelled)?;
            let matchers = parse_selector_until(text, &|| cancelled.load(Ordering::Relaxed));
            let matchers =
                matchers.map_err(|e| check_wanted(cancelled).err().unwrap_or_else(|| wrong(&e)))?;
            let bytes = matchers.iter().filter_map(Matcher::regex).map(GoRegex::bytes).sum();
            RegexMemory::DEFAULT.count(&mut regex_bytes, bytes).map_err(|reason| wrong(&reason))?;
            all.push(matchers);
        }
        Ok(all)
    }

    /// As [`Params::selectors`], none of which may match the empty label set.
    ///
    /// # Errors
    /// When one is no selector, or has no matcher that needs a label.
    pub fn matchers(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.matchers_until(&AtomicBool::new(false))
    }

    /// As [`Params::matchers`], on behalf of somebody who may go.
    ///
    /// # Errors
    /// As for [`Params::matchers`], or when `cancelled` becomes true.
    pub fn matchers_until(&self, cancelled: &AtomicBool) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let selectors = self.selectors_until(cancelled)?;
        if selectors.iter().any(|matchers| matchers.iter().all(|m| m.matches(""))) {
            let reason = "match[] must contain at least one non-empty matcher";
            return Err(ApiError::parameter("match[]", reason));
        }
        Ok(selectors)
    }
}

impl FromRequest<Arc<ApiState>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut params = Params::default();
        if matches!(parts.method, Method::POST | Method::PUT) && is_form(&parts.headers) {
            let form = body::read(&parts.headers, body, state.limits.form_bytes_max, state).await;
            params.add(&form.map_err(|mut e| {
                if e.kind == ErrorKind::TooLarge {
                    e.message.push_str("; raise it with --query.max-request-body");
                }
                e
            })?)?;
        }
        if let Some(query) = parts.uri.query() {
            params.add(query.as_bytes())?;
        }
        Ok(params)
    }
}

fn no_time(text: &str) -> String {
    format!("cannot parse {text:?} to a valid timestamp")
}

/// Refuses what Go's `url.ParseQuery` does: what is no escape, and semicolons between pairs.
fn check_form(form: &[u8]) -> Result<(), String> {
    for pair in form.split(|b| *b == b'&') {
        if pair.contains(&b';') {
            return Err("invalid semicolon separator in query".to_owned());
        }
        let percents = pair.iter().enumerate().filter(|(_, b)| **b == b'%');
        for (at, _) in percents {
            let escape = &pair[at..pair.len().min(at + 3)];
            if escape.len() < 3 || !escape[1..].iter().all(u8::is_ascii_hexdigit) {
                return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(escape)));
            }
        }
    }
    Ok(())
}

fn is_form(headers: &axum::http::HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    body::media_type(content_type).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Params {
        let mut params = Params::default();
        params.add(query.as_bytes()).unwrap();
        params
    }

    #[test]
    fn names_may_repeat_and_the_first_value_counts() {
        let params = parsed("a=1&match[]=x&a=2&match%5B%5D=y&state=firing,resolved&state[]=z");
        assert_eq!(params.get("a"), "1");
        assert_eq!(params.get("b"), "");
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(params.list("state"), ["firing", "resolved", "z"]);
    }

    #[test]
    fn selectors_are_not_read_for_somebody_who_has_gone() {
        let params = parsed("match[]=x&match[]={a=~\"b.*\"}");
        let read = |gone: bool| params.matchers_until(&AtomicBool::new(gone)).map_err(|e| e.kind);
        assert_eq!(read(false).map(|s| s.len()), Ok(2));
        assert_eq!(read(true), Err(ErrorKind::Canceled));
    }

    #[test]
    fn malformed_forms_are_refused() {
        for (form, text) in [
            ("query=1;time=2", "error parsing form values: invalid semicolon separator in query"),
            ("a=1&query=%zz1", r#"error parsing form values: invalid URL escape "%zz""#),
            ("%=1", r#"error parsing form values: invalid URL escape "%=1""#),
            ("query=5%", r#"error parsing form values: invalid URL escape "%""#),
            ("query=%f", r#"error parsing form values: invalid URL escape "%f""#),
        ] {
            assert_eq!(Params::default().add(form.as_bytes()).unwrap_err().message, text, "{form}");
        }
        assert_eq!(parsed("&a=%41%3b+%25&&b").get("a"), "A; %");
    }

    #[test]
    fn only_federation_takes_selectors_that_match_nothing() {
        let params = parsed("match[]=up&match[]={}&match[]={a=~\".*\"}");
        assert_eq!(params.selectors().unwrap().len(), 3);
        assert!(params.matchers().unwrap_err().message.contains("non-empty matcher"));
        assert!(parsed("match[]={").selectors().is_err());
    }

    #[test]
    fn bad_values_name_their_parameter() {
        let params = parsed("start=x&end=1&limit=-1&n=1.5&flag=perhaps&d=5x");
        for (error, text) in [
            (
                params.time("start").unwrap_err(),
                r#"invalid parameter "start": cannot parse "x" to a valid timestamp"#,
            ),
            (
                params.time_opt("start").unwrap_err(),
                r#"invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp"#,
            ),
            (
                params.time("time").unwrap_err(),
                r#"invalid parameter "time": cannot parse "" to a valid timestamp"#,
            ),
            (params.limit("limit").unwrap_err(), r#"invalid parameter "limit": limit must be non-negative"#),
            (
                params.limit("n").unwrap_err(),
                r#"invalid parameter "n": cannot parse "1.5" to a whole number"#,
            ),
            (
                params.switch("flag").unwrap_err(),
                r#"invalid parameter "flag": "perhaps" is neither true nor false"#,
            ),
            (
                params.duration_opt("d").unwrap_err(),
                r#"invalid parameter "d": cannot parse "5x" to a valid duration"#,
            ),
        ] {
            assert_eq!(error.message, text);
        }
    }
}
