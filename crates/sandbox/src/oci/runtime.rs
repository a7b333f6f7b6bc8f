//! Which runtime, and how each wants to be called.

use std::path::{Path, PathBuf};

use crate::launch::plan::FIRST_ID;
use crate::launch::plan::USER;
use crate::{Isolation, Limits};

/// Where runtimes are looked for, in this order.
const PLACES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Threads and processes gVisor takes for itself.
const SENTRY_TASKS: u32 = 256;

/// A kind of OCI runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// `runc`.
    Runc,
    /// `crun`.
    Crun,
    /// `runsc`, gVisor: a kernel of its own in user space.
    Runsc,
}

/// A runtime on this host.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// What it is.
    pub kind: RuntimeKind,
    /// Its executable, absolute.
    pub program: PathBuf,
}

impl RuntimeKind {
    /// All, the ones that are tried first in front.
    pub const ALL: [Self; 3] = [Self::Runc, Self::Crun, Self::Runsc];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Runsc => "runsc",
        }
    }

    /// The runtime where it is usually installed.
    pub fn find(self) -> Option<Runtime> {
        let program = PLACES.iter().map(|dir| Path::new(dir).join(self.name()));
        let program = program.into_iter().find(|p| p.is_file())?;
        Some(Runtime {
            kind: self,
            program,
        })
    }
}

impl Runtime {
    /// The runtime at `program`, its kind told by the file's name.
    pub fn at(program: PathBuf) -> Option<Self> {
        let name = program.file_name()?.to_str()?;
        let kind = RuntimeKind::ALL
            .into_iter()
            .find(|k| name.contains(k.name()))?;
        program.is_absolute().then_some(Self { kind, program })
    }

    /// Arguments before the subcommand; `state` is where it keeps its records.
    pub(super) fn global(&self, state: &Path) -> Vec<String> {
        let mut args = vec!["--root".to_owned(), state.to_string_lossy().into_owned()];
        match self.kind {
            RuntimeKind::Runc => {}
            RuntimeKind::Crun => args.push("--cgroup-manager=cgroupfs".to_owned()),
            // Its groups are made and joined by us; it has no devices and no network but loopback.
            // The tree is changed from outside while the sandbox lives.
            RuntimeKind::Runsc => args.extend(
                ["--ignore-cgroups", "--network=none", "--file-access=shared"].map(String::from),
            ),
        }
        args
    }

    /// Whether the runtime puts the sandbox into a group named by the bundle; otherwise it is
    /// started inside one.
    pub(super) fn joins_groups(&self) -> bool {
        self.kind != RuntimeKind::Runsc
    }

    /// Who tools run as, inside: without a user namespace that is an id of the host's.
    pub(super) fn user(&self) -> u32 {
        match self.kind {
            RuntimeKind::Runc | RuntimeKind::Crun => USER,
            RuntimeKind::Runsc => FIRST_ID + USER,
        }
    }

    /// What of the host a sandbox of these limits may take: gVisor's own threads are tasks too.
    pub(super) fn outside(&self, limits: &Limits) -> Limits {
        Limits {
            pids: limits.pids
                + if self.shares_kernel() {
                    0
                } else {
                    SENTRY_TASKS
                },
            ..*limits
        }
    }

    /// Whether the sandbox shares the host's kernel.
    pub(super) fn shares_kernel(&self) -> bool {
        self.kind != RuntimeKind::Runsc
    }

    /// What it gives, with complete limits or without.
    pub(super) fn isolation(&self, limits: bool) -> Isolation {
        match (self.shares_kernel(), limits) {
            (true, false) => Isolation::Namespaces,
            (true, true) => Isolation::NamespacesAndLimits,
            (false, false) => Isolation::Namespaces,
            (false, true) => Isolation::Gvisor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_the_name() {
        let kind = |path: &str| Runtime::at(path.into()).map(|r| r.kind);
        assert_eq!(kind("/opt/bin/runc-1.2"), Some(RuntimeKind::Runc));
        assert_eq!(kind("/usr/bin/crun"), Some(RuntimeKind::Crun));
        assert_eq!(kind("/usr/bin/runsc"), Some(RuntimeKind::Runsc));
        assert_eq!(kind("runc"), None);
        assert_eq!(kind("/usr/bin/youki"), None);
    }
}
