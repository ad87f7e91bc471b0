//! Unit tests of rules, in the format of `promtool test rules`: series go in, alerts and results are compared.
//!
//! Source: Prometheus, `cmd/promtool/unittest.go`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::file::{self, GroupSpec};
use super::group::{Group, World};
use super::metrics::RuleMetrics;
use super::options::Settings;
use super::view::AlertState;
use crate::clock::Clock;
use crate::model::{CounterResetHint, FloatHistogram, Labels, Timestamp, parse_duration_ms};
use crate::promql::testscript::{sample_values, series_points};
use crate::promql::{
    self, Engine, EngineOptions, Features, PointValue, QueryRequest, Value, VectorSample, parse_selector,
};
use crate::storage::{Storage, StorageOptions};
use crate::telemetry::new_registry;
use crate::yaml::{Pairs, Problem, Problems, Source, Spanned, mark, null_is_default};

/// The most evaluations that one test may ask for.
const TICKS_MAX: i64 = 1_000_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default, deserialize_with = "null_is_default")]
    rule_files: Vec<Spanned<String>>,
    evaluation_interval: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    group_eval_order: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    fuzzy_compare: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    tests: Vec<Spanned<RawTest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    interval: Option<Spanned<String>>,
    start_timestamp: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    input_series: Vec<RawSeries>,
    #[serde(default, deserialize_with = "null_is_default")]
    alert_rule_test: Vec<RawAlertTest>,
    #[serde(default, deserialize_with = "null_is_default")]
    promql_expr_test: Vec<RawExprTest>,
    #[serde(default, deserialize_with = "null_is_default")]
    external_labels: Pairs<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    external_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    series: Spanned<String>,
    values: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlertTest {
    eval_time: Spanned<String>,
    alertname: String,
    #[serde(default, deserialize_with = "null_is_default")]
    exp_alerts: Vec<RawAlert>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlert {
    #[serde(default, deserialize_with = "null_is_default")]
    exp_labels: Pairs<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    exp_annotations: Pairs<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExprTest {
    expr: Spanned<String>,
    eval_time: Spanned<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    exp_samples: Vec<RawSample>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    labels: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    value: f64,
    histogram: Option<Spanned<String>>,
}

/// What came of one test of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// As the file has it; may be empty.
    pub name: String,
    /// What differs, each with expected and actual; empty if the test passes.
    pub failures: Vec<String>,
}

/// Runs the tests of the file at `path`; rule files are named relative to its folder.
///
/// # Errors
/// What is wrong with the file or its rule files, so that nothing was run.
pub fn run(path: &Path, features: Features) -> Result<Vec<Outcome>, Problems> {
    let source = Source::read(path).map_err(|p| Problems { list: vec![p] })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    run_source(&source, features, |pattern| rule_sources(folder, pattern))
}

/// As [`run`], with the rule files that `read` gives for a pattern of `rule_files`.
///
/// # Errors
/// As [`run`].
pub fn run_source(
    source: &Source,
    features: Features,
    read: impl Fn(&str) -> Result<Vec<Source>, Problem>,
) -> Result<Vec<Outcome>, Problems> {
    let raw: RawFile = source.parse()?;
    let mut problems = Problems::default();
    let mut groups = Vec::new();
    for pattern in &raw.rule_files {
        match read(&pattern.value) {
            Ok(sources) => {
                for rules in sources {
                    match file::load(&rules, features) {
                        Ok(file) => groups.extend(file.groups),
                        Err(p) => problems.extend(p),
                    }
                }
            }
            Err(p) => problems.push(p),
        }
    }
    // Groups that an order names come first, in that order.
    let place =
        |g: &Arc<GroupSpec>| raw.group_eval_order.iter().position(|n| *n == g.name).unwrap_or(usize::MAX);
    groups.sort_by_key(place);
    let mut read = Reader { source, problems };
    let evaluation_ms =
        read.duration(raw.evaluation_interval.as_ref()).filter(|ms| *ms > 0).unwrap_or(60_000);
    let tests: Vec<Test> = raw.tests.iter().map(|t| read.test(&t.value, evaluation_ms)).collect();
    if !read.problems.is_empty() {
        return Err(read.problems);
    }
    let setting = Setting { groups: &groups, evaluation_ms, fuzzy: raw.fuzzy_compare, features };
    Ok(tests.iter().map(|t| t.run(&setting)).collect())
}

fn rule_sources(folder: &Path, pattern: &str) -> Result<Vec<Source>, Problem> {
    let full = folder.join(pattern).display().to_string();
    let problem = |message: String| Problem { file: full.clone(), line: 0, column: 0, message, hint: None };
    let paths = glob::glob(&full).map_err(|e| problem(e.to_string()))?;
    // As in promtool, a pattern that names nothing is no error.
    paths.map(|p| Source::read(&p.map_err(|e| problem(e.to_string()))?)).collect()
}

/// Turns the raw file into checked tests.
struct Reader<'a> {
    source: &'a Source,
    problems: Problems,
}

