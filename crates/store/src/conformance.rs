//! The suite every backend must pass. A backend's tests call [`run`] with a way to make an empty
//! store, and also with ways to make *broken* ones: a suite that accepts those proves nothing.

mod agents;
mod environments;
mod files;
mod inbox;
mod keys;
mod lease;
mod list;
mod log;
mod mcp;
mod memories;
mod outputs;
mod resources;
mod sandboxes;
mod sessions;
mod skills;
mod tunnels;
mod vaults;
mod work;
mod world;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use freehold_base::IdSource;

use crate::{CommitListener, Store};
pub use world::{World, append};

/// An empty store, and what must outlive it (its directory).
pub struct Fixture {
    /// The store.
    pub store: Store,
    /// Dropped after it.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Makes a fixture.
pub type Open<'a> = &'a dyn Fn(IdSource, Arc<dyn CommitListener>) -> Fixture;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One case.
pub struct Case {
    /// Unique.
    pub name: &'static str,
    run: fn(World) -> Running,
}

/// Lists a file's cases.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] =
            &[$(super::Case { name: stringify!($name), run: |w| Box::pin($name(w)) }),*];
    };
}
use cases;

/// All cases.
pub fn all() -> Vec<&'static Case> {
    let files = [
        log::CASES,
        inbox::CASES,
        lease::CASES,
        list::CASES,
        sessions::CASES,
        resources::CASES,
        files::CASES,
        skills::CASES,
        outputs::CASES,
        sandboxes::CASES,
        agents::CASES,
        environments::CASES,
        keys::CASES,
        work::CASES,
        memories::CASES,
        vaults::CASES,
        mcp::CASES,
        tunnels::CASES,
    ];
    files.into_iter().flatten().collect()
}

/// Runs every case on a store of its own; gives the names of those that failed, whose reasons the
/// panic hook has printed.
pub async fn run(open: Open<'_>) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for case in all() {
        let world = World::new(open).await;
        let (store, keep) = (world.store.clone(), world.keep());
        if tokio::spawn((case.run)(world)).await.is_err() {
            failed.push(case.name);
        }
        store.close().await;
        drop(keep);
    }
    failed
}
