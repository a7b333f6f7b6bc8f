//! What a host can enforce, in words an operator can act on.

use freehold_base::chain;
use serde::Serialize;

use crate::{Isolation, SandboxError};

/// The outcome of [`crate::Provider::probe`].
#[derive(Debug, Clone, Serialize)]
pub struct Capabilities {
    /// The provider's name.
    pub provider: &'static str,
    /// What `create` will give on this host; `None` for a provider that gives none.
    pub isolation: Isolation,
    /// Whether a sandbox could be started and did its work.
    pub works: bool,
    /// Each mechanism.
    pub features: Vec<Feature>,
    /// What is answered with [`SandboxError::Unsupported`].
    pub unsupported: Vec<Operation>,
}

/// Something not every provider can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// [`crate::Sandbox::set_network`].
    SetNetwork,
    /// [`crate::Sandbox::snapshot`].
    Snapshot,
    /// [`crate::Provider::restore`].
    Restore,
    /// [`crate::Sandbox::pause`] and [`crate::Sandbox::resume`].
    Pause,
    /// A network policy other than none.
    Egress,
    /// Layers over the base system.
    Layers,
    /// [`crate::Provider::installer`] and [`crate::Provider::layer`].
    Install,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SetNetwork => "change the network of a live sandbox",
            Self::Snapshot => "make snapshots",
            Self::Restore => "restore snapshots",
            Self::Pause => "pause sandboxes",
            Self::Egress => "let a sandbox reach out",
            Self::Layers => "lay files over the base system",
            Self::Install => "install packages",
        })
    }
}

/// One mechanism.
#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    /// For example `user namespace`.
    pub name: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What an operator can do about it.
    pub remedy: Option<String>,
}

/// Whether a mechanism holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In force.
    Enforced,
    /// In force in part.
    Partial,
    /// Not there.
    Missing,
}

impl Capabilities {
    /// A provider that could not start a sandbox, and why.
    pub(crate) fn broken(provider: &'static str, error: &SandboxError) -> Self {
        let (detail, remedy) = match error {
            SandboxError::Start { stage, detail } => {
                (format!("{stage}: {detail}"), remedy(stage, detail))
            }
            other => (chain(other), None),
        };
        Self {
            provider,
            isolation: Isolation::None,
            works: false,
            features: vec![Feature {
                name: "sandbox start",
                status: Status::Missing,
                detail,
                remedy,
            }],
            unsupported: Vec::new(),
        }
    }
}

impl Feature {
    pub(crate) fn enforced(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Enforced,
            detail: detail.into(),
            remedy: None,
        }
    }
    pub(crate) fn weak(
        name: &'static str,
        status: Status,
        detail: impl Into<String>,
        remedy: &str,
    ) -> Self {
        Self {
            name,
            status,
            detail: detail.into(),
            remedy: Some(remedy.to_owned()),
        }
    }
}

/// What to do about a set-up step that failed.
pub(crate) fn remedy(stage: &str, detail: &str) -> Option<String> {
    let text = match stage {
        "launch" => {
            "the sandbox program could not be run or ended at once; check that the server's own \
             executable still exists and may be executed"
        }
        "disk" => {
            "the session's files lie in a disk image, which takes root, loop devices and ext4 to mount"
        }
        "lock" => "another server process holds this sandbox's directory; stop it first",
        "namespaces" | "id map" => {
            "allow user namespaces: sysctl user.max_user_namespaces above 0, \
             kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 23.10 and later); in a \
             container run with a seccomp profile that permits unshare, or run the server as root"
        }
        "clone host directories" => {
            "the server needs CAP_SYS_ADMIN to lend directories to a sandbox when it runs as root; \
             give the container that capability or run the server as an ordinary user"
        }
        "proc" => {
            "a fresh /proc is refused while the container's own /proc is masked; run the pod with \
             procMount: Unmasked and hostUsers: false, or Docker with \
             --security-opt systempaths=unconfined"
        }
        "machine" => {
            "name QEMU, virtiofsd and a kernel in the settings of the microvm provider; on a host \
             without hardware virtualization set sandbox.microvm.accelerator to tcg and \
             sandbox.microvm.allow_emulation to true"
        }
        "runtime" => {
            "try the command by hand, or another runtime (sandbox.oci.runtime); the namespaces \
             provider needs none"
        }
        "seccomp" => "the kernel must be built with CONFIG_SECCOMP_FILTER",
        "state directories" => {
            "every parent of the data directory must be enterable by the server's user"
        }
        _ if detail.contains("os error 38") => {
            "the kernel is too old: Linux 5.12 or newer is needed"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
