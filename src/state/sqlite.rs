//! The store in a SQLite file: one table per [`Table`], WAL mode, `synchronous=FULL`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Up to this size the whole file is checked when it is opened; that takes some milliseconds.
const CHECK_BYTES_MAX: u64 = 8 << 20;
/// How many damaged files are kept beside the good one before opening gives up.
const SET_ASIDE_MAX: u32 = 100;

/// A [`Store`] in one SQLite file.
///
/// Commits that arrive while another is being written wait and then go to the disk together, as one transaction:
/// an `fsync` costs the same for one row and for a hundred. Reads have a connection of their own, so that a long
/// scan delays no commit.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Mutex<Connection>,
    /// Commits that wait for the writer. Taken only for a moment, never while writing.
    waiting: Mutex<Vec<Waiting>>,
    /// `None` where the writer is the only connection: for a store in memory, or in a file on a full disk.
    reader: Option<Mutex<Connection>>,
}

#[derive(Debug)]
struct Waiting {
    ops: Vec<Op>,
    /// Filled by whoever writes this commit.
    outcome: Arc<Mutex<Option<Result<(), StateError>>>>,
}

/// A damaged file that was renamed so that the server could start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    pub to: PathBuf,
    pub reason: String,
}

impl SqliteStore {
    /// Opens or creates the file and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database or damaged, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Self::try_open(path).map_err(|fault| fault.error(path))
    }

    /// As [`SqliteStore::open`], but a file that is no database, or a damaged one, is renamed to `NAME.damaged-N`
    /// and an empty store takes its place: a server that watches with an empty memory is better than none.
    ///
    /// # Errors
    /// When the file cannot be opened for another reason, or cannot be renamed.
    pub fn open_or_set_aside(path: &Path) -> Result<(Self, Option<SetAside>), StateError> {
        let reason = match Self::try_open(path) {
            Ok(store) => return Ok((store, None)),
            Err(Fault::Damaged(reason)) => reason,
            Err(fault) => return Err(fault.error(path)),
        };
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let io = |e: std::io::Error| StateError::Open {
            path: path.display().to_string(),
            reason: format!("it is damaged ({reason}) and cannot be set aside: {e}"),
        };
        let to = (1..=SET_ASIDE_MAX)
            .map(|n| beside(&format!(".damaged-{n}")))
            .find(|to| !to.exists())
            .ok_or_else(|| io(std::io::Error::other("too many damaged files lie beside it")))?;
        // The write-ahead log belongs to the damaged file; the new one must not meet it.
        for suffix in ["-wal", "-shm"] {
            let mut name = to.as_os_str().to_owned();
            name.push(suffix);
            match std::fs::rename(beside(suffix), name) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
                _ => {}
            }
        }
        std::fs::rename(path, &to).map_err(io)?;
        Ok((Self::open(path)?, Some(SetAside { to, reason })))
    }

    /// A store that lives as long as this value: for tests and for a server without a data directory.
    ///
    /// # Errors
    /// When SQLite cannot allocate it.
    pub fn in_memory() -> Result<Self, StateError> {
        let connection = Connection::open_in_memory().map_err(failed)?;
        match migrate(connection) {
            Ok(connection) => {
                Ok(SqliteStore { writer: Mutex::new(connection), waiting: Mutex::default(), reader: None })
            }
            Err(fault) => Err(fault.error(Path::new(":memory:"))),
        }
    }

    fn try_open(path: &Path) -> Result<Self, Fault> {
        match Self::connect(path, false) {
            // Sharing the file takes another one, for which there may be no room.
            Err(Fault::Disk(reason)) if path.exists() => {
                tracing::warn!(
                    reason,
                    "the state store is opened without the file that its connections share"
                );
                Self::connect(path, true)
            }
            opened => opened,
        }
    }

    /// `alone`: with one connection, which keeps what several would share in its memory.
    fn connect(path: &Path, alone: bool) -> Result<Self, Fault> {
        let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
        let writer = Connection::open(path)?;
        writer.busy_timeout(Duration::from_secs(5))?;
        if alone {
            writer.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // NORMAL loses the last commits at power loss; the outbox must not.
        writer.pragma_update(None, "synchronous", "FULL")?;
        if (1..=CHECK_BYTES_MAX).contains(&bytes) {
            let verdict: String = writer.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
            if verdict != "ok" {
                return Err(Fault::Damaged(verdict));
            }
        }
        let writer = migrate(writer)?;
        if alone {
            return Ok(SqliteStore { writer: Mutex::new(writer), waiting: Mutex::default(), reader: None });
        }
        let reader = Connection::open(path)?;
        reader.busy_timeout(Duration::from_secs(5))?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(SqliteStore {
            writer: Mutex::new(writer),
            waiting: Mutex::default(),
            reader: Some(Mutex::new(reader)),
        })
    }

    fn read(&self) -> MutexGuard<'_, Connection> {
        lock(self.reader.as_ref().unwrap_or(&self.writer))
    }
}

