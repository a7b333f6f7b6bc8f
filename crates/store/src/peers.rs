//! Where the replicas of a shared store reach each other.

use freehold_base::ReplicaId;

use crate::backend::params;
use crate::{Store, StoreError};

/// A living replica that others can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub replica: ReplicaId,
    /// `host:port`.
    pub address: String,
    /// SHA-256 of the certificate it shows, lower-case hexadecimal.
    pub fingerprint: String,
}

impl Store {
    /// The living replicas that said where they are reached, this one among them.
    ///
    /// # Errors
    /// The store failed.
    pub async fn peers(&self) -> Result<Vec<Peer>, StoreError> {
        self.read(|tx| {
            let now = tx.now();
            let rows = tx.query(
                "SELECT id, address, fingerprint FROM replica
                 WHERE lease_until > ?1 AND address IS NOT NULL AND fingerprint IS NOT NULL
                 ORDER BY id",
                params![now],
            )?;
            let peer = |mut row: crate::backend::Row| {
                Ok(Peer {
                    replica: row.id("replica")?,
                    address: row.text("replica address")?,
                    fingerprint: row.text("replica fingerprint")?,
                })
            };
            rows.into_iter().map(peer).collect()
        })
        .await
    }

    /// Says where this replica is reached. It must have said before that it lives.
    ///
    /// # Errors
    /// The store failed.
    pub async fn advertise(&self, address: &str, fingerprint: &str) -> Result<(), StoreError> {
        let (replica, address) = (self.replica().clone(), address.to_owned());
        let fingerprint = fingerprint.to_owned();
        self.write_single(move |tx| {
            tx.execute(
                "UPDATE replica SET address = ?2, fingerprint = ?3 WHERE id = ?1",
                params![&replica, &address, &fingerprint],
            )
            .map(drop)
        })
        .await
    }
}
