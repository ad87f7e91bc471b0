//! Warnings and infos, and their texts.
//!
//! Source of the texts: Prometheus, `util/annotations/annotations.go`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use crate::model::GoFloat;
use crate::promql::Annotations;
use crate::promql::ast::Pos;

/// Collects annotations from all threads of a query. Equal texts are kept once, with the position
/// noted last, as Prometheus keeps them.
#[derive(Debug, Default)]
pub(super) struct Notes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    warnings: BTreeMap<String, usize>,
    infos: BTreeMap<String, usize>,
    partial: Option<&'static str>,
    monotonicity: BTreeMap<(String, usize), Forced>,
}

/// How far a classic histogram had to be bent, over all steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forced {
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_diff: f64,
    pub first: i64,
    pub last: i64,
    pub count: u64,
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn for_metric(text: String, name: &str) -> String {
    if name.is_empty() { text } else { format!("{text} for metric name {}", quoted(name)) }
}

impl Notes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, text: String, pos: &Pos) {
        self.lock().warnings.insert(text, pos.start);
    }

    fn info(&self, text: String, pos: &Pos) {
        self.lock().infos.insert(text, pos.start);
    }

    /// Not all that was selected could be read; `note` says so.
    pub fn partial(&self, note: &'static str) {
        self.lock().partial = Some(note);
    }

    pub fn invalid_quantile(&self, q: f64, pos: &Pos) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", GoFloat(q)), pos);
    }

    pub fn invalid_ratio(&self, ratio: f64, to: f64, pos: &Pos) {
        let (ratio, to) = (GoFloat(ratio), GoFloat(to));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {to}"), pos);
    }

    pub fn bad_bucket_label(&self, name: &str, label: &str, pos: &Pos) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(label));
        self.warn(for_metric(text, name), pos);
    }

    pub fn mixed_floats_histograms(&self, name: &str, pos: &Pos) {
        let name = quoted(name);
        self.warn(format!("encountered a mix of histograms and floats for metric name {name}"), pos);
    }

    pub fn mixed_in_aggregation(&self, pos: &Pos) {
        self.warn("encountered a mix of histograms and floats for aggregation".into(), pos);
    }

    pub fn mixed_classic_native(&self, name: &str, pos: &Pos) {
        self.warn(for_metric("vector contains a mix of classic and native histograms".into(), name), pos);
    }

    pub fn start_time_overlaps(&self, name: &str, pos: &Pos) {
        let name = quoted(name);
        self.warn(
            format!("sample has start time that overlaps with previous sample timestamp for metric {name}"),
            pos,
        );
    }

    pub fn not_a_counter(&self, name: &str, pos: &Pos) {
        self.warn(format!("this native histogram metric is not a counter: {}", quoted(name)), pos);
    }

    pub fn not_a_gauge(&self, name: &str, pos: &Pos) {
        self.warn(format!("this native histogram metric is not a gauge: {}", quoted(name)), pos);
    }

    pub fn mixed_schemas(&self, name: &str, pos: &Pos) {
        let name = quoted(name);
        self.warn(
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name}"
            ),
            pos,
        );
    }

    pub fn incompatible_layout(&self, operator: &str, pos: &Pos) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), pos);
    }

    /// `operation` is "addition", "subtraction" or "aggregation".
    pub fn reset_collision(&self, operation: &str, pos: &Pos) {
        self.warn(format!("conflicting counter resets during histogram {operation}"), pos);
    }

    pub fn bounds_reconciled(&self, operation: &str, pos: &Pos) {
        self.info(format!("mismatched custom buckets were reconciled during {operation}"), pos);
    }

    pub fn maybe_not_a_counter(&self, name: &str, pos: &Pos) {
        let name = quoted(name);
        self.info(
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name}"),
            pos,
        );
    }

    /// `kind` is what the label `__type__` says.
    pub fn maybe_not_a_counter_by_type(&self, name: &str, kind: &str, pos: &Pos) {
        let (name, kind) = (quoted(name), quoted(kind));
        self.info(
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind}: {name}"
            ),
            pos,
        );
    }

    pub fn incompatible_types(&self, left: &str, operator: &str, right: &str, pos: &Pos) {
        self.info(
            format!(
                "incompatible sample types encountered for binary operator {}: {left} {operator} {right}",
                quoted(operator)
            ),
            pos,
        );
    }

    pub fn histogram_ignored_in_aggregation(&self, aggregation: &str, pos: &Pos) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), pos);
    }

    pub fn histograms_ignored_in_range(&self, name: &str, pos: &Pos) {
        let name = quoted(name);
        self.info(
            format!(
                "ignored histograms in a range containing both floats and histograms for metric name {name}"
            ),
            pos,
        );
    }

    pub fn quantile_is_nan(&self, name: &str, pos: &Pos) {
        let text = "input to histogram_quantile has NaN observations, result is NaN".into();
        self.info(for_metric(text, name), pos);
    }

    pub fn quantile_is_skewed(&self, name: &str, pos: &Pos) {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher".into();
        self.info(for_metric(text, name), pos);
    }

    pub fn fraction_excludes_nans(&self, name: &str, pos: &Pos) {
        let text =
            "input to histogram_fraction has NaN observations, which are excluded from all fractions".into();
        self.info(for_metric(text, name), pos);
    }

    pub fn sort_in_range_query(&self, pos: &Pos) {
        self.warn(
            "sort is ineffective for range queries since results are always ordered by labels".into(),
            pos,
        );
    }

    pub fn forced_monotonicity(&self, name: &str, pos: &Pos, forced: Forced) {
        match self.lock().monotonicity.entry((name.to_owned(), pos.start)) {
            Entry::Vacant(e) => {
                e.insert(forced);
            }
            Entry::Occupied(mut e) => {
                let all = e.get_mut();
                all.min_bucket = all.min_bucket.min(forced.min_bucket);
                all.max_bucket = all.max_bucket.max(forced.max_bucket);
                all.max_diff = all.max_diff.max(forced.max_diff);
                all.first = all.first.min(forced.first);
                all.last = all.last.max(forced.last);
                all.count += forced.count;
            }
        }
    }

    /// The texts with their places in `query`, sorted.
    pub fn finish(&self, query: &str) -> Annotations {
        let inner = self.lock();
        let mut infos: Vec<String> =
            inner.infos.iter().map(|(t, at)| format!("PromQL info: {t} ({})", place(query, *at))).collect();
        for ((name, at), f) in &inner.monotonicity {
            let text = for_metric(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
                    .into(),
                name,
            );
            infos.push(format!(
                "PromQL info: {text}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({})",
                GoFloat(f.min_bucket),
                GoFloat(f.max_bucket),
                two_digits(f.max_diff),
                f.count,
                rfc3339(f.first),
                rfc3339(f.last),
                place(query, *at)
            ));
        }
        let partial = inner.partial.map(str::to_owned);
        let warnings = inner
            .warnings
            .iter()
            .map(|(t, at)| format!("PromQL warning: {t} ({})", place(query, *at)))
            .chain(partial)
            .collect();
        Annotations { warnings, infos }
    }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    let rounded: f64 = format!("{v:.1e}").parse().unwrap_or(v);
    if rounded != 0.0 && !(1e-4..1e2).contains(&rounded.abs()) && rounded.is_finite() {
        let s = format!("{rounded:e}");
        let (digits, exponent) = s.split_once('e').unwrap_or((&s, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    } else {
        GoFloat(rounded).to_string()
    }
}

fn rfc3339(ms: i64) -> String {
    chrono::DateTime::from_timestamp(ms.div_euclid(1000), 0)
        .map_or_else(|| ms.to_string(), |t| t.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// `line:column` of a byte of the query, both from 1.
fn place(query: &str, at: usize) -> String {
    let before = &query.as_bytes()[..at.min(query.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_carry_line_and_column_once() {
        let notes = Notes::default();
        notes.maybe_not_a_counter("x", &(9..10));
        notes.maybe_not_a_counter("x", &(5..6));
        notes.invalid_quantile(f64::INFINITY, &(8..9));
        notes.partial("not all");
        let got = notes.finish("rate(\nx\n+y)");
        assert_eq!(
            got.warnings,
            ["PromQL warning: quantile value should be between 0 and 1, got +Inf (3:1)", "not all"]
        );
        assert_eq!(
            got.infos,
            [
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)"
            ]
        );
    }
}
