//! Lines of a probe's report that several providers share.

use crate::cgroup::Groups;
use crate::protocol::Handshake;
use crate::{Feature, Status};

/// What Landlock came to.
pub(crate) fn landlock(handshake: &Handshake) -> Feature {
    match handshake.landlock.as_str() {
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
    }
}

/// Whether tools are kept from signalling the agent.
pub(crate) fn agent(handshake: &Handshake) -> Feature {
    match (handshake.agent_fenced, handshake.agent_protected) {
        (true, _) => Feature::enforced("agent protection", "tools run as another user"),
        (false, true) => Feature::enforced(
            "agent protection",
            "tools cannot signal the agent's process id; by the id of one of its other threads \
             they can, and the call then fails",
        ),
        (false, false) => Feature::weak(
            "agent protection",
            Status::Missing,
            "a tool can stop or kill its own sandbox's agent; the call then fails",
            "needs Landlock signal scoping, Linux 6.12 or newer; gVisor has none",
        ),
    }
}

/// What control groups limit.
pub(crate) fn groups(groups: &Groups) -> Feature {
    if groups.complete() {
        return Feature::enforced("control groups", groups.describe());
    }
    Feature::weak(
        "control groups",
        Status::Partial,
        format!("have: {}; missing: {}", groups.describe(), groups.missing()),
        "run the server where it may write control groups",
    )
}

/// Whether what a session keeps is limited.
pub(crate) fn disk(handshake: &Handshake) -> Feature {
    if handshake.disk_quota {
        return Feature::enforced("disk quota", "a file system of its own for each sandbox");
    }
    Feature::weak(
        "disk quota",
        Status::Partial,
        "the size of a single file is limited, not their sum",
        "needs loop devices and e2fsprogs; or put the data directory on a file system of its own",
    )
}
