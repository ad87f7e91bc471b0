//! The contract of a durable store.

use crate::model::Timestamp;

/// Who owns a set of rows. Keys are unique within a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Alerts that are pending delivery, firing, acknowledged or resolved but not yet told. Owner: alerts.
    Alerts,
    /// What each receiver was told last of each aggregation group. Owner: alerts.
    NotificationLog,
    /// Notifications that no receiver has taken yet, by sequence number; `ts` is when each was decided. Owner: alerts,
    /// which writes a row together with the change that caused it; the form of a row is notify's.
    Outbox,
    /// Every change of an alert's state; `ts` is when. Owner: alerts.
    History,
    /// Generated reports; `ts` is when. Owner: reports.
    Reports,
    /// Groups pushed as to the Pushgateway, and metrics recorded by JSON. Owner: ingest.
    Pushed,
    /// What a rule group must remember over a restart. Owner: rules.
    Rules,
}

impl Table {
    pub const ALL: [Table; 7] = [
        Table::Alerts,
        Table::NotificationLog,
        Table::Outbox,
        Table::History,
        Table::Reports,
        Table::Pushed,
        Table::Rules,
    ];

    /// The name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Alerts => "alerts",
            Table::NotificationLog => "notification_log",
            Table::Outbox => "outbox",
            Table::History => "history",
            Table::Reports => "reports",
            Table::Pushed => "pushed",
            Table::Rules => "rules",
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    pub ts: Timestamp,
    pub body: Vec<u8>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Inserts the row, or replaces the one with its key.
    Put { table: Table, row: Row },
    /// Removes a row; nothing happens if there is none.
    Delete { table: Table, key: String },
    /// Removes all rows with `ts` before `before`.
    DeleteBefore { table: Table, before: Timestamp },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending by `(ts, key)`.
    #[default]
    OldestFirst,
    /// Descending by `(ts, key)`.
    NewestFirst,
}

/// Which rows of a table.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Rows with `from <= ts`; `None` means no bound.
    pub from: Option<Timestamp>,
    /// Rows with `ts <= to`; `None` means no bound.
    pub to: Option<Timestamp>,
    pub order: Order,
    /// Only rows after this `(ts, key)` in the scan's order: the last row of the page before.
    pub after: Option<(Timestamp, String)>,
    /// At most so many rows; `None` means all.
    pub limit: Option<usize>,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state store cannot be opened at {path}: {reason}")]
    Open { path: String, reason: String },
    #[error("the state store failed: {0}")]
    Failed(String),
}

/// Durable rows. Calls block on the disk: from async code go through a blocking task.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Makes all of `ops` durable, in order and as one transaction. On return they survive a power loss.
    ///
    /// # Errors
    /// Then none of them took effect.
    fn commit(&self, ops: Vec<Op>) -> Result<(), StateError>;

    /// # Errors
    /// When the store cannot be read.
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StateError>;

    /// # Errors
    /// When the store cannot be read.
    fn scan(&self, table: Table, scan: &Scan) -> Result<Vec<Row>, StateError>;

    /// How many rows a table holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn count(&self, table: Table) -> Result<u64, StateError>;
}
