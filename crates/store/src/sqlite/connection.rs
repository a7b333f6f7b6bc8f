//! One SQLite connection as a [`Tx`].

use std::borrow::Cow;
use std::path::Path;

use freehold_base::{Clock, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use crate::StoreError;
use crate::backend::{Announcement, Row, Tx, Type, Value};
use crate::error::DatabaseFailure;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    Read,
}

/// Prepared statements kept by a connection: more than there are in this crate.
const STATEMENTS: usize = 256;

/// Opens the file. Every commit is on disk before it is answered (`synchronous=FULL`), and deleted
/// content is overwritten in the file (`secure_delete`).
pub(crate) fn open(path: &Path, mode: Mode) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, mode == Mode::Write);
    let connection = Connection::open_with_flags(path, flags).map_err(failure)?;
    let pragmas = match mode {
        Mode::Write => {
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384;"
        }
        Mode::Read => "PRAGMA query_only = ON; PRAGMA cache_size = -4096;",
    };
    connection
        .execute_batch(&format!(
            "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF; {pragmas}"
        ))
        .map_err(failure)?;
    // Otherwise a statement that could have a better plan for some value is planned anew for every one.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(failure)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Runs `work` in a transaction of its own; for the time before the threads start.
pub(crate) fn transaction<T>(
    connection: &Connection,
    clock: &dyn Clock,
    work: impl FnOnce(&mut dyn Tx) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    control(connection, "BEGIN IMMEDIATE")?;
    let done = work(&mut SqliteTx::new(connection, clock.now()));
    let ended = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    control(connection, ended)?;
    done
}

/// BEGIN, SAVEPOINT, COMMIT and the like.
pub(crate) fn control(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut s| s.execute([]))
        .map(drop)
        .map_err(failure)
}

pub(crate) fn failure(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error() {
        Some(e)
            if e.code == ErrorCode::ConstraintViolation
                && [
                    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
                    rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
                ]
                .contains(&e.extended_code) =>
        {
            StoreError::Unique(DatabaseFailure::new(error))
        }
        _ => StoreError::Database(DatabaseFailure::new(error)),
    }
}

/// A transaction, or one operation's part of it.
pub(crate) struct SqliteTx<'c> {
    connection: &'c Connection,
    now: Timestamp,
    pub(crate) announcements: Vec<Announcement>,
}

impl<'c> SqliteTx<'c> {
    pub(crate) fn new(connection: &'c Connection, now: Timestamp) -> Self {
        Self {
            connection,
            now,
            announcements: Vec::new(),
        }
    }
}

impl Tx for SqliteTx<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        let columns = statement.column_count();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(failure)?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(failure)? {
            let values = (0..columns).map(|i| row.get_ref(i).map_err(failure).and_then(owned));
            out.push(Row::new(values.collect::<Result<_, _>>()?));
        }
        Ok(out)
    }

    fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        statement
            .execute(rusqlite::params_from_iter(params))
            .map_err(failure)
    }

    fn announce(&mut self, announcement: Announcement) {
        self.announcements.push(announcement);
    }
}

fn owned(value: ValueRef<'_>) -> Result<Value<'static>, StoreError> {
    Ok(match value {
        ValueRef::Null => Value::Null(Type::Unknown),
        ValueRef::Integer(v) => Value::Int(v),
        ValueRef::Text(v) => {
            let text = std::str::from_utf8(v).map_err(|_| StoreError::Corrupt { what: "text" })?;
            Value::Text(Cow::Owned(text.to_owned()))
        }
        ValueRef::Blob(v) => Value::Blob(Cow::Owned(v.to_vec())),
        ValueRef::Real(_) => return Err(StoreError::Corrupt { what: "number" }),
    })
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null(_) => ValueRef::Null,
            Self::Int(v) => ValueRef::Integer(*v),
            Self::Text(v) => ValueRef::Text(v.as_bytes()),
            Self::Blob(v) => ValueRef::Blob(v),
        }))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_planned_once_whatever_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir.path().join("db"), Mode::Write).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, state TEXT NOT NULL);
                 CREATE INDEX queued ON t(state) WHERE state = 'queued';",
            )
            .unwrap();
        // A value could tell whether the index serves.
        let sql = "SELECT id FROM t WHERE state = ?1";
        let mut tx = SqliteTx::new(&connection, Timestamp::from_micros(0));
        for state in ["queued", "done", "queued"] {
            tx.query(sql, &[Value::Text(state.into())]).unwrap();
        }
        let statement = connection.prepare_cached(sql).unwrap();
        assert_eq!(statement.get_status(StatementStatus::Run), 3);
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
