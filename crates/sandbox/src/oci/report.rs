//! What a probe found, for people.

use super::{NAME, OciProvider};
use crate::protocol::Handshake;
use crate::{Capabilities, Feature, Operation, Status, report};

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
        features.extend([
            report::landlock(handshake),
            report::agent(handshake),
            report::groups(&self.groups),
            report::disk(handshake),
        ]);
        features.push(if shares_kernel {
            egress(handshake)
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
        let mut all = vec![Operation::SetNetwork, Operation::Pause, Operation::Install];
        if !self.config.runtime.shares_kernel() {
            all.push(Operation::Egress);
        }
        all
    }
}

/// How much of the way out a program finds by itself.
fn egress(handshake: &Handshake) -> Feature {
    match &handshake.ports_missing {
        None => Feature::enforced("egress", "every TCP connection goes through the server"),
        Some(why) => Feature::weak(
            "egress",
            Status::Partial,
            format!("only the proxy and a few ports reach out ({why})"),
            "needs a kernel with nftables and tproxy",
        ),
    }
}
