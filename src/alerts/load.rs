//! From the store back to the state that was committed last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::config::AlertmanagerConfig;
use super::core::{Core, Effects, Limits};
use super::entry::{Entry, parse_id};
use super::log::LogEntry;
use super::metrics::AlertsMetrics;
use crate::model::Timestamp;
use crate::notify::Notification;
use crate::state::{Order, Row, Scan, StateError, Store, Table};

/// What the store holds of the pipeline.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub alerts: Vec<Row>,
    pub log: Vec<Row>,
    pub outbox: Vec<Row>,
    pub newest_history: Option<Row>,
}

impl Stored {
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &dyn Store) -> Result<Self, StateError> {
        let newest = Scan { order: Order::NewestFirst, limit: Some(1), ..Scan::default() };
        Ok(Stored {
            alerts: store.scan(Table::Alerts, &Scan::default())?,
            log: store.scan(Table::NotificationLog, &Scan::default())?,
            outbox: store.scan(Table::Outbox, &Scan::default())?,
            newest_history: store.scan(Table::History, &newest)?.pop(),
        })
    }
}

impl Core {
    /// The pipeline as it was committed last, at the time `now`. Also gives the notifications that wait in the outbox,
    /// in order, to be sent again. A row that cannot be read is passed over, counted and logged.
    ///
    /// An alert that fired then fires until its senders have had time to state it again, for they may have been down
    /// together with us: the resolve timeout, or what they used to give, whichever is longer.
    #[must_use]
    pub fn load(
        config: Arc<AlertmanagerConfig>,
        external_url: String,
        limits: Limits,
        metrics: AlertsMetrics,
        stored: Stored,
        now: Timestamp,
    ) -> (Core, Vec<Notification>) {
        let resolve_timeout_ms = config.resolve_timeout_ms;
        let mut core = Core {
            config,
            external_url,
            limits,
            metrics,
            alerts: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_ids: HashMap::new(),
            next_group: 0,
            log: BTreeMap::new(),
            orphans: BTreeSet::new(),
            outbox: BTreeMap::new(),
            outbox_bytes: 0,
            streams: HashMap::new(),
            next_notification: 0,
            next_history: 0,
            timers: BTreeSet::new(),
            steps_due: BTreeSet::new(),
            counts: [0; 3],
            dirty_alerts: BTreeSet::new(),
            dirty_log: BTreeSet::new(),
            effects: Effects::default(),
        };
        for row in stored.alerts {
            let entry = serde_json::from_slice::<Entry>(&row.body).map_err(|e| e.to_string());
            match (parse_id(&row.key), entry) {
                (Some(fp), Ok(mut entry)) if entry.labels.fingerprint() == fp => {
                    if entry.ends_at > entry.updated_at {
                        let given = entry.ends_at - entry.updated_at;
                        entry.ends_at = entry.ends_at.max(now.saturating_add(given.max(resolve_timeout_ms)));
                    }
                    core.counts[entry.state() as usize] += 1;
                    core.alerts.insert(fp, entry);
                }
                (_, Err(e)) => core.unreadable("alert", &row.key, &e),
                _ => core.unreadable("alert", &row.key, "the key is not the fingerprint of the labels"),
            }
        }
        for row in stored.log {
            match serde_json::from_slice::<LogEntry>(&row.body) {
                Ok(entry) => {
                    core.log.insert(row.key, entry);
                }
                Err(e) => core.unreadable("notification log entry", &row.key, &e.to_string()),
            }
        }
        let mut waiting = Vec::new();
        for row in stored.outbox {
            let key = row.key.clone();
            match Notification::from_row(row) {
                Ok(notification) => {
                    core.next_notification = core.next_notification.max(notification.seq + 1);
                    core.outbox_add(&notification);
                    waiting.push(notification);
                }
                Err(e) => core.unreadable("notification", &key, &e),
            }
        }
        waiting.sort_by_key(|n| n.seq);
        if let Some(row) = stored.newest_history {
            let seq = row.key.split('-').next().and_then(|seq| u64::from_str_radix(seq, 16).ok());
            core.next_history = seq.map_or(0, |seq| seq + 1);
        }
        core.rebuild_groups(now);
        for fp in core.alerts.keys().copied().collect::<Vec<_>>() {
            core.watch_end(fp);
            core.watch_forget(fp);
        }
        (core, waiting)
    }

    fn unreadable(&mut self, what: &str, key: &str, error: &str) {
        self.metrics.rows_unreadable.inc();
        tracing::error!(key, error, "A stored {what} cannot be read and is passed over");
    }
}
