//! The HTTP client side of configuration: `http_config`, TLS, authentication, clients shared by equal settings.
//!
//! A section is a [`RawHttpConfig`]; [`RawHttpConfig::resolve`] checks it and gives an [`HttpConfig`]; a
//! [`ClientPool`] gives one [`HttpClient`] for all equal ones, whose [`HttpClient::request`] carries authentication
//! and headers. [`read_body`] reads an answer up to a limit.
//!
//! Invariants: a secret prints as `<secret>`; files with secrets and keys are read when they are used, so that a
//! rotated one counts at once; TLS roots are loaded at the first handshake, not at start.

mod body;
mod client;
mod config;
mod error;
mod secret;
mod tls;

pub use body::read_body;
pub use client::{ClientPool, HttpClient};
pub use config::{
    Authentication, HttpConfig, RawAuthorization, RawBasicAuth, RawHeader, RawHttpConfig, RawTlsConfig,
    SecretSource, TlsConfig, UPSTREAM_KEYS,
};
pub use error::{HttpError, error_chain};
pub use secret::Secret;
