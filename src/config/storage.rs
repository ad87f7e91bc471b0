//! The section `storage`, as in Prometheus.

use serde::Deserialize;

use crate::scrape::config::duration;
use crate::yaml::{Problems, Source, Spanned, Upstream, null_is_default};

/// Keys of the section that exist upstream and not here.
pub(super) const UPSTREAM_KEYS: [Upstream; 1] = [Upstream {
    among: "out_of_order_time_window",
    keys: &["stale_series_compaction_threshold", "staleness_interval", "retention"],
}];

/// As in Prometheus.
const EXEMPLARS_MAX: i64 = 100_000;

/// `storage` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    #[serde(default, deserialize_with = "null_is_default")]
    pub tsdb: TsdbSection,
    #[serde(default, deserialize_with = "null_is_default")]
    pub exemplars: ExemplarsSection,
}

/// `storage.exemplars`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExemplarsSection {
    pub max_exemplars: Option<i64>,
}

/// `storage.tsdb`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TsdbSection {
    pub out_of_order_time_window: Option<Spanned<String>>,
}

/// What storage is told by the file; all of it takes effect at a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// How much older than the newest sample one may be that its series has a newer one of, in ms; 0 takes none.
    pub out_of_order_window_ms: i64,
    /// Exemplars that are kept with the feature `exemplar-storage`; 0 keeps none.
    pub exemplars_max: usize,
}

impl StorageSection {
    pub fn resolve(&self, source: &Source, problems: &mut Problems) -> StorageSettings {
        let window = duration(self.tsdb.out_of_order_time_window.as_ref(), source, problems);
        // Below zero there are none, as in Prometheus.
        let exemplars = self.exemplars.max_exemplars.unwrap_or(EXEMPLARS_MAX);
        StorageSettings {
            out_of_order_window_ms: window.unwrap_or(0),
            exemplars_max: usize::try_from(exemplars).unwrap_or(0),
        }
    }
}
