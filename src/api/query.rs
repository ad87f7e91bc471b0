//! `/api/v1/query`, `/api/v1/query_range`, and texts of expressions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;

use super::error::{ApiError, ErrorKind};
use super::params::Params;
use super::state::ApiState;
use super::{answer, json, time, tree};
use crate::model::Timestamp;
use crate::promql::ast::{Expr, ValueType};
use crate::promql::{self, Charge, QueryError, QueryRequest, QueryResult, Value};

pub(super) async fn instant(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let ts = params.time_opt("time")?.unwrap_or_else(|| state.clock.now_ms());
    run(state, &params, QueryRequest::instant(ts)).await
}

pub(super) async fn range(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    let (start, end, step_ms) = grid(&params, state.limits.query_steps_max)?;
    run(state, &params, QueryRequest::range(start, end, step_ms)).await
}

/// The expression as promtool lays it out.
pub(super) async fn format(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    parsed(state, params, |expr| json::success(&expr.pretty())).await
}

/// The expression as a tree.
pub(super) async fn parse(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    parsed(state, params, |expr| json::success(&tree::tree(expr))).await
}

/// An answer made of the parsed expression.
async fn parsed(
    state: Arc<ApiState>,
    params: Params,
    answer: impl FnOnce(&Expr) -> Response + Send + 'static,
) -> Result<Response, ApiError> {
    let text = query_text(&params, &state)?.to_owned();
    let features = state.engine.options().features;
    if is_quickly_parsed(&text) {
        return Ok(answer(&promql::parse_with(&text, features)?));
    }
    let parse = move |cancelled: Arc<AtomicBool>| {
        let expr = promql::parse_until(&text, features, &|| cancelled.load(Ordering::Relaxed))?;
        Ok(answer(&expr))
    };
    state.queries.clone().run(parse).await
}

/// The expression, if it is not too long.
fn query_text<'p>(params: &'p Params, state: &ApiState) -> Result<&'p str, ApiError> {
    let (text, limit) = (params.get("query"), state.limits.expression_bytes_max);
    if text.len() <= limit {
        return Ok(text);
    }
    let reason = format_args!(
        "the expression of {} bytes is longer than the limit of {limit} (--query.max-expression-length)",
        text.len()
    );
    Err(ApiError::parameter("query", reason))
}

