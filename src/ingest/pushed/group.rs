//! One pushed group.

use std::collections::BTreeMap;

use super::super::PushError;
use super::super::labels::{LabelBounds, check_named, check_sorted};
use crate::exposition::{Family, FamilySet, Format, SeriesValue};
use crate::model::{Labels, Metadata, MetricType, Timestamp};

/// Families that a group always has; what is pushed under these names is ignored.
pub(super) const PUSH_TIME: &str = "push_time_seconds";
pub(super) const PUSH_FAILURE_TIME: &str = "push_failure_time_seconds";

/// A group as others see it.
#[derive(Clone, Debug)]
pub struct GroupView {
    pub labels: Labels,
    /// When it was last pushed to, in ms; `None` if only failures are known.
    pub push_time: Option<Timestamp>,
    /// When a push to it was last refused, in ms.
    pub push_failure_time: Option<Timestamp>,
    /// With the grouping labels, and the two times as families.
    pub families: FamilySet,
}

/// A group: what it holds, by family.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub families: BTreeMap<String, Family>,
    pub push_time: Option<Timestamp>,
    pub push_failure_time: Option<Timestamp>,
}

impl Group {
    pub fn series(&self) -> impl Iterator<Item = &SeriesValue> {
        self.families.values().flat_map(|f| &f.series)
    }

    pub fn series_count(&self) -> usize {
        self.families.values().map(|f| f.series.len()).sum()
    }

    /// All that the group stands for, the two times included.
    pub fn view(&self, labels: &Labels) -> GroupView {
        let mut families: FamilySet = self.families.iter().map(|(n, f)| (n.clone(), f.clone())).collect();
        let times = [
            (
                PUSH_TIME,
                self.push_time,
                "Last Unix time when changing this group in the Pushgateway succeeded.",
            ),
            (
                PUSH_FAILURE_TIME,
                self.push_failure_time,
                "Last Unix time when changing this group in the Pushgateway failed.",
            ),
        ];
        for (name, time, help) in times {
            let metadata =
                Metadata { metric_type: MetricType::Gauge, help: help.to_owned(), unit: String::new() };
            let seconds = time.map_or(0.0, |t| t as f64 / 1000.0);
            families.add(name, &metadata, SeriesValue::new(name, labels, seconds));
        }
        GroupView {
            labels: labels.clone(),
            push_time: self.push_time,
            push_failure_time: self.push_failure_time,
            families,
        }
    }
}

/// Reads a pushed body for the group with these labels, which every series gets, whatever it had.
pub(super) fn read_families(
    format: Format,
    body: &[u8],
    grouping: &Labels,
    bounds: LabelBounds,
) -> Result<BTreeMap<String, Family>, PushError> {
    let pushed = FamilySet::parse(format, body)?;
    let mut families = FamilySet::new();
    for (name, family) in pushed.iter().filter(|(n, _)| !matches!(*n, PUSH_TIME | PUSH_FAILURE_TIME)) {
        if family.series.is_empty() {
            continue;
        }
        for series in &family.series {
            if series.ts.is_some() {
                return Err(PushError::Invalid("pushed metrics must not have timestamps".to_owned()));
            }
            let pairs: Vec<(&str, &str)> = series.labels.iter().collect();
            check_sorted(&pairs, bounds)
                .and_then(|()| check_named(&pairs))
                .map_err(|e| PushError::Invalid(e.to_string()))?;
            let labels = Labels::from_pairs(series.labels.iter().chain(grouping.iter()));
            if !families.add(name, &family.metadata, SeriesValue { labels, ..series.clone() }) {
                let labels = Labels::from_pairs(series.labels.iter().chain(grouping.iter()));
                return Err(PushError::Inconsistent(format!("the series {labels} was pushed twice")));
            }
        }
    }
    Ok(families.iter().map(|(n, f)| (n.to_owned(), f.clone())).collect())
}
