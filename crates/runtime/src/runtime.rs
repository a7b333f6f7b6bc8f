//! The handle the server holds: it wakes sessions and knows which are being driven.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::{IdSource, ReplicaId, SessionId};
use freehold_engine::{Backoff, Rates};
use freehold_model::Catalog;
use freehold_store::{Store, StoreError};
use freehold_wire::tool::BuiltinTool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bells::Bell;
use crate::driver;
use crate::executor::ToolExecutor;
use crate::hub::Hub;
use crate::load::StateCache;
use crate::mcp::Mcp;

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How failed model requests are retried.
    pub backoff: Backoff,
    /// How long a stopping server waits for running tool calls.
    pub drain: Duration,
    /// How long, from its beginning, stopping may take in all.
    pub stop: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backoff: Backoff {
                base_ms: 1_000,
                max_ms: 60_000,
                attempts: freehold_base::limits::MAX_MODEL_ATTEMPTS,
            },
            drain: Duration::from_secs(8),
            stop: Duration::from_secs(10),
        }
    }
}

/// How long a replica that is not heard of keeps its sessions, milliseconds.
const LEASE_MS: i64 = 15_000;
/// Where there is but one process.
const FOREVER_MS: i64 = 1_000 * 60 * 60 * 24 * 365 * 100;
/// How often it is heard of.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// How often sessions that want a driver and have none are looked for; wake-ups inside the process
/// are immediate and do not wait for it.
const SWEEP: Duration = Duration::from_secs(5);
/// Sessions claimed in one sweep.
const SWEEP_LIMIT: usize = 256;
/// States of resting sessions kept in memory, so that the next turn need not fold the whole log.
const CACHED_STATES: usize = 64;

