//! What the host tells the launcher to build.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Limits;

/// The first frame on the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The sandbox's state directory.
    pub dir: PathBuf,
    /// How to isolate; `None` for the process provider.
    pub isolated: Option<Isolate>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Isolate {
    pub ids: Ids,
    /// `cgroup.procs` files to join.
    pub groups: Vec<PathBuf>,
    /// Whether the memory limit must be approximated per process for want of a control group.
    pub memory_by_rlimit: bool,
    pub limits: Limits,
    pub root: Root,
    /// The way out; `None` for a network without one.
    pub network: Option<Outward>,
}

/// What the inside gets of the server's egress proxy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outward {
    /// Whether to redirect every port, where the kernel can.
    pub redirect: bool,
    /// A certificate authority the inside is to trust, in PEM.
    pub authority: Option<String>,
}

/// How ids inside map to ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ids {
    /// Inside 0..count is outside first..first+count; tools run as [`USER`] inside.
    Range { first: u32, count: u32 },
    /// Only [`USER`] exists inside and is the user the server runs as.
    Single,
}

/// Where the read-only system comes from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Root {
    /// These top-level directories of the host, and a made-up `/etc`.
    Host { dirs: Vec<PathBuf> },
    /// The top-level directories of an unpacked image, its own `/etc` included.
    Image { dir: PathBuf },
}

/// The user and group tools run as, inside.
pub(crate) const USER: u32 = 1000;
/// Its home directory.
pub(crate) const HOME: &str = "/home/agent";
/// Where the egress proxy listens inside.
pub(crate) const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3128);
/// Where the resolver listens inside.
pub(crate) const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 53);
/// The inside's own address; the first of the range from which names get theirs.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The certificate of the sandbox's own authority, where it has one.
pub(crate) const CERTIFICATE: &str = "/run/egress/ca.pem";
/// The same and all that the system trusts.
pub(crate) const BUNDLE: &str = "/run/egress/ca-bundle.pem";
