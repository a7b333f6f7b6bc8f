//! Tools for the runtime: sandboxes for those that touch files, the server itself for the web.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::SessionId;
use freehold_runtime::{OutputFile, Place, ToolCall, ToolExecutor, ToolReply};
use freehold_sandbox::ToolRequest;
use freehold_store::Store;
use freehold_wire::tool::BuiltinTool;
use freehold_worker::{
    Call, FileSource, SandboxUnavailable, SessionSandboxes, Skill, Upload, local,
};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::exit::chain;
use crate::web::Web;

/// The tools of this process.
pub(crate) struct Hands {
    sandboxes: Arc<SessionSandboxes>,
    refusal: Option<String>,
    web: Web,
}

impl Hands {
    /// `refusal` says why this host cannot run cloud sessions, if so.
    pub(crate) fn new(sandboxes: Arc<SessionSandboxes>, refusal: Option<String>, web: Web) -> Self {
        Self {
            sandboxes,
            refusal,
            web,
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
        if let Err(error) = self.sandboxes.prepare(at(place, &Shown::of(place))).await {
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
            .call(at(place, &Shown::of(place)), call, &cancel)
            .await;
        ToolReply {
            content: reply.content,
            is_error: reply.is_error,
        }
    }

    async fn write_file(&self, place: &Place, path: &str, bytes: Vec<u8>) -> Result<(), String> {
        self.sandboxes
            .write_file(at(place, &Shown::of(place)), path, bytes)
            .await
            .map_err(said)
    }

    async fn outputs(&self, place: &Place) -> Result<Vec<OutputFile>, String> {
        let files = self
            .sandboxes
            .outputs(at(place, &Shown::of(place)))
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
            .read_output(at(place, &Shown::of(place)), path)
            .await;
        Ok(Box::new(file.map_err(said)?))
    }

    async fn remove(&self, session: &SessionId) {
        self.sandboxes.remove(session).await;
    }
}

/// What a place's sandbox shows, as the worker names it.
struct Shown {
    uploads: Vec<Upload>,
    skills: Vec<Skill>,
}

impl Shown {
    fn of(place: &Place) -> Self {
        let uploads = place.uploads.iter().map(|u| Upload {
            mount_path: u.mount_path.clone(),
            key: u.blob.clone(),
        });
        let skills = place.skills.iter().map(|s| Skill {
            name: s.name.clone(),
            key: s.blob.clone(),
        });
        Self {
            uploads: uploads.collect(),
            skills: skills.collect(),
        }
    }
}

fn at<'a>(place: &'a Place, shown: &'a Shown) -> local::Place<'a> {
    local::Place {
        session: &place.session,
        config: &place.config,
        uploads: &shown.uploads,
        skills: &shown.skills,
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
