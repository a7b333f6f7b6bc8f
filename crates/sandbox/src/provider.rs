//! The two traits every isolation technique implements, and the values they pass.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::egress::Denial;
use crate::{
    Capabilities, ExecHandle, ExecRequest, FileProblem, Network, Operation, SandboxError,
    SandboxSpec, Snapshot,
};

/// Makes sandboxes of one technique.
#[async_trait]
pub trait Provider: Send + Sync {
    /// For logs and configuration, for example `namespaces`.
    fn name(&self) -> &'static str;
    /// What this host really offers, found out by running a sandbox, not by looking at versions.
    async fn probe(&self) -> Capabilities;
    /// Creates a sandbox, or re-opens one over the same `spec.dir` with its files as they were.
    ///
    /// # Errors
    /// [`SandboxError::TooWeak`] where the host offers less than `spec.min_isolation`.
    async fn create(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError>;
    /// Creates a sandbox over a fresh `spec.dir` with the files of a snapshot, made by any provider
    /// on any host.
    ///
    /// # Errors
    /// [`SandboxError::Snapshot`] for one that is damaged or hostile, [`SandboxError::AlreadyOpen`]
    /// if `spec.dir` exists; as [`Provider::create`] otherwise.
    async fn restore(
        &self,
        snapshot: &Snapshot,
        spec: &SandboxSpec,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let _ = (snapshot, spec);
        Err(self.unsupported(Operation::Restore))
    }
    /// What tells the read-only system of sandboxes from another, or from itself after a change: a
    /// layer made over one may not fit another. Empty where there are no layers.
    fn system(&self) -> String {
        String::new()
    }
    /// Creates a sandbox to install packages in, over a fresh `spec.dir`. `/opt` may be written to
    /// and, where the server is root and the host's file system can show other owners, the rest of
    /// the system by programs that run as the inside's own root. That, and nothing else, is what
    /// [`Sandbox::snapshot`] takes from it. Whatever runs in it is held as in any other sandbox.
    ///
    /// # Errors
    /// As [`Provider::create`].
    async fn installer(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let _ = spec;
        Err(self.unsupported(Operation::Install))
    }
    /// Unpacks a snapshot of an [`Provider::installer`]; the directory below the fresh `spec.dir`
    /// that can be one of [`SandboxSpec::layers`]. Of the spec only id, directory and limits count.
    ///
    /// # Errors
    /// As [`Provider::restore`].
    async fn layer(
        &self,
        snapshot: &Snapshot,
        spec: &SandboxSpec,
    ) -> Result<PathBuf, SandboxError> {
        let _ = (snapshot, spec);
        Err(self.unsupported(Operation::Install))
    }
    /// The live sandbox of this id, if this process has one. Sandboxes of an earlier process have
    /// ended with it: [`Provider::create`] over the same directory brings the files back.
    async fn attach(&self, id: &str) -> Result<Option<Arc<dyn Sandbox>>, SandboxError> {
        let _ = id;
        Ok(None)
    }
    /// The error for what this provider cannot do.
    fn unsupported(&self, operation: Operation) -> SandboxError {
        SandboxError::Unsupported {
            provider: self.name(),
            operation,
        }
    }
    /// Ends and clears what an earlier server process left behind, except sandboxes named in
    /// `keep` and those open now. Returns how many were cleared. State directories are not touched.
    async fn reap(&self, keep: &HashSet<String>) -> Result<usize, SandboxError>;
    /// Deletes a state directory: its name is free when this returns, its content goes in the
    /// background. The sandbox must be destroyed.
    ///
    /// # Errors
    /// [`SandboxError::Host`] if the directory cannot be moved aside. A missing one is no error.
    fn remove_state(&self, dir: &Path) -> Result<(), SandboxError> {
        crate::trash::discard(dir)
    }
    /// Goes on, in the background, with removals in `parent` (the directory that holds state
    /// directories) that an earlier server process did not finish. Call once at start.
    fn resume_removals(&self, parent: &Path) -> Result<(), SandboxError> {
        crate::trash::resume(parent)
    }
}

/// A live sandbox. Dropping the last handle ends its processes; files stay until
/// [`Provider::remove_state`].
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// The id it was created with.
    fn id(&self) -> &str;
    /// Runs a named tool handler inside. When `cancel` fires the call is killed inside; whatever
    /// the handler then answers is returned, or [`SandboxError::Cancelled`] if it does not.
    ///
    /// # Errors
    /// [`SandboxError::Lost`] when the sandbox ended, also by the agent breaking the protocol:
    /// whether the call took effect is then unknown.
    async fn call(
        &self,
        request: ToolRequest,
        cancel: &CancellationToken,
    ) -> Result<ToolReply, SandboxError>;
    /// Regular files below `dir` (an inside path), recursively, no symbolic link followed; at most
    /// 10,000, at most 64 directories deep.
    async fn list_files(&self, dir: &str) -> Result<Listing, SandboxError>;
    /// Opens a regular file of at most `max` bytes for reading. No symbolic link is followed.
    async fn read_file(&self, path: &str, max: u64) -> Result<FileStream, SandboxError>;
    /// Writes a file whole, atomically, creating its parents.
    async fn write_file(&self, path: &str, bytes: Bytes) -> Result<(), SandboxError>;
    /// Deletes a file, or a symbolic link itself. A missing one is an error, a directory another.
    async fn delete_file(&self, path: &str) -> Result<(), SandboxError> {
        let _ = path;
        Err(FileProblem::Denied.into())
    }
    /// Starts a program inside, as tools are started.
    ///
    /// # Errors
    /// [`SandboxError::Exec`] if it cannot be started.
    async fn exec(&self, request: ExecRequest) -> Result<ExecHandle, SandboxError> {
        let _ = request;
        Err(SandboxError::Exec("this sandbox starts no programs".into()))
    }
    /// Replaces what may be reached and with which secrets. Open connections that are not allowed
    /// any more end; later requests get the new secrets.
    ///
    /// # Errors
    /// [`SandboxError::Unsupported`]; [`SandboxError::InvalidSpec`] if the sandbox was made without
    /// a network, or without credentials, and is to have some: then it has to be made again.
    async fn set_network(&self, network: Network) -> Result<(), SandboxError> {
        let _ = network;
        Err(self.unsupported(Operation::SetNetwork))
    }
    /// What the network policy refused since this was last asked, and what failed on the way, at
    /// most a few lines.
    fn take_denials(&self) -> Vec<Denial> {
        Vec::new()
    }
    /// Archives the files that are kept (workspace, outputs, home, writable shares) into the
    /// directory `store`, under a name that is the archive's SHA-256. Everything inside stands
    /// still meanwhile. Processes are not part of it.
    ///
    /// # Errors
    /// [`SandboxError::Unsupported`], [`SandboxError::Host`].
    async fn snapshot(&self, store: &Path) -> Result<Snapshot, SandboxError> {
        let _ = store;
        Err(self.unsupported(Operation::Snapshot))
    }
    /// Stops every process inside until [`Sandbox::resume`]; memory stays. Calls wait. Idempotent.
    async fn pause(&self) -> Result<(), SandboxError> {
        Err(self.unsupported(Operation::Pause))
    }
    /// Ends a pause. Idempotent.
    async fn resume(&self) -> Result<(), SandboxError> {
        Err(self.unsupported(Operation::Pause))
    }
    /// The name of the provider that made it.
    fn provider(&self) -> &'static str {
        "unnamed"
    }
    /// The error for what this sandbox cannot do.
    fn unsupported(&self, operation: Operation) -> SandboxError {
        SandboxError::Unsupported {
            provider: self.provider(),
            operation,
        }
    }
    /// Ends every process inside and releases everything but the files. Idempotent.
    async fn destroy(&self) -> Result<(), SandboxError>;
    /// Whether calls can still succeed.
    fn alive(&self) -> bool;
    /// Resource use now.
    async fn stats(&self) -> Result<Stats, SandboxError>;
}

