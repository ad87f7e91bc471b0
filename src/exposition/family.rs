//! Metric families as owned values.

use std::collections::{BTreeMap, HashSet};

use super::parser::{Entry, Parser};
use super::{Format, ParseError};
use crate::model::{Labels, METRIC_NAME, Metadata, MetricType, Timestamp};

/// A series with one value.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesValue {
    /// With `__name__`, which may be longer than the family's name (`_bucket`, `_total`).
    pub labels: Labels,
    pub value: f64,
    /// In ms; written only if it is there.
    pub ts: Option<Timestamp>,
}

/// One metric family: what is known of it, and its series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    pub metadata: Metadata,
    pub series: Vec<SeriesValue>,
}

/// Families by name, each series once.
#[derive(Clone, Debug, Default)]
pub struct FamilySet {
    families: BTreeMap<String, Family>,
    seen: HashSet<Labels>,
}

impl FamilySet {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series; false, and nothing changes, if it is there already. The first metadata of a family that says
    /// anything holds.
    pub fn add(&mut self, family: &str, metadata: &Metadata, series: SeriesValue) -> bool {
        if !self.seen.insert(series.labels.clone()) {
            return false;
        }
        let entry = self.describe(family, metadata);
        entry.series.push(series);
        true
    }

    /// Notes a family's metadata, unless it is known, and gives the family.
    pub fn describe(&mut self, family: &str, metadata: &Metadata) -> &mut Family {
        let entry = self.families.entry(family.to_owned()).or_default();
        if entry.metadata == Metadata::default() {
            entry.metadata = metadata.clone();
        }
        entry
    }

    /// Adds all of `other` that is not there already.
    pub fn merge(&mut self, other: &FamilySet) {
        for (name, family) in &other.families {
            self.describe(name, &family.metadata);
            for series in &family.series {
                self.add(name, &family.metadata, series.clone());
            }
        }
    }

    #[must_use]
    pub fn contains(&self, labels: &Labels) -> bool {
        self.seen.contains(labels)
    }

    #[must_use]
    pub fn get(&self, family: &str) -> Option<&Family> {
        self.families.get(family)
    }

    /// The families, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Family)> {
        self.families.iter().map(|(n, f)| (n.as_str(), f))
    }

    /// How many series there are.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.seen.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// Reads a whole body. Samples join the family whose TYPE line stands before them, or one of their own name.
    ///
    /// # Errors
    /// Where the body is malformed, names a label twice in one series, or holds a series twice.
    pub fn parse(format: Format, body: &[u8]) -> Result<Self, ParseError> {
        let mut set = FamilySet::new();
        let mut parser = Parser::new(format, body);
        loop {
            let begin = parser.position();
            match parser.next()? {
                None => return Ok(set),
                Some(Entry::Comment) => {}
                Some(Entry::Type { family, metric_type }) => {
                    set.families.entry(family.into_owned()).or_default().metadata.metric_type = metric_type;
                }
                Some(Entry::Help { family, text }) => {
                    set.families.entry(family.into_owned()).or_default().metadata.help = text.into_owned();
                }
                Some(Entry::Unit { family, unit }) => {
                    unit.clone_into(&mut set.families.entry(family.into_owned()).or_default().metadata.unit);
                }
                Some(Entry::Sample(sample)) => {
                    let pairs: Vec<_> = parser.labels().collect();
                    let mut names: Vec<&str> = pairs.iter().map(|(n, _)| n.as_ref()).collect();
                    names.sort_unstable();
                    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
                        return Err(
                            parser.error_at(begin, format!("label name {:?} is not unique", twice[0]))
                        );
                    }
                    let labels = Labels::from_pairs(pairs);
                    let types = |name: &str| set.families.get(name).map(|f| f.metadata.metric_type);
                    let family = family_name(labels.metric_name(), types).to_owned();
                    let series = SeriesValue { labels, value: sample.value, ts: sample.ts };
                    if !set.add(&family, &Metadata::default(), series) {
                        return Err(parser.error_at(begin, "the series occurs twice"));
                    }
                }
            }
        }
    }
}

/// The family that a metric name belongs to, where `types` knows the families: the name itself if it is one, or the
/// name without a suffix that fits the family's type. A name of no known family is its own.
pub fn family_name(metric: &str, types: impl Fn(&str) -> Option<MetricType>) -> &str {
    if types(metric).is_some() {
        return metric;
    }
    for (suffix, fits) in SUFFIXES {
        if let Some(family) = metric.strip_suffix(suffix)
            && types(family).is_some_and(|t| fits.contains(&t))
        {
            return family;
        }
    }
    metric
}

/// Suffixes of sample names, and the types whose families have them.
const SUFFIXES: [(&str, &[MetricType]); 8] = [
    ("_bucket", &[MetricType::Histogram, MetricType::GaugeHistogram]),
    ("_sum", &[MetricType::Histogram, MetricType::Summary]),
    ("_count", &[MetricType::Histogram, MetricType::Summary]),
    ("_gsum", &[MetricType::GaugeHistogram]),
    ("_gcount", &[MetricType::GaugeHistogram]),
    ("_total", &[MetricType::Counter]),
    ("_created", &[MetricType::Counter, MetricType::Histogram, MetricType::Summary]),
    ("_info", &[MetricType::Info]),
];

/// Orders the series of a family as OpenMetrics wants them: the samples of one metric together, buckets and
/// quantiles ascending by number, then sum and count.
pub(super) fn in_writing_order(family: &Family) -> Vec<&SeriesValue> {
    let mut series: Vec<&SeriesValue> = family.series.iter().collect();
    let label = match family.metadata.metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => "le",
        MetricType::Summary => "quantile",
        _ => {
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            return series;
        }
    };
    let key = |s: &SeriesValue| {
        let bound = s.labels.get(label).and_then(|v| v.parse::<f64>().ok());
        let rank = usize::from(bound.is_none());
        let name = s.labels.metric_name().to_owned();
        (s.labels.without(&[label]), rank, bound.unwrap_or(0.0), name)
    };
    series.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2)).then_with(|| b.3.cmp(&a.3))
    });
    series
}

impl FromIterator<(String, Family)> for FamilySet {
    fn from_iter<T: IntoIterator<Item = (String, Family)>>(iter: T) -> Self {
        let mut set = FamilySet::new();
        for (name, family) in iter {
            set.describe(&name, &family.metadata);
            for series in family.series {
                set.add(&name, &family.metadata, series);
            }
        }
        set
    }
}

/// A series named `name` with these further labels.
impl SeriesValue {
    #[must_use]
    pub fn new(name: &str, labels: &Labels, value: f64) -> Self {
        SeriesValue { labels: labels.with(METRIC_NAME, name), value, ts: None }
    }
}
