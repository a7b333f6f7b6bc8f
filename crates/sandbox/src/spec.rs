//! What a sandbox is asked to be.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{NetworkPolicy, SandboxError};

/// Longest accepted [`SandboxSpec::id`], bytes.
const MAX_ID: usize = 80;

/// Everything needed to create a sandbox, or to re-open one over the same directory.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// `[a-z0-9_]`, 1 to 80 characters, unique among live sandboxes of a provider.
    pub id: String,
    /// The sandbox's own state directory on the host, absolute; its files outlive the sandbox.
    pub dir: PathBuf,
    /// Resource limits.
    pub limits: Limits,
    /// What the inside may reach.
    pub network: NetworkPolicy,
    /// `create` fails rather than run with less than this.
    pub min_isolation: Isolation,
}

/// Resource limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all processes together, bytes; swap included.
    pub memory_bytes: u64,
    /// Processes and threads together.
    pub pids: u32,
    /// CPU time per second of wall clock, thousandths of a core.
    pub cpu_millis: u32,
    /// Size of `/tmp`, bytes (held in memory and counted as such).
    pub tmp_bytes: u64,
    /// Largest single file a process may write, bytes.
    pub file_bytes: u64,
}

impl Default for Limits {
    /// 2 GiB of memory, 512 tasks, one core, 512 MiB of `/tmp`, files up to 2 GiB.
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            pids: 512,
            cpu_millis: 1000,
            tmp_bytes: 512 << 20,
            file_bytes: 2 << 30,
        }
    }
}

/// How strongly a sandbox is separated from the host, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// None at all: tools run as the server's own user.
    None,
    /// Namespaces, no capabilities, seccomp; memory and CPU not limited as a group.
    Namespaces,
    /// As `Namespaces`, with memory, process and CPU limits enforced by control groups.
    NamespacesAndLimits,
    /// A kernel of its own in user space (gVisor), with the same limits.
    Gvisor,
    /// A virtual machine with a kernel of its own, with the same limits.
    Microvm,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Namespaces => "namespaces",
            Self::NamespacesAndLimits => "namespaces and limits",
            Self::Gvisor => "gvisor",
            Self::Microvm => "microvm",
        })
    }
}

impl SandboxSpec {
    /// Where the host places files that the inside sees read-only at `/mnt/session/uploads`.
    pub fn uploads_dir(&self) -> PathBuf {
        self.dir.join(UPLOADS)
    }

    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let bad = |what: &str| Err(SandboxError::InvalidSpec(what.to_owned()));
        let good_id = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if self.id.is_empty() || self.id.len() > MAX_ID || !self.id.bytes().all(good_id) {
            return bad("the id must be 1 to 80 characters of a-z, 0-9 and _");
        }
        if !self.dir.is_absolute() || self.dir == Path::new("/") {
            return bad("the state directory must be an absolute path below the root");
        }
        let l = &self.limits;
        if l.memory_bytes < 16 << 20 || l.tmp_bytes < 4096 || l.file_bytes < 4096 {
            return bad("memory must be at least 16 MiB, tmp and file sizes at least 4 KiB");
        }
        if l.pids < 16 || l.cpu_millis < 10 {
            return bad("at least 16 tasks and 10 thousandths of a core are needed");
        }
        Ok(())
    }
}

/// Directories inside [`SandboxSpec::dir`].
pub(crate) const WORKSPACE: &str = "workspace";
pub(crate) const OUTPUTS: &str = "outputs";
pub(crate) const UPLOADS: &str = "uploads";
pub(crate) const HOME: &str = "home";
/// Held locked by the launcher for as long as anything of the sandbox lives.
pub(crate) const LOCK: &str = "lock";
