//! One entry of `scrape_configs`, as it is written and as it is checked.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::discovery::{FileSd, RawTargetGroup, TargetGroup};
use super::size::parse_size;
use crate::exposition::{BodyFormat, Format, PROTOBUF_CONTENT_TYPE};
use crate::http::{
    HttpConfig, RawAuthorization, RawBasicAuth, RawHeader, RawHttpConfig, RawTlsConfig, Secret,
};
use crate::ingest::{HistogramOptions, SCHEMA_MAX, SCHEMA_MIN};
use crate::model::parse_duration_ms;
use crate::relabel::{self, RelabelConfig, Rules};
use crate::yaml::{Mark, Pairs, Problems, Source, Spanned, Upstream, mark, nearest, null_is_default};

/// Every minute, as in Prometheus.
pub const INTERVAL_MS: i64 = 60_000;
pub const TIMEOUT_MS: i64 = 10_000;
/// How often target files are looked for, as in Prometheus.
const FILE_SD_REFRESH_MS: i64 = 300_000;
/// Decompressed bytes of a body where no `body_size_limit` is set. Prometheus has no limit then; here nothing from
/// outside is without one. A large exporter gives some megabytes.
pub const BODY_BYTES_MAX: u64 = 64 << 20;

/// Keys of a scrape configuration that exist upstream and not here.
pub const UPSTREAM_KEYS: &[Upstream] = &[Upstream {
    among: "job_name",
    keys: &[
        "extra_scrape_metrics",
        "scrape_failure_log_file",
        "aws_sd_configs",
        "azure_sd_configs",
        "consul_sd_configs",
        "digitalocean_sd_configs",
        "dns_sd_configs",
        "docker_sd_configs",
        "dockerswarm_sd_configs",
        "ec2_sd_configs",
        "ecs_sd_configs",
        "eureka_sd_configs",
        "gce_sd_configs",
        "hetzner_sd_configs",
        "http_sd_configs",
        "ionos_sd_configs",
        "kubernetes_sd_configs",
        "kuma_sd_configs",
        "lightsail_sd_configs",
        "linode_sd_configs",
        "marathon_sd_configs",
        "msk_sd_configs",
        "nerve_sd_configs",
        "nomad_sd_configs",
        "openstack_sd_configs",
        "outscale_sd_configs",
        "ovhcloud_sd_configs",
        "puppetdb_sd_configs",
        "scaleway_sd_configs",
        "serverset_sd_configs",
        "stackit_sd_configs",
        "triton_sd_configs",
        "uyuni_sd_configs",
        "vultr_sd_configs",
    ],
}];

/// An entry of `scrape_configs` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScrapeConfig {
    pub job_name: Option<Spanned<String>>,
    pub honor_labels: Option<bool>,
    pub honor_timestamps: Option<bool>,
    pub track_timestamps_staleness: Option<bool>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub params: Pairs<Option<Vec<String>>>,
    pub scrape_interval: Option<Spanned<String>>,
    pub scrape_timeout: Option<Spanned<String>>,
    pub scrape_protocols: Option<Spanned<Vec<Spanned<String>>>>,
    pub fallback_scrape_protocol: Option<Spanned<String>>,
    pub metrics_path: Option<String>,
    pub scheme: Option<Spanned<String>>,
    pub enable_compression: Option<bool>,
    pub body_size_limit: Option<Spanned<String>>,
    pub sample_limit: Option<u64>,
    pub target_limit: Option<u64>,
    pub label_limit: Option<u64>,
    pub label_name_length_limit: Option<u64>,
    pub label_value_length_limit: Option<u64>,
    pub keep_dropped_targets: Option<u64>,
    pub metric_name_validation_scheme: Option<Spanned<String>>,
    pub metric_name_escaping_scheme: Option<Spanned<String>>,
    pub scrape_native_histograms: Option<bool>,
    pub always_scrape_classic_histograms: Option<bool>,
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    pub native_histogram_bucket_limit: Option<u64>,
    pub native_histogram_min_bucket_factor: Option<f64>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub static_configs: Vec<RawTargetGroup>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub file_sd_configs: Vec<Spanned<RawFileSd>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub relabel_configs: Vec<Spanned<RelabelConfig>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub metric_relabel_configs: Vec<Spanned<RelabelConfig>>,

    // The client's settings stand beside the others; see [`RawHttpConfig`].
    pub basic_auth: Option<Spanned<RawBasicAuth>>,
    pub authorization: Option<Spanned<RawAuthorization>>,
    pub bearer_token: Option<Spanned<Secret>>,
    pub bearer_token_file: Option<Spanned<String>>,
    pub tls_config: Option<Spanned<RawTlsConfig>>,
    pub follow_redirects: Option<bool>,
    pub enable_http2: Option<bool>,
    pub proxy_url: Option<Spanned<String>>,
    pub no_proxy: Option<Spanned<String>>,
    pub proxy_from_environment: Option<Spanned<bool>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub http_headers: Pairs<RawHeader>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFileSd {
    #[serde(default, deserialize_with = "null_is_default")]
    pub files: Vec<Spanned<String>>,
    pub refresh_interval: Option<Spanned<String>>,
}

