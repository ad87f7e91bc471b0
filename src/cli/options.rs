//! What the flags of the server come to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::flags::{MemoryLimit, ServeFlags};
use crate::ingest::IngestFeatures;
use crate::model::GoRegex;
use crate::promql::{Depth, FEATURES, Features, MAX_LENGTH, RegexMemory};
use crate::scrape::ScrapeFeatures;
use crate::storage::FsyncPolicy;
use crate::telemetry::LogFormat;

/// Kept when neither time nor size is given: 15 days, as in Prometheus.
const RETENTION_MS: i64 = 15 * 86_400_000;
/// What "no bound by time" comes to: 100 years, Prometheus's own bound.
const RETENTION_MS_MAX: i64 = 100 * 365 * 86_400_000;

/// Queries that may wait at most: more would time out before their turn comes.
const QUEUE_MAX: usize = 1_000_000;

/// The largest form body that may be allowed: it is held in memory as a whole.
const REQUEST_BODY_MAX: u64 = 1 << 30;

/// Batches of alerts that may wait at most: what a larger queue holds is out of date before it is read.
const NOTIFICATION_QUEUE_MAX: usize = 1_000_000;

/// Checked settings of the server. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// None: no file is read, and the server watches this machine and itself.
    pub config_file: Option<PathBuf>,
    /// None: alerts are kept and shown, and not sent.
    pub alertmanager_config_file: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub retention_ms: i64,
    pub retention_bytes: Option<u64>,
    pub fsync: FsyncPolicy,
    pub memory_limit: MemoryLimit,
    /// `HOST:PORT` each, at least one. An empty host means every address.
    pub listen: Vec<String>,
    /// As given; see [`ServeOptions::external_url`].
    pub external_url: Option<url::Url>,
    /// Begins with `/`; ends with one only if it is nothing else.
    pub route_prefix: String,
    pub enable_lifecycle: bool,
    pub enable_admin: bool,
    pub max_connections: usize,
    pub read_timeout_ms: i64,
    pub cors_origin: GoRegex,
    pub lookback_ms: i64,
    pub query_timeout_ms: i64,
    pub query_max_samples: u64,
    /// None: a share of the machine's memory.
    pub query_max_bytes: Option<u64>,
    /// None: a larger share of it.
    pub query_max_bytes_total: Option<u64>,
    pub query_max_series: usize,
    pub query_max_steps: usize,
    pub query_max_queue: usize,
    pub query_max_expression_bytes: usize,
    pub query_max_body_bytes: usize,
    pub query_max_concurrency: usize,
    pub for_outage_tolerance_ms: i64,
    pub for_grace_period_ms: i64,
    pub resend_delay_ms: i64,
    pub rules_max_concurrent: usize,
    pub notification_queue_capacity: usize,
    pub features: Features,
    pub ingest_features: IngestFeatures,
    pub scrape_features: ScrapeFeatures,
    /// The feature `exemplar-storage`.
    pub exemplar_storage: bool,
    pub log_level: String,
    pub log_format: LogFormat,
    /// What to tell the operator once logging runs.
    pub warnings: Vec<String>,
    /// The flags by name, as they are shown.
    pub flags: std::collections::BTreeMap<String, String>,
}

impl ServeOptions {
    /// The URL under which the server is reached, without a slash at its end: the one that was given, else one made of
    /// the address that was bound.
    #[must_use]
    pub fn external_url(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.external_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let prefix = self.route_prefix.trim_end_matches('/');
        if bound.ip().is_unspecified() {
            let host = host_name();
            return format!("http://{host}:{}{prefix}", bound.port());
        }
        format!("http://{bound}{prefix}")
    }