struct Test {
    name: String,
    start: Timestamp,
    series: Vec<(Labels, Vec<Option<PointValue>>)>,
    interval_ms: i64,
    /// By time after the start, then alert name.
    alerts: BTreeMap<i64, Vec<(String, Vec<Expected>)>>,
    expressions: Vec<ExprTest>,
    external_labels: Labels,
    external_url: String,
}

/// Labels and annotations of an alert.
type Expected = (Labels, Labels);

struct ExprTest {
    text: String,
    at: i64,
    samples: Vec<(Labels, PointValue)>,
}

struct Setting<'a> {
    groups: &'a [Arc<GroupSpec>],
    evaluation_ms: i64,
    fuzzy: bool,
    features: Features,
}

impl Reader<'_> {
    fn problem<T>(&mut self, value: &Spanned<T>, message: impl Into<String>) {
        let problem = self.source.problem(mark(value), message);
        self.problems.push(problem);
    }

    fn duration(&mut self, value: Option<&Spanned<String>>) -> Option<i64> {
        let value = value?;
        match parse_duration_ms(&value.value) {
            Ok(ms) => Some(ms),
            Err(e) => {
                self.problem(value, e.to_string());
                None
            }
        }
    }

    fn start(&mut self, value: Option<&Spanned<String>>) -> Timestamp {
        let Some(value) = value else { return 0 };
        let seconds = value.value.parse::<f64>().ok().map(|s| (s * 1000.0) as Timestamp);
        let time = || chrono::DateTime::parse_from_rfc3339(&value.value).ok().map(|t| t.timestamp_millis());
        seconds.or_else(time).unwrap_or_else(|| {
            self.problem(value, "expected seconds since the epoch or a time such as 2024-01-01T00:00:00Z");
            0
        })
    }

    fn test(&mut self, raw: &RawTest, evaluation_ms: i64) -> Test {
        let mut series = Vec::new();
        for s in &raw.input_series {
            match series_points(&s.series.value, &s.values.value) {
                Ok(read) => series.push(read),
                Err(e) => self.problem(&s.values, e),
            }
        }
        let mut alerts: BTreeMap<i64, Vec<(String, Vec<Expected>)>> = BTreeMap::new();
        for a in &raw.alert_rule_test {
            let at = self.at(&a.eval_time, evaluation_ms);
            let expected = a.exp_alerts.iter().map(|e| {
                let labels = labels_of(&e.exp_labels).with("alertname", &a.alertname);
                (labels, labels_of(&e.exp_annotations))
            });
            alerts.entry(at).or_default().push((a.alertname.clone(), expected.collect()));
        }
        let expressions = raw.promql_expr_test.iter().map(|e| {
            let at = self.at(&e.eval_time, evaluation_ms);
            let samples = e.exp_samples.iter().map(|s| self.sample(s)).collect();
            ExprTest { text: e.expr.value.clone(), at, samples }
        });
        let expressions = expressions.collect();
        Test {
            name: raw.name.clone(),
            start: self.start(raw.start_timestamp.as_ref()),
            series,
            interval_ms: self.duration(raw.interval.as_ref()).filter(|ms| *ms > 0).unwrap_or(evaluation_ms),
            alerts,
            expressions,
            external_labels: labels_of(&raw.external_labels),
            external_url: raw.external_url.clone(),
        }
    }

    fn at(&mut self, value: &Spanned<String>, evaluation_ms: i64) -> i64 {
        let at = self.duration(Some(value)).unwrap_or(0);
        if at / evaluation_ms > TICKS_MAX {
            self.problem(value, format!("this takes more than {TICKS_MAX} evaluations"));
        }
        at
    }

    fn sample(&mut self, raw: &RawSample) -> (Labels, PointValue) {
        let labels = match raw.labels.as_ref().map(|l| (l, l.value.trim())) {
            None | Some((_, "" | "{}")) => Labels::empty(),
            Some((place, text)) => match parse_selector(text) {
                Ok(matchers) => Labels::from_pairs(matchers.iter().map(|m| (&m.name, &m.value))),
                Err(e) => {
                    self.problem(place, e.message);
                    Labels::empty()
                }
            },
        };
        let value = match &raw.histogram {
            None => PointValue::Float(raw.value),
            Some(text) => match sample_values(&text.value).map(|v| v.into_iter().next().flatten()) {
                Ok(Some(value)) => value,
                Ok(None) => PointValue::Float(0.0),
                Err(e) => {
                    self.problem(text, e);
                    PointValue::Float(0.0)
                }
            },
        };
        (labels, value)
    }
}

