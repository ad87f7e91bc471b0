//! The store in a SQLite file: one table per [`Table`], WAL mode, `synchronous=FULL`.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::{Op, Order, Row, Scan, StateError, Store, Table};

/// One schema version per entry; `PRAGMA user_version` says how many have been applied.
const MIGRATIONS: [&str; 1] = [concat!(
    "CREATE TABLE alerts (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE notification_log (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE outbox (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE history (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE reports (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE pushed (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE rules (key TEXT PRIMARY KEY, ts INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;",
    "CREATE INDEX alerts_ts ON alerts (ts, key);",
    "CREATE INDEX notification_log_ts ON notification_log (ts, key);",
    "CREATE INDEX outbox_ts ON outbox (ts, key);",
    "CREATE INDEX history_ts ON history (ts, key);",
    "CREATE INDEX reports_ts ON reports (ts, key);",
    "CREATE INDEX pushed_ts ON pushed (ts, key);",
    "CREATE INDEX rules_ts ON rules (ts, key);",
)];

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens or creates the file and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // NORMAL loses the last commits at power loss; the outbox must not.
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        let fail =
            |e: rusqlite::Error| StateError::Open { path: path.display().to_string(), reason: e.to_string() };
        Self::prepare(open().map_err(fail)?)
            .map_err(|reason| StateError::Open { path: path.display().to_string(), reason })
    }

    /// A store that lives as long as this value: for tests and for a server without a data directory.
    ///
    /// # Errors
    /// When SQLite cannot allocate it.
    pub fn in_memory() -> Result<Self, StateError> {
        let connection = Connection::open_in_memory().map_err(failed)?;
        Self::prepare(connection).map_err(StateError::Failed)
    }

    fn prepare(mut connection: Connection) -> Result<Self, String> {
        let text = |e: rusqlite::Error| e.to_string();
        let version: u32 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(text)?;
        let version = version as usize;
        if version > MIGRATIONS.len() {
            return Err(format!(
                "it has schema version {version}, this program knows up to {}",
                MIGRATIONS.len()
            ));
        }
        for (i, sql) in MIGRATIONS.iter().enumerate().skip(version) {
            let tx = connection.transaction().map_err(text)?;
            tx.execute_batch(sql).map_err(text)?;
            tx.pragma_update(None, "user_version", i as i64 + 1).map_err(text)?;
            tx.commit().map_err(text)?;
        }
        Ok(SqliteStore { connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn commit(&self, ops: Vec<Op>) -> Result<(), StateError> {
        if ops.is_empty() {
            return Ok(());
        }
        let mut connection = self.lock();
        let tx =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        for op in &ops {
            apply(&tx, op).map_err(failed)?;
        }
        tx.commit().map_err(failed)
    }

    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StateError> {
        let connection = self.lock();
        let sql = format!("SELECT key, ts, body FROM {} WHERE key = ?1", table.as_str());
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        statement.query_row([key], row).optional().map_err(failed)
    }

    fn scan(&self, table: Table, scan: &Scan) -> Result<Vec<Row>, StateError> {
        let (direction, beyond) = match scan.order {
            Order::OldestFirst => ("ASC", ">"),
            Order::NewestFirst => ("DESC", "<"),
        };
        let mut sql = format!("SELECT key, ts, body FROM {} WHERE ts >= ? AND ts <= ?", table.as_str());
        let (from, to) = (scan.from.unwrap_or(i64::MIN), scan.to.unwrap_or(i64::MAX));
        let limit = scan.limit.map_or(-1, |l| i64::try_from(l).unwrap_or(i64::MAX));
        let mut values: Vec<&dyn ToSql> = vec![&from, &to];
        if let Some((ts, key)) = &scan.after {
            sql.push_str(&format!(" AND (ts, key) {beyond} (?, ?)"));
            values.push(ts);
            values.push(key);
        }
        sql.push_str(&format!(" ORDER BY ts {direction}, key {direction} LIMIT ?"));
        values.push(&limit);
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let rows = statement.query_map(values.as_slice(), row).map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }

    fn count(&self, table: Table) -> Result<u64, StateError> {
        let sql = format!("SELECT count(*) FROM {}", table.as_str());
        let count: i64 = self.lock().query_row(&sql, [], |r| r.get(0)).map_err(failed)?;
        Ok(count.unsigned_abs())
    }
}

fn apply(tx: &rusqlite::Transaction<'_>, op: &Op) -> rusqlite::Result<()> {
    match op {
        Op::Put { table, row } => {
            let sql = format!(
                "INSERT INTO {} (key, ts, body) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET ts = ?2, body = ?3",
                table.as_str()
            );
            tx.prepare_cached(&sql)?.execute(params![row.key, row.ts, row.body])?;
        }
        Op::Delete { table, key } => {
            tx.prepare_cached(&format!("DELETE FROM {} WHERE key = ?1", table.as_str()))?.execute([key])?;
        }
        Op::DeleteBefore { table, before } => {
            tx.prepare_cached(&format!("DELETE FROM {} WHERE ts < ?1", table.as_str()))?.execute([before])?;
        }
    }
    Ok(())
}

fn row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row { key: r.get(0)?, ts: r.get(1)?, body: r.get(2)? })
}

fn failed(e: rusqlite::Error) -> StateError {
    StateError::Failed(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: Table, key: &str, ts: i64) -> Op {
        Op::Put { table, row: Row { key: key.into(), ts, body: key.as_bytes().to_vec() } }
    }

    fn keys(store: &SqliteStore, scan: &Scan) -> Vec<String> {
        store.scan(Table::History, scan).unwrap().into_iter().map(|r| r.key).collect()
    }

    #[test]
    fn rows_survive_reopening_and_pages_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let ops = [("a", 1), ("b", 2), ("c", 2), ("d", 3)].map(|(k, ts)| put(Table::History, k, ts));
        SqliteStore::open(&path).unwrap().commit(ops.to_vec()).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(keys(&store, &Scan::default()), ["a", "b", "c", "d"]);
        let newest = Scan { order: Order::NewestFirst, limit: Some(2), ..Scan::default() };
        assert_eq!(keys(&store, &newest), ["d", "c"]);
        assert_eq!(keys(&store, &Scan { after: Some((2, "c".into())), ..newest }), ["b", "a"]);
        assert_eq!(keys(&store, &Scan { from: Some(2), to: Some(2), ..Scan::default() }), ["b", "c"]);
        store
            .commit(vec![Op::DeleteBefore { table: Table::History, before: 2 }, put(Table::History, "b", 9)])
            .unwrap();
        assert_eq!(keys(&store, &Scan::default()), ["c", "d", "b"]);
        assert_eq!(store.count(Table::History).unwrap(), 3);
        assert_eq!(store.get(Table::History, "a").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        std::fs::write(&path, "this is not a database, it is a text that is long enough").unwrap();
        assert!(SqliteStore::open(&path).is_err());
    }
}
