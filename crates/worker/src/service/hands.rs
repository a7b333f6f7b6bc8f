//! Where a session's tools run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{SessionId, SharedClock, SystemClock};
use freehold_client::Client;
use freehold_sandbox::ToolRequest;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::skills::SkillArchives;
use crate::content::Reply;
use crate::local::{Call, MemorySource, Place, SandboxUnavailable, SessionSandboxes};
use crate::memory::api::ApiMemory;
use crate::memory::{MemoryMount, Remote};
use crate::skills::Skill;

/// Least time between two syncs of memory stores while calls go on (contract 55 §14).
const SETTLE_INTERVAL: Duration = Duration::from_secs(15);

/// The sandboxes of a worker, one a session.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Says what the session's sandbox shows beside its workspace, and who may fetch it. To be
    /// called before the sandbox is made.
    fn show(&self, session: &SessionId, shown: Shown, client: &Client);
    /// Brings the session's sandbox up, so that its first call need not wait.
    ///
    /// # Errors
    /// [`SandboxUnavailable`]; the first call will say the same.
    async fn prepare(&self, session: &SessionId) -> Result<(), SandboxUnavailable>;
    /// Runs one call to its end; every failure is a reply. When `kill` fires, what runs is killed.
    async fn call(
        &self,
        session: &SessionId,
        request: ToolRequest,
        repeatable: bool,
        kill: &CancellationToken,
    ) -> Reply;
    /// Memory stores take in what the session wrote, and its folders what others did: if that was
    /// not done for a while, or `now`.
    async fn settle(&self, session: &SessionId, now: bool);
    /// Ends the session's processes; its files stay.
    async fn close(&self, session: &SessionId);
    /// Ends the session's processes and deletes its files.
    async fn remove(&self, session: &SessionId);
}

/// What sandboxes of a worker may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Nothing.
    None,
    /// Every public address.
    Public,
    /// These hosts: names, or `*.example.com`.
    Hosts(Vec<String>),
}

impl Network {
    /// As the `config` of an environment (contract 20) says it.
    fn config(&self) -> Value {
        match self {
            Self::None => json!({}),
            Self::Public => json!({ "networking": { "type": "unrestricted" } }),
            Self::Hosts(hosts) => {
                json!({ "networking": { "type": "limited", "allowed_hosts": hosts } })
            }
        }
    }
}

/// What the sandbox of a session shows beside its workspace.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Skills.
    pub skills: Vec<Skill>,
    /// Memory stores.
    pub memory: Vec<MemoryMount>,
}

/// Sandboxes of this host.
pub struct LocalHands {
    sandboxes: Arc<SessionSandboxes>,
    config: Value,
    archives: Arc<SkillArchives>,
    clock: SharedClock,
    open: Mutex<HashMap<SessionId, Arc<Showing>>>,
}

/// What is shown of a session that is served now.
struct Showing {
    shown: Shown,
    remote: Arc<dyn Remote>,
    /// When memory stores took in what the session wrote.
    settled: Mutex<Instant>,
}

impl LocalHands {
    /// The operator of the worker, not the environment, says what sandboxes may reach.
    /// The sandboxes must get their files from `archives`.
    pub fn new(
        sandboxes: Arc<SessionSandboxes>,
        archives: Arc<SkillArchives>,
        network: &Network,
    ) -> Self {
        Self {
            sandboxes,
            config: network.config(),
            archives,
            clock: Arc::new(SystemClock),
            open: Mutex::default(),
        }
    }

    fn place<'a>(&'a self, session: &'a SessionId, showing: Option<&'a Arc<Showing>>) -> Place<'a> {
        Place {
            session,
            config: &self.config,
            uploads: &[],
            skills: showing.map_or(&[], |showing| &showing.shown.skills),
            memory: showing.map(|showing| MemorySource {
                mounts: &showing.shown.memory,
                remote: &showing.remote,
                clock: &self.clock,
            }),
            variables: &[],
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Showing>>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn showing(&self, session: &SessionId) -> Option<Arc<Showing>> {
        self.open().get(session).cloned()
    }

    fn forget(&self, session: &SessionId) {
        self.open().remove(session);
        self.archives.forget(session);
    }
}

#[async_trait]
impl Hands for LocalHands {
    fn show(&self, session: &SessionId, shown: Shown, client: &Client) {
        self.archives.open_for(session, client);
        let showing = Showing {
            shown,
            remote: Arc::new(ApiMemory(client.clone())),
            settled: Mutex::new(Instant::now()),
        };
        self.open().insert(session.clone(), Arc::new(showing));
    }

    async fn prepare(&self, session: &SessionId) -> Result<(), SandboxUnavailable> {
        let showing = self.showing(session);
        let place = self.place(session, showing.as_ref());
        self.sandboxes.prepare(place).await
    }

    async fn call(
        &self,
        session: &SessionId,
        request: ToolRequest,
        repeatable: bool,
        kill: &CancellationToken,
    ) -> Reply {
        let call = Call {
            request,
            repeatable,
        };
        let showing = self.showing(session);
        let place = self.place(session, showing.as_ref());
        self.sandboxes.call(place, call, kill).await
    }

    async fn settle(&self, session: &SessionId, now: bool) {
        let Some(showing) = self.showing(session) else {
            return;
        };
        if showing.shown.memory.is_empty() {
            return;
        }
        {
            let mut settled = showing
                .settled
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !now && settled.elapsed() < SETTLE_INTERVAL {
                return;
            }
            *settled = Instant::now();
        }
        self.sandboxes
            .settle(self.place(session, Some(&showing)))
            .await;
    }

    async fn close(&self, session: &SessionId) {
        self.sandboxes.close(session).await;
        self.forget(session);
    }

    async fn remove(&self, session: &SessionId) {
        self.sandboxes.remove(session).await;
        self.forget(session);
    }
}
