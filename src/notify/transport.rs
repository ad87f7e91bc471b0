//! One attempt: HTTP, and the trait that tests replace.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

use super::config::parse_url;
use super::{UrlSource, WebhookConfig};
use crate::http::{ClientPool, HttpError, error_chain, read_body};

/// How much of a refusal's body is read for the log.
const ANSWER_BYTES_MAX: usize = 4096;
/// How much of it is shown.
const ANSWER_SHOWN_CHARS: usize = 200;

/// What is posted.
#[derive(Clone, Debug)]
pub struct Post {
    pub idempotency_key: String,
    pub body: Bytes,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Any answer but 2xx.
    #[error("unexpected status code {code}: {answer}")]
    Status { code: u16, answer: String, retry_after: Option<Duration> },
    /// No answer.
    #[error("{0}")]
    NoAnswer(String),
    /// A file of the configuration (URL, secret, certificate) cannot be used as it is now.
    #[error("{0}")]
    Config(String),
}

impl DeliveryError {
    /// Whether the receiver as a whole seems to be unable to take anything now.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            DeliveryError::Status { code, .. } => *code >= 500 || *code == 429,
            DeliveryError::NoAnswer(_) | DeliveryError::Config(_) => true,
        }
    }
}

/// Makes attempts. [`HttpTransport`] is the real one.
pub trait Transport: Send + Sync + 'static {
    /// Posts once; returns when the receiver has answered 2xx, and within the webhook's timeout.
    ///
    /// # Errors
    /// Then it is unknown whether the receiver has taken it.
    fn post(&self, webhook: Arc<WebhookConfig>, post: Post) -> BoxFuture<'static, Result<(), DeliveryError>>;
}

/// Posts over HTTP.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    clients: ClientPool,
}

impl HttpTransport {
    #[must_use]
    pub fn new(clients: ClientPool) -> Self {
        HttpTransport { clients }
    }
}

impl Transport for HttpTransport {
    fn post(&self, webhook: Arc<WebhookConfig>, post: Post) -> BoxFuture<'static, Result<(), DeliveryError>> {
        let client = self.clients.client(&webhook.http);
        Box::pin(async move {
            let url = match &webhook.url {
                UrlSource::Value(url) => url.clone(),
                UrlSource::File(path) => {
                    let text = tokio::fs::read_to_string(path).await.map_err(|e| {
                        DeliveryError::Config(format!("url_file {} cannot be read: {e}", path.display()))
                    })?;
                    parse_url(text.trim()).map_err(|reason| {
                        DeliveryError::Config(format!("url_file {}: {reason}", path.display()))
                    })?
                }
            };
            let request = client
                .request(reqwest::Method::POST, url)
                .map_err(|e| DeliveryError::Config(error_chain(&e)))?
                .timeout(Duration::from_millis(webhook.timeout_ms.unsigned_abs()))
                .header(CONTENT_TYPE, "application/json")
                .header("Idempotency-Key", post.idempotency_key)
                .body(post.body);
            let mut response = request.send().await.map_err(|e| {
                DeliveryError::NoAnswer(if e.is_timeout() {
                    format!("no answer within {} ms", webhook.timeout_ms)
                } else {
                    error_chain(&HttpError::from(e))
                })
            })?;
            let status = response.status();
            let mut answer = Vec::new();
            // Read also after success, so that the connection can be used again. What goes wrong here, or is too
            // much, changes nothing about the verdict.
            let _partial = read_body(&mut response, ANSWER_BYTES_MAX, &mut answer).await;
            if status.is_success() {
                return Ok(());
            }
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            let text = String::from_utf8_lossy(&answer);
            Err(DeliveryError::Status {
                code: status.as_u16(),
                answer: text.trim().chars().take(ANSWER_SHOWN_CHARS).collect(),
                retry_after: retry_after.map(Duration::from_secs),
            })
        })
    }
}
