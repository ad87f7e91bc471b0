//! A server without sockets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value as Json;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use crate::alerts::{
    AlertFilter, AlertRefusal, AlertView, AlertViewState, HistoryEvent, HistoryEventKind, HistoryPage,
    HistoryQuery, NewAlert,
};
use crate::api::*;
use crate::clock::Clock;
use crate::exposition::{FamilySet, Format};
use crate::model::{Labels, Matcher, Metadata, MetricType, Timestamp};
use crate::promql::{Engine, EngineOptions, Features, MatrixSeries};
use crate::reports::{IndicatorStatus, IndicatorView, Report, ReportSummary};
use crate::rules::{Manager, ManagerOptions, RuleMetrics, Settings, file};
use crate::scrape::{DroppedTargetView, TargetHealth, TargetView};
use crate::state::SqliteStore;
use crate::storage::{Storage, StorageOptions};
use crate::telemetry;
use crate::yaml::Source;

/// 2023-11-14T22:13:20Z
pub const NOW: Timestamp = 1_700_000_000_000;

pub struct TestServer {
    pub app: Router,
    pub storage: Storage,
    pub rules: Manager,
    pub readiness: Readiness,
    pub live: watch::Sender<Arc<LiveConfig>>,
    pub lifecycle: Option<mpsc::Receiver<Lifecycle>>,
    pub fakes: Arc<Fakes>,
}

/// What stands behind the handles.
#[derive(Default)]
pub struct Fakes {
    pub alerts: Mutex<Vec<AlertView>>,
    pub history: Mutex<Vec<HistoryEvent>>,
    pub targets: Mutex<Vec<TargetView>>,
    pub indicators: Mutex<Vec<IndicatorView>>,
    pub reports: Mutex<Vec<Report>>,
    pub recorded: Mutex<Vec<RecordedMetric>>,
    pub pushed: Mutex<Vec<FamilySet>>,
}

/// What a test may want to be otherwise.
#[derive(Default)]
pub struct Setup {
    pub limits: ApiLimits,
    pub route_prefix: String,
    pub with_lifecycle: bool,
}

impl TestServer {
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let (clock, _hand) = Clock::manual(NOW);
        let storage = Storage::open(StorageOptions::default()).unwrap();
        let mut registry = telemetry::new_registry();
        let metrics = ApiMetrics::register(&mut registry);
        let readiness = Readiness::new(&["storage", "rules"]);
        let fakes = Arc::new(Fakes::default());
        let (live, live_receiver) = watch::channel(Arc::new(LiveConfig::default()));
        let (sender, receiver) = mpsc::channel(4);
        let engine = Engine::new(EngineOptions::default(), clock.clone());
        let rules = Manager::new(ManagerOptions {
            engine: engine.clone(),
            storage: storage.clone(),
            store: Arc::new(SqliteStore::in_memory().unwrap()),
            clock: clock.clone(),
            sender: mpsc::channel(16).0,
            metrics: RuleMetrics::register(&mut registry),
            concurrency: 2,
        });
        let state = ApiState {
            storage: storage.clone(),
            engine,
            push: fakes.clone(),
            targets: fakes.clone(),
            rules: rules.clone(),
            alerts: fakes.clone(),
            reports: fakes.clone(),
            registry: Arc::new(registry),
            metrics,
            clock,
            readiness: readiness.clone(),
            live: live_receiver,
            lifecycle: setup.with_lifecycle.then_some(sender),
            info: ServerInfo { version: "0.1.0".into(), started_at: NOW - 5_000, ..ServerInfo::default() },
            queries: setup.limits.query_pool(),
            transfers: setup.limits.transfer_pool(),
            limits: setup.limits,
            route_prefix: setup.route_prefix,
            external_url: "https://mon.example/gate".into(),
        };
        let lifecycle = setup.with_lifecycle.then_some(receiver);
        TestServer { app: router(state), rules, storage, readiness, live, lifecycle, fakes }
    }

    /// Stores samples of one series, a value every 15 s up to now.
    pub fn store(&self, labels: &[(&str, &str)], values: &[f64]) {
        let labels = Labels::from_pairs(labels.iter().copied());
        let mut appender = self.storage.appender();
        let series = appender.series(&labels).unwrap();
        for (i, value) in values.iter().rev().enumerate().rev() {
            appender.append(series, NOW - i as i64 * 15_000, *value).unwrap();
        }
        appender.commit().unwrap();
    }

    /// Runs a rule file and waits until each group has been evaluated.
    pub async fn run_rules(&self, text: &str) {
        // Groups of the binary's own files do not wait for their phase.
        let file = file::load(&Source::new("shipped:r.yml", text), Features::default()).unwrap();
        self.rules.apply(vec![file], Settings::default()).await;
        while self.rules.groups().iter().any(|g| g.last_evaluation.is_none()) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    pub fn describe(&self, family: &str, metric_type: MetricType, help: &str) {
        self.storage.set_metadata(family, Metadata { metric_type, help: help.into(), unit: String::new() });
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post_json(&self, path: &str, body: &str) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub async fn post_form(&self, path: &str, body: &str) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The data of a successful answer.
    pub fn data(&self) -> Json {
        assert_eq!(self.status, 200, "{}", self.text());
        let mut json = self.json();
        assert_eq!(json["status"], "success");
        json["data"].take()
    }

    /// Asserts an error of the envelope, with its text or a part of it.
    pub fn refused(&self, status: u16, error_type: &str, text: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let json = self.json();
        assert_eq!(json["status"], "error");
        assert_eq!(json["errorType"], error_type);
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(text), "{error}");
    }
}

