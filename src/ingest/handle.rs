//! The handle that all sources share.

use std::sync::{Arc, Mutex};

use super::budget::MemoryBudget;
use super::families::Families;
use super::hash::WideHasher;
use super::series_cache::SeriesCache;
use super::write::WriteScratch;
use super::{IngestFeatures, IngestLimits, IngestMetrics};
use crate::storage::Storage;
use crate::telemetry::Repeats;

/// Takes samples in. Cloning gives a handle to the same one.
#[derive(Clone, Debug)]
pub struct Ingest {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub storage: Storage,
    pub limits: IngestLimits,
    pub features: IngestFeatures,
    pub metrics: Arc<IngestMetrics>,
    pub hasher: WideHasher,
    pub families: Families,
    pub budget: Arc<MemoryBudget>,
    /// Held for the lookups of one request, a few tens of microseconds.
    pub series_cache: Mutex<SeriesCache>,
    /// Buffers of requests that are over.
    pub scratch: Mutex<Vec<WriteScratch>>,
    /// That the state of targets cannot be stored.
    pub unstored: Mutex<Repeats>,
}

impl Ingest {
    #[must_use]
    pub fn new(storage: Storage, limits: IngestLimits, metrics: Arc<IngestMetrics>) -> Self {
        Ingest::with_features(storage, limits, IngestFeatures::default(), metrics)
    }

    /// As [`Ingest::new`], with optional behaviour.
    #[must_use]
    pub fn with_features(
        storage: Storage,
        limits: IngestLimits,
        features: IngestFeatures,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        let inner = Inner {
            families: Families::load(&storage),
            budget: MemoryBudget::new(limits.requests_bytes_max),
            series_cache: Mutex::new(SeriesCache::new(limits.series_cache_max)),
            storage,
            limits,
            features,
            metrics,
            hasher: WideHasher::default(),
            unstored: Mutex::default(),
            scratch: Mutex::default(),
        };
        Ingest { inner: Arc::new(inner) }
    }

    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// The memory that requests at work take.
    #[must_use]
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.inner.budget
    }

    #[must_use]
    pub fn limits(&self) -> &IngestLimits {
        &self.inner.limits
    }
}
