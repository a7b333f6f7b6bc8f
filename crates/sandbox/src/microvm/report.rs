//! What a probe found, for people.

use super::{Accelerator, MicrovmProvider, NAME};
use crate::protocol::Handshake;
use crate::{Capabilities, Feature, Isolation, Operation, Status};

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
            if self.groups.complete() {
                Feature::enforced("control groups", self.groups.describe())
            } else {
                Feature::weak(
                    "control groups",
                    Status::Partial,
                    self.groups.missing(),
                    "run the server where it may write control groups",
                )
            },
            Feature::enforced(
                "inside",
                format!("seccomp, no capabilities; landlock {}", handshake.landlock),
            ),
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
                Operation::Snapshot,
                Operation::Restore,
                Operation::Pause,
            ],
        }
    }
}
