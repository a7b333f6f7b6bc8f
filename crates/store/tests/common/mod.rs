//! A backend with a hand on every statement; a PostgreSQL server to run it on.

#![allow(dead_code, reason = "no test uses all of it")]

pub mod cluster;
pub mod pooler;
pub mod wire;

use std::any::{Any, TypeId};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::{IdSource, Timestamp, kind};
use freehold_store::backend::{Announcement, Backend, Boxed, Op, Row, Scope, Tx, Value};
use freehold_store::postgres::{Address, Postgres, Time};
use freehold_store::sqlite::Sqlite;
use freehold_store::workspaces;
use freehold_store::{CommitListener, Keyring, LocalBlobs, Store, StoreError};

/// Sees each statement before it runs and says what runs instead.
pub trait Hand: Send + Sync + 'static {
    fn statement(&self, tx: &mut dyn Tx, sql: &str, params: &[Value<'_>]) -> String;
}

struct Tapped<B, H> {
    inner: B,
    hand: Arc<H>,
}

struct TappedTx<'a, H> {
    inner: &'a mut dyn Tx,
    hand: &'a H,
}

impl<H: Hand> Tx for TappedTx<'_, H> {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let sql = self.hand.statement(self.inner, sql, params);
        self.inner.query(&sql, params)
    }
    fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        let sql = self.hand.statement(self.inner, sql, params);
        self.inner.execute(&sql, params)
    }
    fn announce(&mut self, announcement: Announcement) {
        self.inner.announce(announcement);
    }
    fn skipping_locked(&self) -> &'static str {
        self.inner.skipping_locked()
    }
}

struct TappedOp<H> {
    inner: Box<dyn Op>,
    hand: Arc<H>,
}

impl<H: Hand> TappedOp<H> {
    fn inner(other: &dyn Op) -> &dyn Op {
        let other: &dyn Any = other;
        &*other.downcast_ref::<Self>().unwrap().inner
    }
}

impl<H: Hand> Op for TappedOp<H> {
    fn run(&self, tx: &mut dyn Tx) -> Result<Boxed, Boxed> {
        let hand = &*self.hand;
        self.inner.run(&mut TappedTx { inner: tx, hand })
    }
    fn kin(&self) -> Option<TypeId> {
        self.inner.kin()
    }
    fn run_with(&self, others: &[&dyn Op], tx: &mut dyn Tx) -> Option<Vec<Result<Boxed, Boxed>>> {
        let others: Vec<&dyn Op> = others.iter().map(|other| Self::inner(*other)).collect();
        let hand = &*self.hand;
        let mut tx = TappedTx { inner: tx, hand };
        self.inner.run_with(&others, &mut tx)
    }
}

impl<B, H: Hand> Tapped<B, H> {
    fn wrap(&self, inner: Box<dyn Op>) -> Box<dyn Op> {
        let hand = Arc::clone(&self.hand);
        Box::new(TappedOp { inner, hand })
    }
}

#[async_trait]
impl<B: Backend, H: Hand> Backend for Tapped<B, H> {
    async fn write(
        &self,
        scope: Scope,
        op: Box<dyn Op>,
    ) -> Result<Result<Boxed, Boxed>, StoreError> {
        self.inner.write(scope, self.wrap(op)).await
    }
    async fn read(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        self.inner.read(self.wrap(op)).await
    }
    async fn scrub(&self) -> Result<(), StoreError> {
        self.inner.scrub().await
    }
    fn shared(&self) -> bool {
        self.inner.shared()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A store whose every statement goes through `hand`; on SQLite, or on PostgreSQL at an address.
pub fn tapped<H: Hand>(
    dir: &Path,
    database: Option<&Address>,
    ids: IdSource,
    listener: Arc<dyn CommitListener>,
    hand: Arc<H>,
) -> Store {
    let seed = |tx: &mut dyn Tx| workspaces::seed(tx, &ids);
    let clock = Arc::clone(ids.clock());
    let backend: Box<dyn Backend> = match database {
        None => {
            let inner = Sqlite::open(dir, clock, listener, seed).unwrap();
            Box::new(Tapped { inner, hand })
        }
        Some(address) => {
            let inner = Postgres::open(
                address,
                Time::Of(clock),
                ids.next::<kind::Replica>().to_string(),
                listener,
                seed,
            )
            .unwrap();
            Box::new(Tapped { inner, hand })
        }
    };
    let blobs = LocalBlobs::open(&dir.join("blobs"), ids.clone()).unwrap();
    let keys = Keyring::generate(&ids);
    Store::assemble(backend, Box::new(blobs), ids, keys)
}
