//! What is done now and then, beside serving.

use std::sync::Arc;
use std::time::Duration;

use freehold_store::Store;
use freehold_worker::SessionSandboxes;
use tokio::task::JoinSet;

use crate::exit::chain;

/// Between two looks for sandboxes that nobody uses.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// Between two looks for work items whose lease has lapsed.
const LEASE_CHECK: Duration = Duration::from_secs(5);
/// Between two collections of unreferenced files.
const COLLECTION: Duration = Duration::from_secs(6 * 60 * 60);

/// Starts the tasks; they end when the set is dropped.
pub(super) fn start(store: &Store, sandboxes: &Arc<SessionSandboxes>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(collect(store.clone()));
    tasks.spawn(reclaim(store.clone()));
    tasks.spawn(close_idle(Arc::clone(sandboxes)));
    let boxes = Arc::clone(sandboxes);
    tasks.spawn(async move { boxes.keep_floor().await });
    tasks.spawn(reap(store.clone(), Arc::clone(sandboxes)));
    tasks
}

async fn collect(store: Store) {
    loop {
        match store.gc().await {
            Ok(done) if done.blobs + done.sessions + done.work > 0 => {
                tracing::info!(
                    blobs = done.blobs,
                    sessions = done.sessions,
                    work = done.work,
                    "collected"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = %chain(&error), "unreferenced files not collected")
            }
        }
        tokio::time::sleep(COLLECTION).await;
    }
}

/// Work whose worker is not heard of goes back to the queue; polls look for it too.
async fn reclaim(store: Store) {
    loop {
        tokio::time::sleep(LEASE_CHECK).await;
        match store.reclaim_work().await {
            Ok(0) => {}
            Ok(lapsed) => tracing::info!(lapsed, "leases of work items lapsed"),
            Err(error) => tracing::warn!(error = %chain(&error), "lapsed work not reclaimed"),
        }
    }
}

async fn close_idle(sandboxes: Arc<SessionSandboxes>) {
    loop {
        tokio::time::sleep(IDLE_CHECK).await;
        let closed = sandboxes.close_idle().await;
        if closed > 0 {
            tracing::info!(
                closed,
                live = sandboxes.live_count(),
                "idle sandboxes closed"
            );
        }
    }
}

/// Clears what earlier processes left.
async fn reap(store: Store, sandboxes: Arc<SessionSandboxes>) {
    let sessions = match sandboxes.reap().await {
        Ok(sessions) => sessions,
        Err(error) => {
            tracing::warn!(%error, "left-over sandboxes not cleared");
            return;
        }
    };
    for session in sessions {
        // When in doubt its files stay.
        if let Ok(None) = store.session_any(&session).await {
            tracing::info!(%session, "files of a deleted session cleared");
            sandboxes.remove(&session).await;
        }
    }
}
