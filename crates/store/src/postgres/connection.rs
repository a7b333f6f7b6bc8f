//! One connection, used by one thread, as a [`Tx`].

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use freehold_base::Timestamp;
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::runtime::{self, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type as PgType, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Address, Time};
use crate::StoreError;
use crate::backend::{Announcement, Row, Scope, Tx, Type, Value};
use crate::error::DatabaseFailure;

/// The lock of everything that is not one session's.
const WHOLE: i64 = 0x6672_6565_686f_6c64;
/// An answer that takes longer than this will not come: the connection is given up.
const ANSWER: Duration = Duration::from_secs(60);
/// What every transaction begins with, in milliseconds. A replica that stands still between two
/// statements loses its transaction, and others its locks.
const LIMITS: &str = "SET LOCAL idle_in_transaction_session_timeout = 5000;
   SET LOCAL statement_timeout = 50000;";

/// An open connection. Not shared between threads; its I/O happens inside its calls.
pub(super) struct Connection {
    runtime: Runtime,
    client: Client,
    /// SAVEPOINT and the like, sent with the next statement instead of making a way of their own.
    owed: RefCell<String>,
}

/// A transaction that has begun.
pub(super) struct Begun {
    /// The time it began at, or the clock that says.
    time: TimeInside,
    /// The transaction's id.
    pub(super) id: String,
}

enum TimeInside {
    Since(Timestamp, Instant),
    Of(freehold_base::SharedClock),
}

impl Begun {
    fn now(&self) -> Timestamp {
        match &self.time {
            TimeInside::Since(at, began) => at.plus(began.elapsed()),
            TimeInside::Of(clock) => clock.now(),
        }
    }
}