/// One tool call.
#[derive(Debug, Clone)]
pub struct ToolRequest {
    /// The tool use's id, for logs only.
    pub id: String,
    /// The tool's name, at most 128 bytes.
    pub name: String,
    /// The tool's input, JSON of at most 32 MiB.
    pub input: Box<RawValue>,
}

/// What a tool call came to. Blocks come from inside the sandbox and are hostile: valid JSON,
/// bounded in number and total size (40 MiB), nothing more.
#[derive(Debug, Clone)]
pub struct ToolReply {
    /// Content blocks, at most 1,000.
    pub content: Vec<Box<RawValue>>,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// A regular file inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the listed directory, without `.` or `..` components.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Last modification, microseconds since the Unix epoch, as the sandbox claims.
    pub mtime_micros: i64,
}

/// The files below a directory.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Sorted by path.
    pub files: Vec<FileEntry>,
    /// Whether a bound left some out, or names that are not UTF-8 did.
    pub truncated: bool,
}

/// The content of a file, in chunks of at most 256 KiB.
#[derive(Debug)]
pub struct FileStream {
    pub(crate) size: u64,
    pub(crate) chunks: mpsc::Receiver<Result<Bytes, SandboxError>>,
}

impl FileStream {
    /// Size when opened, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, SandboxError>> {
        self.chunks.recv().await
    }
    /// Everything, for files known to be small.
    pub async fn collect(mut self) -> Result<Vec<u8>, SandboxError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }
}

/// Resource use of a sandbox. `None` where the host does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// Greatest memory use so far, bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// CPU time used so far, microseconds.
    pub cpu_micros: Option<u64>,
    /// Processes killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Disk in use by what is kept, bytes.
    pub disk_bytes: Option<u64>,
    /// Files and directories that are kept, in number.
    pub disk_inodes: Option<u64>,
    /// Connections opened through the egress proxy.
    pub egress_allowed: u64,
    /// Connections refused by policy.
    pub egress_denied: u64,
    /// Bytes sent out through the egress proxy.
    pub egress_sent_bytes: u64,
    /// Bytes received through it.
    pub egress_received_bytes: u64,
}

/// How to start the in-sandbox program: it must call [`crate::agent::main`] before it has a
/// second thread.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Absolute path, for example `/proc/self/exe`.
    pub program: PathBuf,
    /// Arguments, for example `sandbox-agent`.
    pub args: Vec<String>,
}
