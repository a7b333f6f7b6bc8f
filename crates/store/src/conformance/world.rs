//! A store with one of everything, a clock to turn, and a listener that remembers.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use freehold_base::{
    AgentId, EnvironmentId, EventId, FileId, IdSource, ManualClock, MemoryStoreId, ReplicaId,
    SessionId, SystemEntropy, Timestamp, VaultId, WorkspaceId,
};
use tokio::io::AsyncReadExt;

use super::Open;
use crate::{
    Append, BlobError, CommitListener, FileRow, Input, NewAgent, NewEnvironment, NewEvent, NewFile,
    NewMemoryStore, NewSession, NewVault, SessionRow, Store, StoredEvent, Then,
};

/// What one case works with.
pub struct World {
    /// The store.
    pub store: Store,
    /// Its clock; stands still until turned.
    pub clock: Arc<ManualClock>,
    /// Its listener.
    pub heard: Arc<Heard>,
    /// Its ids.
    pub ids: IdSource,
    /// The default workspace.
    pub workspace: WorkspaceId,
    /// An environment in it.
    pub environment: EnvironmentId,
    /// An agent in it.
    pub agent: AgentId,
    /// A live replica.
    pub replica: ReplicaId,
    keep: Arc<Box<dyn Any + Send + Sync>>,
}

/// Remembers announcements.
#[derive(Default)]
pub struct Heard {
    events: Mutex<Vec<(SessionId, i64, EventId)>>,
    deleted: Mutex<Vec<SessionId>>,
    queued: Mutex<Vec<EnvironmentId>>,
    ended: AtomicUsize,
}

impl Heard {
    /// Places and ids announced for a session, in order.
    pub fn of(&self, session: &SessionId) -> Vec<(i64, EventId)> {
        let all = self.events.lock().unwrap();
        all.iter()
            .filter(|(s, ..)| s == session)
            .map(|(_, seq, id)| (*seq, id.clone()))
            .collect()
    }
    /// How often an item was announced in an environment's queue.
    pub fn queued(&self, environment: &EnvironmentId) -> usize {
        let all = self.queued.lock().unwrap();
        all.iter().filter(|e| *e == environment).count()
    }
    /// How often tokens were announced as dead.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
    /// Whether the session was announced as deleted.
    pub fn deleted(&self, session: &SessionId) -> bool {
        self.deleted.lock().unwrap().contains(session)
    }
}

