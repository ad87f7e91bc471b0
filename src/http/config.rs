//! The section `http_config`, as Prometheus and Alertmanager both have it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Secret;
use crate::yaml::{Pairs, Problems, Source, Spanned, Upstream, null_is_default};

/// Keys of `http_config` that exist upstream and not here.
pub const UPSTREAM_KEYS: &[Upstream] = &[
    Upstream { among: "follow_redirects", keys: &["oauth2", "proxy_connect_header"] },
    Upstream { among: "password_file", keys: &["username_ref", "password_ref"] },
    Upstream { among: "credentials_file", keys: &["credentials_ref"] },
    Upstream { among: "insecure_skip_verify", keys: &["ca_ref", "cert_ref", "key_ref"] },
];

/// `http_config` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHttpConfig {
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
pub struct RawBasicAuth {
    #[serde(default, deserialize_with = "null_is_default")]
    pub username: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub username_file: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub password: Secret,
    #[serde(default, deserialize_with = "null_is_default")]
    pub password_file: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAuthorization {
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub credentials: Secret,
    #[serde(default, deserialize_with = "null_is_default")]
    pub credentials_file: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTlsConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    pub ca: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub cert: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub key: Secret,
    #[serde(default, deserialize_with = "null_is_default")]
    pub ca_file: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub cert_file: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub key_file: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub server_name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub insecure_skip_verify: bool,
    pub min_version: Option<Spanned<String>>,
    pub max_version: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHeader {
    #[serde(default, deserialize_with = "null_is_default")]
    pub values: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub secrets: Vec<Secret>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub files: Vec<String>,
}

/// A secret that stands in the configuration, or in a file that is read at each use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretSource {
    Value(Secret),
    File(PathBuf),
}

impl Default for SecretSource {
    fn default() -> Self {
        SecretSource::Value(Secret::default())
    }
}

/// How a request says who sends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    Basic {
        username: SecretSource,
        password: SecretSource,
    },
    /// `Authorization: KIND CREDENTIALS`.
    Header {
        kind: String,
        credentials: SecretSource,
    },
}

/// Checked TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsConfig {
    /// None: the system's roots.
    pub ca: Option<SecretSource>,
    /// Certificate chain and key that we show.
    pub identity: Option<(SecretSource, SecretSource)>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
    /// TLS 1.3 only.
    pub tls13_only: bool,
    /// TLS 1.2 only.
    pub tls12_only: bool,
}

/// Checked settings of a client. Equal ones share a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpConfig {
    pub authentication: Option<Authentication>,
    pub tls: TlsConfig,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: bool,
    /// Name and value of each further header.
    pub headers: Vec<(String, SecretSource)>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            authentication: None,
            tls: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: false,
            headers: Vec::new(),
        }
    }
}