pub fn alert(id: &str, severity: &str, state: AlertViewState, starts_at: Timestamp) -> AlertView {
    AlertView {
        id: id.into(),
        labels: Labels::from_pairs([("alertname", "Down"), ("job", id), ("severity", severity)]),
        annotations: Labels::from_pairs([("summary", "it is down")]),
        state,
        severity: severity.into(),
        starts_at,
        ends_at: (state == AlertViewState::Resolved).then_some(NOW),
        updated_at: starts_at,
        acknowledged_by: None,
        acknowledged_at: None,
        acknowledge_comment: None,
        resolved_by: None,
        generator_url: String::new(),
        receivers: vec!["first".into()],
        escalation_steps_taken: 0,
        next_escalation_at: None,
    }
}

pub fn indicator(name: &str, value: f64, status: IndicatorStatus) -> IndicatorView {
    IndicatorView {
        name: name.into(),
        labels: Labels::empty(),
        value,
        unit: "MB".into(),
        timestamp: NOW,
        status,
        warning: Some("> 400".into()),
        critical: None,
        description: String::new(),
        expr: name.into(),
    }
}

pub fn report(id: &str, at: Timestamp) -> Report {
    Report {
        id: id.into(),
        generated_at: at,
        period_ms: 86_400_000,
        from: at - 86_400_000,
        to: at,
        status: IndicatorStatus::Healthy,
        summary: "fine".into(),
        indicators: Vec::new(),
        alerts: Vec::new(),
        recommendations: Vec::new(),
    }
}

/// Two groups in one file; each with an alert that fires at once, and a recording rule that fails once there are two
/// series `two`.
pub const RULES: &str = "groups:
- name: g2
  interval: 15s
  rules: &rules
  - {alert: Down, expr: vector(0.5), labels: {severity: page}, annotations: {summary: it is down}}
  - {record: 'job:up:sum', expr: two + on () two}
- name: g1
  interval: 15s
  rules: *rules
";

pub fn target(url: &str, health: TargetHealth) -> TargetView {
    TargetView {
        scrape_pool: "app".into(),
        discovered_labels: Labels::from_pairs([("__address__", "a:1")]),
        labels: Labels::from_pairs([("job", "app")]),
        scrape_url: url.into(),
        global_url: url.into(),
        last_error: String::new(),
        last_scrape: None,
        last_scrape_duration: 0.25,
        health,
        scrape_interval_ms: 15_000,
        scrape_timeout_ms: 10_000,
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> super::super::Answer<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Fakes {
    fn change(&self, id: &str, change: impl FnOnce(&mut AlertView)) -> Result<AlertView, AlertRefusal> {
        let mut alerts = self.alerts.lock().unwrap();
        let alert =
            alerts.iter_mut().find(|a| a.id == id).ok_or_else(|| AlertRefusal::NotFound(id.into()))?;
        if alert.state == AlertViewState::Resolved {
            return Err(AlertRefusal::WrongState { id: id.into(), state: "resolved" });
        }
        change(alert);
        Ok(alert.clone())
    }
}

impl AlertsHandle for Fakes {
    fn list(&self, filter: AlertFilter) -> super::super::Answer<'_, Vec<AlertView>> {
        let wanted = |a: &&AlertView| {
            (filter.states.is_empty() || filter.states.contains(&a.state))
                && (filter.severities.is_empty() || filter.severities.contains(&a.severity))
                && filter.matchers.iter().all(|m: &Matcher| m.matches(a.labels.get(&m.name).unwrap_or("")))
        };
        ready(self.alerts.lock().unwrap().iter().filter(wanted).cloned().collect())
    }

    fn get<'a>(&'a self, id: &'a str) -> super::super::Answer<'a, Option<AlertView>> {
        ready(self.alerts.lock().unwrap().iter().find(|a| a.id == id).cloned())
    }

    fn create(&self, new: NewAlert) -> super::super::Answer<'_, Result<AlertView, AlertRefusal>> {
        let severity = new.labels.get("severity").unwrap().to_owned();
        let mut view = alert("new", &severity, AlertViewState::Firing, NOW);
        view.labels = new.labels;
        view.annotations = new.annotations;
        self.alerts.lock().unwrap().push(view.clone());
        ready(Ok(view))
    }

    fn acknowledge<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
        comment: &'a str,
    ) -> super::super::Answer<'a, Result<AlertView, AlertRefusal>> {
        ready(self.change(id, |a| {
            a.state = AlertViewState::Acknowledged;
            a.acknowledged_by = Some(by.into());
            a.acknowledge_comment = Some(comment.into());
        }))
    }

    fn resolve<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
        _comment: &'a str,
    ) -> super::super::Answer<'a, Result<AlertView, AlertRefusal>> {
        ready(self.change(id, |a| {
            a.state = AlertViewState::Resolved;
            a.resolved_by = Some(by.into());
        }))
    }

    fn history(&self, query: HistoryQuery) -> super::super::Answer<'_, Result<HistoryPage, AlertRefusal>> {
        let all = self.history.lock().unwrap().clone();
        let from: usize = query.cursor.map_or(0, |c| c.parse().unwrap());
        let next = (from + query.limit < all.len()).then(|| (from + query.limit).to_string());
        ready(Ok(HistoryPage { events: all.into_iter().skip(from).take(query.limit).collect(), next }))
    }
}

