//! A runtime over a real store and the rehearsal model, with tools that the test plays.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freehold_base::net::{AddressPolicy, Exception};
use freehold_base::{AgentId, EnvironmentId, EventId, IdSource, SessionId, WorkspaceId};
use freehold_engine::Backoff;
use freehold_mcp::{Connector, Direct};
use freehold_model::{Catalog, CatalogConfig};
use freehold_runtime::mcp::AuditLog;
use freehold_runtime::{
    Frame, Hub, Mcp, Options, OutputFile, Place, Runtime, ToolCall, ToolExecutor, ToolReply,
};
use freehold_store::{EventQuery, Input, NewAgent, NewEnvironment, NewEvent, NewSession, Store};
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{
    ContentOnly, CustomToolResult, EventBody, ToolConfirmation, UserInterrupt, Verdict,
};
use freehold_wire::tool::BuiltinTool;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Path and bytes of every file written into the sandbox.
pub type Written = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Tools as the test plays them.
#[derive(Default)]
pub struct Tools {
    answer: Option<String>,
    gate: Option<Arc<Gate>>,
    calls: Arc<AtomicUsize>,
    files: Written,
    rounds: Rounds,
}

/// How often what a round of calls left behind was taken in: memory, and outputs.
#[derive(Clone, Default)]
pub struct Rounds {
    pub settled: Arc<AtomicUsize>,
    pub listed: Arc<AtomicUsize>,
}

/// Holds a call until the test lets it go.
pub struct Gate {
    reached: Semaphore,
    opened: Semaphore,
}

impl Gate {
    pub async fn reached(&self) {
        self.reached.acquire().await.expect("never closed").forget();
    }
    pub fn open(&self) {
        self.opened.add_permits(1);
    }
}

impl Tools {
    pub fn answering(text: String) -> Self {
        Self {
            answer: Some(text),
            ..Self::default()
        }
    }
    pub fn gated() -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate {
            reached: Semaphore::new(0),
            opened: Semaphore::new(0),
        });
        (
            Self {
                gate: Some(Arc::clone(&gate)),
                ..Self::default()
            },
            gate,
        )
    }
    pub fn calls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.calls)
    }
    pub fn rounds(&self) -> Rounds {
        self.rounds.clone()
    }
    pub fn files(&self) -> Written {
        Arc::clone(&self.files)
    }
}

#[async_trait]
impl ToolExecutor for Tools {
    fn unavailable(&self, _: BuiltinTool) -> Option<String> {
        None
    }
    fn refuses_cloud(&self) -> Option<String> {
        None
    }
    async fn prepare(&self, _: &Place) {}
    async fn call(&self, _: &Place, call: &ToolCall, cancel: CancellationToken) -> ToolReply {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.reached.add_permits(1);
            tokio::select! {
                _ = gate.opened.acquire() => {}
                () = cancel.cancelled() => return ToolReply::error("cancelled"),
            }
        }
        let text = self
            .answer
            .clone()
            .unwrap_or(format!("played {}", call.tool.name()));
        ToolReply {
            content: vec![ContentBlock::text(text)],
            is_error: false,
        }
    }
    async fn write_file(&self, _: &Place, path: &str, bytes: Vec<u8>) -> Result<(), String> {
        self.files
            .lock()
            .map_err(|e| e.to_string())?
            .push((path.to_owned(), bytes));
        Ok(())
    }
    async fn settle(&self, _: &Place) {
        self.rounds.settled.fetch_add(1, Ordering::SeqCst);
    }
    async fn outputs(&self, _: &Place) -> Result<Vec<OutputFile>, String> {
        self.rounds.listed.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }
    async fn read_output(
        &self,
        _: &Place,
        path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        Err(format!("no output {path}"))
    }
    async fn remove(&self, _: &SessionId) {}
}