impl Connection {
    pub(super) fn open(address: &Address) -> Result<Self, StoreError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| StoreError::Database(DatabaseFailure::new(e)))?;
        let (client, connection) =
            runtime.block_on(within(address.config.connect(address.tls.clone())))?;
        runtime.spawn(async move {
            // Whoever uses the client is told of its end.
            let _ = connection.await;
        });
        Ok(Self {
            runtime,
            client,
            owed: RefCell::default(),
        })
    }

    /// Begins a transaction that holds the locks of these scopes.
    pub(super) fn begin(&self, scopes: &[Scope], time: &Time) -> Result<Begun, StoreError> {
        // In one order for all, so that two lanes never wait for each other.
        let sessions: BTreeSet<i64> = scopes.iter().filter_map(lock).collect();
        let whole = if scopes.contains(&Scope::All) {
            format!("SELECT pg_advisory_xact_lock({WHOLE});")
        } else {
            format!("SELECT pg_advisory_xact_lock_shared({WHOLE});")
        };
        // What is selected is evaluated from left to right.
        let locks = sessions
            .iter()
            .map(|key| format!("pg_advisory_xact_lock({key})"));
        let locks = locks.collect::<Vec<_>>().join(", ");
        let rows = self.simple(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {LIMITS} {whole} SELECT {locks};
             SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT),
               pg_current_xact_id()"
        ))?;
        self.begun(rows, time)
    }

    /// Begins a transaction that reads one snapshot.
    pub(super) fn snapshot(&self, time: &Time) -> Result<Begun, StoreError> {
        let rows = self.simple(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {LIMITS}
             SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT), ''"
        ))?;
        self.begun(rows, time)
    }

    fn begun(&self, rows: Vec<[String; 2]>, time: &Time) -> Result<Begun, StoreError> {
        let what = "time of the database";
        let [now, id] = rows
            .into_iter()
            .last()
            .ok_or(StoreError::Corrupt { what })?;
        let now = now.parse().map_err(|_| StoreError::Corrupt { what })?;
        Ok(Begun {
            time: match time {
                Time::Database => TimeInside::Since(Timestamp::from_micros(now), Instant::now()),
                Time::Of(clock) => TimeInside::Of(clock.clone()),
            },
            id,
        })
    }

    /// Makes the table of marks, within the transaction at hand. What no writer has left lately is of no
    /// use any more.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        self.batch(
            "CREATE TABLE IF NOT EXISTS commit_mark (
               writer TEXT COLLATE \"C\" PRIMARY KEY, mark BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL);
             DELETE FROM commit_mark WHERE at < now() - INTERVAL '30 days'",
        )
    }

    /// Commits, and with it leaves a mark that `writer` leaves for no other transaction.
    pub(super) fn commit(&self, writer: &str, mark: u64) -> Result<(), StoreError> {
        self.batch(&format!(
            "INSERT INTO commit_mark VALUES ('{writer}', {mark}, now())
             ON CONFLICT (writer) DO UPDATE SET mark = {mark}, at = now();
             COMMIT"
        ))
    }

    /// Whether the transaction that was to leave this mark was committed; waits until that is settled. Its id
    /// alone does not tell: after a crash the server gives it to another.
    ///
    /// # Errors
    /// The connection fails again.
    pub(super) fn committed(&self, id: &str, writer: &str, mark: u64) -> Result<bool, StoreError> {
        let is = |sql: String, what: &str| {
            let rows = self.simple(&sql)?;
            Ok::<_, StoreError>(rows.first().is_some_and(|[found, _]| found == what))
        };
        // Whoever lost the connection may still be at it.
        while !is(
            format!(
                "SELECT COUNT(*), '' FROM pg_stat_activity WHERE backend_xid = '{id}'::xid8::xid"
            ),
            "0",
        )? {
            std::thread::sleep(Duration::from_millis(20));
        }
        is(
            format!("SELECT mark, '' FROM commit_mark WHERE writer = '{writer}'"),
            &mark.to_string(),
        )
    }

    /// Sends this with the next statement. If it fails, so does that.
    pub(super) fn owe(&self, sql: &str) {
        let mut owed = self.owed.borrow_mut();
        owed.push_str(sql);
        owed.push(';');
    }

    /// Runs SQL of several statements, after what is owed.
    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.owe(sql);
        let owed = self.owed.take();
        self.wait(self.client.batch_execute(&owed))
    }

    /// Runs SQL of several statements; the rows of two columns that they give.
    fn simple(&self, sql: &str) -> Result<Vec<[String; 2]>, StoreError> {
        let messages = self.wait(self.client.simple_query(sql))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.len() == 2 => {
                let text = |i| row.get(i).unwrap_or_default().to_owned();
                Some([text(0), text(1)])
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    fn statement(&self, sql: &str, params: &[Value<'_>]) -> Result<(Vec<Row>, u64), StoreError> {
        let owed = self.owed.take();
        let sql = numbered(sql);
        let params = params.iter().map(|value| (value, kind(value)));
        let statement = async {
            let mut rows = pin!(self.client.query_typed_raw(&sql, params).await?);
            let mut out = Vec::new();
            while let Some(row) = rows.try_next().await? {
                out.push(row);
            }
            Ok((out, rows.rows_affected().unwrap_or(0)))
        };
        let (rows, changed) = if owed.is_empty() {
            self.wait(statement)?
        } else {
            // Both are sent before either is answered.
            let both = async {
                let (first, second) =
                    tokio::join!(biased; self.client.batch_execute(&owed), statement);
                first.and(second)
            };
            self.wait(both)?
        };
        let rows = rows.iter().map(row).collect::<Result<_, _>>()?;
        Ok((rows, changed))
    }

    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(within(work))
    }
}

async fn within<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER, work).await {
        Ok(done) => done.map_err(failure),
        Err(_) => Err(StoreError::Connection(DatabaseFailure::new(Lost(
            "the database does not answer",
        )))),
    }
}

/// The lock of a scope that is a session.
fn lock(scope: &Scope) -> Option<i64> {
    let Scope::Session(session) = scope else {
        return None;
    };
    let hash = Sha256::digest(session.as_str());
    let (key, _) = hash.split_first_chunk()?;
    Some(i64::from_be_bytes(*key))
}

