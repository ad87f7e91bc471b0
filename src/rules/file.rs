//! Rule files: from YAML to checked groups.
//!
//! Source: Prometheus, `model/rulefmt/rulefmt.go`.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;

use crate::model::{Labels, METRIC_NAME, parse_duration_ms};
use crate::promql::{self, Features, ast::Expr};
use crate::template::AlertTemplate;
use crate::yaml::{Mark, Pairs, Problem, Problems, Source, Spanned, mark, null_is_default};

/// A rule file that is right in every respect.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFile {
    pub name: String,
    pub groups: Vec<Arc<GroupSpec>>,
}

/// Rules that are evaluated one after the other on one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    /// The file that it stands in.
    pub file: String,
    /// Unique in the file.
    pub name: String,
    /// `None` means `global.evaluation_interval`.
    pub interval_ms: Option<i64>,
    /// How far behind the evaluation time expressions look; `None` means `global.rule_query_offset`.
    pub query_offset_ms: Option<i64>,
    /// The most series or alerts that one rule may produce; 0 means no limit.
    pub limit: u64,
    pub rules: Vec<RuleSpec>,
}

impl GroupSpec {
    /// What the group is known by: as in Prometheus, file and name.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }
}

/// One rule. Labels are the group's overlaid with its own, ascending by name; an empty value removes a label.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    pub kind: RuleKind,
    /// `record` or `alert`.
    pub name: String,
    /// The expression as the file has it, without surrounding space.
    pub query: String,
    /// The expression as Prometheus shows it.
    pub text: String,
    pub expr: Arc<Expr>,
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    Recording,
    Alerting {
        /// How long the expression holds before the alert fires.
        for_ms: i64,
        /// How long it goes on firing when the expression no longer holds.
        keep_firing_for_ms: i64,
        /// Ascending by name.
        annotations: Vec<(String, String)>,
        /// The labels' values, parsed, in the same order.
        label_templates: Vec<AlertTemplate>,
        annotation_templates: Vec<AlertTemplate>,
    },
}

impl RuleSpec {
    /// The labels that the rule states, as a set.
    #[must_use]
    pub fn label_set(&self) -> Labels {
        Labels::from_pairs(self.labels.iter().map(|(n, v)| (n, v)))
    }

    #[must_use]
    pub fn is_alerting(&self) -> bool {
        matches!(self.kind, RuleKind::Alerting { .. })
    }
}

/// Two rules are equal when the files say the same of them.
impl PartialEq for RuleSpec {
    fn eq(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (RuleKind::Recording, RuleKind::Recording) => true,
            (
                RuleKind::Alerting { for_ms, keep_firing_for_ms, annotations, .. },
                RuleKind::Alerting { for_ms: f, keep_firing_for_ms: k, annotations: a, .. },
            ) => (for_ms, keep_firing_for_ms, annotations) == (f, k, a),
            _ => false,
        };
        self.name == other.name && self.query == other.query && self.labels == other.labels && same_kind
    }
}

// The file, one to one.

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default, deserialize_with = "null_is_default")]
    groups: Vec<Spanned<Option<RawGroup>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    query_offset: Option<Spanned<String>>,
    limit: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "null_is_default")]
    labels: RawLabels,
    #[serde(default, deserialize_with = "null_is_default")]
    rules: Vec<Spanned<Option<RawRule>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    record: Option<Spanned<String>>,
    alert: Option<Spanned<String>>,
    expr: Option<Spanned<String>>,
    #[serde(rename = "for")]
    hold: Option<Spanned<String>>,
    keep_firing_for: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    labels: RawLabels,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: RawLabels,
}

type RawLabels = Pairs<Option<Spanned<String>>>;

