//! What storage counts of itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use crate::telemetry::Registry;

/// Counters and gauges; the default ones are registered nowhere.
#[derive(Clone, Debug, Default)]
pub struct StorageMetrics {
    pub samples_appended: Counter,
    pub out_of_order_samples: Counter,
    pub out_of_order_samples_appended: Counter,
    pub duplicate_samples: Counter,
    pub too_old_samples: Counter,
    pub too_far_ahead_samples: Counter,
    pub series_created: Counter,
    pub series_removed: Counter,
    pub series_refused: Counter,
    pub histogram_batches_refused: Counter,
    pub histograms_refused: Counter,
    pub wal_write_failures: Counter,
    pub seals: Counter,
    pub seal_failures: Counter,
    pub blocks_merged: Counter,
    pub exemplars_appended: Counter,
    pub exemplars_out_of_order: Counter,
    pub exemplars_dropped: Counter,
    pub exemplars: Gauge<u64, AtomicU64>,
    pub damaged: Counter,
    pub damaged_bytes: Counter,
    pub damaged_uncounted: Counter,
    pub lost_samples: Counter,
    pub wal_sync_failures: Counter,
    pub select_cache_hits: Counter,
    pub select_cache_misses: Counter,
    pub select_cache_bytes: Gauge<u64, AtomicU64>,
    pub refusing: Gauge<u64, AtomicU64>,
    pub series: Gauge<u64, AtomicU64>,
    pub memory_bytes: Gauge<u64, AtomicU64>,
    pub memory_limit_bytes: Gauge<u64, AtomicU64>,
    pub head_chunks: Gauge<u64, AtomicU64>,
    pub wal_bytes: Gauge<u64, AtomicU64>,
    pub blocks: Gauge<u64, AtomicU64>,
    pub block_bytes: Gauge<u64, AtomicU64>,
}

impl StorageMetrics {
    /// Makes the metrics known.
    pub fn register(registry: &mut Registry) -> Self {
        let m = StorageMetrics::default();
        let mut counter = |name: &str, help: &str, c: &Counter| {
            registry.register(format!("storage_{name}"), help, c.clone())
        };
        counter("samples_appended", "Samples taken", &m.samples_appended);
        counter(
            "out_of_order_samples",
            "Samples refused because their series has a newer one",
            &m.out_of_order_samples,
        );
        counter(
            "out_of_order_samples_appended",
            "Samples taken though their series has a newer one",
            &m.out_of_order_samples_appended,
        );
        counter(
            "duplicate_samples",
            "Samples refused, or left out of their block, because their series has another value at their time",
            &m.duplicate_samples,
        );
        counter(
            "too_old_samples",
            "Samples refused because their window is sealed or past retention",
            &m.too_old_samples,
        );
        counter(
            "too_far_ahead_samples",
            "Samples refused because they are too far in the future",
            &m.too_far_ahead_samples,
        );
        counter("series_created", "Series made", &m.series_created);
        counter(
            "series_removed",
            "Series removed from memory because they have no sample there any more",
            &m.series_removed,
        );
        counter("series_refused", "Series refused because of the limit on their number", &m.series_refused);
        counter(
            "histogram_batches_refused",
            "Batches refused because native histograms in memory take half of its limit",
            &m.histogram_batches_refused,
        );
        counter(
            "histograms_refused",
            "Native histograms left out of batches whose other samples were taken, for the same reason",
            &m.histograms_refused,
        );
        counter(
            "wal_write_failures",
            "Batches refused because the WAL could not be written",
            &m.wal_write_failures,
        );
        counter("seals", "Blocks written", &m.seals);
        counter("seal_failures", "Attempts to write a block or a checkpoint that failed", &m.seal_failures);
        counter("blocks_merged", "Blocks written anew with samples that came late", &m.blocks_merged);
        counter("exemplars_appended", "Exemplars taken", &m.exemplars_appended);
        counter(
            "exemplars_out_of_order",
            "Exemplars refused because their series has a newer one",
            &m.exemplars_out_of_order,
        );
        counter(
            "exemplars_dropped",
            "Exemplars refused because their labels are too long",
            &m.exemplars_dropped,
        );
        counter(
            "damaged",
            "Damaged blocks, pieces of the WAL, and series' full chunks in the head's file that were set aside",
            &m.damaged,
        );
        counter(
            "damaged_bytes",
            "Bytes of the WAL and of blocks that were damaged and set aside",
            &m.damaged_bytes,
        );
        counter(
            "damaged_uncounted",
            "Damaged pieces of the WAL that do not say how many samples they held, so that lost_samples is a lower bound",
            &m.damaged_uncounted,
        );
        counter(
            "lost_samples",
            "Samples in damaged pieces of the WAL, in whole ones whose series nothing names any more, and in damaged chunks of the head's file that the WAL has lost as well",
            &m.lost_samples,
        );
        counter("wal_sync_failures", "Attempts to put the WAL on the disk that failed", &m.wal_sync_failures);
        counter(
            "select_cache_hits",
            "Patterns over many label values whose series were known from before, but for those that are new",
            &m.select_cache_hits,
        );
        counter(
            "select_cache_misses",
            "Patterns over many label values that were tried on all of them",
            &m.select_cache_misses,
        );
        registry.register_with_unit(
            "storage_select_cache",
            "Bytes of what is known of patterns over label values",
            Unit::Bytes,
            m.select_cache_bytes.clone(),
        );
        registry.register(
            "storage_refusing",
            "1 while samples are refused because the WAL cannot be written, as on a full disk",
            m.refusing.clone(),
        );
        registry.register("storage_series", "Series in memory", m.series.clone());
        registry.register_with_unit(
            "storage_memory",
            "Bytes of memory that series and their newest samples take, by our own account",
            Unit::Bytes,
            m.memory_bytes.clone(),
        );
        registry.register_with_unit(
            "storage_memory_limit",
            "Bytes that series and their newest samples may take: past it new series are refused; 0 means no bound",
            Unit::Bytes,
            m.memory_limit_bytes.clone(),
        );
        registry.register("storage_head_chunks", "Full chunks in memory", m.head_chunks.clone());
        registry.register_with_unit("storage_wal", "Bytes of the WAL", Unit::Bytes, m.wal_bytes.clone());
        registry.register("storage_exemplars", "Exemplars that are kept", m.exemplars.clone());
        registry.register("storage_blocks", "Blocks of the ring", m.blocks.clone());
        registry.register_with_unit(
            "storage_block",
            "Bytes of the blocks",
            Unit::Bytes,
            m.block_bytes.clone(),
        );
        m
    }
}
