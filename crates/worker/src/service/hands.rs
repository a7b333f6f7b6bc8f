//! Where a session's tools run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use freehold_base::SessionId;
use freehold_client::Client;
use freehold_sandbox::ToolRequest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::skills::SkillArchives;
use crate::content::Reply;
use crate::local::{Call, Place, SandboxUnavailable, SessionSandboxes};
use crate::skills::Skill;

/// The sandboxes of a worker, one a session.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Says what the session's sandbox shows beside its workspace, and who may fetch it. To be
    /// called before the sandbox is made.
    fn show(&self, session: &SessionId, skills: Vec<Skill>, client: &Client);
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

/// Sandboxes of this host.
pub struct LocalHands {
    sandboxes: Arc<SessionSandboxes>,
    config: Value,
    archives: Arc<SkillArchives>,
    skills: Mutex<HashMap<SessionId, Arc<[Skill]>>>,
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
            skills: Mutex::default(),
        }
    }

    fn place<'a>(&'a self, session: &'a SessionId, skills: &'a [Skill]) -> Place<'a> {
        Place {
            session,
            config: &self.config,
            uploads: &[],
            skills,
            memory: None,
            variables: &[],
        }
    }

    fn shown(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<[Skill]>>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.skills.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn skills(&self, session: &SessionId) -> Arc<[Skill]> {
        self.shown().get(session).cloned().unwrap_or_default()
    }

    fn forget(&self, session: &SessionId) {
        self.shown().remove(session);
        self.archives.forget(session);
    }
}

#[async_trait]
impl Hands for LocalHands {
    fn show(&self, session: &SessionId, skills: Vec<Skill>, client: &Client) {
        self.archives.open_for(session, client);
        self.shown().insert(session.clone(), skills.into());
    }

    async fn prepare(&self, session: &SessionId) -> Result<(), SandboxUnavailable> {
        let skills = self.skills(session);
        self.sandboxes.prepare(self.place(session, &skills)).await
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
        let skills = self.skills(session);
        let place = self.place(session, &skills);
        self.sandboxes.call(place, call, kill).await
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