impl CommitListener for Heard {
    fn committed(&self, session: &SessionId, events: &[Arc<StoredEvent>]) {
        let mut all = self.events.lock().unwrap();
        all.extend(
            events
                .iter()
                .map(|e| (session.clone(), e.seq, e.id.clone())),
        );
    }
    fn deleted(&self, session: &SessionId) {
        self.deleted.lock().unwrap().push(session.clone());
    }
    fn queued(&self, environment: &EnvironmentId) {
        self.queued.lock().unwrap().push(environment.clone());
    }
    fn work_ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl World {
    /// A world over a fresh store.
    pub async fn new(open: Open<'_>) -> Self {
        // Long before any file is written, so that none is old until the clock is turned.
        let start = Timestamp::from_micros(1_600_000_000_000_000);
        let clock = Arc::new(ManualClock::at(start));
        let ids = IdSource::new(clock.clone(), Arc::new(SystemEntropy));
        let heard = Arc::new(Heard::default());
        let fixture = open(ids.clone(), heard.clone());
        let store = fixture.store;
        let workspace = store.default_workspace().await.unwrap().id;
        let mut world = Self {
            environment: ids.next(),
            agent: ids.next(),
            replica: ids.next(),
            store,
            clock,
            heard,
            ids,
            workspace,
            keep: Arc::new(fixture.keep),
        };
        let default = world.workspace.clone();
        world.environment = world.environment(&default, "default").await;
        world.agent = world.agent(&default).await;
        world.store.heartbeat(&world.replica, 15_000).await.unwrap();
        world
    }

    pub(super) fn keep(&self) -> Arc<Box<dyn Any + Send + Sync>> {
        Arc::clone(&self.keep)
    }

    /// Turns the clock by a millisecond, so that what is made next is younger.
    pub fn tick(&self) {
        self.clock.advance_millis(1);
    }

    /// An environment of a workspace.
    pub async fn environment(&self, workspace: &WorkspaceId, name: &str) -> EnvironmentId {
        let new = NewEnvironment {
            id: self.ids.next(),
            workspace_id: workspace.clone(),
            name: name.into(),
            body: "{}".into(),
        };
        self.store.create_environment(new).await.unwrap().id
    }

    /// A memory store of the default workspace.
    pub async fn memory_store(&self) -> MemoryStoreId {
        let new = NewMemoryStore {
            id: self.ids.next(),
            workspace_id: self.workspace.clone(),
            body: "{}".into(),
        };
        self.store.create_memory_store(new).await.unwrap().id
    }

    /// An agent of a workspace.
    pub async fn agent(&self, workspace: &WorkspaceId) -> AgentId {
        let new = NewAgent {
            id: self.ids.next(),
            workspace_id: workspace.clone(),
            body: r#"{"v":1}"#.into(),
        };
        self.store.create_agent(new).await.unwrap().id
    }

    /// A vault of the default workspace.
    pub async fn vault(&self) -> VaultId {
        let new = NewVault {
            id: self.ids.next(),
            workspace_id: self.workspace.clone(),
            body: "{}".into(),
        };
        self.store.create_vault(new).await.unwrap().id
    }

    /// What makes a session of the default workspace.
    pub fn new_session(&self) -> NewSession {
        NewSession {
            id: self.ids.next(),
            workspace_id: self.workspace.clone(),
            thread_id: self.ids.next(),
            environment_id: self.environment.clone(),
            environment: r#"{"type":"cloud"}"#.into(),
            self_hosted: false,
            agent_id: self.agent.clone(),
            agent_version: 1,
            agent: r#"{"name":"a"}"#.into(),
            deployment_id: None,
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids: "[]".into(),
            initial: Vec::new(),
            skills: Vec::new(),
            resources: Vec::new(),
        }
    }

    /// An idle session of the default workspace.
    pub async fn session(&self) -> SessionRow {
        self.tick();
        self.store.create_session(self.new_session()).await.unwrap()
    }

    /// The session's row as it is now.
    pub async fn row(&self, session: &SessionId) -> SessionRow {
        self.store.session_any(session).await.unwrap().unwrap()
    }

    /// Claims the session for the live replica; gives the epoch.
    pub async fn claim(&self, session: &SessionId) -> i64 {
        self.store
            .claim(session, &self.replica)
            .await
            .unwrap()
            .unwrap()
            .epoch
    }

    /// An event of a type.
    pub fn event(&self, kind: &str) -> NewEvent {
        let id: EventId = self.ids.next();
        let payload = format!(r#"{{"id":"{id}","type":"{kind}"}}"#);
        NewEvent {
            id,
            kind: kind.into(),
            payload,
            ref_id: None,
            detail: None,
        }
    }

    /// An event that refers to another.
    pub fn about(&self, kind: &str, ref_id: &EventId) -> NewEvent {
        NewEvent {
            ref_id: Some(ref_id.clone()),
            ..self.event(kind)
        }
    }

    /// A message that starts a turn.
    pub fn message(&self) -> Input {
        Input::Queue {
            event: self.event("user.message"),
            starts_turn: true,
        }
    }

    /// A verdict on a tool use.
    pub fn verdict(&self, tool_use: &EventId) -> Input {
        let event = self.about("user.tool_confirmation", tool_use);
        Input::Queue {
            event,
            starts_turn: true,
        }
    }

    /// A client's result of a tool use.
    pub fn result(&self, tool_use: &EventId) -> Input {
        Input::Record {
            event: self.about("user.custom_tool_result", tool_use),
        }
    }

    /// A plain file of the default workspace.
    pub async fn file(&self, content: &str) -> FileRow {
        self.tick();
        let blob = self
            .store
            .blobs()
            .put(content.as_bytes(), 1 << 20)
            .await
            .unwrap();
        let new = NewFile {
            id: self.ids.next::<freehold_base::kind::File>(),
            workspace_id: self.workspace.clone(),
            filename: "a.txt".into(),
            mime_type: "text/plain".into(),
            size: blob.size,
            blob: blob.key.clone(),
            downloadable: false,
            expires_at: None,
        };
        self.store.create_file(new).await.unwrap()
    }

    /// The bytes of a blob, if it is there.
    pub async fn content(&self, blob: &str) -> Option<String> {
        let mut text = String::new();
        let mut reader = match self.store.blobs().open(blob).await {
            Err(BlobError::NotFound) => return None,
            opened => opened.unwrap(),
        };
        reader.read_to_string(&mut text).await.unwrap();
        Some(text)
    }

    /// A file id.
    pub fn file_id(&self) -> FileId {
        self.ids.next()
    }
}

/// An append that changes nothing else.
pub fn append(session: &SessionId, epoch: i64, events: Vec<NewEvent>) -> Append {
    Append {
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
    }
}
