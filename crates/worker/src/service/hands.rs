//! Where a session's tools run.

use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::SessionId;
use freehold_sandbox::ToolRequest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::content::Reply;
use crate::local::{Call, Place, SandboxUnavailable, SessionSandboxes};

/// The sandboxes of a worker, one a session.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
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
}

impl LocalHands {
    /// The operator of the worker, not the environment, says what sandboxes may reach.
    pub fn new(sandboxes: Arc<SessionSandboxes>, network: &Network) -> Self {
        Self {
            sandboxes,
            config: network.config(),
        }
    }

    fn place<'a>(&'a self, session: &'a SessionId) -> Place<'a> {
        Place {
            session,
            config: &self.config,
            uploads: &[],
        }
    }
}

#[async_trait]
impl Hands for LocalHands {
    async fn prepare(&self, session: &SessionId) -> Result<(), SandboxUnavailable> {
        self.sandboxes.prepare(self.place(session)).await
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
        self.sandboxes.call(self.place(session), call, kill).await
    }

    async fn close(&self, session: &SessionId) {
        self.sandboxes.close(session).await;
    }

    async fn remove(&self, session: &SessionId) {
        self.sandboxes.remove(session).await;
    }
}
