//! `/metrics`: our own metrics, and what the server has collected, was pushed, has computed, or is told to show.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, TextError};
use super::federate::note_partial;
use super::state::{ApiState, LiveConfig};
use super::{body, json};
use crate::exposition::{FamilySet, Format, SeriesValue, Writer, encode_registry, family_name};
use crate::host::process_metrics;
use crate::model::{
    FloatHistogram, Labels, METRIC_NAME, Matcher, Metadata, MetricType, Timestamp, is_stale_marker,
};
use crate::rules::RuleViewKind;
use crate::scrape::INSTANCE_HEADER;
use crate::storage::{Reader, Samples, SeriesSnapshot};

pub(super) async fn metrics(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
) -> Result<Response, TextError> {
    let format = negotiated(&headers);
    let asks_itself =
        headers.get(INSTANCE_HEADER).is_some_and(|v| v.as_bytes() == state.info.instance.as_bytes());
    let pool = state.transfers.clone();
    let text = pool.run(move |_| export(&state, format, asks_itself)).await?;
    Ok(exposition(format, text))
}

/// A body in an exposition format.
pub(super) fn exposition(format: Format, text: String) -> Response {
    ([(header::CONTENT_TYPE, format.content_type())], json::in_pieces(text.into_bytes())).into_response()
}

/// The whole page, or only our own families where the server scrapes itself. Blocks.
fn export(state: &ApiState, format: Format, own_only: bool) -> Result<String, ApiError> {
    // Read back in the text form, whose family names are those of the samples: so they meet the stored families.
    let own = encode_registry(&state.registry, Format::TextUtf8)
        .map_err(|e| ApiError::internal("writing our own metrics", e))?;
    let own = own + &process_metrics();
    let set = FamilySet::parse(Format::TextUtf8, own.as_bytes())
        .map_err(|e| ApiError::internal("reading our own metrics", e))?;
    if own_only {
        let mut writer = Writer::new(format);
        writer.families(&set);
        return Ok(writer.finish());
    }
    let now = state.clock.now_ms();
    let live = Arc::clone(&state.live.borrow());
    let reader = state.storage.reader();
    let mut export = Export {
        set,
        metadata: reader.metadata().into_iter().collect(),
        reader,
        live: &live,
        from: now - state.engine.options().lookback_ms,
        to: now,
        room: state.limits.export_series_max,
        dropped: 0,
        samples: Samples::default(),
    };
    if let Some(host) = &live.host {
        export.stored(host, &["job", "instance"]);
    }
    export.pushed(&state.pushed.families());
    for name in computed_names(state) {
        export.stored(&[Matcher::equal(METRIC_NAME, name)], &[]);
    }
    for matchers in &live.export_match {
        export.stored(matchers, &[]);
    }
    note_partial(state, &export.reader, "/metrics");
    let shown = state.limits.export_series_max - export.room;
    state.metrics.export_series.set(i64::try_from(shown).unwrap_or(i64::MAX));
    if export.dropped > 0 {
        state.metrics.export_series_dropped.inc_by(export.dropped);
        let limit = state.limits.export_series_max;
        tracing::warn!(limit, dropped = export.dropped, "/metrics left out series because of its limit");
    }
    let mut writer = Writer::new(format);
    writer.families(&export.set);
    Ok(writer.finish())
}

/// Names of the series that rules write: those of recording rules, and `ALERTS`.
fn computed_names(state: &ApiState) -> BTreeSet<String> {
    let rules = state.rules.groups().into_iter().flat_map(|g| g.rules);
    rules
        .map(|r| match r.kind {
            RuleViewKind::Recording => r.name,
            RuleViewKind::Alerting { .. } => "ALERTS".to_owned(),
        })
        .collect()
}

/// Collects the page. Of two series with equal labels the first stays.
struct Export<'a> {
    set: FamilySet,
    metadata: HashMap<String, Metadata>,
    reader: Reader,
    live: &'a LiveConfig,
    from: Timestamp,
    to: Timestamp,
    /// Series that may still be added.
    room: usize,
    dropped: u64,
    samples: Samples,
}

impl Export<'_> {
    /// Adds the fresh values of stored series, without some of their labels.
    fn stored(&mut self, matchers: &[Matcher], without: &[&str]) {
        for series in self.reader.select(matchers, self.from, self.to) {
            if self.is_unwanted(series.labels()) {
                continue;
            }
            // A native histogram has no form in text.
            let Some((_, Latest::Float(value))) = latest(&series, self.from, self.to, &mut self.samples)
            else {
                continue;
            };
            let labels = if without.is_empty() {
                series.labels().clone()
            } else {
                Labels::from_sorted(series.labels().iter().filter(|(n, _)| !without.contains(n)))
            };
            self.add(labels, value);
        }
    }

    /// Adds what was pushed, with the types that were pushed with it.
    fn pushed(&mut self, families: &FamilySet) {
        for (name, family) in families.iter() {
            self.metadata.entry(name.to_owned()).or_insert_with(|| family.metadata.clone());
            for series in &family.series {
                if !self.is_unwanted(&series.labels) {
                    self.add(series.labels.clone(), series.value);
                }
            }
        }
    }

    fn add(&mut self, labels: Labels, value: f64) {
        if self.room == 0 {
            self.dropped += 1;
            return;
        }
        let (family, metadata) = family_of(labels.metric_name(), &self.metadata);
        if self.set.add(&family, &metadata, SeriesValue { labels, value, ts: None }) {
            self.room -= 1;
        }
    }

    fn is_unwanted(&self, labels: &Labels) -> bool {
        let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
        self.live.export_drop.iter().any(|selector| selector.iter().all(matches))
    }
}

/// The family of a stored metric and what is known of it. Counters and info metrics are families under the name of
/// their samples, as in the text format; what OpenMetrics strips off, its writer strips.
fn family_of(metric: &str, known: &HashMap<String, Metadata>) -> (String, Metadata) {
    let family = family_name(metric, |name| known.get(name).map(|m| m.metric_type));
    let metadata = known.get(family).cloned().unwrap_or_default();
    let name = match metadata.metric_type {
        MetricType::Counter | MetricType::Info => metric,
        _ => family,
    };
    (name.to_owned(), metadata)
}

/// The newest value of a series.
#[derive(Clone, Debug)]
pub(super) enum Latest {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// The newest sample of a series; `None` if it has none in the window, or has ended.
pub(super) fn latest(
    series: &SeriesSnapshot,
    from: Timestamp,
    to: Timestamp,
    scratch: &mut Samples,
) -> Option<(Timestamp, Latest)> {
    scratch.clear();
    series.read(from, to, scratch);
    let float = scratch.ts.last().copied().zip(scratch.vs.last());
    let histogram = scratch.hist_ts.last().copied().zip(scratch.hists.last());
    match (float, histogram) {
        (Some((ts, value)), histogram) if histogram.is_none_or(|(h, _)| h < ts) => {
            (!is_stale_marker(*value)).then_some((ts, Latest::Float(*value)))
        }
        (_, Some((ts, h))) if !h.is_stale_marker() => Some((ts, Latest::Histogram(Arc::clone(h)))),
        _ => None,
    }
}

/// The format that the `Accept` header asks for.
pub(super) fn negotiated(headers: &HeaderMap) -> Format {
    let accept = body::text(headers, header::ACCEPT);
    Format::negotiate((!accept.is_empty()).then_some(accept))
}
