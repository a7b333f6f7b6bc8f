//! What a probe found, for people.

use super::{NAME, NamespaceProvider};
use crate::launch::plan::{Ids, USER};
use crate::protocol::Handshake;
use crate::{Capabilities, Feature, Operation, Status};

impl NamespaceProvider {
    /// The report on a sandbox that started and did its work.
    pub(super) fn capabilities(&self, handshake: &Handshake) -> Capabilities {
        let ids = match self.ids() {
            Ok(Ids::Range { first, .. }) => {
                format!("tools run as unprivileged id {}", first + USER)
            }
            _ => "tools run as the server's own user, confined".to_owned(),
        };
        let mut features = vec![
            Feature::enforced(
                "namespaces",
                if handshake.time_namespace {
                    "user, mount, pid, network, ipc, uts, cgroup, time"
                } else {
                    "user, mount, pid, network, ipc, uts, cgroup"
                },
            ),
            Feature::enforced("user mapping", ids),
            Feature::enforced(
                "seccomp",
                "allow-list; refused calls answer EPERM or ENOSYS",
            ),
            Feature::enforced("capabilities", "none, bounding set empty, no_new_privs"),
        ];
        features.push(match &handshake.ports_missing {
            None => Feature::enforced(
                "egress",
                "no interface leads out; every TCP connection arrives at the server",
            ),
            Some(why) => Feature::weak(
                "egress",
                Status::Partial,
                format!(
                    "no interface leads out; without proxy variables only ports 22, 80 and 443 \
                     arrive at the server ({why})"
                ),
                "a kernel with nftables and its tproxy expression (CONFIG_NF_TABLES, \
                 CONFIG_NFT_TPROXY) carries every port",
            ),
        });
        features.push(match handshake.landlock.as_str() {
            "fully enforced" => Feature::enforced("landlock", "fully enforced"),
            other => Feature::weak(
                "landlock",
                if other.starts_with("partially") {
                    Status::Partial
                } else {
                    Status::Missing
                },
                other,
                "a second line only; a kernel of 6.12 or newer with landlock in lsm= has it",
            ),
        });
        features.push(if handshake.agent_fenced {
            Feature::enforced("agent protection", "tools cannot signal or see the agent")
        } else if handshake.agent_protected {
            Feature::weak(
                "agent protection",
                Status::Partial,
                "tools cannot signal the agent's process id; by the id of one of its other threads \
                 they can, and the call then fails",
                "run the server as root, so that tools get a user of their own",
            )
        } else {
            Feature::weak(
                "agent protection",
                Status::Missing,
                "a tool can stop or kill its own sandbox's agent; the call then fails",
                "needs Landlock signal scoping, Linux 6.12 or newer",
            )
        });
        features.push(if self.groups.complete() {
            Feature::enforced("control groups", self.groups.describe())
        } else {
            let status = if self.groups.describe() == "none" {
                Status::Missing
            } else {
                Status::Partial
            };
            Feature::weak(
                "control groups",
                status,
                format!(
                    "have: {}; missing: {}",
                    self.groups.describe(),
                    self.groups.missing()
                ),
                "run as root, or in a systemd unit of its own with Delegate=yes; without them \
                 memory is limited for each process only, and CPU time is not limited",
            )
        });
        features.push(if handshake.hidden_paths {
            Feature::enforced("hidden paths", "kept folders do not show where they lie")
        } else {
            Feature::weak(
                "hidden paths",
                Status::Missing,
                "a tool can read where its folders lie on the host",
                "keep the data directory on a file system that can be the upper layer of an overlay",
            )
        });
        features.push(if self.groups.freezes() {
            Feature::enforced("pause", "by the control groups' freezer")
        } else {
            Feature::weak(
                "pause",
                Status::Partial,
                "the agent stops everything but itself by signal",
                "needs a writable control group of version 2, or the version 1 freezer",
            )
        });
        features.push(if handshake.disk_quota {
            Feature::enforced(
                "disk quota",
                "bytes and files, by a disk image for each sandbox",
            )
        } else {
            Feature::weak(
                "disk quota",
                Status::Partial,
                "the size of a single file is limited, not their sum",
                "run the server as root with loop devices and e2fsprogs, or put the data directory \
                 on a file system of its own",
            )
        });
        Capabilities {
            provider: NAME,
            isolation: self.offers(),
            works: true,
            features,
            unsupported: vec![Operation::SetNetwork],
        }
    }
}