/// An agent with the built-in tools (write asks) and one custom tool.
pub fn agent() -> Value {
    let always = |policy: &str| json!({ "enabled": true, "permission_policy": { "type": policy } });
    json!({
        "type": "agent", "id": "agent_1", "version": 1, "name": "player", "description": null,
        "system": null,
        "model": { "id": "rehearsal", "effort": { "type": "high" }, "speed": "standard" },
        "tools": [
            { "type": "agent_toolset_20260401", "default_config": always("always_allow"),
              "configs": [{ "name": "write", "type": "write", "enabled": true,
                            "permission_policy": { "type": "always_ask" } }] },
            { "type": "custom", "name": "ask_me", "description": "asks",
              "input_schema": { "type": "object" } },
        ],
        "mcp_servers": [], "skills": [], "multiagent": null,
        "execution_identity": { "type": "service_account" },
    })
}

pub fn self_hosted() -> Value {
    json!({ "type": "self_hosted" })
}

pub struct World {
    folder: tempfile::TempDir,
    config: String,
    ids: IdSource,
    store: Store,
    runtime: Runtime,
    workspace: WorkspaceId,
}

impl World {
    pub async fn start(tools: Tools) -> Self {
        Self::with_window(tools, 200_000).await
    }

    pub async fn with_window(tools: Tools, window: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = json!({ "rehearsal": { "delay_ms": 0, "context_window": window } });
        Self::open(folder, config.to_string(), tools).await
    }

    async fn open(folder: tempfile::TempDir, config: String, tools: Tools) -> Self {
        let ids = IdSource::system();
        let hub = Hub::new(ids.clone());
        let dir: PathBuf = folder.path().join("data");
        let store = Store::open(&dir, ids.clone(), Arc::new(hub.clone())).expect("a store");
        let catalog: CatalogConfig = serde_json::from_str(&config).expect("a configuration");
        let catalog = Catalog::from_config(&catalog, &Default::default(), &ids).expect("a catalog");
        let options = Options {
            backoff: Backoff {
                base_ms: 1,
                max_ms: 5,
                attempts: 4,
            },
            ..Options::default()
        };
        let (catalog, tools) = (Arc::new(catalog), Arc::new(tools));
        let loopback = AddressPolicy::allowing(["127.0.0.0/8".parse::<Exception>().unwrap()]);
        let direct = Direct::new(loopback, None).unwrap();
        let connector = Connector::new(Arc::new(direct), Default::default());
        let audit = AuditLog::start(store.clone(), ids.clock().clone());
        let mcp = Mcp::new(store.clone(), connector, audit, ids.clock().clone());
        let runtime = Runtime::start(
            store.clone(),
            catalog,
            tools,
            mcp,
            hub,
            ids.clone(),
            options,
        );
        let runtime = runtime.await.expect("a runtime");
        let workspace = store.default_workspace().await.expect("a workspace").id;
        Self {
            folder,
            config,
            ids,
            store,
            runtime,
            workspace,
        }
    }

    /// Stops the server and starts the next on the same data.
    pub async fn restart(self) -> Self {
        self.runtime.stop().await;
        self.store.close().await;
        let Self { folder, config, .. } = self;
        Self::open(folder, config, Tools::default()).await
    }

    pub async fn session(&self, agent: Value, message: &str) -> SessionId {
        let cloud = json!({ "type": "cloud", "networking": { "type": "limited" } });
        self.session_in(cloud, agent, message).await
    }

    pub async fn session_in(&self, config: Value, mut agent: Value, message: &str) -> SessionId {
        let (agent_id, environment_id): (AgentId, EnvironmentId) =
            (self.ids.next(), self.ids.next());
        agent["id"] = json!(agent_id);
        let new = NewAgent {
            id: agent_id.clone(),
            workspace_id: self.workspace.clone(),
            body: agent.to_string(),
        };
        self.store.create_agent(new).await.expect("an agent");
        let new = NewEnvironment {
            id: environment_id.clone(),
            workspace_id: self.workspace.clone(),
            name: environment_id.to_string(),
            body: config.to_string(),
        };
        self.store
            .create_environment(new)
            .await
            .expect("an environment");
        let id: SessionId = self.ids.next();
        let new = NewSession {
            id: id.clone(),
            workspace_id: self.workspace.clone(),
            thread_id: self.ids.next(),
            environment_id,
            environment: config.to_string(),
            self_hosted: false,
            agent_id,
            agent_version: 1,
            agent: agent.to_string(),
            deployment_id: None,
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids: "[]".into(),
            initial: vec![self.message(message)],
            skills: Vec::new(),
            resources: Vec::new(),
        };
        self.store.create_session(new).await.expect("a session");
        self.runtime.wake(&id);
        id
    }

