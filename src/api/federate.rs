//! `/federate`: the newest samples of selected series, with their times, for another Prometheus to scrape. Native
//! histograms are shown to who asks for protobuf; text has no form for them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

use super::error::{ApiError, TextError};
use super::export::{Latest, exposition, latest};
use super::params::Params;
use super::pool::check_wanted;
use super::state::ApiState;
use super::{body, json};
use crate::exposition::protobuf::{self, FamilyType};
use crate::exposition::{BodyFormat, FamilySet, Format, PROTOBUF_CONTENT_TYPE, SeriesValue, Writer};
use crate::model::{CounterResetHint, Labels, LabelsBuilder, METRIC_NAME, Metadata, Timestamp};
use crate::promql::Charge;
use crate::storage::{Reader, Samples};

pub(super) async fn federate(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    let accept = body::text(&headers, header::ACCEPT);
    let pool = state.transfers.clone();
    // No OpenMetrics, as in Prometheus: there are no types to tell.
    let format = match BodyFormat::negotiate((!accept.is_empty()).then_some(accept)) {
        BodyFormat::Text(Format::Text | Format::OpenMetrics) => Format::Text,
        BodyFormat::Text(Format::TextUtf8 | Format::OpenMetricsUtf8) => Format::TextUtf8,
        BodyFormat::Protobuf => {
            let work =
                move |cancelled: Arc<AtomicBool>| Ok(protobuf(&collect(&state, &params, &cancelled)?.0));
            let bytes = pool.run(work).await?;
            return Ok(
                ([(header::CONTENT_TYPE, PROTOBUF_CONTENT_TYPE)], json::in_pieces(bytes)).into_response()
            );
        }
    };
    let work = move |cancelled: Arc<AtomicBool>| {
        let (found, _charge) = collect(&state, &params, &cancelled)?;
        Ok(text(found, format))
    };
    let text = pool.run(work).await?;
    Ok(exposition(format, text))
}

/// A series' labels to show, and its newest sample.
type Found = (Labels, Timestamp, Latest);

/// The newest sample of each series, and what that holds of memory.
fn collect(
    state: &ApiState,
    params: &Params,
    cancelled: &Arc<AtomicBool>,
) -> Result<(Vec<Found>, Charge), ApiError> {
    let selectors = params.selectors_until(cancelled)?;
    let to = state.clock.now_ms();
    let from = to - state.engine.options().lookback_ms;
    let external = state.live.borrow().external_labels.clone();
    let reader = state.storage.reader().until(cancelled);
    let mut seen = HashSet::new();
    let mut samples = Samples::default();
    let mut found = Vec::new();
    let mut charge = state.engine.charge(0)?;
    // One without any matcher selects nothing, as in Prometheus.
    for selector in selectors.iter().filter(|matchers| !matchers.is_empty()) {
        for (i, series) in reader.select(selector, from, to).iter().enumerate() {
            if i.is_multiple_of(SERIES_BETWEEN_CHECKS) {
                check_wanted(cancelled)?;
            }
            let labels = series.labels();
            if labels.get(METRIC_NAME).is_none() || !seen.insert(labels.clone()) {
                continue;
            }
            if let Some((ts, value)) = latest(series, from, to, &mut samples) {
                // Once shown, and once to know it again.
                let bytes = 2 * labels.as_packed().len() + size_of::<Found>();
                state.engine.raise(&mut charge, bytes as u64)?;
                found.push((with_external(labels, &external), ts, value));
            }
        }
        check_wanted(cancelled)?;
    }
    note_partial(state, &reader, "/federate");
    Ok((found, charge))
}

/// So many series are read between two looks at whether somebody still waits.
const SERIES_BETWEEN_CHECKS: usize = 1024;

/// Counts an answer that is not whole, for its format has no place to say so.
pub(super) fn note_partial(state: &ApiState, reader: &Reader, path: &'static str) {
    if let Some(note) = reader.partial_note() {
        state.metrics.federation_warnings.inc();
        tracing::warn!(path, note, "an answer lacks samples");
    }
}

fn text(found: Vec<Found>, format: Format) -> String {
    let mut families = FamilySet::new();
    for (labels, ts, value) in found {
        if let Latest::Float(value) = value {
            let name = labels.metric_name().to_owned();
            families.add(&name, &Metadata::default(), SeriesValue { labels, value, ts: Some(ts) });
        }
    }
    // A series without `instance` says so: else the scraper would give it the instance of this server.
    let mut writer = Writer::new(format).with_empty_label("instance");
    writer.families(&families);
    writer.finish()
}

/// A metric that is float here and histogram there is a family for each.
fn protobuf(found: &[Found]) -> Vec<u8> {
    let mut families: BTreeMap<(&str, u8), Vec<&Found>> = BTreeMap::new();
    for one in found {
        let family_type = match &one.2 {
            Latest::Float(_) => FamilyType::Untyped,
            Latest::Histogram(h) if h.counter_reset_hint == CounterResetHint::Gauge => {
                FamilyType::GaugeHistogram
            }
            Latest::Histogram(_) => FamilyType::Histogram,
        };
        families.entry((one.0.metric_name(), family_type as u8)).or_default().push(one);
    }
    let mut writer = protobuf::Writer::new();
    for ((name, family_type), series) in families {
        let types = [FamilyType::Untyped, FamilyType::GaugeHistogram, FamilyType::Histogram];
        let family_type = types.into_iter().find(|t| *t as u8 == family_type).unwrap_or(FamilyType::Untyped);
        writer.begin_family(name, family_type);
        for (labels, ts, value) in series {
            let own = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
            let instance = labels.get("instance").is_none().then_some(("instance", ""));
            match value {
                Latest::Float(value) => writer.untyped(own.chain(instance), *ts, *value),
                Latest::Histogram(h) => writer.histogram(own.chain(instance), *ts, h),
            }
        }
    }
    writer.finish()
}

/// The labels, and those external ones that they lack.
fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    let mut builder = LabelsBuilder::from(external);
    for (name, value) in labels {
        builder.set(name, value);
    }
    builder.build()
}
