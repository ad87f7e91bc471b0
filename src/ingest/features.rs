//! What `--enable-feature` switches on in ingestion.

use crate::model::{METRIC_NAME, MetricType};

/// Optional behaviour; the names are Prometheus's `--enable-feature` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestFeatures {
    /// `st-storage`: a sample is stored with the time at which its series began to count.
    pub st_storage: bool,
    /// `created-timestamp-zero-ingestion`: a zero is stored at the time at which a series began to count.
    pub zero_ingestion: bool,
    /// `type-and-unit-labels`: series carry `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
}

impl IngestFeatures {
    /// Turns on the feature of this name; false if ingestion has none such.
    pub fn enable(&mut self, name: &str) -> bool {
        let switch = match name {
            "st-storage" => &mut self.st_storage,
            "created-timestamp-zero-ingestion" => &mut self.zero_ingestion,
            "type-and-unit-labels" => &mut self.type_and_unit_labels,
            _ => return false,
        };
        *switch = true;
        true
    }

    /// Whether start times are looked for at all.
    #[must_use]
    pub fn start_times(self) -> bool {
        self.st_storage || self.zero_ingestion
    }
}

/// The labels of the feature `type-and-unit-labels`.
pub(super) const TYPE_LABEL: &str = "__type__";
pub(super) const UNIT_LABEL: &str = "__unit__";

/// Type and unit as labels. What is not known adds no label, and leaves one that was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TypeAndUnit<'a> {
    pub metric_type: MetricType,
    pub unit: &'a str,
}

impl<'a> TypeAndUnit<'a> {
    /// Names and values of the labels that are added.
    pub fn pairs(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let metric_type = match self.metric_type {
            MetricType::Unknown => "",
            known => known.as_str(),
        };
        [(TYPE_LABEL, metric_type), (UNIT_LABEL, self.unit)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
    }

    /// Whether a label that was sent gives way to one that is added.
    pub fn overrides(self, name: &str) -> bool {
        name != METRIC_NAME && self.pairs().any(|(added, _)| added == name)
    }
}
