//! A server without sockets.

use std::sync::Arc;

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
use crate::http::ClientPool;
use crate::ingest::{Ingest, IngestLimits, IngestMetrics, Pushed};
use crate::model::{Alert, GoRegex, Labels, Metadata, MetricType, Timestamp};
use crate::notify::{DeliveryError, NotifyMetrics, Post, Transport, WebhookConfig};
use crate::promql::{Engine, EngineOptions, Features};
use crate::reports::config::Schedule;
use crate::reports::{Reports, ReportsOptions, shipped_indicators};
use crate::rules::{Manager, ManagerOptions, RuleMetrics, Settings, file};
use crate::scrape::{ScrapeDefaults, ScrapeJob, ScrapeManager, ScrapeMetrics, config::RawScrapeConfig};
use crate::state::{SqliteStore, Store};
use crate::storage::{Storage, StorageOptions};
use crate::telemetry;
use crate::yaml::{Mark, Problems, Source};

/// 2023-11-14T22:13:20Z
pub const NOW: Timestamp = 1_700_000_000_000;

pub struct TestServer {
    pub app: Router,
    pub engine: Engine,
    pub storage: Storage,
    pub rules: Manager,
    pub alerts: Alerts,
    pub readiness: Readiness,
    pub live: watch::Sender<Arc<LiveConfig>>,
    pub lifecycle: Option<mpsc::Receiver<Lifecycle>>,
    pub pushed: Pushed,
    pub targets: ScrapeManager,
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
    pub with_admin: bool,
    /// Where samples are kept; in memory if it is not said.
    pub dir: Option<std::path::PathBuf>,
    pub instance: String,
    pub cors_origin: Option<&'static str>,
    /// `--query.max-memory-total`; without a bound if it is not said.
    pub memory_total: Option<u64>,
}

impl TestServer {
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let (clock, _hand) = Clock::manual(NOW);
        let storage = Storage::open(StorageOptions { dir: setup.dir, ..StorageOptions::default() }).unwrap();
        let mut registry = telemetry::new_registry();
        let metrics = ApiMetrics::register(&mut registry);
        let readiness = Readiness::new(&["storage", "rules"]);
        let (live, live_receiver) = watch::channel(Arc::new(LiveConfig::default()));
        let (lifecycle, receiver) = mpsc::channel(4);
        let mut engine_options = EngineOptions::default();
        if let Some(bytes) = setup.memory_total {
            engine_options.limits.max_bytes_total = bytes;
        }
        let engine = Engine::new(engine_options, clock.clone());
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
        let ingest_metrics = Arc::new(IngestMetrics::register(&mut registry));
        let ingest = Ingest::new(storage.clone(), IngestLimits::default(), ingest_metrics);
        let pushed = Pushed::new(ingest.clone(), Arc::clone(&store)).unwrap();
        let scrape_metrics = ScrapeMetrics::register(&mut registry);
        let targets = ScrapeManager::new(
            ingest.clone(),
            clock.clone(),
            ClientPool::new(),
            scrape_metrics,
            "itself".to_owned(),
        );
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
            engine: engine.clone(),
            ingest,
            pushed: pushed.clone(),
            targets: targets.clone(),
            rules: rules.clone(),
            alerts: alerts.clone(),
            reports,
            registry: Arc::new(registry),
            metrics,
            clock,
            readiness: readiness.clone(),
            replay: Default::default(),
            live: live_receiver,
            lifecycle: setup.with_lifecycle.then_some(lifecycle),
            enable_admin: setup.with_admin,
            info: ServerInfo {
                version: "0.1.0".into(),
                started_at: NOW - 5_000,
                instance: setup.instance,
                ..ServerInfo::default()
            },
            queries: setup.limits.query_pool(),
            transfers: setup.limits.transfer_pool(),
            admin: setup.limits.admin_pool(),
            limits: setup.limits,
            route_prefix: setup.route_prefix,
            external_url: "https://mon.example/gate".into(),
            cors_origin: GoRegex::anchored(setup.cors_origin.unwrap_or(".*")).unwrap(),
        };
        let lifecycle = setup.with_lifecycle.then_some(receiver);
        TestServer {
            app: router(state),
            engine,
            rules,
            alerts,
            storage,
            readiness,
            live,
            lifecycle,
            pushed,
            targets,
        }
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

    /// Scrapes from now on; nothing is scraped as long as the clock stands.
    pub fn scrape(&self, job: &str) {
        let source = Source::new("p.yml", job);
        let raw: RawScrapeConfig = source.parse().unwrap();
        let mut problems = Problems::default();
        let defaults = ScrapeDefaults::default();
        let job: ScrapeJob =
            raw.resolve(Mark::default(), &defaults, &source, std::path::Path::new("/"), &mut problems);
        assert!(problems.is_empty(), "{problems}");
        self.targets.apply(vec![job]);
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
