//! Clients shared by equal settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};

use super::tls;
use super::{Authentication, HttpConfig, HttpError, SecretSource};

/// Idle connections kept per host: a scrape or a notification is rarely sent to one host twice at once.
const IDLE_PER_HOST_MAX: usize = 2;
/// Longer than the usual scrape interval, so that the next scrape finds its connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// As Go's client.
const REDIRECTS_MAX: usize = 10;

/// Hands out clients: one for all equal settings, for each holds a connection pool and TLS state.
#[derive(Clone, Debug, Default)]
pub struct ClientPool {
    clients: Arc<Mutex<HashMap<HttpConfig, HttpClient>>>,
}

impl ClientPool {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The client of these settings. It connects, and reads files, at its first request only.
    #[must_use]
    pub fn client(&self, config: &HttpConfig) -> HttpClient {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Settings that a reload left behind are held by nobody else.
        clients.retain(|c, client| c == config || Arc::strong_count(&client.shared) > 1);
        clients
            .entry(config.clone())
            .or_insert_with(|| HttpClient {
                shared: Arc::new(Shared { config: config.clone(), built: Mutex::default() }),
            })
            .clone()
    }
}

/// A client with its authentication and headers. Cloning gives a handle to the same one.
#[derive(Clone, Debug)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: HttpConfig,
    built: Mutex<Option<Built>>,
}

#[derive(Debug)]
struct Built {
    client: reqwest::Client,
    /// When the files of the TLS settings were changed last; a newer change builds a new client.
    files: Vec<Option<SystemTime>>,
}

impl HttpClient {
    /// A request with authentication and headers; the caller adds a timeout and a body.
    ///
    /// # Errors
    /// When a file of the settings cannot be read or holds no certificate or key.
    pub fn request(&self, method: Method, url: url::Url) -> Result<RequestBuilder, HttpError> {
        let mut request = self.client()?.request(method, url);
        if let Some(authentication) = &self.shared.config.authentication {
            request = request.header(AUTHORIZATION, authorization(authentication)?);
        }
        for (name, source) in &self.shared.config.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| HttpError::Header(format!("the name {name:?}")))?;
            request = request.header(header, header_value(text(source, "header file")?, name)?);
        }
        Ok(request)
    }

    fn client(&self) -> Result<reqwest::Client, HttpError> {
        let config = &self.shared.config;
        let files: Vec<_> =
            tls::files(config).map(|f| std::fs::metadata(f).and_then(|m| m.modified()).ok()).collect();
        let mut built = self.shared.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = built.as_ref().filter(|b| b.files == files) {
            return Ok(built.client.clone());
        }
        let client = build(config)?;
        *built = Some(Built { client: client.clone(), files });
        Ok(client)
    }
}

fn build(config: &HttpConfig) -> Result<reqwest::Client, HttpError> {
    // reqwest asks for a process-wide provider even where it is handed a finished TLS configuration. That one is
    // already installed is fine.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let redirects = match config.follow_redirects {
        true => reqwest::redirect::Policy::limited(REDIRECTS_MAX),
        false => reqwest::redirect::Policy::none(),
    };
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(config)?)
        .user_agent(concat!("StreamGate/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .redirect(redirects)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT);
    if !config.enable_http2 {
        builder = builder.http1_only();
    }
    match &config.proxy_url {
        Some(url) => {
            let except = config.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            builder = builder.proxy(reqwest::Proxy::all(url)?.no_proxy(except));
        }
        None if config.proxy_from_environment => {}
        None => builder = builder.no_proxy(),
    }
    Ok(builder.build()?)
}

fn authorization(authentication: &Authentication) -> Result<HeaderValue, HttpError> {
    use base64::Engine as _;
    match authentication {
        Authentication::Basic { username, password } => {
            let pair = format!("{}:{}", text(username, "username file")?, text(password, "password file")?);
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            header_value(format!("Basic {encoded}"), "Authorization")
        }
        Authentication::Header { kind, credentials } => {
            header_value(format!("{kind} {}", text(credentials, "credentials file")?), "Authorization")
        }
    }
}

/// The text of a secret; that of a file without white space around it.
fn text(source: &SecretSource, what: &'static str) -> Result<String, HttpError> {
    match source {
        SecretSource::Value(secret) => Ok(secret.reveal().to_owned()),
        SecretSource::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(cause) => Err(HttpError::File { what, path: path.clone(), cause }),
        },
    }
}

fn header_value(text: String, name: &str) -> Result<HeaderValue, HttpError> {
    let mut value =
        HeaderValue::try_from(text).map_err(|_| HttpError::Header(format!("the value of {name}")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
