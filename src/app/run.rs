//! One straight line from options to a running server, and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::banner::{Banner, exposure_warning};
use super::memory;
use super::reloader::{Loaded, Reloader, load};
use super::stops::Stops;
use super::ticks::{self, OWN_INTERVAL, RELIEF_INTERVAL, UPKEEP_INTERVAL, every};
use crate::alerts::{AlertsMetrics, Limits, Pipeline, PipelineOptions};
use crate::api::{
    self, ApiLimits, ApiMetrics, ApiState, Lifecycle, LiveConfig, PartState, Readiness, ServeLimits,
    ServerInfo, Starting, starting_router,
};
use crate::cli::{MemoryLimit, ServeOptions};
use crate::clock::Clock;
use crate::http::ClientPool;
use crate::ingest::{Ingest, IngestLimits, IngestMetrics, Pushed};
use crate::model::format_duration_ms;
use crate::notify::{HttpTransport, NotifyMetrics};
use crate::promql::{Engine, EngineOptions, QueryLimits};
use crate::reports::{Reports, ReportsOptions, shipped_indicators};
use crate::rules::{Manager, ManagerOptions, RuleMetrics};
use crate::scrape::{ScrapeManager, ScrapeMetrics};
use crate::state::{SqliteStore, StateError, Store};
use crate::storage::{ReplayProgress, Storage, StorageError, StorageMetrics, StorageOptions};
use crate::telemetry::new_registry;
use crate::yaml::Problems;

/// Samples that were pushed are sampled again this often.
const PUSHED_INTERVAL: Duration = OWN_INTERVAL;

/// A query may always hold so many bytes: with less it could hardly answer anything.
const QUERY_BYTES_MIN: u64 = 64 << 20;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0}")]
    Config(Problems),
    #[error("the data directory {path} cannot be made")]
    DataDir {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} failed to start: {reason}")]
    Part { what: &'static str, reason: String },
}

