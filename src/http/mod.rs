//! The HTTP client side of configuration: `http_config`, TLS, authentication, clients shared by equal settings.