    pub(super) fn resolve(flags: ServeFlags, mut warnings: Vec<String>) -> Result<Self, String> {
        if flags.web_config_file.is_some_and(|f| !f.is_empty()) {
            // To start without the authentication that its owner relies on would be worse than not to start.
            return Err("--web.config.file is not supported yet: put a reverse proxy with TLS and authentication in front"
                .to_owned());
        }
        let cors_origin =
            GoRegex::anchored(&flags.web_cors_origin).map_err(|e| format!("--web.cors.origin: {e}"))?;
        let external_url = match flags.web_external_url.as_deref().filter(|u| !u.is_empty()) {
            Some(text) => Some(external_url(text)?),
            None => None,
        };
        let prefix = flags.web_route_prefix.as_deref().filter(|p| !p.is_empty());
        let prefix = prefix.or(external_url.as_ref().map(url::Url::path)).unwrap_or("/");
        let route_prefix = format!("/{}", prefix.trim_matches('/'));
        for address in &flags.web_listen_address {
            check_address(address)?;
        }
        for (name, value) in [
            ("web.max-connections", flags.web_max_connections),
            ("query.max-concurrency", flags.query_max_concurrency),
            ("query.max-series", flags.query_max_series),
            ("query.max-steps", flags.query_max_steps),
            ("query.max-expression-length", flags.query_max_expression_length),
            ("rules.max-concurrent-evals", flags.rules_max_concurrent_evals),
            ("alertmanager.notification-queue-capacity", flags.alertmanager_notification_queue_capacity),
        ] {
            if value == 0 {
                return Err(format!("--{name} must be at least 1"));
            }
        }
        if flags.query_max_expression_length > MAX_LENGTH {
            return Err(format!("--query.max-expression-length must be at most {MAX_LENGTH}"));
        }
        let Some(depth) = Depth::new(flags.query_max_expression_depth) else {
            let (least, most) = (Depth::RANGE.start(), Depth::RANGE.end());
            return Err(format!("--query.max-expression-depth must be between {least} and {most}"));
        };
        let body = 1024..=REQUEST_BODY_MAX;
        if !body.contains(&flags.query_max_request_body) {
            return Err(format!(
                "--query.max-request-body must be between {} and {}",
                body.start(),
                body.end()
            ));
        }
        if flags.query_max_queue > QUEUE_MAX {
            return Err(format!("--query.max-queue must be at most {QUEUE_MAX}"));
        }
        if flags.alertmanager_notification_queue_capacity > NOTIFICATION_QUEUE_MAX {
            return Err(format!(
                "--alertmanager.notification-queue-capacity must be at most {NOTIFICATION_QUEUE_MAX}"
            ));
        }
        let time = flags.storage_tsdb_retention_time.filter(|ms| *ms > 0);
        let size = flags.storage_tsdb_retention_size.filter(|bytes| *bytes > 0);
        let default = if size.is_some() { RETENTION_MS_MAX } else { RETENTION_MS };
        let enabled = features(&flags.enable_feature, &mut warnings)?;
        Ok(ServeOptions {
            config_file: flags.config_file,
            alertmanager_config_file: flags.alertmanager_config_file,
            data_dir: flags.storage_tsdb_path,
            retention_ms: time.unwrap_or(default).min(RETENTION_MS_MAX),
            retention_bytes: size,
            fsync: match flags.storage_wal_fsync.as_str() {
                "always" => FsyncPolicy::Always,
                "never" => FsyncPolicy::Never,
                _ => FsyncPolicy::Interval,
            },
            memory_limit: flags.storage_memory_limit,
            listen: flags.web_listen_address,
            external_url,
            route_prefix,
            enable_lifecycle: flags.switches.web_enable_lifecycle,
            enable_admin: flags.switches.web_enable_admin_api,
            max_connections: flags.web_max_connections,
            read_timeout_ms: flags.web_read_timeout,
            cors_origin,
            lookback_ms: flags.query_lookback_delta,
            query_timeout_ms: flags.query_timeout,
            query_max_samples: flags.query_max_samples,
            query_max_bytes: flags.query_max_memory.filter(|bytes| *bytes > 0),
            query_max_bytes_total: flags.query_max_memory_total.filter(|bytes| *bytes > 0),
            query_max_series: flags.query_max_series,
            query_max_steps: flags.query_max_steps,
            query_max_queue: flags.query_max_queue,
            query_max_expression_bytes: flags.query_max_expression_length,
            query_max_body_bytes: flags.query_max_request_body as usize,
            query_max_concurrency: flags.query_max_concurrency,
            for_outage_tolerance_ms: flags.rules_alert_for_outage_tolerance,
            for_grace_period_ms: flags.rules_alert_for_grace_period,
            resend_delay_ms: flags.rules_alert_resend_delay,
            rules_max_concurrent: flags.rules_max_concurrent_evals,
            notification_queue_capacity: flags.alertmanager_notification_queue_capacity,
            features: Features {
                depth,
                regexes: RegexMemory(flags.query_max_regex_memory),
                ..enabled.promql
            },
            ingest_features: enabled.ingest,
            scrape_features: enabled.scrape,
            exemplar_storage: enabled.exemplar_storage,
            log_level: flags.log_level,
            log_format: if flags.log_format == "json" { LogFormat::Json } else { LogFormat::Logfmt },
            warnings,
            flags: std::collections::BTreeMap::new(),
        })
    }
}

