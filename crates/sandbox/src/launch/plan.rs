//! What the host tells the launcher to build, in two parts: what can be built before it is known for
//! which session, and what cannot.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Limits, Share};

/// The first frame on the control stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Base {
    /// Nothing isolates: the agent works in the state directory itself.
    Host,
    /// Something else has isolated already (a container runtime, a machine of its own): folders are
    /// where they are to appear.
    Given,
    /// The launcher isolates.
    Namespaces(Namespaces),
}

/// The second frame's body.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// The sandbox's state directory; of no meaning to [`Base::Given`].
    pub dir: PathBuf,
    pub limits: Limits,
    pub shares: Vec<Share>,
    pub layers: Vec<PathBuf>,
    /// The whole environment of tools.
    pub env: Vec<(String, String)>,
    /// The template of the sandbox's own file system; `None` keeps its folders in `dir` itself.
    pub disk: Option<PathBuf>,
    /// Whether to open the egress listener.
    pub proxy: bool,
}

/// How the launcher isolates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    pub ids: Ids,
    /// `cgroup.procs` files to join.
    pub groups: Vec<PathBuf>,
    /// Whether the memory limit must be approximated per process for want of a control group.
    pub memory_by_rlimit: bool,
    pub root: Root,
    /// A disk to mount ahead.
    pub spare: Option<SpareDisk>,
}

/// An image to be made from a template, and to become the disk of whoever the sandbox is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SpareDisk {
    pub image: PathBuf,
    pub template: PathBuf,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Root {
    /// These top-level directories of the host, and a made-up `/etc`.
    Host { dirs: Vec<PathBuf> },
    /// The top-level directories of an unpacked image, its own `/etc` included.
    Image { dir: PathBuf },
}

/// The user and group tools run as, inside.
pub(crate) const USER: u32 = 1000;
/// The agent's real and saved user, where a range is mapped.
pub(crate) const AGENT: u32 = 998;
/// The home directory of [`USER`].
pub(crate) const HOME: &str = "/home/agent";
/// Where the egress proxy listens inside.
pub(crate) const PROXY: (std::net::Ipv4Addr, u16) = (std::net::Ipv4Addr::LOCALHOST, 3128);