/// A failure without the values that PostgreSQL's own text may quote.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
struct Refused {
    message: String,
    code: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Lost(&'static str);

fn failure(error: tokio_postgres::Error) -> StoreError {
    let Some(refused) = error.as_db_error() else {
        // What cannot be sent cannot be sent again either.
        let source = std::error::Error::source(&error);
        let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
        let unsendable = io.is_some_and(|e| e.kind() == std::io::ErrorKind::InvalidInput);
        return match unsendable {
            true => StoreError::Database(DatabaseFailure::new(error)),
            false => StoreError::Connection(DatabaseFailure::new(error)),
        };
    };
    let code = refused.code().clone();
    let failure = DatabaseFailure::new(Refused {
        message: refused.message().to_owned(),
        code: code.code().to_owned(),
    });
    if code == SqlState::UNIQUE_VIOLATION {
        StoreError::Unique(failure)
    } else if passes(&code) {
        StoreError::Connection(failure)
    } else {
        StoreError::Database(failure)
    }
}

/// Whether the same transaction may succeed on another connection, or a little later: the server
/// stops, starts, fails over, has no connection to spare, or ended this transaction for others' sake.
fn passes(code: &SqlState) -> bool {
    let code = code.code();
    ["08", "40", "53", "57P"]
        .iter()
        .any(|class| code.starts_with(class))
        || ["25P03", "25006", "55P03"].contains(&code)
}

/// A transaction, or one operation's part of it.
pub(super) struct PgTx<'c> {
    connection: &'c Connection,
    now: Timestamp,
    pub(super) announcements: Vec<Announcement>,
    /// The failure that ends the whole transaction, whatever the operation makes of it.
    pub(super) broken: Option<StoreError>,
    /// Whether a statement failed: then nothing but a rollback succeeds.
    pub(super) failed: bool,
    /// Whether a row may have been changed.
    pub(super) changed: bool,
}

impl<'c> PgTx<'c> {
    pub(super) fn new(connection: &'c Connection, begun: &Begun) -> Self {
        Self {
            connection,
            now: begun.now(),
            announcements: Vec::new(),
            broken: None,
            failed: false,
            changed: false,
        }
    }

    fn run(&mut self, sql: &str, params: &[Value<'_>]) -> Result<(Vec<Row>, u64), StoreError> {
        let done = self.connection.statement(sql, params);
        match &done {
            Ok((_, rows)) => self.changed |= *rows > 0 && !sql.starts_with("SELECT"),
            Err(error) => {
                self.failed = true;
                if let StoreError::Connection(failure) = error {
                    self.broken = Some(StoreError::Connection(failure.clone()));
                }
            }
        }
        done
    }
}

impl Tx for PgTx<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.run(sql, params).map(|(rows, _)| rows)
    }

    fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        let (_, changed) = self.run(sql, params)?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    fn announce(&mut self, announcement: Announcement) {
        self.announcements.push(announcement);
    }

    fn skipping_locked(&self) -> &'static str {
        "FOR UPDATE SKIP LOCKED"
    }
}

/// `?1` is `$1` here. No literal of ours holds a question mark.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

fn kind(value: &Value<'_>) -> PgType {
    match value {
        Value::Int(_) | Value::Null(Type::Int) => PgType::INT8,
        Value::Text(_) | Value::Null(Type::Text | Type::Unknown) => PgType::TEXT,
        Value::Blob(_) | Value::Null(Type::Blob) => PgType::BYTEA,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &PgType,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null(_) => Ok(IsNull::Yes),
            Self::Int(v) => v.to_sql(ty, out),
            Self::Text(v) => v.as_ref().to_sql(ty, out),
            Self::Blob(v) => v.as_ref().to_sql(ty, out),
        }
    }
    fn accepts(_: &PgType) -> bool {
        true // The type is the one that `kind` gives.
    }
    to_sql_checked!();
}

fn row(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let values = row.columns().iter().enumerate().map(|(i, column)| {
        let unreadable = |_| StoreError::Corrupt { what: "column" };
        let int = |v: Option<i64>| v.map_or(Value::Null(Type::Int), Value::Int);
        Ok(match *column.type_() {
            PgType::INT8 => int(row.try_get(i).map_err(unreadable)?),
            PgType::INT4 => int(row
                .try_get::<_, Option<i32>>(i)
                .map_err(unreadable)?
                .map(Into::into)),
            PgType::BOOL => int(row
                .try_get::<_, Option<bool>>(i)
                .map_err(unreadable)?
                .map(Into::into)),
            PgType::BYTEA => {
                let bytes: Option<Vec<u8>> = row.try_get(i).map_err(unreadable)?;
                bytes.map_or(Value::Null(Type::Blob), |v| Value::Blob(Cow::Owned(v)))
            }
            PgType::TEXT => {
                let text: Option<String> = row.try_get(i).map_err(unreadable)?;
                text.map_or(Value::Null(Type::Text), |v| Value::Text(Cow::Owned(v)))
            }
            _ => {
                return Err(StoreError::Corrupt {
                    what: "type of a column",
                });
            }
        })
    });
    Ok(Row::new(values.collect::<Result<_, _>>()?))
}