/// What the global section sets for jobs that do not.
#[derive(Clone, Debug)]
pub struct ScrapeDefaults {
    pub interval_ms: i64,
    pub timeout_ms: i64,
    pub protocols: Option<Vec<Protocol>>,
    pub escaping: Escaping,
    /// 0: [`BODY_BYTES_MAX`].
    pub body_size_limit: u64,
    pub limits: Limits,
    pub keep_dropped_targets: usize,
    pub native_histograms: bool,
    pub classic_histograms_always: bool,
    pub classic_histograms_converted: bool,
    /// Whether protobuf comes first where no protocols are set.
    pub protobuf_first: bool,
}

/// What `--enable-feature` changes in how targets are scraped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeFeatures {
    /// `native-histograms`: they are scraped where no configuration says otherwise.
    pub native_histograms: bool,
    /// `created-timestamp-zero-ingestion` and `st-storage`: targets are asked for protobuf first, which is the best
    /// source of start times.
    pub protobuf_first: bool,
}

impl ScrapeFeatures {
    /// Turns on the feature of this name; false if scraping has none such.
    pub fn enable(&mut self, name: &str) -> bool {
        let switch = match name {
            "native-histograms" => &mut self.native_histograms,
            "created-timestamp-zero-ingestion" | "st-storage" => &mut self.protobuf_first,
            _ => return false,
        };
        *switch = true;
        true
    }
}

impl Default for ScrapeDefaults {
    fn default() -> Self {
        ScrapeDefaults {
            interval_ms: INTERVAL_MS,
            timeout_ms: TIMEOUT_MS,
            protocols: None,
            escaping: Escaping::AllowUtf8,
            body_size_limit: 0,
            limits: Limits::default(),
            keep_dropped_targets: 0,
            native_histograms: false,
            classic_histograms_always: false,
            classic_histograms_converted: false,
            protobuf_first: false,
        }
    }
}

/// Limits past which a whole scrape is refused; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub samples: usize,
    pub targets: usize,
    pub labels: usize,
    pub label_name_bytes: usize,
    pub label_value_bytes: usize,
}

/// A checked entry of `scrape_configs`.
#[derive(Clone, Debug)]
pub struct ScrapeJob {
    pub job_name: String,
    pub interval_ms: i64,
    pub timeout_ms: i64,
    pub scheme: String,
    pub metrics_path: String,
    pub params: Vec<(String, Vec<String>)>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub enable_compression: bool,
    pub body_bytes_max: usize,
    pub limits: Limits,
    /// 0: all are kept.
    pub keep_dropped_targets: usize,
    /// The header `Accept`.
    pub accept: String,
    /// For a body without a known `Content-Type`.
    pub fallback_format: Option<BodyFormat>,
    pub histograms: HistogramOptions,
    pub relabel: Arc<Rules>,
    pub metric_relabel: Arc<Rules>,
    pub http: HttpConfig,
    pub static_groups: Vec<TargetGroup>,
    pub file_sd: Vec<FileSd>,
}

/// An exposition format that a scrape can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Protobuf,
    OpenMetrics1,
    OpenMetrics0,
    Text1,
    Text0,
}

const PROTOCOLS: [(&str, Protocol); 5] = [
    ("PrometheusProto", Protocol::Protobuf),
    ("OpenMetricsText1.0.0", Protocol::OpenMetrics1),
    ("OpenMetricsText0.0.1", Protocol::OpenMetrics0),
    ("PrometheusText1.0.0", Protocol::Text1),
    ("PrometheusText0.0.4", Protocol::Text0),
];

/// How a target is asked to write names that need quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }
}

