//! What is done now and then, beside serving.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::limits::{MAX_MCP_AUDIT, MCP_AUDIT_DAYS};
use freehold_base::{SharedClock, Timestamp, chain};
use freehold_store::Store;
use freehold_worker::SessionSandboxes;
use tokio::task::JoinSet;

/// Between two looks for sandboxes that nobody uses.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// Between two looks for work items whose lease has lapsed.
const LEASE_CHECK: Duration = Duration::from_secs(5);
/// Between two collections of unreferenced files.
const COLLECTION: Duration = Duration::from_secs(6 * 60 * 60);

/// Between two looks for old entries of the MCP audit.
const TRIM: Duration = Duration::from_secs(60 * 60);
/// Entries removed in one write.
const TRIM_BATCH: usize = 1000;

/// Starts the tasks; they end when the set is dropped.
pub(super) fn start(
    store: &Store,
    sandboxes: &Arc<SessionSandboxes>,
    clock: &SharedClock,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(collect(store.clone()));
    tasks.spawn(reclaim(store.clone()));
    tasks.spawn(trim_audit(store.clone(), Arc::clone(clock)));
    tasks.spawn(close_idle(Arc::clone(sandboxes)));
    let boxes = Arc::clone(sandboxes);
    tasks.spawn(async move { boxes.keep_floor().await });
    let boxes = Arc::clone(sandboxes);
    tasks.spawn(async move { boxes.keep_saved().await });
    tasks.spawn(remove_deleted(store.clone(), Arc::clone(sandboxes)));
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

/// The record of what was asked of MCP servers stays within its bounds.
async fn trim_audit(store: Store, clock: SharedClock) {
    const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
    loop {
        let now = clock.now().as_micros();
        let before = Timestamp::from_micros(now - MCP_AUDIT_DAYS * DAY_MICROS);
        let trimmed = store.trim_mcp_audit(before, MAX_MCP_AUDIT, TRIM_BATCH);
        match trimmed.await {
            // There may be more: at once, but after whoever waits to write.
            Ok(trimmed) if TRIM_BATCH <= trimmed => continue,
            Ok(0) => {}
            Ok(trimmed) => tracing::info!(trimmed, "old entries of the MCP audit removed"),
            Err(error) => tracing::warn!(error = %chain(&error), "MCP audit not trimmed"),
        }
        tokio::time::sleep(TRIM).await;
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

/// Removes files of sessions that were deleted while no server was there.
async fn remove_deleted(store: Store, sandboxes: Arc<SessionSandboxes>) {
    let sessions = match sandboxes.kept().await {
        Ok(sessions) => sessions,
        Err(error) => {
            tracing::warn!(%error, "files of deleted sessions were not looked for");
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
