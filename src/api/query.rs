//! `/api/v1/query`, `/api/v1/query_range`, and texts of expressions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::params::Params;
use super::state::ApiState;
use super::{json, time};
use crate::model::Timestamp;
use crate::promql::ast::{Expr, ValueType};
use crate::promql::{self, MatrixSeries, PointValue, QueryRequest, QueryResult, Value, VectorSample};

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
    let expr = promql::parse_with(query_text(&params, &state)?, state.engine.options().features)?;
    Ok(json::success(&expr.pretty()))
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
    let with_stats = !params.get("stats").is_empty();
    request.timeout = timeout(params)?;
    request.lookback_ms = match params.get("lookback_delta") {
        "" => None,
        text => Some(lookback(text)?),
    };
    let text = query_text(params, &state)?.to_owned();
    let asked_at = state.clock.monotonic();
    let pool = state.queries.clone();
    let work = move |cancelled| {
        let begun_at = state.clock.monotonic();
        request.cancelled = cancelled;
        let mut result = evaluate(&state, &text, &request)?;
        let evaluated_at = state.clock.monotonic();
        if cut(&mut result.value, limit) {
            result.annotations.warnings.push("results truncated due to limit".into());
        }
        let times = Times { queued: begun_at - asked_at, evaluating: evaluated_at - begun_at };
        Ok(write(result, with_stats.then_some(times)))
    };
    pool.run(work).await
}

/// Parses and evaluates an expression; blocks.
pub(super) fn evaluate(
    state: &ApiState,
    text: &str,
    request: &QueryRequest,
) -> Result<QueryResult, ApiError> {
    let expr = promql::parse_with(text, state.engine.options().features)?;
    if request.step_ms > 0 {
        check_range_type(&expr)?;
    }
    Ok(state.engine.evaluate(text, &expr, request, &state.storage.reader())?)
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

fn timeout(params: &Params) -> Result<Option<Duration>, ApiError> {
    let Some(ms) = params.duration_opt("timeout")? else { return Ok(None) };
    let ms = u64::try_from(ms).map_err(|_| ApiError::parameter("timeout", "a timeout cannot be negative"))?;
    Ok(Some(Duration::from_millis(ms)))
}

fn lookback(text: &str) -> Result<i64, ApiError> {
    let wrong = |e: &str| ApiError::bad_data(format!("error parsing lookback delta duration: {e}"));
    match time::parse_duration(text) {
        Ok(ms) if ms > 0 => Ok(ms),
        Ok(_) => Err(wrong("it must be positive")),
        Err(e) => Err(wrong(&e)),
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

/// What a query's parts took.
struct Times {
    queued: Duration,
    evaluating: Duration,
}

fn write(result: QueryResult, times: Option<Times>) -> Response {
    let mut out = json::begin();
    out.extend_from_slice(b"{\"resultType\":\"");
    match result.value {
        Value::Scalar { ts, value } => {
            out.extend_from_slice(b"scalar\",\"result\":[");
            json::write_timestamp(&mut out, ts);
            out.extend_from_slice(b",\"");
            out.extend_from_slice(json::plain_form(value).as_bytes());
            out.extend_from_slice(b"\"]");
        }
        Value::String { ts, value } => {
            out.extend_from_slice(b"string\",\"result\":[");
            json::write_timestamp(&mut out, ts);
            out.push(b',');
            json::write_str(&mut out, &value);
            out.push(b']');
        }
        Value::Vector(vector) => {
            out.extend_from_slice(b"vector\",\"result\":[");
            write_list(&mut out, vector, write_vector_sample);
        }
        Value::Matrix(matrix) => {
            out.extend_from_slice(b"matrix\",\"result\":[");
            write_list(&mut out, matrix, write_matrix_series);
        }
    }
    if let Some(times) = times {
        write_stats(&mut out, &result.stats, &times);
    }
    out.push(b'}');
    json::finish(out, &result.annotations)
}

/// The elements with commas between them and the closing bracket. Each is dropped once it is written, so that a
/// large result and its text do not stand in memory twice.
fn write_list<T>(out: &mut Vec<u8>, list: Vec<T>, one: fn(&mut Vec<u8>, &T)) {
    for (i, element) in list.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        one(out, &element);
    }
    out.push(b']');
}

fn write_vector_sample(out: &mut Vec<u8>, sample: &VectorSample) {
    out.extend_from_slice(b"{\"metric\":");
    json::write_labels(out, &sample.labels);
    match &sample.value {
        PointValue::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            json::write_point(out, sample.ts, *value);
        }
        PointValue::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            json::write_histogram_point(out, sample.ts, histogram);
        }
    }
    out.push(b'}');
}

fn write_matrix_series(out: &mut Vec<u8>, series: &MatrixSeries) {
    out.extend_from_slice(b"{\"metric\":");
    json::write_labels(out, &series.labels);
    if !series.floats.is_empty() {
        out.extend_from_slice(b",\"values\":[");
        for (i, (ts, value)) in series.floats.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::write_point(out, *ts, *value);
        }
        out.push(b']');
    }
    if !series.histograms.is_empty() {
        out.extend_from_slice(b",\"histograms\":[");
        for (i, (ts, histogram)) in series.histograms.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::write_histogram_point(out, *ts, histogram);
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn write_stats(out: &mut Vec<u8>, stats: &promql::QueryStats, times: &Times) {
    let text = format!(
        ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{},\"execQueueTime\":{},\"execTotalTime\":{}}},\
         \"samples\":{{\"totalQueryableSamples\":{},\"peakSamples\":{}}}}}",
        times.evaluating.as_secs_f64(),
        times.queued.as_secs_f64(),
        (times.queued + times.evaluating).as_secs_f64(),
        stats.total_samples,
        stats.peak_samples
    );
    out.extend_from_slice(text.as_bytes());
}