pub fn event(at: Timestamp, kind: HistoryEventKind) -> HistoryEvent {
    HistoryEvent {
        at,
        alert_id: "a1".into(),
        kind,
        labels: Labels::from_pairs([("alertname", "Down")]),
        annotations: Labels::empty(),
        severity: "page".into(),
        by: None,
        comment: None,
        receiver: None,
    }
}

impl TargetsHandle for Fakes {
    fn targets(&self) -> Vec<TargetView> {
        self.targets.lock().unwrap().clone()
    }

    fn dropped_targets(&self) -> Vec<DroppedTargetView> {
        vec![DroppedTargetView {
            scrape_pool: "app".into(),
            discovered_labels: Labels::from_pairs([("__address__", "b:1")]),
        }]
    }
}

impl ReportsHandle for Fakes {
    fn indicators(&self, _now: Timestamp) -> Vec<IndicatorView> {
        self.indicators.lock().unwrap().clone()
    }

    fn history(
        &self,
        name: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Result<Vec<MatrixSeries>, ApiError> {
        if !self.indicators.lock().unwrap().iter().any(|i| i.name == name) {
            return Err(ApiError::not_found("no such indicator"));
        }
        let floats =
            (0..).map(|i| from + i * step_ms).take_while(|ts| *ts <= to).map(|ts| (ts, 1.5)).collect();
        Ok(vec![MatrixSeries { labels: Labels::empty(), floats, histograms: Vec::new() }])
    }

    fn generate(&self, period_ms: i64) -> super::super::Answer<'_, Result<Report, ApiError>> {
        let mut made = report("r-new", NOW);
        made.period_ms = period_ms;
        self.reports.lock().unwrap().insert(0, made.clone());
        ready(Ok(made))
    }

    fn list(&self, limit: usize) -> Result<Vec<ReportSummary>, ApiError> {
        Ok(self.reports.lock().unwrap().iter().take(limit).map(ReportSummary::from).collect())
    }

    fn latest(&self) -> Result<Option<Report>, ApiError> {
        Ok(self.reports.lock().unwrap().first().cloned())
    }

    fn get(&self, id: &str) -> Result<Option<Report>, ApiError> {
        Ok(self.reports.lock().unwrap().iter().find(|r| r.id == id).cloned())
    }
}

impl PushHandle for Fakes {
    fn remote_write(&self, body: &[u8], _encoding: &str) -> Result<(), ApiError> {
        if body.is_empty() { Err(ApiError::bad_data("snappy: the body is empty")) } else { Ok(()) }
    }

    fn put(
        &self,
        _group: &Labels,
        body: &[u8],
        _replace_all: bool,
        _type: &str,
        _now: Timestamp,
    ) -> Result<(), ApiError> {
        let set = FamilySet::parse(Format::Text, body).map_err(|e| ApiError::bad_data(e.to_string()))?;
        self.pushed.lock().unwrap().push(set);
        Ok(())
    }

    fn delete(&self, _group: &Labels) -> Result<(), ApiError> {
        self.pushed.lock().unwrap().clear();
        Ok(())
    }

    fn record(&self, metrics: &[RecordedMetric], _now: Timestamp) -> Result<(), ApiError> {
        self.recorded.lock().unwrap().extend_from_slice(metrics);
        Ok(())
    }

    fn recorded(&self) -> Vec<RecordedMetric> {
        self.recorded.lock().unwrap().clone()
    }

    fn families(&self) -> Vec<FamilySet> {
        self.pushed.lock().unwrap().clone()
    }
}
