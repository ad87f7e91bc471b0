//! Where answers come from: a server's API, or a data directory.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::fault::{Fault, place_in_text};
use crate::api;
use crate::clock::Clock;
use crate::http::{ClientPool, HttpConfig};
use crate::model::Timestamp;
use crate::promql::ast::ValueType;
use crate::promql::{self, Engine, EngineOptions, Features, QueryRequest};
use crate::storage::{Storage, StorageOptions};

/// How much longer than the query itself an answer may take.
const GRACE: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub query: String,
    pub times: Times,
    /// In milliseconds.
    pub timeout: Option<u64>,
    pub lookback_ms: Option<i64>,
    /// Series at most; 0 means all.
    pub limit: usize,
    /// The optional parts of the language, for a data directory.
    pub features: Features,
    /// Whether to answer what each part cost.
    pub explain: bool,
}

/// When it is evaluated; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    At(Timestamp),
    Range { start: Timestamp, end: Timestamp, step_ms: i64 },
}

/// An answer in the API's form: `resultType`, `result`, perhaps `stats`.
#[derive(Debug)]
pub(super) struct Answer {
    pub data: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl Answer {
    fn from_envelope(mut envelope: Value) -> Self {
        let mut list = |name: &str| {
            let list = envelope[name].take();
            serde_json::from_value(list).unwrap_or_default()
        };
        let (warnings, infos) = (list("warnings"), list("infos"));
        Answer { data: envelope["data"].take(), warnings, infos }
    }
}

/// Evaluates over a data directory, which is opened for reading only.
pub(super) fn directory(dir: &Path, question: &Question) -> Result<Answer, Fault> {
    let expr = promql::parse_with(&question.query, question.features)?;
    if let (Times::Range { .. }, ValueType::Matrix | ValueType::String) = (question.times, expr.value_type())
    {
        return Err(Fault::new(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            expr.value_type().documented()
        )));
    }
    if !dir.is_dir() {
        return Err(Fault::new(format!("{} is no directory", dir.display())));
    }
    let options = StorageOptions {
        dir: Some(dir.to_owned()),
        read_only: true,
        retention_ms: i64::MAX / 4,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options).map_err(|e| Fault::new(chain(&e)))?;
    let clock = Clock::system();
    let engine =
        Engine::new(EngineOptions { features: question.features, ..EngineOptions::default() }, clock.clone());
    let mut request = match question.times {
        Times::At(ts) => QueryRequest::instant(ts),
        Times::Range { start, end, step_ms } => QueryRequest::range(start, end, step_ms),
    };
    request.lookback_ms = question.lookback_ms;
    request.timeout = question.timeout.map(Duration::from_millis);
    request.profile = question.explain;
    let begun_at = clock.monotonic();
    let mut result = engine
        .evaluate(&question.query, &expr, &request, &storage.reader())
        .map_err(|e| Fault::new(e.to_string()))?;
    api::cut_result(&mut result, question.limit);
    let times = api::QueryTimes { evaluating: clock.monotonic() - begun_at, ..api::QueryTimes::default() };
    let mut text = Vec::new();
    for piece in api::answer_pieces(result, question.explain.then_some(times)) {
        text.extend_from_slice(&piece);
    }
    let envelope = serde_json::from_slice(&text).map_err(|e| Fault::new(e.to_string()))?;
    Ok(Answer::from_envelope(envelope))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Asks a server. Blocks.
pub(super) fn server(url: &url::Url, question: &Question) -> Result<Answer, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Fault::new(format!("threads cannot be started: {e}")))?;
    runtime.block_on(ask(url, question))
}

