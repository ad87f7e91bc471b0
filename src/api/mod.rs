//! HTTP: routes, wire types, status codes, the pages.
//!
//! A request passes [`serve`]'s accept loop (how many connections, how slow a client may be), the layers of
//! [`router`] (counting, origin, panics, compression), and its handler, which reads its parameters or its body
//! within limits, asks the handles in [`ApiState`], and writes the answer. Whatever blocks or computes runs on a
//! bounded pool; an asker that goes away cancels it.
//!
//! Reading order: [`ApiState`], `router`, `query` as the example of a handler, `dashboard`, `export`, `error`.
//!
//! Invariants: only `error` knows the status code of an error; wire types stay in here; nothing a client sends is
//! read without a limit on size and time; a call that changes something is not taken from another site's page.

mod admin;
mod answer;
mod body;
mod cors;
mod dashboard;
mod error;
mod exemplars;
mod export;
mod features;
mod federate;
mod held;
mod json;
mod lifecycle;
mod metrics;
mod page;
mod params;
mod pool;
mod push;
mod query;
mod readiness;
mod request;
mod request_line;
mod router;
mod rules;
mod series;
mod server;
mod starting;
mod state;
mod status;
mod targets;
#[cfg(test)]
mod tests;
mod time;
mod tree;

pub use answer::{QueryTimes, pieces as answer_pieces};
pub use error::{ApiError, ErrorKind};
pub use metrics::ApiMetrics;
pub use pool::Pool;
pub use query::cut_result;
pub use readiness::{PartState, Readiness};
pub use router::router;
pub use server::{ServeLimits, serve};
pub use starting::{Starting, starting_router};
pub use state::{ApiLimits, ApiState, Lifecycle, LiveConfig, ServerInfo};
pub use time::{parse_duration, parse_time, rfc3339_seconds};
