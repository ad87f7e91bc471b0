//! A server without sockets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::Value as Json;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use crate::alerts::{AlertmanagerConfig, Alerts, AlertsMetrics, Limits, Pipeline, PipelineOptions};
use crate::api::*;
use crate::clock::Clock;
use crate::exposition::{FamilySet, Format};
use crate::model::{Alert, Labels, Metadata, MetricType, Timestamp};
use crate::notify::{DeliveryError, NotifyMetrics, Post, Transport, WebhookConfig};
use crate::promql::{Engine, EngineOptions, Features};
use crate::reports::config::Schedule;
use crate::reports::{Reports, ReportsOptions, shipped_indicators};
use crate::rules::{Manager, ManagerOptions, RuleMetrics, Settings, file};
use crate::scrape::{DroppedTargetView, TargetHealth, TargetView};
use crate::state::{SqliteStore, Store};
use crate::storage::{Storage, StorageOptions};
use crate::telemetry;
use crate::yaml::Source;

/// 2023-11-14T22:13:20Z
pub const NOW: Timestamp = 1_700_000_000_000;

pub struct TestServer {
    pub app: Router,
    pub storage: Storage,
    pub rules: Manager,
    pub alerts: Alerts,
    pub readiness: Readiness,
    pub live: watch::Sender<Arc<LiveConfig>>,
    pub lifecycle: Option<mpsc::Receiver<Lifecycle>>,
    pub fakes: Arc<Fakes>,
}

/// What stands behind the handles.
#[derive(Default)]
pub struct Fakes {
    pub targets: Mutex<Vec<TargetView>>,
    pub recorded: Mutex<Vec<RecordedMetric>>,
    pub pushed: Mutex<Vec<FamilySet>>,
}

/// Takes every notification.
struct Nowhere;

impl Transport for Nowhere {
    fn post(
        &self,
        _webhook: Arc<WebhookConfig>,
        _post: Post,
    ) -> BoxFuture<'static, Result<(), DeliveryError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a test may want to be otherwise.
#[derive(Default)]
pub struct Setup {
    pub limits: ApiLimits,
    pub route_prefix: String,
    pub with_lifecycle: bool,
}

impl TestServer {
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let (clock, _hand) = Clock::manual(NOW);
        let storage = Storage::open(StorageOptions::default()).unwrap();
        let mut registry = telemetry::new_registry();
        let metrics = ApiMetrics::register(&mut registry);
        let readiness = Readiness::new(&["storage", "rules"]);
        let fakes = Arc::new(Fakes::default());
        let (live, live_receiver) = watch::channel(Arc::new(LiveConfig::default()));
        let (lifecycle, receiver) = mpsc::channel(4);
        let engine = Engine::new(EngineOptions::default(), clock.clone());
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let (sender, inbox) = mpsc::channel(16);
        let options = PipelineOptions {
            config: Arc::new(AlertmanagerConfig::default()),
            store: Arc::clone(&store),
            clock: clock.clone(),
            transport: Arc::new(Nowhere),
            external_url: String::new(),
            limits: Limits::default(),
            metrics: AlertsMetrics::register(&mut registry),
            notify_metrics: NotifyMetrics::register(&mut registry),
        };
        let alerts = Pipeline::start(options, inbox).await.unwrap();
        let reports = Reports::new(ReportsOptions {
            engine: engine.clone(),
            storage: storage.clone(),
            store: Arc::clone(&store),
            alerts: alerts.clone(),
            clock: clock.clone(),
            indicators: shipped_indicators(),
            schedule: Schedule::default(),
        });
        let rules = Manager::new(ManagerOptions {
            engine: engine.clone(),
            storage: storage.clone(),
            store,
            clock: clock.clone(),
            sender,
            metrics: RuleMetrics::register(&mut registry),
            concurrency: 2,
        });
        let state = ApiState {
            storage: storage.clone(),
            engine,
            push: fakes.clone(),
            targets: fakes.clone(),
            rules: rules.clone(),
            alerts: alerts.clone(),
            reports,
            registry: Arc::new(registry),
            metrics,
            clock,
            readiness: readiness.clone(),
            live: live_receiver,
            lifecycle: setup.with_lifecycle.then_some(lifecycle),
            info: ServerInfo { version: "0.1.0".into(), started_at: NOW - 5_000, ..ServerInfo::default() },
            queries: setup.limits.query_pool(),
            transfers: setup.limits.transfer_pool(),
            limits: setup.limits,
            route_prefix: setup.route_prefix,
            external_url: "https://mon.example/gate".into(),
        };
        let lifecycle = setup.with_lifecycle.then_some(receiver);
        TestServer { app: router(state), rules, alerts, storage, readiness, live, lifecycle, fakes }
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

    /// Raises an alert that fires since `starts_at`, and gives its id.
    pub async fn raise(&self, job: &str, severity: &str, starts_at: Timestamp) -> String {
        let labels = Labels::from_pairs([("alertname", "Down"), ("job", job), ("severity", severity)]);
        let annotations = Labels::from_pairs([("summary", "it is down")]);
        let generator_url = String::new();
        let alert = Alert { labels, annotations, starts_at, ends_at: None, updated_at: NOW, generator_url };
        let id = format!("{:016x}", alert.fingerprint());
        self.alerts.post(vec![alert]).await.unwrap();
        id
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