const EXEMPLAR_STORAGE: &str = "exemplar-storage";

/// What `--enable-feature` switches on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Enabled {
    pub promql: Features,
    pub ingest: IngestFeatures,
    pub scrape: ScrapeFeatures,
    pub exemplar_storage: bool,
}

/// Names of features of other parts than the language.
const OTHER_FEATURES: [&str; 4] =
    [EXEMPLAR_STORAGE, "created-timestamp-zero-ingestion", "native-histograms", "st-storage"];

impl Enabled {
    /// Switches on what has this name, in each part that has something; false if none has.
    fn enable(&mut self, name: &str) -> bool {
        self.exemplar_storage |= name == EXEMPLAR_STORAGE;
        let promql = self.promql.enable(name);
        let ingest = self.ingest.enable(name);
        let scrape = self.scrape.enable(name);
        promql || ingest || scrape || name == EXEMPLAR_STORAGE
    }
}

/// Features that are always on, and those that have no meaning here.
const FEATURES_WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("expand-external-labels", "it is always on"),
    ("remote-write-receiver", "it is always on"),
    ("new-service-discovery-manager", "it is always on"),
    ("concurrent-rule-eval", "it is always on"),
    ("auto-gomaxprocs", "it is always on"),
    ("auto-gomemlimit", "memory is bounded by the limits of each part"),
    ("utf8-names", "it is always on"),
    ("promql-at-modifier", "it is always on"),
    ("promql-duration-expr", "it is always on"),
    ("promql-negative-offset", "it is always on"),
    ("memory-snapshot-on-shutdown", "a restart replays the WAL of the newest window only"),
    ("no-default-scrape-port", "it is always on"),
    ("no-scrape-default-port", "it is always on"),
    ("delayed-compaction", "blocks are not compacted"),
    ("auto-reload-config", "reload by SIGHUP or POST /-/reload"),
    ("extra-scrape-metrics", "these series are not written"),
    ("otlp-write-receiver", "OTLP is not received"),
    ("otlp-deltatocumulative", "OTLP is not received"),
    ("otlp-native-delta-ingestion", "OTLP is not received"),
    ("metadata-wal-records", "metadata is kept in memory"),
    ("ooo-native-histograms", "it is always on"),
    ("old-ui", "there is one set of pages"),
    ("use-uncached-io", "files are read through the page cache"),
    ("fast-startup", "it is always on"),
    ("xor2-encoding", "chunks have encodings of their own"),
    ("histograms-st-encoding", "chunks have encodings of their own"),
];

/// # Errors
/// For the agent mode, which is another program. A name that nobody knows is warned of, as in Prometheus.
pub(super) fn features(names: &[String], warnings: &mut Vec<String>) -> Result<Enabled, String> {
    let mut features = Enabled::default();
    for name in names.iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
        if features.enable(name) {
            continue;
        }
        match name {
            "agent" => return Err("--enable-feature=agent: there is no agent mode".to_owned()),
            other => warnings.push(match FEATURES_WITHOUT_EFFECT.iter().find(|(n, _)| *n == other) {
                Some((_, why)) => format!("--enable-feature={other} changes nothing: {why}"),
                None => {
                    let known = FEATURES
                        .iter()
                        .map(|f| f.name)
                        .chain(OTHER_FEATURES)
                        .chain(FEATURES_WITHOUT_EFFECT.iter().map(|f| f.0));
                    let hint = crate::yaml::nearest(other, known)
                        .map_or(String::new(), |n| format!("; did you mean {n}?"));
                    format!("unknown feature {other:?} in --enable-feature{hint}")
                }
            }),
        }
    }
    Ok(features)
}

fn external_url(text: &str) -> Result<url::Url, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = url::Url::parse(&with_scheme).map_err(|e| format!("--web.external-url {text:?}: {e}"))?;
    if url.has_host() && matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(format!("--web.external-url {text:?}: it must be an http:// or https:// URL with a host"))
    }
}

fn check_address(address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(()),
        _ => Err(format!("--web.listen-address {address:?}: it must be HOST:PORT, such as 127.0.0.1:9090")),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