/// Why a file could not be opened.
enum Fault {
    /// The bytes are no sound database: another attempt will not help.
    Damaged(String),
    /// The disk is full, or fails.
    Disk(String),
    Other(String),
}

impl Fault {
    fn error(self, path: &Path) -> StateError {
        let reason = match self {
            Fault::Disk(reason) => format!("{reason} (is there room, and may it be written?)"),
            Fault::Damaged(reason) | Fault::Other(reason) => reason,
        };
        StateError::Open { path: path.display().to_string(), reason }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                Fault::Damaged(e.to_string())
            }
            Some(
                rusqlite::ErrorCode::DiskFull
                | rusqlite::ErrorCode::SystemIoFailure
                | rusqlite::ErrorCode::CannotOpen,
            ) => Fault::Disk(e.to_string()),
            _ => Fault::Other(e.to_string()),
        }
    }
}

fn migrate(mut connection: Connection) -> Result<Connection, Fault> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let version = version as usize;
    if version > MIGRATIONS.len() {
        let known = MIGRATIONS.len();
        return Err(Fault::Other(format!(
            "it has schema version {version}, this program knows up to {known}"
        )));
    }
    for (i, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let tx = connection.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", i as i64 + 1)?;
        tx.commit()?;
    }
    Ok(connection)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the commits as one transaction.
fn write<'a>(
    connection: &mut Connection,
    commits: impl IntoIterator<Item = &'a Waiting>,
) -> Result<(), StateError> {
    let tx =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    for op in commits.into_iter().flat_map(|c| &c.ops) {
        apply(&tx, op).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}

impl Store for SqliteStore {
    fn commit(&self, ops: Vec<Op>) -> Result<(), StateError> {
        if ops.is_empty() {
            return Ok(());
        }
        let outcome = Arc::new(Mutex::new(None));
        lock(&self.waiting).push(Waiting { ops, outcome: Arc::clone(&outcome) });
        let mut writer = lock(&self.writer);
        // Whoever had the writer before may have taken this commit along.
        if let Some(done) = lock(&outcome).take() {
            return done;
        }
        let together = std::mem::take(&mut *lock(&self.waiting));
        match write(&mut writer, &together) {
            Ok(()) => together.iter().for_each(|c| *lock(&c.outcome) = Some(Ok(()))),
            // One commit that fails must not take the others with it.
            Err(_) if together.len() > 1 => {
                for commit in &together {
                    *lock(&commit.outcome) = Some(write(&mut writer, [commit]));
                }
            }
            Err(e) => return Err(e),
        }
        lock(&outcome).take().unwrap_or(Ok(()))
    }

    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StateError> {
        let connection = self.read();
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
        let connection = self.read();
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let rows = statement.query_map(values.as_slice(), row).map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }

    fn count(&self, table: Table) -> Result<u64, StateError> {
        let sql = format!("SELECT count(*) FROM {}", table.as_str());
        let count: i64 = self.read().query_row(&sql, [], |r| r.get(0)).map_err(failed)?;
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
    fn a_file_that_is_no_database_is_refused_or_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        std::fs::write(&path, "this is not a database, it is a text that is long enough").unwrap();
        assert!(SqliteStore::open(&path).is_err());
        let (store, aside) = SqliteStore::open_or_set_aside(&path).unwrap();
        assert_eq!(store.count(Table::History).unwrap(), 0);
        let aside = aside.unwrap();
        assert!(aside.to.ends_with("state.db.damaged-1"), "{aside:?}");
        assert!(std::fs::read_to_string(aside.to).unwrap().starts_with("this is not"));
        drop(store);
        assert_eq!(SqliteStore::open_or_set_aside(&path).unwrap().1, None);
    }

    #[test]
    fn a_damaged_database_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let ops = (0..500).map(|i| put(Table::History, &format!("key-{i:05}"), i)).collect();
        SqliteStore::open(&path).unwrap().commit(ops).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[4096..len - 10].fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
        let (store, aside) = SqliteStore::open_or_set_aside(&path).unwrap();
        assert!(aside.is_some());
        store.commit(vec![put(Table::History, "a", 1)]).unwrap();
        assert_eq!(keys(&store, &Scan::default()), ["a"]);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(SqliteStore::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = SqliteStore::open_or_set_aside(&path).unwrap_err().to_string();
        assert!(error.contains("schema version 99"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn commits_of_several_threads_are_all_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = SqliteStore::open(&path).unwrap();
        std::thread::scope(|threads| {
            for thread in 0..8 {
                let store = &store;
                threads.spawn(move || {
                    for i in 0..20 {
                        store.commit(vec![put(Table::History, &format!("{thread}-{i}"), i)]).unwrap();
                        assert!(store.get(Table::History, &format!("{thread}-{i}")).unwrap().is_some());
                    }
                });
            }
        });
        drop(store);
        assert_eq!(SqliteStore::open(&path).unwrap().count(Table::History).unwrap(), 160);
    }
}