impl RawScrapeConfig {
    /// Checks the entry, which stands at `at`; a relative path counts from `folder`. What is wrong goes to `problems`.
    pub fn resolve(
        &self,
        at: Mark,
        defaults: &ScrapeDefaults,
        source: &Source,
        folder: &Path,
        problems: &mut Problems,
    ) -> ScrapeJob {
        let job_name = self.job_name.as_ref().map(|n| n.value.clone()).unwrap_or_default();
        if job_name.is_empty() {
            let at = self.job_name.as_ref().map_or(at, mark);
            problems.push(source.problem(at, "job_name is empty"));
        }
        let (interval_ms, timeout_ms) = interval_and_timeout(
            self.scrape_interval.as_ref(),
            self.scrape_timeout.as_ref(),
            (defaults.interval_ms, defaults.timeout_ms),
            &format!("for scrape config with job name {job_name:?}"),
            source,
            problems,
        );
        let native = self.scrape_native_histograms.unwrap_or(defaults.native_histograms);
        let protocols = protocols(self.scrape_protocols.as_ref(), source, problems)
            .or_else(|| defaults.protocols.clone())
            .unwrap_or_else(|| {
                let protobuf = native || defaults.protobuf_first;
                PROTOCOLS.map(|p| p.1).into_iter().filter(|p| protobuf || *p != Protocol::Protobuf).collect()
            });
        validation_scheme(self.metric_name_validation_scheme.as_ref(), source, problems);
        let escaping = escaping(self.metric_name_escaping_scheme.as_ref(), source, problems);
        let scheme = self.scheme.as_ref().map_or("http", |s| s.value.as_str());
        if let Some(stated) = self.scheme.as_ref().filter(|_| !matches!(scheme, "http" | "https" | "")) {
            problems.push(source.problem_at(stated, format!("scheme {scheme:?} is neither http nor https")));
        }
        let size = size_limit(self.body_size_limit.as_ref(), source, problems);
        let body_bytes = [size, defaults.body_size_limit].into_iter().find(|b| *b > 0);
        let limit = |own: Option<u64>, default: usize| {
            own.filter(|n| *n > 0).map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        // With relabelling the address may be rewritten, so that any text can be one.
        let mut static_problems = Problems::default();
        let static_groups =
            self.static_configs.iter().map(|g| g.resolve(source, &mut static_problems)).collect();
        if self.relabel_configs.is_empty() {
            problems.extend(static_problems);
        }
        let path = self.metrics_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/metrics");
        ScrapeJob {
            interval_ms,
            timeout_ms,
            scheme: if scheme.is_empty() { "http" } else { scheme }.to_owned(),
            metrics_path: path.to_owned(),
            params: self
                .params
                .iter()
                .map(|(name, values)| (name.value.clone(), values.clone().unwrap_or_default()))
                .collect(),
            honor_labels: self.honor_labels.unwrap_or(false),
            honor_timestamps: self.honor_timestamps.unwrap_or(true),
            track_timestamps_staleness: self.track_timestamps_staleness.unwrap_or(false),
            enable_compression: self.enable_compression.unwrap_or(true),
            body_bytes_max: usize::try_from(body_bytes.unwrap_or(BODY_BYTES_MAX)).unwrap_or(usize::MAX),
            limits: Limits {
                samples: limit(self.sample_limit, defaults.limits.samples),
                targets: limit(self.target_limit, defaults.limits.targets),
                labels: limit(self.label_limit, defaults.limits.labels),
                label_name_bytes: limit(self.label_name_length_limit, defaults.limits.label_name_bytes),
                label_value_bytes: limit(self.label_value_length_limit, defaults.limits.label_value_bytes),
            },
            keep_dropped_targets: limit(self.keep_dropped_targets, defaults.keep_dropped_targets),
            accept: accept(&protocols, escaping.unwrap_or(defaults.escaping)),
            fallback_format: self.fallback_format(source, problems),
            histograms: HistogramOptions {
                native,
                classic_always: self
                    .always_scrape_classic_histograms
                    .unwrap_or(defaults.classic_histograms_always),
                classic_converted: self
                    .convert_classic_histograms_to_nhcb
                    .unwrap_or(defaults.classic_histograms_converted),
                bucket_limit: limit(self.native_histogram_bucket_limit, 0),
                schema_max: schema_of_factor(self.native_histogram_min_bucket_factor.unwrap_or(0.0)),
            },
            relabel: Arc::new(relabel::resolve(&self.relabel_configs, source, problems)),
            metric_relabel: Arc::new(relabel::resolve(&self.metric_relabel_configs, source, problems)),
            http: self.http(source, folder, problems),
            static_groups,
            file_sd: self
                .file_sd_configs
                .iter()
                .map(|f| f.value.resolve(mark(f), source, folder, problems))
                .collect(),
            job_name,
        }
    }

    fn http(&self, source: &Source, folder: &Path, problems: &mut Problems) -> HttpConfig {
        let raw = RawHttpConfig {
            basic_auth: self.basic_auth.clone(),
            authorization: self.authorization.clone(),
            bearer_token: self.bearer_token.clone(),
            bearer_token_file: self.bearer_token_file.clone(),
            tls_config: self.tls_config.clone(),
            follow_redirects: self.follow_redirects,
            enable_http2: self.enable_http2,
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment.clone(),
            http_headers: self.http_headers.clone(),
        };
        raw.resolve(source, folder, problems)
    }

    fn fallback_format(&self, source: &Source, problems: &mut Problems) -> Option<BodyFormat> {
        let stated = self.fallback_scrape_protocol.as_ref().filter(|p| !p.value.is_empty())?;
        Some(match protocol(stated, source, problems)? {
            Protocol::Protobuf => BodyFormat::Protobuf,
            Protocol::OpenMetrics1 | Protocol::OpenMetrics0 => BodyFormat::Text(Format::OpenMetricsUtf8),
            Protocol::Text1 => BodyFormat::Text(Format::TextUtf8),
            Protocol::Text0 => BodyFormat::Text(Format::Text),
        })
    }
}

impl RawFileSd {
    fn resolve(&self, at: Mark, source: &Source, folder: &Path, problems: &mut Problems) -> FileSd {
        if self.files.is_empty() {
            problems.push(
                source.problem(at, "file service discovery config must contain at least one path name"),
            );
        }
        for file in &self.files {
            let (parent, name) = file.value.rsplit_once('/').unwrap_or(("", &file.value));
            let known = [".json", ".yml", ".yaml"].iter().any(|e| name.ends_with(e));
            if !known || parent.contains('*') {
                let message = format!("path name {:?} is not valid for file discovery", file.value);
                let mut problem = source.problem_at(file, message);
                problem.hint = Some(
                    "it must end in .json, .yml or .yaml, and only its last segment may hold *".to_owned(),
                );
                problems.push(problem);
            }
        }
        let refresh = duration(self.refresh_interval.as_ref(), source, problems).filter(|ms| *ms > 0);
        FileSd {
            files: self.files.iter().map(|f| folder.join(&f.value)).collect(),
            refresh_ms: refresh.unwrap_or(FILE_SD_REFRESH_MS),
        }
    }
}

impl ScrapeJob {
    /// Whether targets of both jobs are scraped in the same way, however they are found.
    #[must_use]
    pub fn scrapes_like(&self, other: &ScrapeJob) -> bool {
        // Secrets do not show in the text, so the client's settings are compared by themselves.
        let text = |job: &ScrapeJob| {
            let bare = ScrapeJob {
                http: HttpConfig::default(),
                static_groups: Vec::new(),
                file_sd: Vec::new(),
                ..job.clone()
            };
            format!("{bare:?}")
        };
        self.http == other.http && text(self) == text(other)
    }
}

/// The milliseconds of a duration; none if it is not set or wrong.
pub fn duration(text: Option<&Spanned<String>>, source: &Source, problems: &mut Problems) -> Option<i64> {
    let text = text?;
    match parse_duration_ms(&text.value) {
        Ok(ms) => Some(ms),
        Err(e) => {
            problems.push(source.problem_at(text, e.to_string()));
            None
        }
    }
}

/// Interval and timeout with their defaults; `whose` ends the message when the timeout is the longer one.
pub fn interval_and_timeout(
    interval: Option<&Spanned<String>>,
    timeout: Option<&Spanned<String>>,
    defaults: (i64, i64),
    whose: &str,
    source: &Source,
    problems: &mut Problems,
) -> (i64, i64) {
    let interval_ms = duration(interval, source, problems).filter(|ms| *ms > 0).unwrap_or(defaults.0);
    let timeout_ms = duration(timeout, source, problems).filter(|ms| *ms > 0);
    if let (Some(ms), Some(stated)) = (timeout_ms, timeout)
        && ms > interval_ms
    {
        let message = format!("scrape timeout greater than scrape interval {whose}");
        problems.push(source.problem_at(stated, message.trim_end()));
    }
    (interval_ms, timeout_ms.unwrap_or(defaults.1.min(interval_ms)))
}

/// Checks `scrape_protocols`; none if it is not set.
pub fn protocols(
    stated: Option<&Spanned<Vec<Spanned<String>>>>,
    source: &Source,
    problems: &mut Problems,
) -> Option<Vec<Protocol>> {
    let stated = stated?;
    if stated.value.is_empty() {
        problems.push(source.problem_at(stated, "scrape_protocols cannot be empty"));
    }
    let mut list = Vec::new();
    for name in &stated.value {
        let Some(protocol) = protocol(name, source, problems) else { continue };
        if list.contains(&protocol) {
            problems.push(
                source.problem_at(name, format!("duplicated protocol {:?} in scrape_protocols", name.value)),
            );
        }
        list.push(protocol);
    }
    Some(list)
}

fn protocol(name: &Spanned<String>, source: &Source, problems: &mut Problems) -> Option<Protocol> {
    let known = PROTOCOLS.iter().find(|(n, _)| *n == name.value).map(|p| p.1);
    if known.is_none() {
        let mut problem = source.problem_at(name, format!("unknown scrape protocol {:?}", name.value));
        let near = nearest(&name.value, PROTOCOLS.iter().map(|p| p.0));
        problem.hint = near.map(|n| format!("did you mean {n}?"));
        problems.push(problem);
    }
    known
}

/// The finest schema whose buckets each are at least so many times as wide as the one before.
fn schema_of_factor(factor: f64) -> i32 {
    // A narrower factor than the finest schema has is no bound.
    let schema = (-factor.max(1.002_71).log2().log2()).floor();
    (schema as i32).clamp(SCHEMA_MIN, SCHEMA_MAX)
}

/// The header `Accept`, best first. Source: prometheus, `scrape/scrape.go`, `acceptHeader`.
fn accept(protocols: &[Protocol], escaping: Escaping) -> String {
    let mut out = String::new();
    let mut weight = PROTOCOLS.len() + 1;
    for protocol in protocols {
        let escaping = escaping.as_str();
        let media = match protocol {
            Protocol::Protobuf => PROTOBUF_CONTENT_TYPE.to_owned(),
            Protocol::OpenMetrics1 => {
                format!("application/openmetrics-text;version=1.0.0;escaping={escaping}")
            }
            Protocol::OpenMetrics0 => "application/openmetrics-text;version=0.0.1".to_owned(),
            Protocol::Text1 => format!("text/plain;version=1.0.0;escaping={escaping}"),
            Protocol::Text0 => "text/plain;version=0.0.4".to_owned(),
        };
        out.push_str(&format!("{media};q=0.{weight},"));
        weight -= 1;
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}

/// Checks `metric_name_validation_scheme`: only `utf8`, the default, is there.
pub fn validation_scheme(stated: Option<&Spanned<String>>, source: &Source, problems: &mut Problems) {
    let Some(stated) = stated else { return };
    match stated.value.as_str() {
        "" | "utf8" => {}
        "legacy" => problems
            .push(source.problem_at(stated, "`metric_name_validation_scheme: legacy` is not supported yet")),
        other => {
            problems.push(source.problem_at(
                stated,
                format!("unknown validation scheme {other:?}: it must be utf8 or legacy"),
            ))
        }
    }
}

/// Checks `metric_name_escaping_scheme`; none if it is not set.
pub fn escaping(
    stated: Option<&Spanned<String>>,
    source: &Source,
    problems: &mut Problems,
) -> Option<Escaping> {
    let stated = stated.filter(|s| !s.value.is_empty())?;
    let all = [Escaping::AllowUtf8, Escaping::Underscores, Escaping::Dots, Escaping::Values];
    let known = all.into_iter().find(|e| e.as_str() == stated.value);
    if known.is_none() {
        problems.push(source.problem_at(
            stated,
            format!(
                "unknown escaping scheme {:?}: it must be allow-utf-8, underscores, dots or values",
                stated.value
            ),
        ));
    }
    known
}

/// Bytes of a size limit; 0 if it is not set.
pub fn size_limit(stated: Option<&Spanned<String>>, source: &Source, problems: &mut Problems) -> u64 {
    let Some(stated) = stated else { return 0 };
    parse_size(&stated.value).unwrap_or_else(|e| {
        problems.push(source.problem_at(stated, e));
        0
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
