//! The flags, with Prometheus's names and meaning.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::storage::StorageCommand;
use crate::model::parse_duration_ms;
use crate::scrape::parse_size;

#[derive(Debug, Parser)]
#[command(
    name = "streamgate",
    about = "Scrapes, stores, evaluates rules, delivers alerts and shows it all: Prometheus-compatible, in one binary.",
    args_conflicts_with_subcommands = true,
    disable_version_flag = true
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Option<Subcommands>,
    /// Print the version and end.
    #[arg(long, short = 'V', action = ArgAction::SetTrue, global = true)]
    pub version: bool,
    #[command(flatten)]
    pub serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
pub(super) enum Subcommands {
    /// Run the server (the default).
    Serve(Box<ServeFlags>),
    /// Look at, verify, dump and fill a data directory that no server has open.
    #[command(visible_alias = "tsdb")]
    Storage {
        #[command(subcommand)]
        what: StorageCommand,
    },
    /// Check files without starting: each problem as FILE:LINE:COLUMN, exit code 1 if there is one.
    Check {
        #[command(subcommand)]
        what: Check,
    },
    /// Ask a server, or a data directory.
    Query {
        #[command(subcommand)]
        what: Query,
    },
    /// Lay expressions out and explain them.
    Promql {
        #[command(subcommand)]
        what: Promql,
    },
    /// Run test scripts: a line for each case that fails, exit code 1 if there is one.
    Test {
        #[command(subcommand)]
        what: Test,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Query {
    /// Evaluate an expression at one time.
    Instant(Box<InstantFlags>),
    /// Evaluate an expression at many times.
    Range(Box<RangeFlags>),
}

#[derive(Debug, Subcommand)]
pub(super) enum Promql {
    /// Lay an expression out, over several lines where one would get too long.
    Format {
        /// The expression; `-` reads it from standard input.
        #[arg(value_name = "EXPR", allow_hyphen_values = true)]
        expr: String,
    },
    /// Evaluate an expression and show its plan: what each selector touched, and the time of each operator.
    Explain(Box<ExplainFlags>),
}

/// What is asked, and of whom.
#[derive(Clone, Debug, Args)]
pub(super) struct Asking {
    /// The server to ask; http://127.0.0.1:9090 if neither this nor --data is given.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub server: Option<String>,
    /// Read this data directory (or a snapshot of one) instead, without changing it; no server may have it open.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How the answer is printed.
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "table")]
    pub format: super::show::Format,
    /// How long the query may take.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// How far back the newest sample of a series is looked for.
    #[arg(long = "query.lookback-delta", value_name = "DURATION")]
    pub lookback_delta: Option<String>,
    /// Series at most; 0 means all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
    /// Comma separated feature names, as for the server; with --data.
    #[arg(long = "enable-feature", value_delimiter = ',', value_name = "NAME")]
    pub enable_feature: Vec<String>,
    /// The expression (`-` reads it from standard input); the URL of the server may stand before it.
    #[arg(required = true, num_args = 1..=2, value_name = "EXPR", allow_negative_numbers = true)]
    pub words: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct InstantFlags {
    /// When: RFC 3339, or seconds since 1970; by default now.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub time: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RangeFlags {
    /// The first time; by default five minutes before the last.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub start: Option<String>,
    /// The last time; by default now.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub end: Option<String>,
    /// How far the times are apart; by default some 250 of them.
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ExplainFlags {
    /// The time of an instant query; by default now.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, conflicts_with_all = ["start", "step"])]
    pub time: Option<String>,
    /// The first time of a range query.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub start: Option<String>,
    /// The last time of a range query.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub end: Option<String>,
    /// The step of a range query.
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}

#[derive(Debug, Subcommand)]
pub(super) enum Test {
    /// Run scripts in Prometheus's `.test` format; the last line is `N passed, M failed`.
    Promql {
        /// Ask each instant case again in other words: with `@` on its selectors, and as a step of a range query.
        #[arg(long)]
        thorough: bool,
        /// Scripts, and folders of which every `*.test` is run.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Check {
    /// Check configuration files in Prometheus's format, with the rule files that they name.
    Config {
        /// Do not read the rule files, certificates and target files that the configuration names.
        #[arg(long)]
        syntax_only: bool,
        /// Comma separated feature names, as for the server.
        #[arg(long = "enable-feature", value_delimiter = ',', value_name = "NAME")]
        enable_feature: Vec<String>,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check rule files.
    Rules {
        /// Comma separated feature names, as for the server.
        #[arg(long = "enable-feature", value_delimiter = ',', value_name = "NAME")]
        enable_feature: Vec<String>,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check files in Alertmanager's format.
    Alertmanager {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Defines a flag that is on as `--x` or `--x=true` and off as `--x=false`; `--no-x` is rewritten to that before.
/// The last one wins.
macro_rules! switch {
    ($($(#[doc = $doc:literal])* $name:literal $field:ident = $default:literal),* $(,)?) => {
        /// The flags that are on or off.
        #[derive(Clone, Debug, Args)]
        pub(super) struct Switches {
            $(
                $(#[doc = $doc])*
                #[arg(long = $name, num_args = 0..=1, require_equals = true, default_missing_value = "true",
                      default_value = $default, action = ArgAction::Set, overrides_with = stringify!($field),
                      value_name = "BOOL", hide_possible_values = true, help_heading = "Web")]
                pub $field: bool,
            )*
        }

        /// Their names.
        pub(super) const SWITCHES: &[&str] = &[$($name),*];
    };
}

switch! {
    /// Reload by POST /-/reload and stop by POST /-/quit.
    "web.enable-lifecycle" web_enable_lifecycle = "false",
    /// Delete series and make snapshots by POST /api/v1/admin/tsdb/….
    "web.enable-admin-api" web_enable_admin_api = "false",
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServeFlags {
    /// Configuration in Prometheus's format. Without it the server watches this machine and itself.
    #[arg(long = "config.file", value_name = "FILE", help_heading = "Files")]
    pub config_file: Option<PathBuf>,
    /// Routes and receivers in Alertmanager's format. Without it alerts are kept and shown, and not sent.
    #[arg(long = "alertmanager.config.file", value_name = "FILE", help_heading = "Files")]
    pub alertmanager_config_file: Option<PathBuf>,

    /// Address to listen on; can be repeated.
    #[arg(
        long = "web.listen-address",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9090",
        help_heading = "Web"
    )]
    pub web_listen_address: Vec<String>,
    /// The URL under which the server is reached from outside, for links.
    #[arg(long = "web.external-url", value_name = "URL", help_heading = "Web")]
    pub web_external_url: Option<String>,
    /// Prefix of all paths; by default the path of --web.external-url.
    #[arg(long = "web.route-prefix", value_name = "PATH", help_heading = "Web")]
    pub web_route_prefix: Option<String>,
    #[command(flatten)]
    pub switches: Switches,
    /// Connections at once, over all listeners.
    #[arg(long = "web.max-connections", value_name = "N", default_value_t = 512, help_heading = "Web")]
    pub web_max_connections: usize,
    /// How long a request may take to arrive, and a connection be idle.
    #[arg(long = "web.read-timeout", value_name = "DURATION", default_value = "5m", value_parser = duration, help_heading = "Web")]
    pub web_read_timeout: i64,
    /// Origins whose pages may read Prometheus's API, as a regular expression that matches the whole origin, such as
    /// https?://(a|b)\.example.
    #[arg(long = "web.cors.origin", value_name = "REGEX", default_value = ".*", help_heading = "Web")]
    pub web_cors_origin: String,
    /// File with TLS and authentication settings: not supported yet.
    #[arg(long = "web.config.file", value_name = "FILE", hide = true)]
    pub web_config_file: Option<String>,

    /// Directory of all that is kept.
    #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "data", help_heading = "Storage")]
    pub storage_tsdb_path: PathBuf,
    /// How long samples are kept; 15d if no size is given either.
    #[arg(long = "storage.tsdb.retention.time", alias = "storage.tsdb.retention", value_name = "DURATION", value_parser = duration, help_heading = "Storage")]
    pub storage_tsdb_retention_time: Option<i64>,
    /// How many bytes samples may take on disk, such as 512MB (powers of 1024).
    #[arg(long = "storage.tsdb.retention.size", value_name = "SIZE", value_parser = parse_size, help_heading = "Storage")]
    pub storage_tsdb_retention_size: Option<u64>,
    /// When the write-ahead log is put on the disk, for a loss of power; a kill of the process loses nothing in any case.
    #[arg(long = "storage.wal-fsync", value_name = "WHEN", default_value = "interval", value_parser = ["always", "interval", "never"], help_heading = "Storage")]
    pub storage_wal_fsync: String,
    /// Memory for series and their newest samples, such as 2GB, or 40% of what there is.
    #[arg(long = "storage.memory-limit", value_name = "SIZE", default_value = "50%", value_parser = memory_limit, help_heading = "Storage")]
    pub storage_memory_limit: MemoryLimit,

    /// How far back a query looks for the newest sample of a series.
    #[arg(long = "query.lookback-delta", value_name = "DURATION", default_value = "5m", value_parser = duration, help_heading = "Queries")]
    pub query_lookback_delta: i64,
    /// How long a query may take.
    #[arg(long = "query.timeout", value_name = "DURATION", default_value = "2m", value_parser = duration, help_heading = "Queries")]
    pub query_timeout: i64,
    /// Queries at once.
    #[arg(long = "query.max-concurrency", value_name = "N", default_value_t = 20, help_heading = "Queries")]
    pub query_max_concurrency: usize,
    /// Samples that one query may hold in memory.
    #[arg(
        long = "query.max-samples",
        value_name = "N",
        default_value_t = 50_000_000,
        help_heading = "Queries"
    )]
    pub query_max_samples: u64,
    /// Bytes that one query may hold in memory, such as 512MB; by default a quarter of what the process may use.
    #[arg(long = "query.max-memory", value_name = "SIZE", value_parser = parse_size, help_heading = "Queries")]
    pub query_max_memory: Option<u64>,
    /// Bytes that all queries together may hold in memory; by default half of what the process may use.
    #[arg(long = "query.max-memory-total", value_name = "SIZE", value_parser = parse_size, help_heading = "Queries")]
    pub query_max_memory_total: Option<u64>,
    /// Series that one query may answer.
    #[arg(
        long = "query.max-series",
        value_name = "N",
        default_value_t = 1_000_000,
        help_heading = "Queries"
    )]
    pub query_max_series: usize,
    /// Steps of a range query.
    #[arg(long = "query.max-steps", value_name = "N", default_value_t = 11_000, help_heading = "Queries")]
    pub query_max_steps: usize,
    /// Queries that may wait for their turn.
    #[arg(long = "query.max-queue", value_name = "N", default_value_t = 500, help_heading = "Queries")]
    pub query_max_queue: usize,
    /// Bytes of an expression.
    #[arg(
        long = "query.max-expression-length",
        value_name = "BYTES",
        default_value_t = crate::promql::MAX_LENGTH,
        help_heading = "Queries"
    )]
    pub query_max_expression_length: usize,
    /// How deep an expression may be: operators in a row; parentheses, calls and signs within each other about a third of that.
    #[arg(
        long = "query.max-expression-depth",
        value_name = "N",
        default_value_t = crate::promql::MAX_DEPTH,
        help_heading = "Queries"
    )]
    pub query_max_expression_depth: usize,
    /// Bytes that the compiled regular expressions of one expression may take.
    #[arg(long = "query.max-regex-memory", value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = "Queries")]
    pub query_max_regex_memory: u64,
    /// Size of the form body of a query, such as 20MB.
    #[arg(long = "query.max-request-body", value_name = "SIZE", default_value = "10MiB", value_parser = parse_size, help_heading = "Queries")]
    pub query_max_request_body: u64,

    /// Outage after which the `for` state of an alert is not restored.
    #[arg(long = "rules.alert.for-outage-tolerance", value_name = "DURATION", default_value = "1h", value_parser = duration, help_heading = "Rules")]
    pub rules_alert_for_outage_tolerance: i64,
    /// Least time between the restoring of a `for` state and its firing.
    #[arg(long = "rules.alert.for-grace-period", value_name = "DURATION", default_value = "10m", value_parser = duration, help_heading = "Rules")]
    pub rules_alert_for_grace_period: i64,
    /// Least time between two sendings of an alert to the alert pipeline.
    #[arg(long = "rules.alert.resend-delay", value_name = "DURATION", default_value = "1m", value_parser = duration, help_heading = "Rules")]
    pub rules_alert_resend_delay: i64,
    /// Rule groups evaluated at once.
    #[arg(
        long = "rules.max-concurrent-evals",
        value_name = "N",
        default_value_t = 4,
        help_heading = "Rules"
    )]
    pub rules_max_concurrent_evals: usize,
    /// Batches of alerts that may wait for the alert pipeline.
    #[arg(
        long = "alertmanager.notification-queue-capacity",
        value_name = "N",
        default_value_t = 10_000,
        help_heading = "Rules"
    )]
    pub alertmanager_notification_queue_capacity: usize,

    /// Comma separated features to switch on; can be repeated.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',', help_heading = "Other")]
    pub enable_feature: Vec<String>,
    /// Least severity that is logged.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = ["debug", "info", "warn", "error"], help_heading = "Other")]
    pub log_level: String,
    /// Form of log lines.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = ["logfmt", "json"], help_heading = "Other")]
    pub log_format: String,
}

/// How much memory storage may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryLimit {
    /// 0: no bound.
    Bytes(u64),
    /// Of what the machine, or the control group, has.
    Part(f64),
}

fn memory_limit(text: &str) -> Result<MemoryLimit, String> {
    let Some(number) = text.strip_suffix('%') else { return parse_size(text).map(MemoryLimit::Bytes) };
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(MemoryLimit::Part(percent / 100.0)),
        _ => Err(format!("not a size, and not a percentage above 0% and up to 100%: {text:?}")),
    }
}

fn duration(text: &str) -> Result<i64, String> {
    parse_duration_ms(text).map_err(|e| e.to_string())
}
