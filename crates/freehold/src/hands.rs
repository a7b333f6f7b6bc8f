//! Tools for the runtime: sandboxes for those that touch files, the server itself for the web.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::{IdSource, SessionId, SharedClock, chain};
use freehold_runtime::{OutputFile, Place, ToolCall, ToolExecutor, ToolReply};
use freehold_sandbox::ToolRequest;
use freehold_store::Store;
use freehold_wire::tool::BuiltinTool;
use freehold_worker::memory::Remote;
use freehold_worker::{
    Call, FileSource, MemoryMount, MemorySource, SandboxUnavailable, SessionSandboxes, Skill,
    Upload, Variable, local,
};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::memories::SessionMemories;
use crate::web::Web;

/// The tools of this process.
pub(crate) struct Hands {
    sandboxes: Arc<SessionSandboxes>,
    refusal: Option<String>,
    web: Web,
    store: Store,
    ids: IdSource,
}

impl Hands {
    /// `refusal` says why this host cannot run cloud sessions, if so.
    pub(crate) fn new(
        sandboxes: Arc<SessionSandboxes>,
        refusal: Option<String>,
        web: Web,
        store: Store,
        ids: IdSource,
    ) -> Self {
        Self {
            sandboxes,
            refusal,
            web,
            store,
            ids,
        }
    }

    /// What the sandbox shows of the session.
    fn shown(&self, place: &Place) -> Shown {
        let uploads = place.uploads.iter().map(|u| Upload {
            mount_path: u.mount_path.clone(),
            key: u.blob.clone(),
        });
        let memory = place.memory.iter().map(|m| MemoryMount {
            store: m.store.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only,
        });
        let skills = place.skills.iter().map(|s| Skill {
            name: s.name.clone(),
            key: s.blob.clone(),
        });
        let variables = place.credentials.iter().map(|c| Variable {
            name: c.name.clone(),
            placeholder: c.placeholder.clone(),
            value: c.value.clone(),
            hosts: c.hosts.clone(),
            header: c.header,
            body: c.body,
        });
        Shown {
            uploads: uploads.collect(),
            skills: skills.collect(),
            variables: variables.collect(),
            memory: memory.collect(),
            remote: Arc::new(SessionMemories {
                store: self.store.clone(),
                ids: self.ids.clone(),
                workspace: place.workspace.clone(),
                session: place.session.clone(),
            }),
            clock: Arc::clone(self.ids.clock()),
        }
    }
}

/// What a sandbox shows of its session.
struct Shown {
    uploads: Vec<Upload>,
    skills: Vec<Skill>,
    variables: Vec<Variable>,
    memory: Vec<MemoryMount>,
    remote: Arc<dyn Remote>,
    clock: SharedClock,
}

impl Shown {
    fn at<'a>(&'a self, place: &'a Place) -> local::Place<'a> {
        local::Place {
            session: &place.session,
            config: &place.config,
            uploads: &self.uploads,
            skills: &self.skills,
            variables: &self.variables,
            memory: Some(MemorySource {
                mounts: &self.memory,
                remote: &self.remote,
                clock: &self.clock,
            }),
        }
    }
}

#[async_trait]
impl ToolExecutor for Hands {
    fn unavailable(&self, tool: BuiltinTool) -> Option<String> {
        self.web.unavailable(tool)
    }

    fn refuses_cloud(&self) -> Option<String> {
        self.refusal.clone()
    }

    async fn prepare(&self, place: &Place) {
        if self.refusal.is_some() {
            return;
        }
        if let Err(error) = self.sandboxes.prepare(self.shown(place).at(place)).await {
            tracing::warn!(session = %place.session, error = %chain(&error), "sandbox not prepared");
        }
    }

    async fn call(&self, place: &Place, call: &ToolCall, cancel: CancellationToken) -> ToolReply {
        if let Some(reply) = self.web.call(call, &cancel).await {
            return reply;
        }
        if let Some(refusal) = &self.refusal {
            return ToolReply::error(format!("The tool could not run: {refusal}."));
        }
        let request = ToolRequest {
            id: call.id.to_string(),
            name: call.tool.name().to_owned(),
            input: call.input.clone(),
        };
        let call = Call {
            request,
            repeatable: call.tool.is_repeatable(),
        };
        let reply = self
            .sandboxes
            .call(self.shown(place).at(place), call, &cancel)
            .await;
        ToolReply {
            content: reply.content,
            is_error: reply.is_error,
        }
    }

    async fn write_file(&self, place: &Place, path: &str, bytes: Vec<u8>) -> Result<(), String> {
        self.sandboxes
            .write_file(self.shown(place).at(place), path, bytes)
            .await
            .map_err(said)
    }

    async fn settle(&self, place: &Place) {
        if !place.memory.is_empty() {
            self.sandboxes.settle(self.shown(place).at(place)).await;
        }
    }

    fn rested(&self, session: &SessionId) {
        self.sandboxes.rested(session);
    }

    async fn leave(&self, until: tokio::time::Instant) {
        self.sandboxes.save_all(until).await;
    }

    async fn outputs(&self, place: &Place) -> Result<Vec<OutputFile>, String> {
        let files = self
            .sandboxes
            .outputs(self.shown(place).at(place))
            .await
            .map_err(said)?;
        let files = files.into_iter().map(|f| OutputFile {
            path: f.path,
            size: f.size,
            mtime_micros: f.mtime_micros,
        });
        Ok(files.collect())
    }

    async fn read_output(
        &self,
        place: &Place,
        path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        let file = self
            .sandboxes
            .read_output(self.shown(place).at(place), path)
            .await;
        Ok(Box::new(file.map_err(said)?))
    }

    async fn remove(&self, session: &SessionId) {
        self.sandboxes.remove(session).await;
    }
}

fn said(error: SandboxUnavailable) -> String {
    chain(&error)
}

/// Attached files and skills come from the store's blobs.
pub(crate) struct Blobs(pub(crate) Store);

#[async_trait]
impl FileSource for Blobs {
    async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.0.blobs().open(key).await.map_err(io::Error::other)
    }
}
