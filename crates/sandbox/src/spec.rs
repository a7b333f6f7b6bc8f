//! What a sandbox is asked to be.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Network, SandboxError};

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
    /// What the inside may reach, and with which secrets.
    pub network: Network,
    /// `create` fails rather than run with less than this.
    pub min_isolation: Isolation,
    /// Further folders of `dir` shown inside; at most [`MAX_SHARES`].
    pub shares: Vec<Share>,
    /// Directories on the host, absolute, whose content lies over the base system, read-only: the
    /// later over the earlier. At most [`MAX_LAYERS`].
    pub layers: Vec<PathBuf>,
    /// Variables added to the environment of everything inside; never a credential. At most 64 KiB
    /// in all.
    pub env: Vec<(String, String)>,
}

/// A folder of the state directory that is shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Name below [`SandboxSpec::dir`]: `[a-z0-9_-]`, 1 to 80 characters, and none of `workspace`,
    /// `outputs`, `home`, `layer`, `lock`, `disk`, `work` and `empty`.
    pub folder: String,
    /// Where it appears: `/skills`, or an absolute, normalised path below `/mnt`, `/skills` or
    /// `/workspace`, not in another share.
    pub at: String,
    /// Whether the inside may write to it.
    pub access: Access,
}

/// Who writes to a [`Share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// The host, at any time; what it puts into the folder is seen inside at once.
    ReadOnly,
    /// The inside. The host reaches such a folder through the sandbox only, never by its path: its
    /// content is hostile, and it may lie in the sandbox's own file system image.
    ReadWrite,
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
    /// Everything that is kept (workspace, outputs, home, writable shares) together, bytes. Where a
    /// provider cannot enforce it, its capabilities say so.
    pub disk_bytes: u64,
    /// Files and directories that are kept, in number.
    pub disk_inodes: u64,
}

impl Default for Limits {
    /// 2 GiB of memory, 512 tasks, one core, 512 MiB of `/tmp`, files up to 2 GiB, 8 GiB and half
    /// a million files of disk.
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            pids: 512,
            cpu_millis: 1000,
            tmp_bytes: 512 << 20,
            file_bytes: 2 << 30,
            disk_bytes: 8 << 30,
            disk_inodes: 512 * 1024,
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
        if l.disk_bytes < MIN_DISK || l.disk_inodes < 256 {
            return bad("at least 16 MiB and 256 files of disk are needed");
        }
        if self.layers.len() > MAX_LAYERS || self.layers.iter().any(|l| !l.is_absolute()) {
            return bad("at most 32 layers, by absolute paths");
        }
        let variable = |(name, value): &(String, String)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        };
        let size: usize = self.env.iter().map(|(n, v)| n.len() + v.len() + 2).sum();
        if size > MAX_ENV || !self.env.iter().all(variable) {
            return bad("variables need a name without '=' and 64 KiB at most in all");
        }
        self.check_shares()
    }

    fn check_shares(&self) -> Result<(), SandboxError> {
        let bad = |what: &str| Err(SandboxError::InvalidSpec(what.to_owned()));
        if self.shares.len() > MAX_SHARES {
            return bad("too many shares");
        }
        for (n, share) in self.shares.iter().enumerate() {
            let (name, at) = (share.folder.as_str(), share.at.as_str());
            let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-".contains(&c);
            let named = (1..=MAX_ID).contains(&name.len()) && name.bytes().all(good);
            if !named || OWN.contains(&name) {
                return bad("a share's folder needs a name of its own of a-z, 0-9, _ and -");
            }
            let part = |p: &str| !matches!(p, "" | "." | "..") && p.len() <= 255;
            let below = ["/mnt/", "/skills/", "/workspace/"];
            let placed = (at == "/skills" || below.iter().any(|b| at.starts_with(b)))
                && at.len() <= 1024
                && !at.contains('\0')
                && at[1..].split('/').all(part);
            if !placed {
                return bad(
                    "a share must be at a normalised path below /mnt, /skills or /workspace",
                );
            }
            let within = |a: &str, b: &str| Path::new(a).starts_with(b);
            let taken = |other: &Share| {
                other.folder == name || within(&other.at, at) || within(at, &other.at)
            };
            let outputs = "/mnt/session/outputs";
            if self.shares[..n].iter().any(taken) || within(at, outputs) || within(outputs, at) {
                return bad("two shares are in each other's way");
            }
        }
        self.network.check()
    }
}

/// Most folders shown besides the sandbox's own.
pub const MAX_SHARES: usize = 64;
/// Most layers over the base system.
pub const MAX_LAYERS: usize = 32;
/// Greatest environment added by a spec, bytes.
const MAX_ENV: usize = 64 * 1024;
/// Least disk of a sandbox, bytes: a file system with a journal needs about half of it.
const MIN_DISK: u64 = 16 << 20;
/// Names in a state directory that no share may have.
const OWN: [&str; 8] = [WORKSPACE, OUTPUTS, HOME, LAYER, LOCK, DISK, "work", "empty"];

/// Directories inside [`SandboxSpec::dir`].
pub(crate) const WORKSPACE: &str = "workspace";
pub(crate) const OUTPUTS: &str = "outputs";
pub(crate) const HOME: &str = "home";
/// What was installed into a sandbox for installing; see [`crate::Provider::installer`].
pub(crate) const LAYER: &str = "layer";
/// A file of earlier versions; the directory itself is what the launcher locks for as long as anything
/// of the sandbox lives.
const LOCK: &str = "lock";
/// The file system image that holds the writable directories, where the host can mount one.
pub(crate) const DISK: &str = "disk";
/// Bytes that the disk image in a sandbox's state directory takes of the host's; `None` if it has none,
/// and what is kept lies in plain folders.
pub fn footprint(dir: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::symlink_metadata(dir.join(DISK)).ok()?;
    // `st_blocks` counts 512 bytes, whatever the file system's own blocks are.
    found.is_file().then(|| found.blocks() * 512)
}
/// Directories of the sandbox's own that the inside writes to, and where they appear.
pub(crate) const WRITABLE: [(&str, &str); 3] = [
    (WORKSPACE, "/workspace"),
    (OUTPUTS, "/mnt/session/outputs"),
    (HOME, crate::launch::plan::HOME),
];