async fn ask(server: &url::Url, question: &Question) -> Result<Answer, Fault> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", &question.query);
    let path = match question.times {
        Times::At(ts) => {
            form.append_pair("time", &seconds(ts));
            "query"
        }
        Times::Range { start, end, step_ms } => {
            form.append_pair("start", &seconds(start));
            form.append_pair("end", &seconds(end));
            form.append_pair("step", &seconds(step_ms));
            "query_range"
        }
    };
    if let Some(ms) = question.timeout {
        form.append_pair("timeout", &format!("{ms}ms"));
    }
    if let Some(ms) = question.lookback_ms {
        form.append_pair("lookback_delta", &seconds(ms));
    }
    if question.limit > 0 {
        form.append_pair("limit", &question.limit.to_string());
    }
    if question.explain {
        form.append_pair("stats", "all");
        form.append_pair("explain", "true");
    }
    let base = server.as_str().trim_end_matches('/');
    let url = url::Url::parse(&format!("{base}/api/v1/{path}")).map_err(|e| Fault::new(e.to_string()))?;
    let failed = |e: &(dyn std::error::Error + 'static)| Fault::new(format!("{server}: {}", chain(e)));
    let client = ClientPool::new().client(&HttpConfig::default());
    let mut request = client
        .request(reqwest::Method::POST, url)
        .map_err(|e| failed(&e))?
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form.finish());
    if let Some(ms) = question.timeout {
        request = request.timeout(Duration::from_millis(ms) + GRACE);
    }
    let response = request.send().await.map_err(|e| failed(&e))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|e| failed(&e))?;
    let envelope: Value = serde_json::from_slice(&body).map_err(|_| {
        let text: String = String::from_utf8_lossy(&body).trim().chars().take(200).collect();
        Fault::new(format!("{server} answered {status}, and no JSON: {text}"))
    })?;
    if envelope["status"] == "success" {
        return Ok(Answer::from_envelope(envelope));
    }
    Err(refusal(&question.query, &envelope))
}

/// What a server says of an expression, with the place if it names one.
fn refusal(query: &str, envelope: &Value) -> Fault {
    let message = envelope["error"].as_str().unwrap_or("the server gives no reason");
    let hint = envelope["hint"].as_str().map(str::to_owned);
    let at = |name: &str| envelope["range"][name].as_u64().and_then(|n| usize::try_from(n).ok());
    let range: Option<Range<usize>> = at("start").zip(at("end")).map(|(start, end)| start..end);
    let (place, message) = match place_in_text(query, message) {
        Some((place, text)) => (Some(range.unwrap_or(place)), text),
        None => (range, message),
    };
    // The hint stands in a line of its own.
    let message = hint
        .as_ref()
        .and_then(|h| message.strip_suffix(h.as_str()))
        .map_or(message, |m| m.trim_end_matches("; "));
    Fault { message: message.to_owned(), place, hint }
}

fn seconds(ms: i64) -> String {
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_both_kinds_of_servers() {
        let ours = serde_json::json!({
            "status": "error", "errorType": "bad_data", "hint": "did you mean \"rate\"?",
            "error": "invalid parameter \"query\": 1:1: parse error: unknown function with name \"rte\"; did you mean \"rate\"?",
            "range": {"start": 0, "end": 3, "line": 1, "column": 1},
        });
        let fault = refusal("rte(x)", &ours);
        assert_eq!(fault.message, "unknown function with name \"rte\"");
        assert_eq!((fault.place, fault.hint.as_deref()), (Some(0..3), Some("did you mean \"rate\"?")));
        let theirs = serde_json::json!({
            "status": "error", "errorType": "bad_data",
            "error": "invalid parameter \"query\": 1:1: parse error: unknown function with name \"rte\"",
        });
        let fault = refusal("rte(x)", &theirs);
        assert_eq!((fault.message.as_str(), fault.place), ("unknown function with name \"rte\"", Some(0..1)));
        let timeout =
            serde_json::json!({"status": "error", "error": "query timed out in expression evaluation"});
        assert_eq!(refusal("x", &timeout), Fault::new("query timed out in expression evaluation"));
    }

    #[test]
    fn times_are_sent_as_seconds() {
        assert_eq!([1500, -250, 0].map(seconds), ["1.500", "-0.250", "0.000"]);
    }
}
