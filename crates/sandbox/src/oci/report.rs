//! What a probe found, for people.

use super::{NAME, OciProvider};
use crate::protocol::Handshake;
use crate::{Capabilities, Feature, Operation, Status};

impl OciProvider {
    /// The report on a sandbox that started and did its work.
    pub(super) fn capabilities(&self, handshake: &Handshake) -> Capabilities {
        let runtime = &self.config.runtime;
        let shares_kernel = runtime.shares_kernel();
        let mut features = vec![Feature::enforced(
            "runtime",
            format!("{} ({})", runtime.kind.name(), runtime.program.display()),
        )];
        features.push(if shares_kernel {
            Feature::enforced("kernel", "the host's, through the runtime's namespaces")
        } else {
            Feature::enforced("kernel", "gVisor's own, in user space")
        });
        features.push(Feature::enforced(
            "capabilities",
            "none, bounding set empty, no_new_privs; checked inside",
        ));
        features.push(Feature::enforced(
            "seccomp",
            "the runtime's filter and the agent's own",
        ));
        features.push(match handshake.landlock.as_str() {
            "fully enforced" => Feature::enforced("landlock", "fully enforced"),
            other => Feature::weak(
                "landlock",
                Status::Missing,
                other,
                "a second line only; a kernel of 6.12 or newer with landlock in lsm= has it",
            ),
        });
        features.push(if handshake.agent_protected {
            Feature::enforced(
                "agent protection",
                "tools cannot signal the agent's process id; by the id of one of its other threads \
                 they can, and the call then fails",
            )
        } else {
            Feature::weak(
                "agent protection",
                Status::Missing,
                "a tool can stop or kill its own sandbox's agent; the call then fails",
                "needs Landlock signal scoping, Linux 6.12 or newer; gVisor has none",
            )
        });
        features.push(if self.groups.complete() {
            Feature::enforced("control groups", self.groups.describe())
        } else {
            Feature::weak(
                "control groups",
                Status::Partial,
                format!(
                    "have: {}; missing: {}",
                    self.groups.describe(),
                    self.groups.missing()
                ),
                "run the server where it may write control groups",
            )
        });
        features.push(if shares_kernel {
            Feature::enforced(
                "egress",
                "loopback only; outside through the server's proxy",
            )
        } else {
            Feature::weak(
                "egress",
                Status::Missing,
                "sandboxes of this runtime have no network at all",
                "use runc, or the namespaces provider, for environments with a network",
            )
        });
        Capabilities {
            provider: NAME,
            isolation: self.offers(),
            works: true,
            features,
            unsupported: self.unsupported_operations(),
        }
    }

    fn unsupported_operations(&self) -> Vec<Operation> {
        let mut all = vec![
            Operation::SetNetwork,
            Operation::Snapshot,
            Operation::Restore,
            Operation::Pause,
        ];
        if !self.config.runtime.shares_kernel() {
            all.push(Operation::Egress);
        }
        all
    }
}
