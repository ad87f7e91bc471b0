//! Writes families in either format.

use std::borrow::Cow;

use super::family::{Family, FamilySet, in_writing_order};
use super::number::{format_float, format_openmetrics_float};
use super::registry::registry_families;
use super::{Format, SeriesValue};
use crate::model::{
    Labels, LabelsBuilder, METRIC_NAME, Metadata, MetricType, Timestamp, is_legacy_label_name,
    is_legacy_metric_name,
};
use crate::telemetry::Registry;

/// Collects a body. Families must come once each; their series are written once each, in an order that OpenMetrics
/// accepts.
///
/// Names follow the series, which are never renamed: a counter whose series lack `_total` is of unknown type in
/// OpenMetrics, and a type that text 0.0.4 does not know becomes `gauge` or `untyped` there.
#[derive(Debug)]
pub struct Writer {
    out: String,
    format: Format,
    empty_label: Option<&'static str>,
}

impl Writer {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Writer { out: String::new(), format, empty_label: None }
    }

    /// Writes `name=""` on every series that has no such label.
    #[must_use]
    pub fn with_empty_label(mut self, name: &'static str) -> Self {
        self.empty_label = Some(name);
        self
    }

    /// Writes our own metrics.
    ///
    /// # Errors
    /// When a collector of the registry fails.
    pub fn registry(&mut self, registry: &Registry) -> Result<(), std::fmt::Error> {
        self.families(&registry_families(registry)?);
        Ok(())
    }

    /// Writes all of `families`. Where the format has no quotes, names that differ only in what becomes an underscore
    /// become one: the series of such families stand under one TYPE line, and of two that become equal one is written.
    pub fn families(&mut self, families: &FamilySet) {
        let underscored = (!self.format.has_quoted_names()).then(|| underscored(families)).flatten();
        for (name, family) in underscored.as_ref().unwrap_or(families).iter() {
            self.family(name, family);
        }
    }

    /// Writes one family. One without series says nothing.
    pub fn family(&mut self, name: &str, family: &Family) {
        let series = in_writing_order(family);
        // In text each name of a sample that the type's naming does not cover is a family of its own.
        let (own, stray): (Vec<&SeriesValue>, Vec<&SeriesValue>) = series
            .into_iter()
            .partition(|s| self.belongs(name, family.metadata.metric_type, s.labels.metric_name()));
        if !own.is_empty() {
            let names: Vec<&str> = own.iter().map(|s| s.labels.metric_name()).collect();
            self.begin_family(name, &family.metadata, &names);
            for s in &own {
                self.sample(s);
            }
        }
        for s in stray {
            self.sample(s);
        }
    }

    /// The body, complete.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format.is_openmetrics() {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    /// Whether a sample of this name may stand under the family's TYPE line.
    fn belongs(&self, family: &str, metric_type: MetricType, sample: &str) -> bool {
        let Some(suffix) = sample.strip_prefix(family) else { return false };
        match metric_type {
            MetricType::Counter => {
                matches!(suffix, "" | "_total") || self.format.is_openmetrics() && suffix == "_created"
            }
            MetricType::Histogram | MetricType::Summary => {
                matches!(suffix, "" | "_bucket" | "_sum" | "_count")
                    || self.format.is_openmetrics() && suffix == "_created"
            }
            MetricType::GaugeHistogram => matches!(suffix, "" | "_bucket" | "_gsum" | "_gcount"),
            MetricType::Info => matches!(suffix, "" | "_info"),
            MetricType::Gauge | MetricType::StateSet | MetricType::Unknown => suffix.is_empty(),
        }
    }

    /// Writes the header of a family whose samples have these names; [`Writer::series`] writes them.
    pub fn begin_family(&mut self, name: &str, metadata: &Metadata, names: &[&str]) {
        let metric_type = metadata.metric_type;
        let all_end_in = |suffix: &str| names.iter().all(|n| n.ends_with(suffix));
        let (name, type_text): (Cow<'_, str>, &str) = if self.format.is_openmetrics() {
            match metric_type {
                MetricType::Counter
                    if names.iter().all(|n| ["_total", "_created"].iter().any(|e| n.ends_with(e))) =>
                {
                    (name.strip_suffix("_total").unwrap_or(name).into(), "counter")
                }
                MetricType::Info if all_end_in("_info") => {
                    (name.strip_suffix("_info").unwrap_or(name).into(), "info")
                }
                MetricType::Counter | MetricType::Info => (name.into(), "unknown"),
                other => (name.into(), other.as_str()),
            }
        } else {
            match metric_type {
                MetricType::Counter if !name.ends_with("_total") && all_end_in("_total") => {
                    (format!("{name}_total").into(), "counter")
                }
                MetricType::Info if !name.ends_with("_info") && all_end_in("_info") => {
                    (format!("{name}_info").into(), "gauge")
                }
                MetricType::Info | MetricType::StateSet => (name.into(), "gauge"),
                MetricType::Unknown | MetricType::GaugeHistogram => (name.into(), "untyped"),
                other => (name.into(), other.as_str()),
            }
        };
        if !metadata.help.is_empty() {
            self.out.push_str("# HELP ");
            self.metric_name(&name);
            self.out.push(' ');
            escape(&mut self.out, &metadata.help, self.format.is_openmetrics());
            self.out.push('\n');
        }
        self.out.push_str("# TYPE ");
        self.metric_name(&name);
        self.out.push(' ');
        self.out.push_str(type_text);
        self.out.push('\n');
        let unit = &metadata.unit;
        let suffixed = name.strip_suffix(unit.as_str()).is_some_and(|n| n.ends_with('_'));
        if self.format.is_openmetrics() && !unit.is_empty() && suffixed {
            self.out.push_str("# UNIT ");
            self.metric_name(&name);
            self.out.push(' ');
            self.out.push_str(unit);
            self.out.push('\n');
        }
    }

    /// Writes samples of one series of the family that was begun, each with its time in ms.
    pub fn series(&mut self, labels: &Labels, samples: impl IntoIterator<Item = (Timestamp, f64)>) {
        let begin = self.out.len();
        self.name_and_labels(labels);
        let head = self.out[begin..].to_owned();
        self.out.truncate(begin);
        for (ts, value) in samples {
            self.out.push_str(&head);
            self.value(value, Some(ts));
        }
    }

    /// Takes what is written so far, so that a long body need not be in memory as a whole.
    #[must_use]
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    fn sample(&mut self, series: &SeriesValue) {
        self.name_and_labels(&series.labels);
        self.value(series.value, series.ts);
    }

    fn name_and_labels(&mut self, labels: &Labels) {
        let name = labels.metric_name();
        let quoted = self.format.has_quoted_names() && !is_legacy_metric_name(name);
        let mut first = true;
        if quoted {
            self.out.push('{');
        }
        self.metric_name(name);
        if quoted {
            first = false;
        }
        for (label, value) in labels.iter().filter(|(n, _)| *n != METRIC_NAME) {
            self.out.push(if first { '{' } else { ',' });
            first = false;
            if is_legacy_label_name(label) {
                self.out.push_str(label);
            } else if self.format.has_quoted_names() {
                self.out.push('"');
                escape(&mut self.out, label, true);
                self.out.push('"');
            } else {
                push_underscored(&mut self.out, label, false);
            }
            self.out.push_str("=\"");
            escape(&mut self.out, value, true);
            self.out.push('"');
        }
        if let Some(label) = self.empty_label.filter(|l| labels.get(l).is_none()) {
            self.out.push(if first { '{' } else { ',' });
            first = false;
            self.out.push_str(label);
            self.out.push_str("=\"\"");
        }
        if !first {
            self.out.push('}');
        }
    }

    fn value(&mut self, value: f64, ts: Option<Timestamp>) {
        self.out.push(' ');
        if self.format.is_openmetrics() {
            format_openmetrics_float(&mut self.out, value);
        } else {
            format_float(&mut self.out, value);
        }
        if let Some(ts) = ts {
            self.out.push(' ');
            if self.format.is_openmetrics() {
                self.seconds(ts);
            } else {
                self.out.push_str(itoa::Buffer::new().format(ts));
            }
        }
        self.out.push('\n');
    }

    /// Milliseconds as decimal seconds, exactly.
    fn seconds(&mut self, ts: i64) {
        if ts < 0 {
            self.out.push('-');
        }
        let ms = ts.unsigned_abs();
        self.out.push_str(itoa::Buffer::new().format(ms / 1000));
        if !ms.is_multiple_of(1000) {
            self.out.push_str(&format!(".{:03}", ms % 1000));
        }
    }

    /// A metric name, in quotes if it needs them and the format has them; the braces are the caller's.
    fn metric_name(&mut self, name: &str) {
        if is_legacy_metric_name(name) {
            self.out.push_str(name);
        } else if self.format.has_quoted_names() {
            self.out.push('"');
            escape(&mut self.out, name, true);
            self.out.push('"');
        } else {
            push_underscored(&mut self.out, name, true);
        }
    }
}

