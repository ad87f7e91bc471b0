//! Delivery only: receivers, the durable outbox, retry, the message.
//!
//! The way of a notification: `alerts` decides that a receiver must be told, builds the [`Message`], and writes it
//! as a [`Notification`] to the outbox in the same transaction as the state change that caused it. Only then it
//! is handed to the [`Notifier`], which posts it until the receiver answers 2xx and reports it as [`Settled`];
//! `alerts` then removes the row. After a crash the rows that are left are handed over again.
//!
//! ```text
//!  Notifier.send ─► Queue: lane per (receiver, integration) ─► stream per group key ─► Transport ─► Settled
//!                          few requests at a time              in order, one at a time    POST
//! ```
//!
//! Reading order: `config.rs` (receivers), `message.rs` (what is posted), `outbox.rs` (its durable form), `queue.rs`
//! (pure: who is due, back-off), `transport.rs` (HTTP), `delivery.rs` (the loop around them).
//!
//! Invariants: within one (receiver, integration, group key) notifications arrive in the order in which they were
//! decided, so that "resolved" never overtakes "firing"; a receiver that is down delays no other receiver; a
//! notification leaves the outbox only when it was taken, when its receiver is no longer configured, or when it is
//! older than [`NOTIFICATION_AGE_MAX_MS`], and the last two are logged and counted. This module knows nothing of
//! routes, groups, or what an alert's state means.

pub mod config;
mod delivery;
mod message;
mod metrics;
mod outbox;
mod queue;
mod transport;

pub use config::{Integration, Receiver, Receivers, UrlSource, WebhookConfig};
pub use delivery::{NOTIFICATION_AGE_MAX_MS, Notifier, Settled};
pub use message::{Message, MessageAlert, Status, go_time};
pub use metrics::NotifyMetrics;
pub use outbox::Notification;
pub use transport::{DeliveryError, HttpTransport, Post, Transport};
