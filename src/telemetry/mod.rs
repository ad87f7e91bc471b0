//! What the process says of itself: the registry of its own metrics, and log lines.
//!
//! Each module that counts something has a `metrics.rs` with a struct of counters, gauges and histograms and a
//! `register(&mut Registry) -> Self`; `app` builds them and hands them in. Names get the prefix `streamgate_`;
//! a counter is registered without `_total`, a help text without its final dot (prometheus-client adds both).

mod logging;
mod registry;
mod repeats;

pub use logging::{LogFormat, init_logging};
pub use registry::{Registry, new_registry};
pub use repeats::Repeats;