/// Escapes backslash and newline, and double quotes if `quotes`.
fn escape(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| c == '\\' || c == '\n' || quotes && c == '"') {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// A name with every character that needs quotes made an underscore.
fn push_underscored(out: &mut String, name: &str, colons: bool) {
    for (i, c) in name.chars().enumerate() {
        let fine = c.is_ascii_alphabetic() || c == '_' || colons && c == ':' || i > 0 && c.is_ascii_digit();
        out.push(if fine { c } else { '_' });
    }
}

/// The families with every name as text 0.0.4 can hold it; `None` if all are so already. Where two names become equal,
/// the one that needed no change holds.
fn underscored(families: &FamilySet) -> Option<FamilySet> {
    let is_plain_label = |name: &str| name == METRIC_NAME || is_legacy_label_name(name);
    let is_plain = |s: &SeriesValue| {
        is_legacy_metric_name(s.labels.metric_name()) && s.labels.iter().all(|(n, _)| is_plain_label(n))
    };
    let series = || families.iter().flat_map(|(name, f)| f.series.iter().map(move |s| (name, f, s)));
    if series().all(|(name, _, s)| is_legacy_metric_name(name) && is_plain(s)) {
        return None;
    }
    let name_of = |name: &str, colons: bool| {
        let mut out = String::with_capacity(name.len());
        push_underscored(&mut out, name, colons);
        out
    };
    let mut set = FamilySet::new();
    for (name, family, plain) in series().filter(|(_, _, s)| is_plain(s)) {
        set.add(&name_of(name, true), &family.metadata, plain.clone());
    }
    for (name, family, other) in series().filter(|(_, _, s)| !is_plain(s)) {
        let mut labels = LabelsBuilder::default();
        labels.set(METRIC_NAME, &name_of(other.labels.metric_name(), true));
        for (label, value) in
            other.labels.iter().filter(|(n, _)| is_legacy_label_name(n) && *n != METRIC_NAME)
        {
            labels.set(label, value);
        }
        for (label, value) in other.labels.iter().filter(|(n, _)| !is_plain_label(n)) {
            let label = name_of(label, false);
            if labels.get(&label).is_empty() {
                labels.set(&label, value);
            }
        }
        let series = SeriesValue { labels: labels.build(), ..*other };
        set.add(&name_of(name, true), &family.metadata, series);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use proptest::prelude::*;

    const TEXT: &str = "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
        # TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"10.0\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n\
        # TYPE plain gauge\nplain 1e+06\n";

    #[test]
    fn both_formats_name_counters_as_they_should() {
        let set = FamilySet::parse(Format::Text, TEXT.as_bytes()).unwrap();
        let write = |set: &FamilySet, format| {
            let mut w = Writer::new(format);
            w.families(set);
            w.finish()
        };
        assert_eq!(write(&set, Format::Text), TEXT);
        let openmetrics = write(&set, Format::OpenMetrics);
        assert_eq!(
            openmetrics,
            "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\"} 2.0\n\
             # TYPE h histogram\nh_bucket{le=\"1.0\"} 1.0\nh_bucket{le=\"10.0\"} 2.0\nh_bucket{le=\"+Inf\"} 3.0\nh_sum 4.5\nh_count 3.0\n\
             # TYPE plain gauge\nplain 1e+06\n# EOF\n"
        );
        let back = FamilySet::parse(Format::OpenMetrics, openmetrics.as_bytes()).unwrap();
        assert_eq!(write(&back, Format::Text), TEXT);
    }

    #[test]
    fn types_that_a_format_lacks_are_replaced() {
        let body = "# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\n# TYPE c counter\nc_total 1\nc_created 5\n# EOF\n";
        let set = FamilySet::parse(Format::OpenMetrics, body.as_bytes()).unwrap();
        let mut w = Writer::new(Format::Text);
        w.families(&set);
        assert_eq!(
            w.finish(),
            "# TYPE c_total counter\nc_total 1\nc_created 5\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n# TYPE s gauge\ns{s=\"on\"} 1\n"
        );
    }

    #[test]
    fn names_that_need_quotes_get_them_or_underscores() {
        let set = FamilySet::parse(Format::TextUtf8, b"{\"my.metric\",\"l.a\"=\"b\\\"\"} 1 1500").unwrap();
        for (format, expected) in [
            (Format::Text, "# TYPE my_metric untyped\nmy_metric{l_a=\"b\\\"\"} 1 1500\n"),
            (Format::TextUtf8, "# TYPE \"my.metric\" untyped\n{\"my.metric\",\"l.a\"=\"b\\\"\"} 1 1500\n"),
            (
                Format::OpenMetricsUtf8,
                "# TYPE \"my.metric\" unknown\n{\"my.metric\",\"l.a\"=\"b\\\"\"} 1.0 1.500\n# EOF\n",
            ),
        ] {
            let mut w = Writer::new(format);
            w.families(&set);
            assert_eq!(w.finish(), expected);
        }
    }

    #[test]
    fn names_that_become_equal_stand_once() {
        let body = "# TYPE \"a b\" gauge\n{\"a b\"} 1\n{\"a b\",x=\"1\"} 2\n{\"a b\",\"l.a\"=\"1\",\"l-a\"=\"2\",l_a=\"3\"} 3\n\
            # TYPE \"a.b\" counter\n{\"a.b\"} 4\n# HELP a_b Help.\n# TYPE a_b gauge\na_b 5\n";
        let set = FamilySet::parse(Format::TextUtf8, body.as_bytes()).unwrap();
        let mut w = Writer::new(Format::Text);
        w.families(&set);
        let text = w.finish();
        assert_eq!(text, "# HELP a_b Help.\n# TYPE a_b gauge\na_b 5\na_b{l_a=\"3\"} 3\na_b{x=\"1\"} 2\n",);
        FamilySet::parse(Format::Text, text.as_bytes()).unwrap();
    }

    proptest! {
        /// Whatever the names are, text 0.0.4 is well-formed and names no family twice.
        #[test]
        fn text_without_quotes_is_read_too(
            series in proptest::collection::hash_map(
                ("[a_.é ]{1,3}", proptest::collection::btree_map("[a_.é ]{1,2}", "[ab]", 0..3)), any::<f64>(), 0..12)
        ) {
            let mut set = FamilySet::new();
            for ((name, labels), value) in &series {
                set.add(name, &Default::default(), SeriesValue::new(name, &Labels::from_pairs(labels), *value));
            }
            let mut w = Writer::new(Format::Text);
            w.families(&set);
            let body = w.finish();
            FamilySet::parse(Format::Text, body.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}: {body}")))?;
            let types: Vec<&str> = body.lines().filter(|l| l.starts_with("# TYPE ")).collect();
            let once: std::collections::HashSet<_> = types.iter().collect();
            prop_assert_eq!(once.len(), types.len(), "{}", body);
        }

        /// Every format that keeps names gives back the series that were written.
        #[test]
        fn what_is_written_is_read(
            series in proptest::collection::hash_map(
                (".{1,5}", proptest::collection::btree_map("[^_].{0,5}", ".{1,8}", 0..4)), any::<f64>(), 0..8)
        ) {
            let mut set = FamilySet::new();
            for ((name, labels), value) in &series {
                let labels = Labels::from_pairs(labels);
                set.add(name, &Default::default(), SeriesValue::new(name, &labels, *value));
            }
            for format in [Format::TextUtf8, Format::OpenMetricsUtf8] {
                let mut w = Writer::new(format);
                w.families(&set);
                let body = w.finish();
                let back = FamilySet::parse(format, body.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}: {body}")))?;
                let bits = |s: &FamilySet| {
                    let mut all: Vec<(String, u64)> = s.iter().flat_map(|(_, f)| f.series.iter())
                        .map(|s| (s.labels.to_string(), if s.value.is_nan() { 0 } else { s.value.to_bits() })).collect();
                    all.sort();
                    all
                };
                prop_assert_eq!(bits(&set), bits(&back));
            }
        }
    }
}
