//! Who drives a session.

use std::collections::HashMap;

use freehold_base::{ReplicaId, SessionId};

use super::Claim;
use crate::backend::{Scope, Tx, params};
use crate::sql::rows;
use crate::together::{Each, Together};
use crate::{Store, StoreError};

impl Store {
    /// Takes a session's lease under a new epoch, which fences every older driver. `None` if the
    /// session is gone, is terminated with nothing left to do, is driven by another live replica, or
    /// has its sandbox where another lives.
    ///
    /// # Errors
    /// The store failed.
    pub async fn claim(
        &self,
        session: &SessionId,
        replica: &ReplicaId,
    ) -> Result<Option<Claim>, StoreError> {
        let taking = Taking {
            session: session.clone(),
            replica: replica.clone(),
            home: self.home(),
        };
        self.write_together(Scope::Session(session.clone()), taking)
            .await
    }

    /// Gives up a lease without ending the work: another driver is wanted at once. Nothing happens if
    /// the lease was lost.
    ///
    /// # Errors
    /// The store failed.
    pub async fn release(&self, session: &SessionId, epoch: i64) -> Result<(), StoreError> {
        let of = session.clone();
        self.write_session(session, move |tx| {
            let now = tx.now();
            tx.execute(
                "UPDATE session SET lease_owner = NULL,
                   wake_at = CASE WHEN wake_at IS NULL OR wake_at > ?3 THEN ?3 ELSE wake_at END
                 WHERE id = ?1 AND lease_epoch = ?2",
                params![&of, epoch, now],
            )
            .map(drop)
        })
        .await
    }

    /// Sessions that want a driver now, have none, and can be driven here; longest waiting first, at
    /// most `limit`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn runnable(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let home = self.home();
        self.read(move |tx| {
            let now = tx.now();
            tx.query(
                "SELECT s.id FROM session s WHERE s.wake_at IS NOT NULL AND s.wake_at <= ?1
                   AND (s.lease_owner IS NULL OR NOT EXISTS (
                     SELECT 1 FROM replica r WHERE r.id = s.lease_owner AND r.lease_until > ?1))
                   AND (s.home IS NULL OR s.home = ?3 OR NOT EXISTS (
                     SELECT 1 FROM replica r WHERE r.home = s.home AND r.lease_until > ?1))
                 ORDER BY s.wake_at LIMIT ?2",
                params![now, limit, home.as_deref()],
            )?
            .into_iter()
            .map(|mut row| row.id("session"))
            .collect()
        })
        .await
    }

    /// Says that a replica lives for another `ttl_ms` milliseconds.
    ///
    /// # Errors
    /// The store failed.
    pub async fn heartbeat(&self, replica: &ReplicaId, ttl_ms: i64) -> Result<(), StoreError> {
        let (replica, home) = (replica.clone(), self.home());
        self.write_single(move |tx| {
            let until = tx.now().plus_millis(ttl_ms);
            tx.execute(
                "INSERT INTO replica (id, lease_until, home) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET lease_until = ?2",
                params![&replica, until, home.as_deref()],
            )
            .map(drop)
        })
        .await
    }

    /// Says that a replica has ended: others may take its sessions at once.
    ///
    /// # Errors
    /// The store failed.
    pub async fn retire(&self, replica: &ReplicaId) -> Result<(), StoreError> {
        let replica = replica.clone();
        self.write(move |tx| {
            tx.execute("DELETE FROM replica WHERE id = ?1", params![&replica])
                .map(drop)
        })
        .await
    }
}

/// A claim.
struct Taking {
    session: SessionId,
    replica: ReplicaId,
    home: Option<String>,
}

impl Together for Taking {
    type Done = Option<Claim>;
    type Refusal = StoreError;

    fn run(tx: &mut dyn Tx, all: &[&Self]) -> Result<Each<Self>, StoreError> {
        let mut params = vec![tx.now().into()];
        let asked = all.iter().map(|one| {
            let home = one.home.as_deref();
            [(&one.session).into(), (&one.replica).into(), home.into()]
        });
        let rows = rows(&mut params, asked);
        let sql = format!(
            "WITH a (to_id, new_owner, new_home) AS (VALUES {rows})
             UPDATE session SET lease_owner = new_owner, lease_epoch = lease_epoch + 1,
               home = new_home
             FROM a
             WHERE id = to_id AND (status <> 'terminated' OR wake_at IS NOT NULL)
               AND (lease_owner IS NULL OR lease_owner = new_owner OR NOT EXISTS (
                 SELECT 1 FROM replica r WHERE r.id = session.lease_owner AND r.lease_until > ?1))
               AND (home IS NULL OR home = new_home OR NOT EXISTS (
                 SELECT 1 FROM replica r WHERE r.home = session.home AND r.lease_until > ?1))
             RETURNING id, lease_epoch, head_seq, inbox_head"
        );
        let mut taken = HashMap::new();
        for mut row in tx.query(&sql, &params)? {
            let session: SessionId = row.id("session")?;
            let claim = Claim {
                epoch: row.int("epoch")?,
                head: row.int("head")?,
                inbox_head: row.int("inbox")?,
            };
            taken.insert(session, claim);
        }
        Ok(all
            .iter()
            .map(|one| Ok(taken.remove(&one.session)))
            .collect())
    }
}