/// `start`, `end` and `step` of a range query.
fn grid(params: &Params, steps_max: usize) -> Result<(Timestamp, Timestamp, i64), ApiError> {
    let start = params.time("start")?;
    let end = params.time("end")?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = time::parse_duration(params.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    check_grid(start, end, step_ms, steps_max)?;
    Ok((start, end, step_ms))
}

/// Refuses a step that is none, and more than `steps_max` of them.
pub(super) fn check_grid(
    start: Timestamp,
    end: Timestamp,
    step_ms: i64,
    steps_max: usize,
) -> Result<(), ApiError> {
    if step_ms <= 0 {
        return Err(ApiError::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if usize::try_from((end - start) / step_ms).is_ok_and(|steps| steps <= steps_max) {
        return Ok(());
    }
    Err(ApiError::bad_data(format!(
        "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX), or raise --query.max-steps",
        grouped(steps_max)
    )))
}

/// A number with commas between its thousands.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

async fn run(state: Arc<ApiState>, params: &Params, mut request: QueryRequest) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let with_profile = params.switch("explain")?;
    let with_stats = with_profile || !params.get("stats").is_empty();
    request.profile = with_profile;
    request.per_step = params.get("stats") == "all" && state.engine.options().features.per_step_stats;
    let stats_warning = deprecated_stats(params.get("stats"));
    request.timeout = timeout(params)?;
    let asks_for_less = request.timeout.is_some_and(|t| t < state.engine.options().limits.timeout);
    request.lookback_ms = lookback(params)?;
    let text = query_text(params, &state)?.to_owned();
    let pool = state.queries.clone();
    let come_at = state.clock.monotonic();
    // A short text is parsed here, in a few microseconds; then it is known whether the rest can be done here as well.
    let parsed = if is_quickly_parsed(&text) {
        let (expr, charge) = checked(&state, &text, &request)?;
        Some((expr, charge, state.clock.monotonic() - come_at))
    } else {
        None
    };
    let small = parsed
        .as_ref()
        .is_some_and(|(expr, ..)| state.engine.is_small(expr, &request, &state.storage.reader()));
    let asked_at = state.clock.monotonic();
    let work = move |cancelled| {
        let begun_at = state.clock.monotonic();
        request.cancelled = cancelled;
        let (expr, _charge, parsing) = match parsed {
            Some(parsed) => parsed,
            None => {
                let (expr, charge) = checked(&state, &text, &request)?;
                let parsing = state.clock.monotonic() - begun_at;
                // What parsing took is not there for the evaluation.
                request.timeout = Some(timeout_of(&state, &request).saturating_sub(parsing));
                (expr, charge, parsing)
            }
        };
        let parsed_at = state.clock.monotonic();
        let mut result = state.engine.evaluate(&text, &expr, &request, &state.storage.reader())?;
        cut_result(&mut result, limit);
        result.annotations.warnings.splice(0..0, stats_warning);
        let times = answer::QueryTimes {
            queued: begun_at - asked_at,
            parsing,
            evaluating: state.clock.monotonic() - parsed_at,
        };
        Ok((result, with_stats.then_some(times)))
    };
    let done = match if small { pool.run_here(work) } else { Err(work) } {
        Ok(done) => done,
        Err(work) => pool.run(work).await,
    };
    let (result, times) = done.map_err(|mut e| {
        e.message.push_str(match e.kind {
            ErrorKind::Unavailable => {
                "; --query.max-queue lets more wait, --query.max-concurrency lets more run"
            }
            ErrorKind::Timeout if asks_for_less => "; its own parameter timeout allowed no more",
            ErrorKind::Timeout => "; --query.timeout lets queries take longer",
            _ => "",
        });
        e
    })?;
    Ok(answer::response(result, times))
}

/// Longer texts may take long to parse: that is done where queries run.
const TEXT_BYTES_PARSED_HERE: usize = 1024;

/// Whether parsing takes a few milliseconds at the very most. Regular expressions that repeat something so many times, or
/// name classes of Unicode, may take longer each: in a text that has no such thing no brace stands in front of a digit.
fn is_quickly_parsed(text: &str) -> bool {
    let heavy = |pair: &[u8]| match pair {
        [b'{', digit] => digit.is_ascii_digit(),
        [b'\\', letter] => matches!(letter, b'p' | b'P'),
        _ => false,
    };
    text.len() <= TEXT_BYTES_PARSED_HERE && !text.as_bytes().windows(2).any(heavy)
}

/// Parses and evaluates an expression; blocks.
pub(super) fn evaluate(
    state: &ApiState,
    text: &str,
    request: &QueryRequest,
) -> Result<QueryResult, ApiError> {
    let (expr, _charge) = checked(state, text, request)?;
    Ok(state.engine.evaluate(text, &expr, request, &state.storage.reader())?)
}

/// The parsed expression, of a type that can be answered, with its regular expressions on the account of all queries. The
/// request's timeout and its end hold here, too.
fn checked(state: &ApiState, text: &str, request: &QueryRequest) -> Result<(Expr, Charge), ApiError> {
    let deadline = state.clock.monotonic() + timeout_of(state, request);
    let stopped = || {
        let cancelled = request.cancelled.load(Ordering::Relaxed).then_some(QueryError::Cancelled);
        cancelled.or_else(|| (state.clock.monotonic() > deadline).then_some(QueryError::Timeout))
    };
    let features = state.engine.options().features;
    let expr = promql::parse_until(text, features, &|| stopped().is_some())
        .map_err(|e| stopped().map_or_else(|| ApiError::from(e), ApiError::from))?;
    if request.step_ms > 0 {
        check_range_type(&expr)?;
    }
    let charge = state.engine.charge_regexes(&expr)?;
    Ok((expr, charge))
}

/// How long a query may take.
fn timeout_of(state: &ApiState, request: &QueryRequest) -> Duration {
    let most = state.engine.options().limits.timeout;
    request.timeout.map_or(most, |t| t.min(most))
}

/// A range query needs one value per step.
fn check_range_type(expr: &Expr) -> Result<(), ApiError> {
    match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        other => Err(ApiError::parameter(
            "query",
            format_args!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.documented()
            ),
        )),
    }
}

/// Any text asks for statistics; Prometheus will take two of them only.
fn deprecated_stats(text: &str) -> Option<String> {
    if matches!(text, "" | "true" | "all") {
        return None;
    }
    Some(format!(
        "value {text:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
    ))
}

fn timeout(params: &Params) -> Result<Option<Duration>, ApiError> {
    let Some(ms) = params.duration_opt("timeout")? else { return Ok(None) };
    let ms = u64::try_from(ms).map_err(|_| ApiError::parameter("timeout", "a timeout cannot be negative"))?;
    Ok(Some(Duration::from_millis(ms)))
}

/// The lookback that is asked for; the server's own for 0 or less, as in Prometheus.
fn lookback(params: &Params) -> Result<Option<i64>, ApiError> {
    match params.get("lookback_delta") {
        "" => Ok(None),
        text => time::parse_duration(text)
            .map(|ms| (ms > 0).then_some(ms))
            .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}"))),
    }
}

/// Leaves at most `limit` series (0: all) and warns if some fell off.
pub fn cut_result(result: &mut QueryResult, limit: usize) {
    if limit > 0 && cut(&mut result.value, limit) {
        // Before the others, of which an answer shows only some.
        result.annotations.warnings.insert(0, "results truncated due to limit".into());
    }
}

/// Leaves at most `limit` series; whether some fell off.
fn cut(value: &mut Value, limit: usize) -> bool {
    let before = match value {
        Value::Vector(vector) => {
            let before = vector.len();
            vector.truncate(limit);
            before
        }
        Value::Matrix(matrix) => {
            let before = matrix.len();
            matrix.truncate(limit);
            before
        }
        Value::Scalar { .. } | Value::String { .. } => 0,
    };
    before > limit
}