/// Headers that the client sets itself, in lower case. Source: prometheus/common, `config/headers.go`.
const RESERVED_HEADERS: &[&str] = &[
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

impl RawHttpConfig {
    /// Checks the section; a relative path counts from `folder`, that of the file. What is wrong goes to `problems`.
    pub fn resolve(&self, source: &Source, folder: &Path, problems: &mut Problems) -> HttpConfig {
        let mut check = Check { source, folder, problems };
        HttpConfig {
            authentication: self.authentication(&mut check),
            tls: self.tls_config.as_ref().map(|t| tls(t, &mut check)).unwrap_or_default(),
            follow_redirects: self.follow_redirects.unwrap_or(true),
            enable_http2: self.enable_http2.unwrap_or(true),
            proxy_url: self.proxy(&mut check),
            no_proxy: self.no_proxy.as_ref().map(|n| n.value.clone()).filter(|n| !n.is_empty()),
            proxy_from_environment: self.proxy_from_environment.as_ref().is_some_and(|p| p.value),
            headers: self.headers(&mut check),
        }
    }

    fn authentication(&self, check: &mut Check) -> Option<Authentication> {
        let bearer_file = self.bearer_token_file.as_ref().filter(|f| !f.value.is_empty());
        let bearer = self.bearer_token.as_ref().filter(|t| !t.value.is_empty());
        if let (Some(_), Some(file)) = (bearer, bearer_file) {
            check.fail(file, "at most one of bearer_token & bearer_token_file must be configured");
        }
        let one = "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured";
        let bearer_set = bearer.is_some() || bearer_file.is_some();
        if let Some(basic) = &self.basic_auth {
            if self.authorization.is_some() || bearer_set {
                check.fail(basic, one);
            }
            let raw = &basic.value;
            if !raw.username.is_empty() && !raw.username_file.is_empty() {
                check.fail(basic, "at most one of basic_auth username & username_file must be configured");
            }
            if !raw.password.is_empty() && !raw.password_file.is_empty() {
                check.fail(basic, "at most one of basic_auth password & password_file must be configured");
            }
            let username = Secret::new(raw.username.clone());
            return Some(Authentication::Basic {
                username: check.secret(&username, &raw.username_file).unwrap_or_default(),
                password: check.secret(&raw.password, &raw.password_file).unwrap_or_default(),
            });
        }
        if let Some(authorization) = &self.authorization {
            if bearer_set {
                check.fail(
                    authorization,
                    "authorization is not compatible with bearer_token & bearer_token_file",
                );
            }
            let raw = &authorization.value;
            if !raw.credentials.is_empty() && !raw.credentials_file.is_empty() {
                check.fail(
                    authorization,
                    "at most one of authorization credentials & credentials_file must be configured",
                );
            }
            let kind = if raw.kind.trim().is_empty() { "Bearer" } else { raw.kind.trim() };
            if kind.eq_ignore_ascii_case("basic") {
                check.fail(
                    authorization,
                    "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
                );
            }
            let credentials = check.secret(&raw.credentials, &raw.credentials_file)?;
            return Some(Authentication::Header { kind: kind.to_owned(), credentials });
        }
        let credentials = match (bearer, bearer_file) {
            (Some(token), _) => SecretSource::Value(token.value.clone()),
            (None, Some(file)) => SecretSource::File(check.path(&file.value)),
            (None, None) => return None,
        };
        Some(Authentication::Header { kind: "Bearer".to_owned(), credentials })
    }

    fn proxy(&self, check: &mut Check) -> Option<String> {
        let url = self.proxy_url.as_ref().filter(|u| !u.value.is_empty());
        if let Some(from_environment) = self.proxy_from_environment.as_ref().filter(|p| p.value) {
            if url.is_some() {
                check.fail(
                    from_environment,
                    "if proxy_from_environment is configured, proxy_url must not be configured",
                );
            }
            if let Some(no) = self.no_proxy.as_ref().filter(|n| !n.value.is_empty()) {
                check.fail(no, "if proxy_from_environment is configured, no_proxy must not be configured");
            }
        }
        if let (None, Some(no)) = (url, self.no_proxy.as_ref().filter(|n| !n.value.is_empty())) {
            check.fail(no, "if no_proxy is configured, proxy_url must also be configured");
        }
        let url = url?;
        match url::Url::parse(&url.value) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
                return Some(url.value.clone());
            }
            Ok(parsed) if parsed.scheme().starts_with("socks") => {
                check.fail(url, "a SOCKS proxy is not supported yet");
            }
            Ok(_) => check.fail(url, "the proxy's URL must be http:// or https:// and name a host"),
            Err(e) => check.fail(url, format!("invalid URL: {e}")),
        }
        None
    }

    fn headers(&self, check: &mut Check) -> Vec<(String, SecretSource)> {
        let mut out = Vec::new();
        for (name, header) in self.http_headers.iter() {
            let lower = name.value.to_ascii_lowercase();
            if RESERVED_HEADERS.contains(&lower.as_str()) {
                check.fail(name, format!("setting header {:?} is not allowed", name.value));
            } else if reqwest::header::HeaderName::from_bytes(lower.as_bytes()).is_err() {
                check.fail(name, format!("{:?} is no valid header name", name.value));
            }
            let values = header.values.iter().map(|v| SecretSource::Value(Secret::new(v.clone())));
            let secrets = header.secrets.iter().map(|s| SecretSource::Value(s.clone()));
            let files = header.files.iter().map(|f| SecretSource::File(check.path(f)));
            out.extend(values.chain(secrets).chain(files).map(|v| (name.value.clone(), v)));
        }
        out
    }
}

fn tls(raw: &Spanned<RawTlsConfig>, check: &mut Check) -> TlsConfig {
    let tls = &raw.value;
    let mut both = |a: bool, b: bool, name: &str| {
        if a && b {
            check.fail(raw, format!("at most one of {name} and {name}_file must be configured"));
        }
    };
    both(!tls.ca.is_empty(), !tls.ca_file.is_empty(), "ca");
    both(!tls.cert.is_empty(), !tls.cert_file.is_empty(), "cert");
    both(!tls.key.is_empty(), !tls.key_file.is_empty(), "key");
    let ca = check.secret(&Secret::new(tls.ca.clone()), &tls.ca_file);
    let cert = check.secret(&Secret::new(tls.cert.clone()), &tls.cert_file);
    let key = check.secret(&tls.key, &tls.key_file);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            check.fail(
                raw,
                "exactly one of key or key_file must be configured when a client certificate is configured",
            );
            None
        }
        (None, Some(_)) => {
            check.fail(
                raw,
                "exactly one of cert or cert_file must be configured when a client key is configured",
            );
            None
        }
    };
    let min = version(tls.min_version.as_ref(), check).unwrap_or(0);
    let max = version(tls.max_version.as_ref(), check).unwrap_or(13);
    if max < 12 || max < min {
        let at = tls.max_version.as_ref().map_or_else(|| crate::yaml::mark(raw), crate::yaml::mark);
        check.problems.push(check.source.problem(at, "no TLS version is left: only 1.2 and 1.3 are spoken"));
    }
    TlsConfig {
        ca,
        identity,
        server_name: Some(tls.server_name.clone()).filter(|n| !n.is_empty()),
        insecure_skip_verify: tls.insecure_skip_verify,
        tls13_only: min == 13,
        tls12_only: max == 12,
    }
}

