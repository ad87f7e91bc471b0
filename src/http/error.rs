//! What can go wrong with a request.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Why a request could not be made or its answer not be read.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("unable to read {what} {path:?}: {cause}")]
    File { what: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{what} is no valid PEM: {cause}")]
    Pem { what: String, cause: String },
    #[error("TLS settings do not fit together: {0}")]
    Tls(String),
    #[error("{0} cannot be sent as a header")]
    Header(String),
    /// The URL or the proxy's is invalid, or the client cannot be built.
    #[error("{}", error_chain(.0))]
    Request(reqwest::Error),
    #[error("body size limit exceeded: more than {limit} bytes")]
    TooLarge { limit: usize },
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        HttpError::Request(error.without_url())
    }
}

/// An error and its causes in one line: `A: B: C`. A cause that its parent's text ends with is not repeated.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            let _infallible = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}