/// What every driver shares.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) executor: Arc<dyn ToolExecutor>,
    pub(crate) mcp: Mcp,
    pub(crate) hub: Hub,
    pub(crate) ids: IdSource,
    pub(crate) options: Options,
    pub(crate) replica: ReplicaId,
    pub(crate) rates: Rates,
    pub(crate) cache: StateCache,
    pub(crate) stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Drives the sessions of one process. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    /// Starts driving: sessions that were running when the last process ended go on at once.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn start(
        store: Store,
        catalog: Arc<Catalog>,
        executor: Arc<dyn ToolExecutor>,
        mcp: Mcp,
        hub: Hub,
        ids: IdSource,
        options: Options,
    ) -> Result<Self, StoreError> {
        let replica = store.replica().clone();
        let ttl_ms = if store.is_shared() {
            LEASE_MS
        } else {
            // One process owns an SQLite file (the store holds its lock), so its lease need not be
            // renewed: it ends with the process, when the next one takes the lock.
            FOREVER_MS
        };
        store.heartbeat(&replica, ttl_ms).await?;
        store.look_at_clock(LEASE_MS).await?;
        let rates = rates(&catalog);
        let shared = Arc::new(Shared {
            store,
            catalog,
            executor,
            mcp,
            hub,
            ids,
            options,
            replica,
            rates,
            cache: StateCache::new(CACHED_STATES),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let runtime = Self { shared };
        let sweeper = runtime.clone();
        runtime
            .shared
            .tasks
            .spawn(async move { sweeper.sweep().await });
        let living = runtime.clone();
        runtime
            .shared
            .tasks
            .spawn(async move { living.keep_time().await });
        Ok(runtime)
    }

    /// How sessions reach MCP servers.
    pub fn mcp(&self) -> &Mcp {
        &self.shared.mcp
    }

    /// The live streams.
    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Prices that are not per token.
    pub fn rates(&self) -> Rates {
        self.shared.rates
    }

    /// Has the session driven: something was accepted, answered or changed. Immediate if a driver
    /// is at work, otherwise one starts.
    pub fn wake(&self, session: &SessionId) {
        if self.shared.stopping.is_cancelled() {
            return; // The next process finds it in the store.
        }
        let mut drivers = self.shared.hub.drivers().lock();
        if let Some(bell) = drivers.get(session) {
            bell.ring();
            return;
        }
        let bell = Arc::new(Bell::default());
        drivers.insert(session.clone(), Arc::clone(&bell));
        drop(drivers);
        let (shared, session) = (Arc::clone(&self.shared), session.clone());
        self.shared.tasks.spawn(async move {
            loop {
                bell.heard();
                driver::drive(&shared, &session, &bell).await;
                let mut drivers = shared.hub.drivers().lock();
                // A ring after the driver's last look starts it again; under the lock none is lost.
                if shared.stopping.is_cancelled() || !bell.heard() {
                    drivers.remove(&session);
                    return;
                }
            }
        });
    }

    /// A session was created: its sandbox starts in the background.
    pub fn session_created(&self, session: &SessionId) {
        let (shared, session) = (Arc::clone(&self.shared), session.clone());
        self.shared.tasks.spawn(async move {
            match crate::load::place(&shared, &session).await {
                Ok(Some(place)) => shared.executor.prepare(&place).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%session, %error, "sandbox not prepared"),
            }
        });
    }

    /// A session was deleted: its sandbox and cached state go.
    pub async fn session_deleted(&self, session: &SessionId) {
        self.shared.cache.forget(session);
        self.shared.mcp.connector.close(session.as_str()).await;
        self.shared.executor.remove(session).await;
    }

    /// Files were attached to or removed from a session.
    pub fn resources_changed(&self, session: &SessionId) {
        let driven = self.shared.hub.drivers().lock().contains_key(session);
        if driven {
            self.wake(session);
        }
    }

    /// Why this host cannot run cloud sessions, if so.
    pub fn cloud_refusal(&self) -> Option<String> {
        self.shared.executor.refuses_cloud()
    }

    /// Why a built-in tool cannot be offered, if so.
    pub fn unavailable(&self, tool: BuiltinTool) -> Option<String> {
        self.shared.executor.unavailable(tool)
    }

    /// Sessions being driven now.
    pub fn driven(&self) -> usize {
        self.shared.hub.drivers().lock().len()
    }

    /// Stops driving: model requests are cut off, running tool calls get a moment to finish, and
    /// everything unfinished goes on in the next process.
    pub async fn stop(&self) {
        let until = tokio::time::Instant::now() + self.shared.options.stop;
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.executor.leave(until).await;
        if let Err(error) = self.shared.store.retire(&self.shared.replica).await {
            tracing::warn!(%error, "lease not retired");
        }
    }

    /// Says every few seconds that this replica lives, and looks at the clock that leases go by. One
    /// that cannot say so loses its sessions to others after the lease, and its drivers find out at
    /// their next append.
    async fn keep_time(self) {
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Stopping takes less than what is left of the lease.
                () = self.shared.stopping.cancelled() => return,
                _ = beat.tick() => {}
            }
            let store = &self.shared.store;
            if store.is_shared()
                && let Err(error) = store.heartbeat(&self.shared.replica, LEASE_MS).await
            {
                tracing::error!(%error, "this replica cannot say that it lives");
            }
            match store.look_at_clock(LEASE_MS).await {
                Ok(None) => {}
                Ok(Some(by)) => {
                    let by_seconds = by.as_secs();
                    tracing::warn!(by_seconds, "the clock of the store was put back");
                    self.shared.hub.wanted().notify_one();
                }
                Err(error) => tracing::warn!(%error, "the clock of the store cannot be read"),
            }
        }
    }

    async fn sweep(self) {
        loop {
            for session in self.shared.hub.take_gone() {
                // Whoever deleted it did this at home; its sandbox may be here.
                if self.shared.store.is_shared() {
                    let runtime = self.clone();
                    let forget = async move { runtime.session_deleted(&session).await };
                    self.shared.tasks.spawn(forget);
                }
            }
            match self.shared.store.runnable(SWEEP_LIMIT).await {
                Ok(sessions) => sessions.iter().for_each(|s| {
                    let driven = self.shared.hub.drivers().lock().contains_key(s);
                    if !driven {
                        self.wake(s);
                    }
                }),
                Err(error) => tracing::error!(%error, "cannot look for sessions to drive"),
            }
            tokio::select! {
                () = self.shared.stopping.cancelled() => return,
                () = self.shared.hub.wanted().notified() => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }
}

/// The configured prices, in the engine's unit. A micro-USD is a million pico-USD.
fn rates(catalog: &Catalog) -> Rates {
    let rates = catalog.rates();
    Rates {
        web_search: u128::from(rates.web_search_per_1000.micros()) * 1_000_000 / 1_000,
        running_second: u128::from(rates.running_hour.micros()) * 1_000_000 / 3_600,
    }
}
