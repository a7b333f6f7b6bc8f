//! What the store is filled with.

use anyhow::Result;
use freehold_base::{AgentId, EnvironmentId, EventId, IdSource, SessionId, WorkspaceId};
use freehold_store::{Append, NewAgent, NewEnvironment, NewEvent, NewSession, Store, Then};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

/// Operations under way while something is filled.
const AT_ONCE: usize = 256;
/// Events of a session that has had a turn with two tool calls.
const TURN: [(&str, usize); 9] = [
    ("user.message", 300),
    ("session.status_running", 0),
    ("span.model_request_start", 100),
    ("agent.message", 600),
    ("agent.tool_use", 300),
    ("agent.tool_result", 1_500),
    ("agent.message", 600),
    ("span.model_request_end", 300),
    ("session.status_idle", 100),
];
/// Bytes of an agent with a system prompt and a few tools.
const AGENT: usize = 2_000;

/// A store with an agent and environments.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) ids: IdSource,
    pub(super) workspace: WorkspaceId,
    agent: AgentId,
    environment: EnvironmentId,
}

impl World {
    pub(super) async fn new(store: Store) -> Result<Self> {
        let ids = IdSource::system();
        let workspace = store.default_workspace().await?.id;
        let (agent, environment) = (ids.next(), ids.next());
        let new = NewAgent {
            id: ids.next(),
            workspace_id: workspace.clone(),
            body: text(AGENT),
        };
        let world = Self {
            store,
            ids,
            workspace,
            agent,
            environment,
        };
        let agent = world.store.create_agent(new).await?.id;
        let environment = world.environment("cloud").await?;
        Ok(Self {
            agent,
            environment,
            ..world
        })
    }

    /// Another environment.
    pub(super) async fn environment(&self, name: &str) -> Result<EnvironmentId> {
        let new = NewEnvironment {
            id: self.ids.next(),
            workspace_id: self.workspace.clone(),
            name: name.to_owned(),
            body: "{}".to_owned(),
        };
        Ok(self.store.create_environment(new).await?.id)
    }

    /// A session; with an environment of workers, it is queued there.
    pub(super) async fn session(&self, queue: Option<&EnvironmentId>) -> Result<SessionId> {
        let new = NewSession {
            id: self.ids.next(),
            workspace_id: self.workspace.clone(),
            thread_id: self.ids.next(),
            environment_id: queue.unwrap_or(&self.environment).clone(),
            environment: r#"{"type":"cloud"}"#.to_owned(),
            self_hosted: queue.is_some(),
            agent_id: self.agent.clone(),
            agent_version: 1,
            agent: text(AGENT),
            deployment_id: None,
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids: "[]".to_owned(),
            initial: Vec::new(),
            skills: Vec::new(),
            resources: Vec::new(),
        };
        Ok(self.store.create_session(new).await?.id)
    }

    /// So many sessions at once.
    pub(super) async fn sessions(
        &self,
        count: usize,
        queue: Option<&EnvironmentId>,
    ) -> Result<Vec<SessionId>> {
        let made = stream::iter(0..count).map(|_| self.session(queue));
        made.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// A turn in each.
    pub(super) async fn turns(&self, sessions: &[SessionId]) -> Result<()> {
        let turns = stream::iter(sessions).map(|session| async move {
            let events = TURN.map(|(kind, bytes)| self.event(kind, bytes));
            self.append(session, 0, events.into()).await
        });
        turns.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// An event with so much text.
    pub(super) fn event(&self, kind: &str, bytes: usize) -> NewEvent {
        let id: EventId = self.ids.next();
        let text = text(bytes);
        NewEvent {
            payload: format!(r#"{{"id":"{id}","type":"{kind}","text":{text}}}"#),
            id,
            kind: kind.to_owned(),
            ref_id: None,
            detail: None,
        }
    }

    /// Appends and changes nothing else.
    pub(super) async fn append(
        &self,
        session: &SessionId,
        epoch: i64,
        events: Vec<NewEvent>,
    ) -> Result<()> {
        let append = Append {
            session: session.clone(),
            epoch,
            expected_head: None,
            events,
            consume: Vec::new(),
            status: None,
            blocked: None,
            agent: None,
            summary: None,
            then: Then::Stay,
        };
        self.store.append(append).await?;
        Ok(())
    }

    /// The session's lease.
    pub(super) async fn claim(&self, session: &SessionId) -> Result<i64> {
        let replica = self.store.replica().clone();
        let claimed = self.store.claim(session, &replica).await?;
        Ok(claimed.map_or(0, |claim| claim.epoch))
    }
}

/// A JSON string that does not compress to nothing.
fn text(bytes: usize) -> String {
    let words = [
        "the ", "quick ", "brown ", "fox ", "jumps ", "over ", "a ", "lazy ", "dog. ",
    ];
    let mut out = String::with_capacity(bytes + 8);
    out.push('"');
    for n in 0.. {
        if bytes <= out.len() {
            break;
        }
        out.push_str(words[n * n % words.len()]);
    }
    out.push('"');
    out
}