fn labels_of(pairs: &Pairs<String>) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(n, v)| (&n.value, v)))
}

impl Test {
    fn run(&self, setting: &Setting<'_>) -> Outcome {
        let mut failures = Vec::new();
        if let Err(e) = self.try_run(setting, &mut failures) {
            failures.push(e);
        }
        Outcome { name: self.name.clone(), failures }
    }

    fn try_run(&self, setting: &Setting<'_>, failures: &mut Vec<String>) -> Result<(), String> {
        let (clock, _hand) = Clock::manual(self.start);
        let settings = Settings {
            interval_ms: setting.evaluation_ms,
            external_labels: self.external_labels.clone(),
            external_url: self.external_url.as_str().into(),
            ..Settings::default()
        };
        let engine = EngineOptions { features: setting.features, ..EngineOptions::default() };
        let world = World {
            engine: Engine::new(engine, clock.clone()),
            storage: self.storage()?,
            clock,
            settings: Arc::new(settings),
        };
        let metrics = RuleMetrics::register(&mut new_registry());
        let group = |spec: &Arc<GroupSpec>| Group::new(Arc::clone(spec), &world.settings, &metrics);
        let mut groups: Vec<Group> = setting.groups.iter().map(group).collect();
        let last_alert = self.alerts.keys().next_back().copied();
        let last_expr = self.expressions.iter().map(|e| e.at).max();
        let end = last_alert.max(last_expr).unwrap_or(0);
        let mut at = 0;
        while at <= end {
            for group in &mut groups {
                group.tick(self.start + at, &world);
                if let Some((rule, error)) = group.first_error() {
                    return Err(format!("rule {rule} at {}: {error}", time(at)));
                }
            }
            for (asked, tests) in self.alerts.range(at..at + setting.evaluation_ms) {
                for (name, expected) in tests {
                    compare_alerts(&groups, name, *asked, expected, failures);
                }
            }
            at += setting.evaluation_ms;
        }
        for test in &self.expressions {
            self.compare_expression(test, &world, setting, failures);
        }
        Ok(())
    }

    fn storage(&self) -> Result<Storage, String> {
        let options = StorageOptions {
            dir: None,
            retention_ms: i64::MAX / 4,
            window_ms: i64::MAX / 4,
            ahead_max_ms: None,
            ..StorageOptions::default()
        };
        let storage = Storage::open(options).map_err(|e| e.to_string())?;
        let mut appender = storage.appender();
        for (labels, points) in &self.series {
            let series = appender.series(labels).map_err(|e| format!("{labels}: {e}"))?;
            for (i, point) in points.iter().enumerate() {
                let ts = self.start + self.interval_ms.saturating_mul(i as i64);
                let appended = match point {
                    None => Ok(()),
                    Some(PointValue::Float(v)) => appender.append(series, ts, *v),
                    Some(PointValue::Histogram(h)) => appender.append_histogram(series, ts, Arc::clone(h)),
                };
                appended.map_err(|e| format!("{labels}: {e}"))?;
            }
        }
        appender.commit().map_err(|e| e.to_string())?;
        Ok(storage)
    }

    fn compare_expression(
        &self,
        test: &ExprTest,
        world: &World,
        setting: &Setting<'_>,
        failures: &mut Vec<String>,
    ) {
        let about = format!("expr {:?} at {}", test.text, time(test.at));
        let ts = self.start + test.at;
        let result =
            promql::parse_with(&test.text, setting.features).map_err(|e| e.to_string()).and_then(|expr| {
                let request = QueryRequest::instant(ts);
                let reader = world.storage.reader();
                world.engine.evaluate(&test.text, &expr, &request, &reader).map_err(|e| e.to_string())
            });
        let mut got: Vec<(Labels, PointValue)> = match result.map(|r| r.value) {
            Ok(Value::Vector(samples)) => {
                samples.into_iter().map(|VectorSample { labels, value, .. }| (labels, value)).collect()
            }
            Ok(Value::Scalar { value, .. }) => vec![(Labels::empty(), PointValue::Float(value))],
            Ok(_) => return failures.push(format!("{about}: the result is no vector or scalar")),
            Err(e) => return failures.push(format!("{about}: {e}")),
        };
        let mut expected = test.samples.clone();
        got.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let same = got.len() == expected.len()
            && got.iter().zip(&expected).all(|(g, e)| g.0 == e.0 && equal(&g.1, &e.1, setting.fuzzy));
        if !same {
            failures.push(format!(
                "{about}:\n  expected: {}\n  got: {}",
                show_samples(&expected),
                show_samples(&got)
            ));
        }
    }
}

