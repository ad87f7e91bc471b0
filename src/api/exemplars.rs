//! `/api/v1/query_exemplars`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::pool::check_wanted;
use super::state::ApiState;
use crate::promql::{Annotations, parse_until, selectors};
use crate::storage::Exemplar;

pub(super) async fn exemplars(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    state.queries.clone().run(move |cancelled| list_exemplars(&state, &params, &cancelled)).await
}

/// The exemplars of the series that the selectors of an expression match.
fn list_exemplars(state: &ApiState, params: &Params, cancelled: &AtomicBool) -> Result<Response, ApiError> {
    let (from, to) = params.range()?;
    if to < from {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let stop = || cancelled.load(Ordering::Relaxed);
    let expr = parse_until(params.get("query"), state.engine.options().features, &stop)?;
    check_wanted(cancelled)?;
    let matchers: Vec<_> = selectors(&expr).into_iter().map(|v| v.matchers.clone()).collect();
    let mut out = json::begin();
    out.push(b'[');
    for (i, (series, exemplars)) in state.storage.reader().exemplars(&matchers, from, to).iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"seriesLabels\":");
        json::write_labels(&mut out, series);
        out.extend_from_slice(b",\"exemplars\":[");
        for (i, exemplar) in exemplars.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_exemplar(&mut out, exemplar);
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    Ok(json::finish(out, &Annotations::default()))
}

fn write_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    out.extend_from_slice(b"{\"labels\":");
    json::write_labels(out, &exemplar.labels);
    out.extend_from_slice(b",\"value\":\"");
    json::write_float(out, exemplar.value);
    out.extend_from_slice(b"\",\"timestamp\":");
    json::write_timestamp(out, exemplar.ts);
    out.push(b'}');
}
