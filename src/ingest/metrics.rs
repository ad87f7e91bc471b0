//! What ingestion counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::storage::{AppendError, CommitStats};
use crate::telemetry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Source {
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    reason: &'static str,
}

/// Counters of ingestion; by default registered nowhere.
#[derive(Clone, Debug, Default)]
pub struct IngestMetrics {
    samples: Family<Source, Counter>,
    rejected: Family<Reason, Counter>,
    failed: Family<Source, Counter>,
    pub(super) series_cache_hits: Counter,
    pub(super) series_cache_misses: Counter,
    pub(super) pushed_groups: Gauge,
    pub(super) pushed_series: Gauge,
}

impl IngestMetrics {
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = IngestMetrics::default();
        registry.register(
            "ingest_samples",
            "Samples taken, by where they came from",
            metrics.samples.clone(),
        );
        registry.register(
            "ingest_samples_rejected",
            "Samples or series that were refused while the rest of their batch was taken, by reason",
            metrics.rejected.clone(),
        );
        registry.register(
            "ingest_batches_failed",
            "Scrapes, requests and pushes that were refused as a whole, by where they came from",
            metrics.failed.clone(),
        );
        registry.register(
            "remote_write_series_cache_hits",
            "Series of remote write requests found without decoding their labels",
            metrics.series_cache_hits.clone(),
        );
        registry.register(
            "remote_write_series_cache_misses",
            "Series of remote write requests whose labels had to be decoded",
            metrics.series_cache_misses.clone(),
        );
        registry.register("pushed_groups", "Pushed groups that are kept", metrics.pushed_groups.clone());
        registry.register(
            "pushed_series",
            "Series of pushed groups and recorded metrics that are kept",
            metrics.pushed_series.clone(),
        );
        metrics
    }

    /// Counts `count` samples taken.
    pub(super) fn taken(&self, source: &'static str, count: u64) {
        self.samples.get_or_create(&Source { source }).inc_by(count);
    }

    /// Counts a batch refused as a whole.
    pub(super) fn batch_failed(&self, source: &'static str) {
        self.failed.get_or_create(&Source { source }).inc();
    }

    pub(super) fn reject(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a series that the storage did not make, or lost twice in a row. What else an append refuses is in the
    /// commit's statistics.
    pub(super) fn reject_series(&self, error: AppendError) {
        match error {
            AppendError::TooManySeries(_) => self.reject("too_many_series"),
            AppendError::UnknownSeries => self.reject("unknown_series"),
            AppendError::OutOfOrder
            | AppendError::DuplicateTimestamp
            | AppendError::TooOld
            | AppendError::TooFarAhead
            | AppendError::TooManyHistograms => {}
        }
    }

    /// Counts what a commit refused. Series that left the ring are asked for again and are not counted here.
    pub(super) fn committed(&self, stats: &CommitStats) {
        for (reason, count) in [
            ("out_of_order", stats.out_of_order),
            ("duplicate_timestamp", stats.duplicates),
            ("too_old", stats.too_old),
            ("too_far_ahead", stats.too_far_ahead),
            ("too_many_histograms", stats.histograms_refused),
        ] {
            if count > 0 {
                self.rejected.get_or_create(&Reason { reason }).inc_by(count);
            }
        }
    }
}
