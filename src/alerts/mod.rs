//! From an alert to a decision to notify: inbox, route, aggregation group, dedup, escalation policy, history.
//!
//! ```text
//!  rules (channel) ─┐                      ┌─ timers: end, group tick, escalation step
//!  API (post, …)  ──┼─► Pipeline (shell) ──┤
//!  notify (settled)─┘        │             └─► Core::finish ─► Effects { ops, notifications }
//!                            │                                     │           │
//!                            └── commit ops in one transaction ◄───┘           │
//!                                then: Notifier.send ◄─────────────────────────┘, answer callers
//! ```
//!
//! [`Core`] is the pipeline as a state machine: every event is a method that takes the time as `now`, and
//! [`Core::finish`] gives the effects. It knows no clock, socket, task or store. [`Pipeline`] is the task around it.
//! An alert has a life of its own in `entry.rs` (merge, hold, resolve); how groups are flushed, and where in that order
//! inhibition, time intervals and silences belong, stands in `groups.rs`.
//!
//! Reading order: `config.rs`, `route.rs`, `entry.rs`, `core.rs`, `groups.rs`, `log.rs`, `escalation.rs`, `load.rs`,
//! `pipeline.rs`.
//!
//! Invariants:
//! - A fingerprint is one alert, whoever states it, and one notification.
//! - What a receiver is told stands in the notification log and in the outbox before it is sent; both are committed
//!   with the change that caused them. So [`Core::load`] of what was committed goes on where a crash interrupted it:
//!   nothing is lost, and nothing is decided twice.
//! - Whoever was told that an alert fires is told that it resolved, if it wants to hear that, also when it was called
//!   in by escalation, and also after a reload that took its route away.
//! - That an alert is stated again unchanged costs no write.

pub mod config;
mod core;
mod entry;
mod escalation;
mod groups;
mod history;
mod load;
mod log;
mod matchers;
mod metrics;
mod pipeline;
mod route;
mod view;

#[cfg(test)]
mod tests;

pub use config::AlertmanagerConfig;
pub use core::{Core, Effects, Limits};
pub use load::Stored;
pub use matchers::{MatcherError, parse_matchers};
pub use metrics::AlertsMetrics;
pub use pipeline::{Alerts, Pipeline, PipelineOptions};
pub use view::{
    AlertFilter, AlertRefusal, AlertView, AlertViewState, HistoryEvent, HistoryEventKind, HistoryPage,
    HistoryQuery, NewAlert,
};