/// `TLS12` as 12.
fn version(name: Option<&Spanned<String>>, check: &mut Check) -> Option<u8> {
    let name = name.filter(|n| !n.value.is_empty())?;
    let number = match name.value.as_str() {
        "TLS10" => 10,
        "TLS11" => 11,
        "TLS12" => 12,
        "TLS13" => 13,
        other => {
            check.fail(name, format!("unknown TLS version: {other:?} is none of TLS10, TLS11, TLS12, TLS13"));
            return None;
        }
    };
    Some(number)
}

struct Check<'a> {
    source: &'a Source,
    folder: &'a Path,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn fail<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.problems.push(self.source.problem_at(at, message));
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The value or the file, whichever is set.
    fn secret(&self, value: &Secret, file: &str) -> Option<SecretSource> {
        match (value.is_empty(), file.is_empty()) {
            (false, _) => Some(SecretSource::Value(value.clone())),
            (true, false) => Some(SecretSource::File(self.path(file))),
            (true, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> (HttpConfig, String) {
        let source = Source::new("f", text);
        let mut problems = Problems::default();
        let config = match source.parse_known::<RawHttpConfig>(UPSTREAM_KEYS) {
            Ok(raw) => raw.resolve(&source, Path::new("/etc/x"), &mut problems),
            Err(p) => {
                problems = p;
                HttpConfig::default()
            }
        };
        (config, problems.to_string())
    }

    #[test]
    fn a_full_section_is_read() {
        let (config, problems) = resolve(
            "basic_auth: {username: u, password_file: pw}\n\
             tls_config: {ca_file: ca.pem, cert_file: /c.pem, key_file: k.pem, server_name: s, min_version: TLS13}\n\
             follow_redirects: false\nenable_http2: no\nproxy_url: http://p:1\nno_proxy: localhost\n\
             http_headers: {X-A: {values: [1], secrets: [s], files: [f]}}\n",
        );
        assert_eq!(problems, "");
        let file = |p: &str| SecretSource::File(PathBuf::from(p));
        let value = |v: &str| SecretSource::Value(Secret::new(v));
        assert_eq!(
            config,
            HttpConfig {
                authentication: Some(Authentication::Basic {
                    username: value("u"),
                    password: file("/etc/x/pw")
                }),
                tls: TlsConfig {
                    ca: Some(file("/etc/x/ca.pem")),
                    identity: Some((file("/c.pem"), file("/etc/x/k.pem"))),
                    server_name: Some("s".to_owned()),
                    tls13_only: true,
                    ..TlsConfig::default()
                },
                follow_redirects: false,
                enable_http2: false,
                proxy_url: Some("http://p:1".to_owned()),
                no_proxy: Some("localhost".to_owned()),
                proxy_from_environment: false,
                headers: vec![
                    ("X-A".to_owned(), value("1")),
                    ("X-A".to_owned(), value("s")),
                    ("X-A".to_owned(), file("/etc/x/f"))
                ],
            }
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, expected) in [
            ("bearer_token: a\nbearer_token_file: b\n", "f:2:20: at most one of bearer_token"),
            ("basic_auth: {username: a}\nbearer_token: b\n", "f:1:13: at most one of basic_auth"),
            ("basic_auth:\n  username: a\n  username_file: b\n", "f:2:3: at most one of basic_auth username"),
            ("authorization: {type: Basic, credentials: x}\n", "f:1:16: authorization type"),
            (
                "authorization: {credentials: x, credentials_file: y}\n",
                "f:1:16: at most one of authorization",
            ),
            ("authorization: {credentials: x}\nbearer_token: y\n", "f:1:16: authorization is not"),
            ("tls_config: {cert: x}\n", "f:1:13: exactly one of key"),
            ("tls_config: {min_version: TLS14}\n", "f:1:27: unknown TLS version"),
            ("tls_config: {max_version: TLS11}\n", "f:1:27: no TLS version"),
            ("no_proxy: a\n", "f:1:11: if no_proxy"),
            ("proxy_url: socks5://a\n", "f:1:12: a SOCKS proxy"),
            ("http_headers: {Host: {values: [a]}}\n", "f:1:16: setting header"),
            ("oauth2: {}\n", "f:1:1: `oauth2` is not supported yet"),
            ("basic_auth: {user: a}\n", "f:1:14: unknown field `user`"),
        ] {
            let (_, problems) = resolve(text);
            assert!(problems.starts_with(expected), "{text:?}: {problems}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let (config, _) = resolve("basic_auth: {username: open, password: sesame}\n");
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
