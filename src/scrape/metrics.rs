//! What scraping says of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::telemetry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct JobLabel {
    pub scrape_job: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub reason: &'static str,
}

/// Counters of all scrapes.
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    pub(super) scrapes: Counter,
    pub(super) failures: Family<ReasonLabel, Counter>,
    pub(super) skipped: Counter,
    pub(super) duration: Histogram,
    pub(super) body_bytes: Counter,
    pub(super) targets: Family<JobLabel, Gauge>,
    pub(super) file_sd_errors: Counter,
}

impl ScrapeMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = ScrapeMetrics {
            scrapes: Counter::default(),
            failures: Family::default(),
            skipped: Counter::default(),
            // 1 ms to 16 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            body_bytes: Counter::default(),
            targets: Family::default(),
            file_sd_errors: Counter::default(),
        };
        registry.register("scrapes", "Scrapes that were made", metrics.scrapes.clone());
        registry.register("scrape_failures", "Scrapes that failed, by reason", metrics.failures.clone());
        registry.register(
            "scrapes_skipped",
            "Scrapes that were due while the one before was not done",
            metrics.skipped.clone(),
        );
        registry.register(
            "scrape_duration_seconds",
            "Time from the request to the committed batch",
            metrics.duration.clone(),
        );
        registry.register(
            "scrape_body_bytes",
            "Bytes of scraped bodies, before decompression",
            metrics.body_bytes.clone(),
        );
        registry.register("scrape_targets", "Targets that are scraped", metrics.targets.clone());
        registry.register(
            "scrape_file_sd_errors",
            "Target files that could not be read",
            metrics.file_sd_errors.clone(),
        );
        metrics
    }
}
