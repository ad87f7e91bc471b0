//! What handlers work with: handles to the rest of the server, limits, and what a reload changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::metrics::ApiMetrics;
use super::pool::Pool;
use super::readiness::Readiness;
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::ingest::{Ingest, Pushed};
use crate::model::{GoRegex, Labels, Matcher, Timestamp};
use crate::promql::Engine;
use crate::reports::Reports;
use crate::rules;
use crate::scrape::ScrapeManager;
use crate::storage::{ReplayProgress, Storage};
use crate::telemetry::Registry;

/// Everything that a request can reach.
pub struct ApiState {
    pub storage: Storage,
    pub engine: Engine,
    pub ingest: Ingest,
    pub pushed: Pushed,
    pub targets: ScrapeManager,
    pub rules: rules::Manager,
    pub alerts: Alerts,
    pub reports: Reports,
    /// Our own metrics, shown on `/metrics`.
    pub registry: Arc<Registry>,
    pub metrics: ApiMetrics,
    pub clock: Clock,
    pub readiness: Readiness,
    pub replay: ReplayProgress,
    /// What a reload changes; the sender is the reloader's.
    pub live: watch::Receiver<Arc<LiveConfig>>,
    /// Takes requests to reload or to quit; `None` unless `--web.enable-lifecycle` is given.
    pub lifecycle: Option<mpsc::Sender<Lifecycle>>,
    /// `--web.enable-admin-api`: samples may be deleted, snapshots made.
    pub enable_admin: bool,
    pub info: ServerInfo,
    pub limits: ApiLimits,
    /// `--web.route-prefix`: begins with `/` and does not end with one; empty means none.
    pub route_prefix: String,
    /// `--web.external-url`, without a final `/`; pages of this origin may change state.
    pub external_url: String,
    /// `--web.cors.origin`, anchored: pages of these origins may read.
    pub cors_origin: GoRegex,
    /// Where queries run.
    pub queries: Pool,
    /// Where `/metrics`, `/federate` and pushes run, so that heavy queries do not hold them up.
    pub transfers: Pool,
    /// Where administrators' calls run, one after the other.
    pub admin: Pool,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What the configuration says to this module; a reload replaces it as a whole.
#[derive(Clone, Debug, Default)]
pub struct LiveConfig {
    /// The loaded configuration as YAML, secrets hidden.
    pub yaml: String,
    pub loaded_at: Timestamp,
    /// When a later reload failed; this configuration still holds.
    pub failed_at: Option<Timestamp>,
    /// `global.external_labels`; `/federate` adds them where a series has no such label.
    pub external_labels: Labels,
    /// Selects the host's series, which `/metrics` shows without `job` and `instance`; `None` if they are not
    /// collected.
    pub host: Option<Vec<Matcher>>,
    /// `export.match`: further stored series on `/metrics`.
    pub export_match: Vec<Vec<Matcher>>,
    /// `export.drop`: stored series that `/metrics` leaves out.
    pub export_drop: Vec<Vec<Matcher>>,
}

/// What `/-/reload` and `/-/quit` ask for.
#[derive(Debug)]
pub enum Lifecycle {
    /// The answer is the reason why the old configuration still holds.
    Reload(oneshot::Sender<Result<(), String>>),
    Quit,
}

/// What the server says of itself.
#[derive(Clone, Debug, Default)]
pub struct ServerInfo {
    pub version: String,
    pub revision: String,
    pub branch: String,
    pub build_user: String,
    pub build_date: String,
    pub rustc_version: String,
    pub started_at: Timestamp,
    pub hostname: String,
    pub working_directory: String,
    /// `--storage.tsdb.retention.*` as Prometheus prints it: `15d`, or `15d or 1GiB`.
    pub storage_retention: String,
    /// What the scrapes of this process carry.
    pub instance: String,
    /// Flags by name, with their values.
    pub flags: std::collections::BTreeMap<String, String>,
}

/// Limits on what comes from outside; past one of them the request is refused with the reason.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// `--query.max-concurrency`: queries that run at once.
    pub query_concurrency: usize,
    /// `--query.max-queue`: queries that wait for their turn; more are refused with 503.
    pub query_queue: usize,
    /// `--query.timeout`, also the longest wait for a turn.
    pub query_timeout: Duration,
    /// `--query.max-steps`: steps of a range query.
    pub query_steps_max: usize,
    /// `--query.max-expression-length`: bytes of an expression.
    pub expression_bytes_max: usize,
    /// `--query.max-request-body`: form bodies of queries, compressed and expanded.
    pub form_bytes_max: usize,
    /// JSON bodies of the dashboard API.
    pub json_bytes_max: usize,
    /// Remote-write bodies, compressed; what they expand to has a limit in `ingest`.
    pub write_bytes_max: usize,
    /// Pushed text, compressed and expanded.
    pub push_bytes_max: usize,
    /// The longest that a body may take to arrive.
    pub body_timeout: Duration,
    /// Stored series on `/metrics`; more are left out and counted.
    pub export_series_max: usize,
    /// Alerts, events or reports in one answer where the client names no `limit`.
    pub page_default: usize,
    /// The most that `limit` can ask for where what is listed comes from the state store.
    pub page_max: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        ApiLimits {
            query_concurrency: 20,
            query_queue: 500,
            query_timeout: Duration::from_secs(120),
            query_steps_max: 11_000,
            expression_bytes_max: crate::promql::MAX_LENGTH,
            form_bytes_max: 10 * 1024 * 1024,
            json_bytes_max: 4 * 1024 * 1024,
            write_bytes_max: 32 * 1024 * 1024,
            push_bytes_max: 16 * 1024 * 1024,
            body_timeout: Duration::from_secs(300),
            export_series_max: 500_000,
            page_default: 100,
            page_max: 10_000,
        }
    }
}

impl ApiLimits {
    /// The pool for queries.
    #[must_use]
    pub fn query_pool(&self) -> Pool {
        Pool::new(self.query_concurrency, self.query_queue, self.query_timeout)
    }

    /// The pool for exports and pushes. Each of them is short; the queue bounds the memory of waiting bodies.
    #[must_use]
    pub fn transfer_pool(&self) -> Pool {
        Pool::new(8, 128, Duration::from_secs(30))
    }

    /// The pool for administrators' calls. Each may take minutes and much of the disk.
    #[must_use]
    pub fn admin_pool(&self) -> Pool {
        Pool::new(1, 16, Duration::from_secs(600))
    }
}