    fn message(&self, text: &str) -> Input {
        let content = vec![ContentBlock::text(text)];
        self.queue(&EventBody::UserMessage(ContentOnly { content }), true)
    }

    fn queue(&self, body: &EventBody, starts_turn: bool) -> Input {
        Input::Queue {
            event: NewEvent::new(self.ids.next(), body),
            starts_turn,
        }
    }

    async fn accept(&self, session: &SessionId, input: Input) {
        self.store
            .accept(session, vec![input])
            .await
            .expect("accepted");
        self.runtime.wake(session);
    }

    pub async fn say(&self, session: &SessionId, text: &str) {
        self.accept(session, self.message(text)).await;
    }

    pub async fn interrupt(&self, session: &SessionId) {
        let body = EventBody::UserInterrupt(UserInterrupt::default());
        self.accept(session, self.queue(&body, false)).await;
    }

    pub async fn confirm(&self, session: &SessionId, id: &str, verdict: &str, why: Option<&str>) {
        let body = EventBody::UserToolConfirmation(ToolConfirmation {
            tool_use_id: id.parse().expect("an id"),
            result: if verdict == "allow" {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            deny_message: why.map(str::to_owned),
        });
        self.accept(session, self.queue(&body, false)).await;
    }

    pub async fn answer_custom(&self, session: &SessionId, id: &str, text: &str) {
        let custom_tool_use_id: EventId = id.parse().expect("an id");
        let content = vec![ContentBlock::text(text)];
        let result = CustomToolResult {
            custom_tool_use_id,
            content,
            is_error: None,
        };
        let body = EventBody::UserCustomToolResult(result);
        let event = NewEvent::new(self.ids.next(), &body);
        self.accept(session, Input::Record { event }).await;
    }

    async fn history(&self, session: &SessionId) -> Vec<Value> {
        let query = EventQuery {
            limit: 1000,
            ..EventQuery::default()
        };
        let listed = self
            .store
            .list_events(session, query)
            .await
            .expect("a listing");
        listed
            .iter()
            .map(|e| serde_json::from_str(&e.wire()).expect("JSON"))
            .collect()
    }

    /// The history once the session rests with nothing queued.
    pub async fn settled(&self, session: &SessionId) -> Vec<Value> {
        let mut live = self.runtime.hub().subscribe(session);
        loop {
            let row = self
                .store
                .session_any(session)
                .await
                .expect("read")
                .expect("a session");
            let history = self.history(session).await;
            let queued = history.iter().any(|e| e["processed_at"].is_null());
            if row.status.as_str() == "idle" && !queued {
                freehold_engine::invariants::check(&history, !row.blocked).expect("a good history");
                return history;
            }
            live.next().await.expect("a frame");
        }
    }

    pub async fn settled_kinds(&self, session: &SessionId) -> Vec<String> {
        let kind = |e: &Value| e["type"].as_str().expect("a type").to_owned();
        self.settled(session).await.iter().map(kind).collect()
    }

    pub async fn seen(&self, session: &SessionId, kind: &str) {
        self.seen_times(session, kind, 1).await;
    }

    /// Waits until the history has so many events of a type.
    pub async fn seen_times(&self, session: &SessionId, kind: &str, times: usize) {
        let mut live = self.runtime.hub().subscribe(session);
        while self
            .history(session)
            .await
            .iter()
            .filter(|e| e["type"] == kind)
            .count()
            < times
        {
            let frame = live.next().await.expect("a frame");
            assert!(
                !matches!(frame, Frame::Deleted { .. }),
                "the session is gone"
            );
        }
    }
}
