//! `/api/v1/labels`, `/api/v1/label/{name}/values`, `/api/v1/series`, `/api/v1/metadata`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::pool::check_wanted;
use super::state::ApiState;
use crate::model::{Labels, Matcher, Metadata, Timestamp};
use crate::promql::Charge;
use crate::storage::Reader;

pub(super) async fn labels(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    state.queries.clone().run(move |cancelled| list_labels(&state, &params, None, &cancelled)).await
}

pub(super) async fn label_values(
    State(state): State<Arc<ApiState>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|e| ApiError::bad_data(format!("invalid label name: {e}")))?;
    let name = match name.strip_prefix("U__") {
        Some(escaped) => unescape(escaped).unwrap_or(name),
        None => name,
    };
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    state.queries.clone().run(move |cancelled| list_labels(&state, &params, Some(&name), &cancelled)).await
}

/// Names of labels, or the values of one.
fn list_labels(
    state: &ApiState,
    params: &Params,
    name: Option<&str>,
    cancelled: &Arc<AtomicBool>,
) -> Result<Response, ApiError> {
    let (from, to) = params.range()?;
    let limit = params.limit("limit")?;
    let mut selectors = params.matchers_until(cancelled)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let reader = state.storage.reader().until(cancelled);
    let of = |matchers: &[Matcher]| match name {
        // As in Prometheus there is nothing in such a time.
        _ if to < from => Vec::new(),
        None => reader.label_names(matchers, from, to),
        Some(name) => reader.label_values(name, matchers, from, to),
    };
    let mut charge = state.engine.charge(0)?;
    let mut found = BTreeSet::new();
    for matchers in &selectors {
        for text in of(matchers) {
            if !found.contains(&text) {
                state.engine.raise(&mut charge, (text.len() + TEXT_BYTES) as u64)?;
                found.insert(text);
            }
        }
        check_wanted(cancelled)?;
    }
    let truncated = found.len() > limit;
    let mut out = json::begin();
    out.push(b'[');
    for (i, text) in found.iter().take(limit).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_str(&mut out, text);
    }
    out.push(b']');
    Ok(json::finish(out, &json::truncated(truncated, reader.partial_note())))
}

/// What a text of a list takes besides its bytes.
const TEXT_BYTES: usize = 24;

/// The value-encoding form of names that are not ASCII words: `_` is `__`, another character `_HEX_`.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        let code = &rest[at + 1..];
        let end = code.find('_')?;
        if end == 0 {
            out.push('_');
        } else {
            out.push(char::from_u32(u32::from_str_radix(&code[..end], 16).ok()?)?);
        }
        rest = &code[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

pub(super) async fn series(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    state.queries.clone().run(move |cancelled| list_series(&state, &params, &cancelled)).await
}

fn list_series(state: &ApiState, params: &Params, cancelled: &Arc<AtomicBool>) -> Result<Response, ApiError> {
    let (from, to) = params.range()?;
    let limit = params.limit("limit")?;
    let selectors = params.matchers_until(cancelled)?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let mut charge = state.engine.charge(0)?;
    let reader = state.storage.reader().until(cancelled);
    let range = (from, to);
    let mut found = if to < from {
        Vec::new()
    } else {
        select(state, &reader, &selectors, range, &mut charge, cancelled)?
    };
    let truncated = found.len() > limit;
    found.truncate(limit);
    let mut out = json::begin();
    out.push(b'[');
    for (i, labels) in found.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_labels(&mut out, labels);
    }
    out.push(b']');
    Ok(json::finish(out, &json::truncated(truncated, reader.partial_note())))
}

/// The label sets that any of the selectors matches, each once, ascending.
fn select(
    state: &ApiState,
    reader: &Reader,
    selectors: &[Vec<Matcher>],
    (from, to): (Timestamp, Timestamp),
    charge: &mut Charge,
    cancelled: &Arc<AtomicBool>,
) -> Result<Vec<Labels>, ApiError> {
    // Each once from the start: selectors may be thousands that all match the same.
    let mut found: HashSet<Labels> = HashSet::new();
    for matchers in selectors {
        for (i, series) in reader.select(matchers, from, to).iter().enumerate() {
            if i.is_multiple_of(SERIES_BETWEEN_CHECKS) {
                check_wanted(cancelled)?;
            }
            if !found.contains(series.labels()) {
                state.engine.raise(charge, (series.labels().as_packed().len() + TEXT_BYTES) as u64)?;
                found.insert(series.labels().clone());
            }
        }
        check_wanted(cancelled)?;
    }
    let mut found: Vec<Labels> = found.into_iter().collect();
    found.sort_unstable();
    Ok(found)
}

/// So many series are looked at between two looks at whether somebody still waits.
const SERIES_BETWEEN_CHECKS: usize = 4096;

pub(super) async fn metadata(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    state.queries.clone().run(move |_| list_metadata(&state, &params)).await
}

fn list_metadata(state: &ApiState, params: &Params) -> Result<Response, ApiError> {
    let limit = params.limit_if_positive("limit")?;
    // One entry is kept for each metric, so that this limit never bites; it is checked all the same.
    params.limit_if_positive("limit_per_metric")?;
    let wanted = params.get("metric");
    let mut out = json::begin();
    out.push(b'{');
    let all = state.storage.reader().metadata();
    let chosen = all.iter().filter(|(name, _)| wanted.is_empty() || name == wanted);
    for (i, (name, metadata)) in chosen.take(limit).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_str(&mut out, name);
        out.extend_from_slice(b":[");
        write_metadata(&mut out, metadata);
        out.push(b']');
    }
    out.push(b'}');
    Ok(json::finish(out, &json::truncated(false, None)))
}

fn write_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(metadata.metric_type.as_str().as_bytes());
    out.extend_from_slice(b"\",\"help\":");
    json::write_str(out, &metadata.help);
    out.extend_from_slice(b",\"unit\":");
    json::write_str(out, &metadata.unit);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        for (escaped, name) in [("http_2e_status", "http.status"), ("a__b", "a_b"), ("_1f600_x", "😀x")] {
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
        for wrong in ["a_zz_", "a_", "_110000_", "_d800_"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }
}
