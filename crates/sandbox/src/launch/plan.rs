//! What the host tells the launcher to build.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Limits;

/// The first frame on the control socket; with [`How::Staged`] a second one, for the program that
/// is started on the stage, follows at once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The sandbox's state directory.
    pub dir: PathBuf,
    pub how: How,
}

/// What the launcher is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum How {
    /// Nothing: the agent is a plain child process.
    Plain,
    /// Isolate itself.
    Isolated(Isolate),
    /// Lay out the inside's files where only another program sees them, and have that program
    /// isolate.
    Staged(Stage),
    /// Another program has isolated this process: check that, and lock down what is left.
    Inside(Inside),
}

/// A file tree in a mount namespace of its own, and the programs that turn it into a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// `cgroup.procs` files to join.
    pub groups: Vec<PathBuf>,
    /// Whether the programs run in a user namespace of these ids and without a network.
    pub ids: Option<Ids>,
    pub root: Root,
    /// The user tools run as, as the made-up `/etc` names it.
    pub user: u32,
    /// An empty directory to build the tree on.
    pub at: PathBuf,
    /// What the agent needs, if it is to be shown at [`AGENT_DIR`].
    pub agent: Option<Program>,
    /// Started in this order; the last one makes the sandbox, and the others serve it.
    pub commands: Vec<Command>,
    /// Whether the last command has done its work when it ends well, its sandbox living on.
    pub detaches: bool,
}

/// A program of the host's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Command {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub input: Input,
}

/// The standard input of a [`Command`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Input {
    /// The control socket.
    Control,
    /// A socket that listens at this path.
    Listener(PathBuf),
}

/// What an executable needs to run where the host's system is not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The dynamic loader; `None` for a static executable.
    pub interpreter: Option<PathBuf>,
    pub libraries: Vec<PathBuf>,
}

/// What is left to do for an agent in a sandbox that another program made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inside {
    pub limits: Limits,
    /// Whether to open the egress listener.
    pub proxy: bool,
    /// Whether this is a machine of its own, where the agent is root and does more itself.
    pub machine: bool,
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
    /// Whether to open the egress listener.
    pub proxy: bool,
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
/// Where a staged agent, its loader and its libraries are shown inside.
pub(crate) const AGENT_DIR: &str = "/.freehold";
/// Names there.
pub(crate) const PROGRAM: &str = "agent";
pub(crate) const LOADER: &str = "loader";
pub(crate) const LIBRARIES: &str = "lib";
/// Its home directory.
pub(crate) const HOME: &str = "/home/agent";
/// Where the egress proxy listens inside.
pub(crate) const PROXY: (std::net::Ipv4Addr, u16) = (std::net::Ipv4Addr::LOCALHOST, 3128);
