//! The section `global`.

use serde::Deserialize;

use super::expand::expand;
use crate::model::Labels;
use crate::scrape::config::{self as scrape, Limits};
use crate::scrape::{ScrapeDefaults, ScrapeFeatures};
use crate::yaml::{Pairs, Problems, Source, Spanned, Upstream, null_is_default};

/// Every minute, as in Prometheus.
const EVALUATION_INTERVAL_MS: i64 = 60_000;

/// Keys of `global` that exist upstream and not here.
pub(super) const UPSTREAM_KEYS: Upstream = Upstream {
    among: "evaluation_interval",
    keys: &["rule_query_offset", "query_log_file", "scrape_failure_log_file", "extra_scrape_metrics"],
};

/// `global` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalSection {
    pub scrape_interval: Option<Spanned<String>>,
    pub scrape_timeout: Option<Spanned<String>>,
    pub evaluation_interval: Option<Spanned<String>>,
    pub scrape_protocols: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub external_labels: Pairs<Option<Spanned<String>>>,
    pub body_size_limit: Option<Spanned<String>>,
    pub sample_limit: Option<u64>,
    pub target_limit: Option<u64>,
    pub label_limit: Option<u64>,
    pub label_name_length_limit: Option<u64>,
    pub label_value_length_limit: Option<u64>,
    pub keep_dropped_targets: Option<u64>,
    pub metric_name_validation_scheme: Option<Spanned<String>>,
    pub metric_name_escaping_scheme: Option<Spanned<String>>,
    pub scrape_native_histograms: Option<bool>,
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    pub always_scrape_classic_histograms: Option<bool>,
}

/// Checked global settings.
#[derive(Clone, Debug)]
pub(super) struct Global {
    pub scrape: ScrapeDefaults,
    pub evaluation_interval_ms: i64,
    pub external_labels: Labels,
}

impl GlobalSection {
    pub(super) fn resolve(
        &self,
        features: ScrapeFeatures,
        source: &Source,
        problems: &mut Problems,
    ) -> Global {
        let (interval_ms, timeout_ms) = scrape::interval_and_timeout(
            self.scrape_interval.as_ref(),
            self.scrape_timeout.as_ref(),
            (scrape::INTERVAL_MS, scrape::TIMEOUT_MS),
            "in the global section",
            source,
            problems,
        );
        let evaluation = scrape::duration(self.evaluation_interval.as_ref(), source, problems);
        scrape::validation_scheme(self.metric_name_validation_scheme.as_ref(), source, problems);
        let escaping = scrape::escaping(self.metric_name_escaping_scheme.as_ref(), source, problems);
        let limit = |n: Option<u64>| usize::try_from(n.unwrap_or(0)).unwrap_or(usize::MAX);
        Global {
            scrape: ScrapeDefaults {
                interval_ms,
                timeout_ms,
                protocols: scrape::protocols(self.scrape_protocols.as_ref(), source, problems),
                escaping: escaping.unwrap_or(scrape::Escaping::AllowUtf8),
                body_size_limit: scrape::size_limit(self.body_size_limit.as_ref(), source, problems),
                limits: Limits {
                    samples: limit(self.sample_limit),
                    targets: limit(self.target_limit),
                    labels: limit(self.label_limit),
                    label_name_bytes: limit(self.label_name_length_limit),
                    label_value_bytes: limit(self.label_value_length_limit),
                },
                keep_dropped_targets: limit(self.keep_dropped_targets),
                native_histograms: self.scrape_native_histograms.unwrap_or(features.native_histograms),
                classic_histograms_always: self.always_scrape_classic_histograms.unwrap_or(false),
                classic_histograms_converted: self.convert_classic_histograms_to_nhcb.unwrap_or(false),
                protobuf_first: features.protobuf_first,
            },
            evaluation_interval_ms: evaluation.filter(|ms| *ms > 0).unwrap_or(EVALUATION_INTERVAL_MS),
            external_labels: self.external_labels(source, problems),
        }
    }

    fn external_labels(&self, source: &Source, problems: &mut Problems) -> Labels {
        let mut labels = Vec::new();
        for (name, value) in self.external_labels.iter() {
            if name.value.is_empty() {
                problems.push(source.problem_at(name, "\"\" is not a valid label name"));
            }
            let Some(value) = value else { continue };
            let filled = expand(&value.value, |variable| {
                let found = std::env::var(variable).unwrap_or_default();
                if found.is_empty() {
                    tracing::warn!(name = variable, "Empty environment variable");
                }
                found
            });
            labels.push((name.value.clone(), filled));
        }
        Labels::from_pairs(labels)
    }
}
