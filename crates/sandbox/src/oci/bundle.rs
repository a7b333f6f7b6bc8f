//! The runtime's instructions: `config.json` of an OCI bundle.

use std::path::Path;

use serde_json::{Value, json};

use super::RuntimeKind;
use crate::Limits;
use crate::launch::{profile, resources};

/// Size of `/dev/shm`.
const SHM_SIZE: &str = "size=64m";
/// Files in `/tmp`.
const TMP_INODES: &str = "nr_inodes=100000";

/// What the agent starts with where it is the inside's root, over the sandbox's own namespaces only:
/// it opens the sockets of the way out, becomes the tools' user, and gives up all.
const HELD: [&str; 5] = [
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
];

/// What a bundle says.
pub(super) struct Bundle<'a> {
    pub kind: RuntimeKind,
    /// The staged tree.
    pub root: &'a Path,
    pub args: Vec<String>,
    pub limits: &'a Limits,
    /// Whether the memory limit must be approximated per process for want of a control group.
    pub memory_by_rlimit: bool,
    /// Who the agent starts as, inside: its root, or the tools' user.
    pub user: u32,
    /// First outside id and count.
    pub ids: (u32, u32),
    /// Where the runtime is to put the sandbox.
    pub cgroup: Option<String>,
    /// Inside paths of the tree's directories that change or are written, and whether read-only.
    pub shares: Vec<(String, bool)>,
}

impl Bundle<'_> {
    /// The whole of `config.json`.
    pub(super) fn config(&self) -> Value {
        let none: [&str; 0] = [];
        let held: &[&str] = if self.user == 0 { &HELD } else { &none };
        let rlimits: Value = resources(self.limits, self.memory_by_rlimit)
            .into_iter()
            .map(|(name, _, value)| json!({ "type": name, "hard": value, "soft": value }))
            .collect();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": self.user, "gid": self.user },
                "args": self.args,
                "env": none,
                "cwd": "/",
                "capabilities": {
                    "bounding": held, "effective": held, "permitted": held,
                    "inheritable": none, "ambient": none,
                },
                "noNewPrivileges": true,
                "rlimits": rlimits,
            },
            "root": { "path": self.root, "readonly": true },
            "hostname": "sandbox",
            "mounts": self.mounts(),
            "linux": {
                "namespaces": self.namespaces(),
                "rootfsPropagation": "private",
                "maskedPaths": [
                    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                    "/proc/timer_stats", "/sys/firmware",
                ],
                "readonlyPaths": [
                    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
                ],
                "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
                "seccomp": profile(),
            },
        });
        if self.kind != RuntimeKind::Runsc {
            let (first, size) = self.ids;
            let map = json!([{ "containerID": 0, "hostID": first, "size": size }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        }
        if let Some(group) = &self.cgroup {
            config["linux"]["cgroupsPath"] = json!(group);
        }
        config
    }

    /// gVisor puts all of a sandbox behind its own kernel and cannot work in a user namespace whose
    /// root may not open what it serves.
    fn namespaces(&self) -> Value {
        let mut kinds = vec!["mount", "pid", "network", "ipc", "uts", "cgroup"];
        if self.kind != RuntimeKind::Runsc {
            kinds.push("user");
        }
        kinds.into_iter().map(|k| json!({ "type": k })).collect()
    }

    fn mounts(&self) -> Vec<Value> {
        let mount = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
        let tmp_size = format!("size={}", self.limits.tmp_bytes);
        let mut mounts = vec![match self.kind {
            RuntimeKind::Runsc => mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            _ => mount(
                "/proc",
                "proc",
                &[
                    "nosuid",
                    "noexec",
                    "nodev",
                    "hidepid=invisible",
                    "subset=pid",
                ],
            ),
        }];
        mounts.extend([
            mount(
                "/dev",
                "tmpfs",
                &["nosuid", "noexec", "mode=755", "size=64k"],
            ),
            mount(
                "/dev/pts",
                "devpts",
                &[
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                ],
            ),
            mount(
                "/dev/shm",
                "tmpfs",
                &["nosuid", "nodev", "mode=1777", SHM_SIZE, "nr_inodes=10000"],
            ),
            mount(
                "/tmp",
                "tmpfs",
                &["nosuid", "nodev", "mode=1777", &tmp_size, TMP_INODES],
            ),
        ]);
        if self.kind == RuntimeKind::Runsc {
            // It would keep what is written to its root in memory; mounts of their own reach the
            // host's files.
            for (at, read_only) in &self.shares {
                let mode = if *read_only { "ro" } else { "rw" };
                mounts.push(json!({
                    "destination": at,
                    "type": "bind",
                    "source": self.root.join(at.trim_start_matches('/')),
                    "options": ["rbind", mode, "nosuid", "nodev"],
                }));
            }
        }
        mounts
    }
}
