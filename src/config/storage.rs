//! The section `storage`, as in Prometheus.

use serde::Deserialize;

use crate::scrape::config::duration;
use crate::yaml::{Problems, Source, Spanned, Upstream, null_is_default};

/// Keys of the section that exist upstream and not here.
pub(super) const UPSTREAM_KEYS: [Upstream; 2] = [
    Upstream { among: "tsdb", keys: &["exemplars"] },
    Upstream {
        among: "out_of_order_time_window",
        keys: &["stale_series_compaction_threshold", "staleness_interval", "retention"],
    },
];

/// `storage` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    #[serde(default, deserialize_with = "null_is_default")]
    pub tsdb: TsdbSection,
}

/// `storage.tsdb`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TsdbSection {
    pub out_of_order_time_window: Option<Spanned<String>>,
}

/// What storage is told by the file; all of it takes effect at a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageSettings {
    /// How much older than the newest sample one may be that its series has a newer one of, in ms; 0 takes none.
    pub out_of_order_window_ms: i64,
}

impl StorageSection {
    pub fn resolve(&self, source: &Source, problems: &mut Problems) -> StorageSettings {
        let window = duration(self.tsdb.out_of_order_time_window.as_ref(), source, problems);
        StorageSettings { out_of_order_window_ms: window.unwrap_or(0) }
    }
}