fn equal(a: &PointValue, b: &PointValue, fuzzy: bool) -> bool {
    match (a, b) {
        (PointValue::Float(a), PointValue::Float(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (fuzzy && (a.next_up() == *b || a.next_down() == *b))
        }
        // The hint depends on how samples came to lie in chunks, which a test does not decide.
        (PointValue::Histogram(a), PointValue::Histogram(b)) => {
            let plain = |h: &FloatHistogram| FloatHistogram {
                counter_reset_hint: CounterResetHint::Unknown,
                ..h.clone()
            };
            plain(a) == plain(b)
        }
        _ => false,
    }
}

fn compare_alerts(groups: &[Group], name: &str, at: i64, expected: &[Expected], failures: &mut Vec<String>) {
    let rules = groups.iter().flat_map(|g| g.shared().view().rules).filter(|r| r.name == name);
    let mut got: Vec<Expected> = rules
        .flat_map(|r| match r.kind {
            super::view::RuleViewKind::Alerting { alerts, .. } => alerts,
            super::view::RuleViewKind::Recording => Vec::new(),
        })
        .filter(|a| a.state == AlertState::Firing)
        .map(|a| (a.labels, a.annotations))
        .collect();
    let mut expected = expected.to_vec();
    got.sort();
    expected.sort();
    if got != expected {
        failures.push(format!(
            "alertname {name} at {}:\n  expected: {}\n  got: {}",
            time(at),
            show_alerts(&expected),
            show_alerts(&got)
        ));
    }
}

fn time(ms: i64) -> String {
    crate::model::format_duration_ms(ms)
}

fn show_alerts(alerts: &[Expected]) -> String {
    let mut out = String::new();
    for (labels, annotations) in alerts {
        let _ = write!(out, "\n    labels {labels} annotations {annotations}");
    }
    if out.is_empty() { "none".to_owned() } else { out }
}

fn show_samples(samples: &[(Labels, PointValue)]) -> String {
    let mut out = String::new();
    for (labels, value) in samples {
        let _ = match value {
            PointValue::Float(v) => write!(out, "\n    {labels} {v}"),
            PointValue::Histogram(h) => write!(out, "\n    {labels} {h:?}"),
        };
    }
    if out.is_empty() { "nothing".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "groups:\n- name: g\n  rules:\n  - {record: twice, expr: m * 2}\n  - {alert: A, expr: m > 5, for: 1m, annotations: {v: '{{ $value }}'}}\n";

    fn run_text(tests: &str) -> Vec<Outcome> {
        let text = format!("rule_files: [r.yml]\nevaluation_interval: 1m\ntests:\n{tests}");
        run_source(&Source::new("t.yml", text), Features::default(), |name| {
            Ok(vec![Source::new(name, RULES)])
        })
        .unwrap()
    }

    #[test]
    fn a_right_expectation_passes_and_a_wrong_one_says_what_differs() {
        let outcomes = run_text(
            "- name: right\n  input_series: [{series: m, values: 6x5}]\n  alert_rule_test:\n  - {eval_time: 1m, alertname: A, exp_alerts: [{exp_annotations: {v: '6'}}]}\n  - {eval_time: 0m, alertname: A}\n  promql_expr_test:\n  - {expr: twice, eval_time: 2m, exp_samples: [{labels: twice, value: 12}]}\n- name: wrong\n  input_series: [{series: m, values: 6x5}]\n  alert_rule_test: [{eval_time: 1m, alertname: A}]\n",
        );
        assert_eq!(outcomes[0], Outcome { name: "right".into(), failures: vec![] });
        assert_eq!(
            outcomes[1].failures,
            [
                "alertname A at 1m:\n  expected: none\n  got: \n    labels {alertname=\"A\"} annotations {v=\"6\"}"
            ]
        );
    }

    #[test]
    fn a_broken_test_file_is_named_where_it_is_broken() {
        let text = "tests:\n- interval: soon\n  input_series:\n  - {series: 'm{', values: 1}\n";
        let problems =
            run_source(&Source::new("t.yml", text), Features::default(), |_| Ok(vec![])).unwrap_err();
        let places: Vec<_> = problems.list.iter().map(|p| p.line).collect();
        assert_eq!(places, [4, 2]);
    }
}
