//! `/federate`: the newest samples of selected series, with their times, for another Prometheus to scrape.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::error::{ApiError, TextError};
use super::export::{exposition, latest, negotiated};
use super::params::Params;
use super::state::ApiState;
use crate::exposition::{FamilySet, Format, SeriesValue, Writer};
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, Matcher, Metadata};
use crate::storage::Samples;

pub(super) async fn federate(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    let selectors = params.matchers()?;
    // Text only, as in Prometheus: there are no types to tell.
    let format = match negotiated(&headers) {
        Format::Text | Format::OpenMetrics => Format::Text,
        Format::TextUtf8 | Format::OpenMetricsUtf8 => Format::TextUtf8,
    };
    let pool = state.transfers.clone();
    let text = pool.run(move |_| collect(&state, &selectors, format)).await?;
    Ok(exposition(format, text))
}

fn collect(state: &ApiState, selectors: &[Vec<Matcher>], format: Format) -> Result<String, ApiError> {
    let to = state.clock.now_ms();
    let from = to - state.engine.options().lookback_ms;
    let external = state.live.borrow().external_labels.clone();
    let reader = state.storage.reader();
    let mut seen = HashSet::new();
    let mut samples = Samples::default();
    let mut families = FamilySet::new();
    for selector in selectors {
        for series in reader.select(selector, from, to) {
            let labels = series.labels();
            if labels.get(METRIC_NAME).is_none() || !seen.insert(labels.clone()) {
                continue;
            }
            let Some((ts, value)) = latest(&series, from, to, &mut samples) else { continue };
            let labels = with_external(labels, &external);
            let name = labels.metric_name().to_owned();
            families.add(&name, &Metadata::default(), SeriesValue { labels, value, ts: Some(ts) });
        }
    }
    // A series without `instance` says so: else the scraper would give it the instance of this server.
    let mut writer = Writer::new(format).with_empty_label("instance");
    writer.families(&families);
    Ok(writer.finish())
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
