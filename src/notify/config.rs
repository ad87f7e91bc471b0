//! Receivers and their integrations: `receivers` of an Alertmanager file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::http::{HttpConfig, RawHttpConfig, Secret};
use crate::model::parse_duration_ms;
use crate::yaml::{Problems, Source, Spanned, Upstream, null_is_default};

/// Keys of receivers that exist upstream and not here.
pub const UPSTREAM_KEYS: &[Upstream] = &[
    Upstream {
        among: "webhook_configs",
        keys: &[
            "discord_configs",
            "email_configs",
            "incidentio_configs",
            "pagerduty_configs",
            "slack_configs",
            "opsgenie_configs",
            "wechat_configs",
            "pushover_configs",
            "victorops_configs",
            "sns_configs",
            "telegram_configs",
            "webex_configs",
            "msteams_configs",
            "msteamsv2_configs",
            "jira_configs",
            "rocketchat_configs",
            "mattermost_configs",
        ],
    },
    Upstream { among: "max_alerts", keys: &["payload"] },
];

/// How long one attempt may take unless the configuration says otherwise, in milliseconds.
const TIMEOUT_DEFAULT_MS: i64 = 10_000;

/// An entry of `receivers` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReceiver {
    pub name: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub webhook_configs: Vec<Spanned<RawWebhook>>,
}

/// An entry of `webhook_configs` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    pub send_resolved: Option<bool>,
    pub url: Option<Spanned<Secret>>,
    pub url_file: Option<Spanned<String>>,
    pub max_alerts: Option<Spanned<u32>>,
    pub timeout: Option<Spanned<String>>,
    pub http_config: Option<RawHttpConfig>,
}

/// Every receiver by its name.
pub type Receivers = BTreeMap<String, Arc<Receiver>>;

/// Who is told, and by which ways.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    pub name: String,
    /// May be empty: then nobody is told, and the alerts are only shown.
    pub integrations: Vec<Integration>,
}

/// One way of telling a receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Integration {
    /// Whether it is told that alerts have resolved.
    pub send_resolved: bool,
    pub webhook: Arc<WebhookConfig>,
}

impl Integration {
    /// What kind it is, as metrics and the notification log name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        "webhook"
    }
}

/// Checked settings of a webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    pub url: UrlSource,
    /// At most so many alerts in a message; 0 means all.
    pub max_alerts: usize,
    /// How long one attempt may take.
    pub timeout_ms: i64,
    pub http: HttpConfig,
}

/// Where to post. An URL often holds a token, so it is shown nowhere.
#[derive(Clone, PartialEq)]
pub enum UrlSource {
    Value(url::Url),
    /// Read at each use.
    File(PathBuf),
}

impl fmt::Debug for UrlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlSource::Value(_) => f.write_str("<secret>"),
            UrlSource::File(path) => write!(f, "{path:?}"),
        }
    }
}

impl RawReceiver {
    /// Checks the entry; a relative path counts from `folder`, that of the file, and `http` holds for webhooks that
    /// have no `http_config`. What is wrong goes to `problems`.
    pub fn resolve(
        &self,
        http: &HttpConfig,
        source: &Source,
        folder: &Path,
        problems: &mut Problems,
    ) -> Receiver {
        let integrations =
            self.webhook_configs.iter().filter_map(|w| webhook(w, http, source, folder, problems)).collect();
        Receiver { name: self.name.as_ref().map(|n| n.value.clone()).unwrap_or_default(), integrations }
    }
}

fn webhook(
    entry: &Spanned<RawWebhook>,
    http: &HttpConfig,
    source: &Source,
    folder: &Path,
    problems: &mut Problems,
) -> Option<Integration> {
    let raw = &entry.value;
    let url_file = raw.url_file.as_ref().filter(|f| !f.value.is_empty());
    let url = match (raw.url.as_ref().filter(|u| !u.value.is_empty()), url_file) {
        (None, None) => {
            problems.push(source.problem_at(entry, "one of url or url_file must be configured"));
            None
        }
        (Some(_), Some(file)) => {
            problems.push(source.problem_at(file, "at most one of url & url_file must be configured"));
            None
        }
        (Some(url), None) => match parse_url(url.value.reveal()) {
            Ok(url) => Some(UrlSource::Value(url)),
            Err(reason) => {
                problems.push(source.problem_at(url, reason));
                None
            }
        },
        (None, Some(file)) => Some(UrlSource::File(folder.join(&file.value))),
    };
    let timeout_ms = match raw.timeout.as_ref().map(|t| (t, parse_duration_ms(&t.value))) {
        None | Some((_, Ok(0))) => TIMEOUT_DEFAULT_MS,
        Some((_, Ok(ms))) => ms,
        Some((timeout, Err(e))) => {
            problems.push(source.problem_at(timeout, e.to_string()));
            TIMEOUT_DEFAULT_MS
        }
    };
    let http = match &raw.http_config {
        Some(section) => section.resolve(source, folder, problems),
        None => http.clone(),
    };
    let webhook = WebhookConfig {
        url: url?,
        max_alerts: raw.max_alerts.as_ref().map_or(0, |m| m.value as usize),
        timeout_ms,
        http,
    };
    Some(Integration { send_resolved: raw.send_resolved.unwrap_or(true), webhook: Arc::new(webhook) })
}

/// An `http` or `https` URL with a host.
///
/// # Errors
/// What is wrong with the text, without showing it.
pub(super) fn parse_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|e| format!("invalid URL: {e}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "http" | "https" => Err("missing host for URL".to_owned()),
        scheme => Err(format!("unsupported scheme {scheme:?} for URL")),
    }
}
