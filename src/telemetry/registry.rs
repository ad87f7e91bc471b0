//! The registry of our own metrics.

pub use prometheus_client::registry::Registry;

/// An empty registry whose metrics are all named `streamgate_…`.
#[must_use]
pub fn new_registry() -> Registry {
    Registry::with_prefix("streamgate")
}
