//! Named bounds of everything that comes in.

use crate::storage::SERIES_BYTES_GROWN;

/// Limits of ingestion. Past one, the offender is refused with the limit's number, and counted.
#[derive(Clone, Debug)]
pub struct IngestLimits {
    /// Bytes of a remote write request, decompressed; a larger one is refused whole.
    pub write_bytes_max: usize,
    /// Bytes of memory of all requests that bring samples, metrics or forms, while they are read and taken apart.
    pub requests_bytes_max: usize,
    /// Labels of one series, the metric name included.
    pub labels_per_series_max: usize,
    /// Bytes of a label name.
    pub label_name_bytes_max: usize,
    /// Bytes of a label value.
    pub label_value_bytes_max: usize,
    /// Samples of one scrape, whatever the target's own limit says.
    pub scrape_samples_max: usize,
    /// Metric families whose type, help and unit are kept; further ones are stored without.
    pub families_max: usize,
    /// Bytes of their names and texts, of all together; what comes past it is not kept.
    pub families_bytes_max: usize,
    /// Bytes of a help text; a longer one is cut.
    pub help_bytes_max: usize,
    /// Series that the remote write cache remembers; past it the least used are resolved by labels again.
    pub series_cache_max: usize,
    /// Bytes of one pushed body.
    pub push_bytes_max: usize,
    /// Pushed groups that are kept.
    pub pushed_groups_max: usize,
    /// Series of all pushed groups and recorded metrics together.
    pub pushed_series_max: usize,
    /// Metrics in one call that records by JSON.
    pub record_metrics_max: usize,
    /// How far ahead of the clock a recorded metric's time may be, in ms.
    pub record_ahead_ms_max: i64,
}

/// Memory of requests at work, whatever the limit on memory: a few of the largest.
const REQUESTS_BYTES_LEAST: usize = 160 << 20;

impl IngestLimits {
    /// The defaults where so many bytes of memory are for series and their newest samples (0: any number): what grows with
    /// the number of series and requests is then no more than a share of it.
    #[must_use]
    pub fn for_memory(bytes: u64) -> Self {
        let limits = IngestLimits::default();
        if bytes == 0 {
            return limits;
        }
        let part = |part: u64| usize::try_from(bytes / part).unwrap_or(usize::MAX);
        IngestLimits {
            requests_bytes_max: part(2).clamp(REQUESTS_BYTES_LEAST, limits.requests_bytes_max),
            // Twice as many as there is memory for: see `storage::SERIES_BYTES_GROWN`.
            series_cache_max: part(SERIES_BYTES_GROWN / 2).clamp(1024, limits.series_cache_max),
            families_bytes_max: part(16).min(limits.families_bytes_max),
            ..limits
        }
    }
}

impl Default for IngestLimits {
    fn default() -> Self {
        IngestLimits {
            write_bytes_max: 64 << 20,
            requests_bytes_max: 512 << 20,
            labels_per_series_max: 1024,
            label_name_bytes_max: 1024,
            label_value_bytes_max: 64 << 10,
            scrape_samples_max: 5_000_000,
            families_max: 100_000,
            families_bytes_max: 64 << 20,
            help_bytes_max: 16 << 10,
            series_cache_max: 4_000_000,
            push_bytes_max: 16 << 20,
            pushed_groups_max: 10_000,
            pushed_series_max: 500_000,
            record_metrics_max: 10_000,
            record_ahead_ms_max: 10 * 60_000,
        }
    }
}
