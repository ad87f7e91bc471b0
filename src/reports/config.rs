//! The sections `indicators` and `reports` of the configuration.

use serde::Deserialize;

use super::Indicator;
use super::indicator::Threshold;
use crate::model::parse_duration_ms;
use crate::promql::{Features, parse_with};
use crate::yaml::{Mark, Problems, Source, Spanned, mark, null_is_default};

/// How often a report is made.
const INTERVAL_MS: i64 = 5 * 60_000;
/// What such a report looks back on.
const PERIOD_MS: i64 = 60 * 60_000;
/// How long reports are kept.
const RETENTION_MS: i64 = 30 * 86_400_000;

/// One entry of `indicators`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndicatorSection {
    pub name: Option<Spanned<String>>,
    pub expr: Option<Spanned<String>>,
    #[serde(deserialize_with = "null_is_default")]
    pub unit: String,
    #[serde(deserialize_with = "null_is_default")]
    pub description: String,
    /// `"> 80"`, `"< 90"`.
    pub warning: Option<Spanned<String>>,
    pub critical: Option<Spanned<String>>,
}

/// The section `reports`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportsSection {
    /// Default 5m; 0 makes none by itself.
    pub interval: Option<Spanned<String>>,
    /// Default 1h.
    pub period: Option<Spanned<String>>,
    /// Default 30d.
    pub retention: Option<Spanned<String>>,
}

/// When reports are made and how long they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// 0 makes none by itself.
    pub interval_ms: i64,
    pub period_ms: i64,
    pub retention_ms: i64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { interval_ms: INTERVAL_MS, period_ms: PERIOD_MS, retention_ms: RETENTION_MS }
    }
}

impl ReportsSection {
    /// Checks the durations.
    pub fn resolve(&self, source: &Source, problems: &mut Problems) -> Schedule {
        let mut duration = |text: &Option<Spanned<String>>, default: i64, least: i64| match text {
            None => default,
            Some(text) => match parse_duration_ms(&text.value) {
                Ok(ms) if ms >= least => ms,
                Ok(_) => {
                    problems.push(source.problem(mark(text), format!("must be at least {}s", least / 1000)));
                    default
                }
                Err(e) => {
                    problems.push(source.problem(mark(text), e.to_string()));
                    default
                }
            },
        };
        Schedule {
            interval_ms: duration(&self.interval, INTERVAL_MS, 0),
            period_ms: duration(&self.period, PERIOD_MS, 60_000),
            retention_ms: duration(&self.retention, RETENTION_MS, 60_000),
        }
    }
}

impl IndicatorSection {
    /// Checks one entry; `at` is where the section stands.
    fn resolve(
        &self,
        at: Mark,
        features: Features,
        source: &Source,
        problems: &mut Problems,
    ) -> Option<Indicator> {
        let (Some(name), Some(query)) = (&self.name, &self.expr) else {
            problems.push(source.problem(at, "an indicator needs `name` and `expr`"));
            return None;
        };
        if name.value.is_empty() {
            problems.push(source.problem(mark(name), "the name is empty"));
        }
        let mut threshold = |text: &Option<Spanned<String>>| -> Option<Threshold> {
            let text = text.as_ref()?;
            text.value.parse().map_err(|e: String| problems.push(source.problem(mark(text), e))).ok()
        };
        let (warning, critical) = (threshold(&self.warning), threshold(&self.critical));
        let expr = match parse_with(&query.value, features) {
            Ok(expr) => expr,
            Err(e) => {
                problems.push(source.problem_in(query, e.pos.start, e.message));
                return None;
            }
        };
        Some(Indicator {
            name: name.value.clone(),
            description: self.description.clone(),
            query: query.value.clone(),
            expr,
            unit: self.unit.clone(),
            warning,
            critical,
        })
    }
}

/// Checks the section `indicators`; entries with a problem are left out of the result.
pub fn resolve_indicators(
    sections: &[Spanned<IndicatorSection>],
    features: Features,
    source: &Source,
    problems: &mut Problems,
) -> Vec<Indicator> {
    let mut indicators: Vec<Indicator> = Vec::new();
    for section in sections {
        let Some(indicator) = section.value.resolve(mark(section), features, source, problems) else {
            continue;
        };
        if indicators.iter().any(|i| i.name == indicator.name) {
            let message = format!("a second indicator is named {:?}", indicator.name);
            problems.push(source.problem(section.value.name.as_ref().map_or(mark(section), mark), message));
        }
        indicators.push(indicator);
    }
    indicators
}
