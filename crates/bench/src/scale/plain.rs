//! What one would write first: a transaction for each write, on the store's own tables. SQLite has one
//! connection behind a lock, as it lets one write at a time; PostgreSQL has one for each caller.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use freehold_base::SessionId;
use freehold_store::{NewEvent, NewPoll};
use tokio::sync::Mutex;

use super::engine::Database;

const FENCE: &str = "UPDATE session SET head_seq = head_seq + 1, last_processed_at = $1
   WHERE id = $2 AND lease_epoch = $3 RETURNING head_seq";
const INSERT: &str = "INSERT INTO event (session_id, seq, id, kind, epoch, processed_at, payload)
   VALUES ($1, $2, $3, $4, $5, $6, $7)";
const ACK: &str = "UPDATE work SET state = 'starting', acknowledged_at = $1, lease_until = $2
   WHERE id = $3 AND state = 'queued'";
/// Longer than a run, so that nobody else has to deal with what was claimed here.
const LEASE: i64 = 3_600_000_000;

/// The item that waits longest, in this engine's way of not waiting for others.
fn taking(lock: &str) -> String {
    format!(
        "UPDATE work SET polled_at = $1, handed_out = handed_out + 1, token_hash = $2,
           polled_with = $3
         WHERE id = (SELECT id FROM work
           WHERE state = 'queued' AND environment_id = $4 AND available_at <= $1
             AND polled_at IS NULL
           ORDER BY available_at, id LIMIT 1 {lock})
         RETURNING id"
    )
}

/// Connections.
pub(super) enum Plain {
    Sqlite(Arc<std::sync::Mutex<rusqlite::Connection>>),
    Postgres(Vec<Mutex<Client>>),
}

/// One connection, its statements prepared.
pub(super) struct Client {
    client: tokio_postgres::Client,
    fence: tokio_postgres::Statement,
    insert: tokio_postgres::Statement,
    poll: tokio_postgres::Statement,
    ack: tokio_postgres::Statement,
}

impl Plain {
    /// Connects, `count` times where that makes sense.
    pub(super) async fn open(database: &Database, count: usize) -> Result<Self> {
        let Some(url) = database.url() else {
            let connection = rusqlite::Connection::open(database.file())?;
            // As the store's own: every commit is on the disk before it is answered.
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;
                 PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
                 PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864;",
            )?;
            return Ok(Self::Sqlite(Arc::new(std::sync::Mutex::new(connection))));
        };
        let mut clients = Vec::new();
        for _ in 0..count {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            clients.push(Mutex::new(Client {
                fence: client.prepare(FENCE).await?,
                insert: client.prepare(INSERT).await?,
                poll: client.prepare(&taking("FOR UPDATE SKIP LOCKED")).await?,
                ack: client.prepare(ACK).await?,
                client,
            }));
        }
        Ok(Self::Postgres(clients))
    }

    /// Appends an event.
    pub(super) async fn append(
        &self,
        caller: usize,
        session: &SessionId,
        epoch: i64,
        event: NewEvent,
    ) -> Result<()> {
        let (session, id) = (session.to_string(), event.id.to_string());
        let (kind, payload) = (event.kind, event.payload);
        match self {
            Self::Sqlite(connection) => {
                let connection = Arc::clone(connection);
                let work = move || {
                    let mut connection = connection.lock().unwrap_or_else(|e| e.into_inner());
                    let tx = connection
                        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                    let seq: i64 = tx
                        .prepare_cached(FENCE)?
                        .query_row(rusqlite::params![now(), session, epoch], |row| row.get(0))?;
                    tx.prepare_cached(INSERT)?.execute(rusqlite::params![
                        session,
                        seq,
                        id,
                        kind,
                        epoch,
                        now(),
                        payload
                    ])?;
                    tx.commit()?;
                    Ok::<_, rusqlite::Error>(())
                };
                Ok(tokio::task::spawn_blocking(work).await??)
            }
            Self::Postgres(clients) => {
                let mut one = clients[caller % clients.len()].lock().await;
                let Client {
                    client,
                    fence,
                    insert,
                    ..
                } = &mut *one;
                let tx = client.transaction().await?;
                let row = tx.query_opt(&*fence, &[&now(), &session, &epoch]).await?;
                let seq: i64 = row.context("fenced")?.get(0);
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                    [&session, &seq, &id, &kind, &epoch, &now(), &payload];
                tx.execute(&*insert, &values).await?;
                Ok(tx.commit().await?)
            }
        }
    }

    /// Polls and acknowledges an item, in a transaction each.
    pub(super) async fn claim(&self, caller: usize, poll: NewPoll) -> Result<()> {
        let (queue, key) = (poll.environment.to_string(), poll.key.to_string());
        let token = poll.token_hash;
        let taken = match self {
            Self::Sqlite(connection) => {
                let connection = Arc::clone(connection);
                let work = move || {
                    let connection = connection.lock().unwrap_or_else(|e| e.into_inner());
                    let taken = connection
                        .prepare_cached(&taking(""))?
                        .query_row(rusqlite::params![now(), token, key, queue], |row| {
                            row.get::<_, String>(0)
                        });
                    let until = now() + LEASE;
                    let id = taken?;
                    connection
                        .prepare_cached(ACK)?
                        .execute(rusqlite::params![now(), until, id])
                };
                tokio::task::spawn_blocking(work).await??
            }
            Self::Postgres(clients) => {
                let one = clients[caller % clients.len()].lock().await;
                let row = one
                    .client
                    .query_opt(&one.poll, &[&now(), &&token[..], &key, &queue])
                    .await?;
                let id: String = row.context("the queue ran out")?.get(0);
                let until = now() + LEASE;
                let done = one.client.execute(&one.ack, &[&now(), &until, &id]).await?;
                usize::try_from(done)?
            }
        };
        if taken != 1 {
            bail!("an item was acknowledged by another");
        }
        Ok(())
    }
}

/// Microseconds since the epoch.
fn now() -> i64 {
    use freehold_base::Clock as _;
    freehold_base::SystemClock.now().as_micros()
}
