//! The one durable store of everything that is not a sample: alerts, acknowledgements, the notification log and
//! outbox, alert history, reports, pushed groups.
//!
//! A [`Store`] holds rows in [`Table`]s: a key, a time that is indexed, and a body (JSON) that only the owner of
//! the table understands. What must hold together is committed together: [`Store::commit`] takes every change of
//! one event as a list of [`Op`]s and makes all of them durable or none. SQLite is the implementation that ships;
//! the trait is what a PostgreSQL one has to meet.

mod sqlite;
mod store;

pub use sqlite::{SetAside, SqliteStore};
pub use store::{Op, Order, Row, Scan, StateError, Store, Table};
