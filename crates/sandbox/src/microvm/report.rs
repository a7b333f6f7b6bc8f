//! What a probe found, for people.

use super::{Accelerator, MicrovmProvider, NAME};
use crate::protocol::Handshake;
use crate::{Capabilities, Feature, Isolation, Operation, Status, report};

impl MicrovmProvider {
    /// The report on a machine that booted and did its work.
    pub(super) fn capabilities(&self, handshake: &Handshake) -> Capabilities {
        let features = vec![
            Feature::enforced(
                "machine",
                format!(
                    "a guest booted and ran a call ({})",
                    self.config.monitor.display()
                ),
            ),
            match self.config.accelerator {
                Accelerator::Kvm => Feature::enforced("acceleration", "kvm"),
                Accelerator::Tcg => Feature::weak(
                    "acceleration",
                    Status::Missing,
                    "emulated: isolation by an interpreter, and slow",
                    "use a host with hardware virtualization and accelerator = \"kvm\"",
                ),
            },
            Feature::enforced(
                "monitor",
                "an unprivileged user in namespaces of its own, without a network, under seccomp",
            ),
            Feature::enforced("memory and processors", "the machine's own"),
            Feature::enforced("inside", "no capabilities, seccomp, resource limits"),
            report::landlock(handshake),
            report::agent(handshake),
            report::groups(&self.groups),
            report::disk(handshake),
            Feature::weak(
                "egress",
                Status::Missing,
                "machines have no network at all",
                "use the namespaces provider for environments with a network",
            ),
        ];
        Capabilities {
            provider: NAME,
            isolation: Isolation::Microvm,
            works: true,
            features,
            unsupported: vec![
                Operation::Egress,
                Operation::SetNetwork,
                Operation::Pause,
                Operation::Install,
            ],
        }
    }
}
