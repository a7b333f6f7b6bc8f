//! What the sandboxes of sessions take, and why one may be missing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{SessionId, SharedClock};
use freehold_sandbox::{HostPattern, Isolation, Limits, SandboxError, ToolRequest};

use super::start::START_TIMEOUT;
use crate::floor::NoSpace;
use crate::memory::{MemoryError, MemoryMount, Remote};
use crate::packages::PackagesError;
use crate::skills::Skill;
use crate::uploads::{Upload, UploadError};
use crate::variables::Variable;

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Options {
    /// State directories are made here, one a session; absolute.
    pub root: PathBuf,
    /// Limits of each sandbox.
    pub limits: Limits,
    /// Sandboxes weaker than this are not made.
    pub min_isolation: Isolation,
    /// Sandboxes that live at a time. Above it the one unused for longest is closed.
    pub max_live: usize,
    /// A sandbox unused for this long is closed: its processes end, its files stay.
    pub idle: Duration,
    /// Bytes of the root's file system that sandboxes leave free; 0 sets no floor.
    pub min_free: u64,
    /// Hosts that `allow_package_managers` adds to a limited network.
    pub package_hosts: Vec<HostPattern>,
    /// Variables while packages are installed, for example where a manager finds its index. What
    /// installs sees them: no secrets.
    pub package_env: Vec<(String, String)>,
    /// Where sandboxes show skills: what the agent is told.
    pub skills_at: &'static str,
}

/// Where a session's tools run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The environment's resolved `config` (contract 20).
    pub config: &'a serde_json::Value,
    /// Attached files.
    pub uploads: &'a [Upload],
    /// Skills; the same at every call.
    pub skills: &'a [Skill],
    /// Attached memory stores.
    pub memory: Option<MemorySource<'a>>,
    /// Variables of its vaults, as they are now.
    pub variables: &'a [Variable],
}

/// Memory stores of a session, and how they are reached with its rights.
#[derive(Clone, Copy)]
pub struct MemorySource<'a> {
    /// What is mounted; the same for as long as the session lives.
    pub mounts: &'a [MemoryMount],
    /// The stores.
    pub remote: &'a Arc<dyn Remote>,
    /// For the times that the sync looks at.
    pub clock: &'a SharedClock,
}

impl std::fmt::Debug for MemorySource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemorySource").field(&self.mounts).finish()
    }
}

/// One tool call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What the sandbox is asked.
    pub request: ToolRequest,
    /// Whether running it twice is the same as once: it is then repeated if the sandbox is lost.
    pub repeatable: bool,
}

/// Why a session has no sandbox now. The text is fit for the model.
#[derive(Debug, thiserror::Error)]
pub enum SandboxUnavailable {
    /// The session was deleted.
    #[error("the session was deleted")]
    Removed,
    /// All sandboxes that may live are at work.
    #[error("all {max} sandboxes of this server are in use")]
    NoRoom {
        /// How many.
        max: usize,
    },
    /// The disk is nearly full.
    #[error(transparent)]
    Full(#[from] NoSpace),
    /// It did not come up in time.
    #[error("the sandbox did not start within {} seconds", START_TIMEOUT.as_secs())]
    Slow,
    /// It could not be made, or failed at a file operation.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Attached files could not be shown in it.
    #[error(transparent)]
    Uploads(#[from] UploadError),
    /// A memory store could not be mounted.
    #[error("a memory store could not be mounted: {0}")]
    Memory(#[from] MemoryError),
    /// Nobody can say whether the files here are still the session's, or another server drives it.
    #[error("where the session's files are could not be found out")]
    Keeper(#[source] std::io::Error),
    /// Its files are not here, and could not be brought here.
    #[error("the session's files could not be restored from their snapshot")]
    Restore(#[source] std::io::Error),
    /// The environment's packages are not there.
    #[error("the environment's packages could not be installed: {0}")]
    Packages(Arc<PackagesError>),
}