/// Runs the server until a signal or `/-/quit` ends it.
///
/// # Errors
/// When it cannot start; then nothing of it runs any more.
pub async fn run(options: ServeOptions) -> Result<(), AppError> {
    // Without an installed provider the first TLS client would panic; a second installation changes nothing.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let options = Arc::new(options);
    let clock = Clock::system();
    let started_at = clock.now_ms();
    let mut stops = Stops::default();

    let loaded = blocking("configuration", {
        let options = Arc::clone(&options);
        move || load(&options)
    })
    .await?
    .map_err(AppError::Config)?;

    // An address that is taken is told before the data is replayed.
    let (listeners, bound) = listen(&options.listen).await?;
    let external_url = options.external_url(bound[0]);
    let instance = bound[0].to_string();
    // Two processes may share an address one after the other, or a process number, but not both and a start.
    let instance_id = format!("{instance}-{}-{started_at}", std::process::id());
    if let Some(warning) = exposure_warning(&bound) {
        tracing::warn!("{warning}");
    }

    let data_dir = options.data_dir.clone();
    std::fs::create_dir_all(&data_dir)
        .map_err(|source| AppError::DataDir { path: data_dir.display().to_string(), source })?;
    let mut registry = new_registry();
    let storage_metrics = StorageMetrics::register(&mut registry);
    let api_metrics = ApiMetrics::register(&mut registry);
    let replay = ReplayProgress::default();
    let (stop, stopped) = watch::channel(false);
    let route_prefix = options.route_prefix.trim_end_matches('/').to_owned();
    let (router_sender, router) = watch::channel(starting_router(Starting {
        replay: replay.clone(),
        clock: clock.clone(),
        started_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        route_prefix: route_prefix.clone(),
    }));
    let serve_limits = ServeLimits {
        max_connections: options.max_connections,
        header_timeout: Duration::from_millis(options.read_timeout_ms.unsigned_abs()),
        ..ServeLimits::default()
    };
    // It answers while the data is read. Should the start fail, it ends with this set.
    let mut server = tokio::task::JoinSet::new();
    server.spawn(api::serve(listeners, router, serve_limits, api_metrics.clone(), stopped.clone()));

    let memory = memory::available();
    // Senders of ever new series are refused before the machine is out of memory.
    let memory_bytes_max = match options.memory_limit {
        MemoryLimit::Bytes(bytes) => bytes,
        MemoryLimit::Part(part) => (memory as f64 * part) as u64,
    };
    let storage = blocking("storage", {
        let replay = replay.clone();
        let storage_options = StorageOptions {
            dir: Some(data_dir.clone()),
            retention_ms: options.retention_ms,
            retention_bytes: options.retention_bytes,
            memory_bytes_max,
            now: Some(clock.now_ms()),
            fsync: options.fsync,
            exemplars_max: if options.exemplar_storage { loaded.config.storage.exemplars_max } else { 0 },
            ..StorageOptions::default()
        };
        move || Storage::open_watched(storage_options, storage_metrics, &replay)
    })
    .await??;
    let (store, set_aside) =
        blocking("state", move || SqliteStore::open_or_set_aside(&data_dir.join("state.db"))).await??;
    if let Some(aside) = set_aside {
        tracing::error!(to = %aside.to.display(), reason = aside.reason, "the alert state was damaged: it is set aside, and a new one begun");
    }
    let store: Arc<dyn Store> = Arc::new(store);

    let engine = Engine::new(
        EngineOptions {
            lookback_ms: options.lookback_ms,
            default_subquery_step_ms: loaded.config.evaluation_interval_ms,
            features: options.features,
            limits: QueryLimits {
                timeout: Duration::from_millis(options.query_timeout_ms.unsigned_abs()),
                max_samples: options.query_max_samples,
                max_bytes: options.query_max_bytes.unwrap_or((memory / 4).max(QUERY_BYTES_MIN)),
                max_bytes_total: options.query_max_bytes_total.unwrap_or((memory / 2).max(QUERY_BYTES_MIN)),
                max_series: options.query_max_series,
            },
        },
        clock.clone(),
    );
    let ingest = Ingest::with_features(
        storage.clone(),
        IngestLimits::for_memory(memory_bytes_max),
        options.ingest_features,
        Arc::new(IngestMetrics::register(&mut registry)),
    );
    let pushed = blocking("pushed groups", {
        let (ingest, store) = (ingest.clone(), Arc::clone(&store));
        move || Pushed::new(ingest, store)
    })
    .await?
    .map_err(|e| AppError::Part { what: "pushed groups", reason: e.to_string() })?;

    let clients = ClientPool::new();
    let (alert_sender, alert_inbox) = mpsc::channel(options.notification_queue_capacity);
    let alerts = Pipeline::start(
        PipelineOptions {
            config: Arc::clone(&loaded.alerting),
            store: Arc::clone(&store),
            clock: clock.clone(),
            transport: Arc::new(HttpTransport::new(clients.clone())),
            external_url: external_url.clone(),
            limits: Limits::default(),
            metrics: AlertsMetrics::register(&mut registry),
            notify_metrics: NotifyMetrics::register(&mut registry),
        },
        alert_inbox,
    )
    .await?;
    let scrapes = ScrapeManager::new(
        ingest.clone(),
        clock.clone(),
        clients,
        ScrapeMetrics::register(&mut registry),
        instance_id.clone(),
    );
    let rules = Manager::new(ManagerOptions {
        engine: engine.clone(),
        storage: storage.clone(),
        store: Arc::clone(&store),
        clock: clock.clone(),
        sender: alert_sender,
        metrics: RuleMetrics::register(&mut registry),
        concurrency: options.rules_max_concurrent,
    });
    let reports = Reports::new(ReportsOptions {
        engine: engine.clone(),
        storage: storage.clone(),
        store,
        alerts: alerts.clone(),
        clock: clock.clone(),
        indicators: loaded.config.indicators.clone().unwrap_or_else(shipped_indicators),
        schedule: loaded.config.reports,
    });
    let registry = Arc::new(registry);

    let readiness = Readiness::new(&["storage", "scrapes", "rules", "alerts"]);
    let (live_sender, live) = watch::channel(Arc::new(LiveConfig::default()));
    let (host_sender, host_enabled) = watch::channel(false);
    let (lifecycle_sender, lifecycle) = mpsc::channel(8);
    let banner = describe(&options, &loaded, &bound);
    let reloader = Reloader {
        options: Arc::clone(&options),
        external_url: external_url.clone(),
        clock: clock.clone(),
        storage: storage.clone(),
        scrapes: scrapes.clone(),
        rules: rules.clone(),
        alerts: alerts.clone(),
        reports: reports.clone(),
        live: live_sender,
        host: host_sender,
    };

    // What was pushed before a restart is current again before the first query.
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn(every(clock.clone(), PUSHED_INTERVAL, stopped.clone(), ticks::pushed_tick(pushed.clone())));
    loops.spawn(every(clock.clone(), UPKEEP_INTERVAL, stopped.clone(), ticks::upkeep_tick(storage.clone())));
    loops.spawn(every(clock.clone(), RELIEF_INTERVAL, stopped.clone(), ticks::relief_tick(storage.clone())));
    if options.config_file.is_none() {
        let tick = ticks::self_tick(&clock, ingest.clone(), Arc::clone(&registry), &instance);
        loops.spawn(every(clock.clone(), OWN_INTERVAL, stopped.clone(), tick));
    }
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut host_tick = ticks::host_tick(&clock, ingest.clone(), &host_name);
    reloader.apply(loaded).await;
    loops.spawn(every(clock.clone(), OWN_INTERVAL, stopped.clone(), move |now| {
        if *host_enabled.borrow() {
            host_tick(now);
        }
    }));
    loops.spawn(reports.clone().run());

    let closing = storage.clone();
    stops.push("storage", move || async move {
        match blocking("storage", move || closing.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last samples were not written out"),
            Err(error) => tracing::error!(%error, "the last samples were not written out"),
        }
    });
    stops.push("alerts", {
        let alerts = alerts.clone();
        move || async move { alerts.stop().await }
    });
    stops.push("rules", {
        let rules = rules.clone();
        move || async move { rules.stop().await }
    });
    stops.push("scrapes", {
        let scrapes = scrapes.clone();
        move || async move { scrapes.stop().await }
    });
    stops.push("loops", move || async move { loops.shutdown().await });

    let limits = ApiLimits {
        query_concurrency: options.query_max_concurrency,
        query_queue: options.query_max_queue,
        query_steps_max: options.query_max_steps,
        expression_bytes_max: options.query_max_expression_bytes,
        form_bytes_max: options.query_max_body_bytes,
        query_timeout: Duration::from_millis(options.query_timeout_ms.unsigned_abs()),
        ..ApiLimits::default()
    };
    let router = api::router(ApiState {
        storage,
        engine,
        ingest,
        pushed,
        targets: scrapes,
        rules,
        alerts,
        reports,
        registry,
        metrics: api_metrics.clone(),
        clock: clock.clone(),
        readiness: readiness.clone(),
        replay,
        live,
        lifecycle: options.enable_lifecycle.then(|| lifecycle_sender.clone()),
        enable_admin: options.enable_admin,
        cors_origin: options.cors_origin.clone(),
        info: ServerInfo { instance: instance_id, ..info(&options, started_at) },
        queries: limits.query_pool(),
        transfers: limits.transfer_pool(),
        admin: limits.admin_pool(),
        limits,
        route_prefix,
        external_url,
    });
    drop(router_sender.send_replace(router));
    readiness.set_all(&PartState::Running);
    println!("{banner}");
    tracing::info!(address = %bound[0], "the server is ready to receive requests");

    wait_for_the_end(&reloader, lifecycle, lifecycle_sender).await;
    readiness.set_all(&PartState::Stopping);
    stop.send_replace(true);
    if let Some(Err(error)) = server.join_next().await {
        tracing::error!(%error, "the HTTP server ended with an error");
    }
    stops.run().await;
    tracing::info!("the server has stopped");
    Ok(())
}