/// Reads and checks a rule file; `features` says what its expressions may use.
///
/// # Errors
/// Everything that is wrong with it, each with its place, inside multi-line expressions and templates too.
pub fn load(source: &Source, features: Features) -> Result<RuleFile, Problems> {
    let raw: RawFile = source.parse()?;
    let mut check = Check { source, features, problems: Problems::default(), about: String::new() };
    let mut names = HashSet::new();
    let groups = raw.groups.iter().map(|g| Arc::new(check.group(g, &mut names))).collect();
    if check.problems.is_empty() {
        Ok(RuleFile { name: source.name.clone(), groups })
    } else {
        Err(check.problems)
    }
}

struct Check<'a> {
    source: &'a Source,
    features: Features,
    problems: Problems,
    /// What problems are about: group and rule.
    about: String,
}

fn text(value: &Option<Spanned<String>>) -> &str {
    value.as_ref().map_or("", |v| v.value.as_str())
}

impl Check<'_> {
    fn problem(&mut self, at: Mark, message: impl AsRef<str>) {
        let message = format!("{}{}", self.about, message.as_ref());
        self.problems.push(self.source.problem(at, message));
    }

    fn push(&mut self, mut problem: Problem, hint: Option<String>) {
        problem.message.insert_str(0, &self.about);
        problem.hint = hint;
        self.problems.push(problem);
    }

    fn group(&mut self, raw: &Spanned<Option<RawGroup>>, names: &mut HashSet<String>) -> GroupSpec {
        let nothing = RawGroup::default();
        let group = raw.value.as_ref().unwrap_or(&nothing);
        let name = text(&group.name).to_owned();
        let at = group.name.as_ref().map_or_else(|| mark(raw), mark);
        self.about.clear();
        if name.is_empty() {
            self.problem(at, "Groupname must not be empty");
        } else if !names.insert(name.clone()) {
            self.problem(at, format!("groupname: \"{name}\" is repeated in the same file"));
        }
        self.about = format!("group {name:?}: ");
        let interval_ms = self.duration(&group.interval);
        let query_offset_ms = self.duration(&group.query_offset);
        let limit = match &group.limit {
            Some(limit) if limit.value < 0 => {
                self.problem(mark(limit), "the limit must not be negative");
                0
            }
            limit => limit.as_ref().map_or(0, |l| l.value.unsigned_abs()),
        };
        let labels = self.labels(&group.labels, "label");
        let rules = group.rules.iter().enumerate().filter_map(|(i, r)| self.rule(&name, i, r, &labels));
        let rules = rules.collect();
        GroupSpec {
            file: self.source.name.clone(),
            name,
            interval_ms: interval_ms.filter(|ms| *ms > 0),
            query_offset_ms,
            limit,
            rules,
        }
    }

    fn duration(&mut self, value: &Option<Spanned<String>>) -> Option<i64> {
        let value = value.as_ref()?;
        match parse_duration_ms(&value.value) {
            Ok(ms) => Some(ms),
            Err(e) => {
                self.problem(mark(value), e.to_string());
                None
            }
        }
    }

    /// Label or annotation pairs, ascending by name.
    fn labels(&mut self, raw: &RawLabels, what: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in raw.iter() {
            if name.value.is_empty() || (what == "label" && name.value == METRIC_NAME) {
                self.problem(mark(name), format!("invalid {what} name: {}", name.value));
            }
            pairs.push((name.value.clone(), text(value).to_owned()));
        }
        pairs.sort();
        pairs
    }

    fn rule(
        &mut self,
        group: &str,
        index: usize,
        raw: &Spanned<Option<RawRule>>,
        group_labels: &[(String, String)],
    ) -> Option<RuleSpec> {
        let nothing = RawRule::default();
        let rule = raw.value.as_ref().unwrap_or(&nothing);
        let (record, alert) = (text(&rule.record), text(&rule.alert));
        let name = if alert.is_empty() { record } else { alert };
        self.about = format!("group {group:?}, rule {}, {name:?}: ", index + 1);
        let problems_before = self.problems.list.len();
        if !record.is_empty() && !alert.is_empty() {
            let at = rule.alert.as_ref().map(mark).unwrap_or_default();
            self.problem(at, "only one of 'record' and 'alert' must be set");
        }
        if record.is_empty() && alert.is_empty() {
            self.problem(mark(raw), "one of 'record' or 'alert' must be set");
        }
        let expr = self.expression(rule, mark(raw));
        if !record.is_empty() {
            self.recording(rule, record);
        }
        let hold = self.duration(&rule.hold);
        let keep = self.duration(&rule.keep_firing_for);
        let mut labels = self.labels(&rule.labels, "label");
        for (name, value) in group_labels {
            if !labels.iter().any(|(n, _)| n == name) {
                labels.push((name.clone(), value.clone()));
            }
        }
        labels.sort();
        let annotations = self.labels(&rule.annotations, "annotation");
        let kind = if alert.is_empty() {
            RuleKind::Recording
        } else {
            self.templates(alert, &rule.labels, "label");
            self.templates(alert, &rule.annotations, "annotation");
            // What is wrong in them was reported where it stands.
            let parse = |pairs: &[(String, String)]| {
                pairs.iter().filter_map(|(_, v)| AlertTemplate::parse(alert, v).ok()).collect::<Vec<_>>()
            };
            RuleKind::Alerting {
                for_ms: hold.unwrap_or(0),
                keep_firing_for_ms: keep.unwrap_or(0),
                label_templates: parse(&labels),
                annotation_templates: parse(&annotations),
                annotations,
            }
        };
        if self.problems.list.len() > problems_before {
            return None;
        }
        expr?;
        let query = text(&rule.expr).trim().to_owned();
        // Parsed again, so that places in the tree are places in the text that is kept.
        let expr = promql::parse_with(&query, self.features).ok()?;
        Some(RuleSpec {
            kind,
            name: name.to_owned(),
            query,
            text: expr.to_string(),
            expr: Arc::new(expr),
            labels,
        })
    }

    fn expression(&mut self, rule: &RawRule, at: Mark) -> Option<Expr> {
        let Some(query) = rule.expr.as_ref().filter(|q| !q.value.is_empty()) else {
            let at = rule.expr.as_ref().or(rule.record.as_ref()).or(rule.alert.as_ref()).map_or(at, mark);
            self.problem(at, "field 'expr' must be set in rule");
            return None;
        };
        match promql::parse_with(&query.value, self.features) {
            Ok(expr) => Some(expr),
            Err(e) => {
                let message = format!("could not parse expression: {}", e.message);
                let problem = self.source.problem_in(query, e.pos.start, message);
                self.push(problem, e.hint);
                None
            }
        }
    }

    /// What a recording rule must not have.
    fn recording(&mut self, rule: &RawRule, record: &str) {
        if let Some((first, _)) = rule.annotations.iter().next() {
            self.problem(mark(first), "invalid field 'annotations' in recording rule");
        }
        for (value, field) in [(&rule.hold, "for"), (&rule.keep_firing_for, "keep_firing_for")] {
            if let Some(value) = value.as_ref().filter(|v| parse_duration_ms(&v.value) != Ok(0)) {
                self.problem(mark(value), format!("invalid field '{field}' in recording rule"));
            }
        }
        if record.contains(['{', '}']) {
            let at = rule.record.as_ref().map(mark).unwrap_or_default();
            let message =
                format!("braces present in the recording rule name; should it be in expr?: {record}");
            self.problem(at, message);
        }
    }

    fn templates(&mut self, alert: &str, raw: &RawLabels, what: &str) {
        for (name, value) in raw.iter() {
            let Some(value) = value else { continue };
            if let Err(e) = AlertTemplate::parse(alert, &value.value) {
                let message = format!("{what} {:?}: template: {}", name.value, e.reason);
                let problem = self.source.problem_in(value, e.offset, message);
                self.push(problem, None);
            }
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
