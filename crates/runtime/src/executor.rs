//! Who runs the built-in tools. The runtime knows only this trait; the binary connects it to
//! sandboxes and web tools.

use async_trait::async_trait;
use freehold_base::{EventId, MemoryStoreId, SessionId, WorkspaceId};
use freehold_wire::content::ContentBlock;
use freehold_wire::tool::{BuiltinTool, BuiltinToolConfig};
use serde_json::value::RawValue;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::credentials::EnvironmentCredential;

/// Where a session's tools run.
#[derive(Debug, Clone)]
pub struct Place {
    /// The session.
    pub session: SessionId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The environment's resolved `config` (contract 20).
    pub config: serde_json::Value,
    /// Files the sandbox shows read-only.
    pub uploads: Vec<Upload>,
    /// Skills the sandbox shows read-only; the same for as long as the session lives.
    pub skills: Vec<Skill>,
    /// Memory stores the sandbox shows.
    pub memory: Vec<MemoryMount>,
    /// Variables of the session's vaults, as they are now. The next call may have others.
    pub credentials: Vec<EnvironmentCredential>,
}

/// A skill unpacked for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skill {
    /// Names its folder.
    pub name: String,
    /// Key of its archive in the blob store.
    pub blob: String,
}

/// A memory store mounted into a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryMount {
    /// Which; it may have been deleted since.
    pub store: MemoryStoreId,
    /// Absolute, normalised, one name below `/mnt/memory`.
    pub mount_path: String,
    /// The agent may not change it.
    pub read_only: bool,
}

/// A file mounted into a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Absolute, normalised, under `/mnt/session/uploads`.
    pub mount_path: String,
    /// Key of its bytes in the blob store.
    pub blob: String,
}

/// One call of a built-in tool.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// The use event; unique, so that a call can be recognised.
    pub id: EventId,
    /// The tool.
    pub tool: BuiltinTool,
    /// The model's input, unchecked.
    pub input: Box<RawValue>,
    /// The agent's override for this tool: the web tools' domain rules are in it.
    pub config: Option<BuiltinToolConfig>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolReply {
    /// At least one block.
    pub content: Vec<ContentBlock>,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl ToolReply {
    /// A failed call with a text for the model.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            content: vec![ContentBlock::text(text)],
            is_error: true,
        }
    }
}

/// A file below `/mnt/session/outputs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Relative to the outputs folder, `/`-separated.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Microseconds since the epoch.
    pub mtime_micros: i64,
}

/// Runs built-in tools. Errors that the agent should see are replies with `is_error`; the
/// `Err(String)` of the file methods is for the log.
#[async_trait]
pub trait ToolExecutor: Send + Sync + 'static {
    /// Why a tool cannot be offered at all, if so.
    fn unavailable(&self, tool: BuiltinTool) -> Option<String>;
    /// Why this host cannot run cloud sessions, if so.
    fn refuses_cloud(&self) -> Option<String>;
    /// Starts provisioning in the background; a failure shows at the first call.
    async fn prepare(&self, place: &Place);
    /// Runs one call to its end, or until cancelled (then promptly with an error reply).
    async fn call(&self, place: &Place, call: &ToolCall, cancel: CancellationToken) -> ToolReply;
    /// Writes a file inside the sandbox.
    async fn write_file(&self, place: &Place, path: &str, bytes: Vec<u8>) -> Result<(), String>;
    /// A round of calls has ended: what they left in memory stores is taken in.
    async fn settle(&self, _place: &Place) {}
    /// The session rests: nothing runs in its sandbox that a call waits for.
    fn rested(&self, _session: &SessionId) {}
    /// The server stops and nothing is driven any more, but nobody else may take its sessions yet:
    /// what others need to go on is left for them, until a time.
    async fn leave(&self, _until: tokio::time::Instant) {}
    /// Lists the outputs folder; empty, and no sandbox made, if the session never had one.
    async fn outputs(&self, place: &Place) -> Result<Vec<OutputFile>, String>;
    /// Reads one output.
    async fn read_output(
        &self,
        place: &Place,
        path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, String>;
    /// Destroys the session's sandbox and its files.
    async fn remove(&self, session: &SessionId);
}