/// Returns on SIGINT, SIGTERM or `/-/quit`; reloads on SIGHUP and `/-/reload`.
async fn wait_for_the_end(
    reloader: &Reloader,
    mut lifecycle: mpsc::Receiver<Lifecycle>,
    // Kept, so that the channel stays open when the API has no sender.
    _sender: mpsc::Sender<Lifecycle>,
) {
    let signals =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = signals else {
        tracing::error!("signals cannot be received: the server stops");
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => return,
            _ = terminate.recv() => return,
            // Its outcome is in the log.
            _ = hangup.recv() => drop(reloader.reload().await),
            order = lifecycle.recv() => match order {
                Some(Lifecycle::Reload(answer)) => {
                    let _asker_is_gone = answer.send(reloader.reload().await);
                }
                Some(Lifecycle::Quit) | None => return,
            },
        }
    }
}

async fn listen(addresses: &[String]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), AppError> {
    let (mut listeners, mut bound) = (Vec::new(), Vec::new());
    for address in addresses {
        let fail = |source| AppError::Listen { address: address.clone(), source };
        // An empty host means every address, as in Go.
        let full = if address.starts_with(':') { format!("[::]{address}") } else { address.clone() };
        let listener = TcpListener::bind(&full).await.map_err(fail)?;
        bound.push(listener.local_addr().map_err(fail)?);
        listeners.push(listener);
    }
    if bound.is_empty() {
        return Err(AppError::Part { what: "HTTP", reason: "no --web.listen-address is given".to_owned() });
    }
    Ok((listeners, bound))
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AppError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| AppError::Part { what, reason: e.to_string() })
}

fn describe(options: &ServeOptions, loaded: &Loaded, bound: &[SocketAddr]) -> String {
    let config_file = options.config_file.as_ref().map(|p| p.display().to_string());
    let rules = loaded.rule_files.iter().flat_map(|f| &f.groups).map(|g| g.rules.len()).sum();
    Banner {
        version: env!("CARGO_PKG_VERSION"),
        bound,
        prefix: options.route_prefix.trim_end_matches('/'),
        config_file: config_file.as_deref(),
        host_metrics: loaded.config.host_metrics,
        targets: loaded.config.jobs.len(),
        rules,
        receivers: if options.alertmanager_config_file.is_some() {
            loaded.alerting.receivers.len()
        } else {
            0
        },
        data: &options.data_dir.display().to_string(),
        retention: &retention(options),
    }
    .text()
}

/// As Prometheus prints it: `15d`, or `15d or 1048576B`.
fn retention(options: &ServeOptions) -> String {
    let time = format_duration_ms(options.retention_ms);
    match options.retention_bytes {
        Some(bytes) => format!("{time} or {bytes}B"),
        None => time,
    }
}

fn info(options: &ServeOptions, started_at: i64) -> ServerInfo {
    ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        working_directory: std::env::current_dir().map(|p| p.display().to_string()).unwrap_or_default(),
        storage_retention: retention(options),
        flags: options.flags.clone(),
        ..ServerInfo::default()
    }
}
