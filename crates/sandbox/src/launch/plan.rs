//! What the host tells the launcher to build, in two parts: what can be built before it is known for
//! which session, and what cannot.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Limits, Share};

/// The first frame on the control stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Base {
    /// Become a new launcher for each control socket that is sent; see `launch::nursery`.
    Nursery,
    /// Nothing isolates: the agent works in the state directory itself.
    Host,
    /// Lay out the inside's files where only other programs see them, and have those isolate. The
    /// frames for [`Base::Given`] follow at once.
    Staged(Stage),
    /// Something else has isolated already (a container runtime, a machine of its own): folders are
    /// where they are to appear. What it did is checked, and the rest of the lock-down done.
    Given(Given),
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
    /// The way out; `None` for a network without one.
    pub network: Option<Outward>,
    pub keeps: Keeps,
}

/// What is kept of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keeps {
    /// What a session writes to its folders.
    Folders,
    /// What is written to the system's directories, in the folder [`crate::spec::LAYER`].
    Written,
    /// What is put into that folder.
    Unpacked,
}

/// What the inside gets of the server's egress proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outward {
    /// Whether to redirect every port, where the kernel can.
    pub redirect: bool,
    /// A certificate authority the inside is to trust, in PEM.
    pub authority: Option<String>,
}

/// How the launcher isolates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    pub ids: Ids,
    /// Files of control groups to join by writing `0` (see `cgroup::Group::procs`), once the host says
    /// that they are there.
    pub groups: Vec<PathBuf>,
    /// Whether the memory limit must be approximated per process for want of a control group.
    pub memory_by_rlimit: bool,
    pub root: Root,
    /// Whether packages are to be installed, by the inside's root where a range of ids is mapped.
    pub installs: bool,
    /// A disk that the host mounts meanwhile, and sends before the second frame.
    pub spare: Option<SpareDisk>,
}

/// An image to be made from a template, and to become the disk of whoever the sandbox is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SpareDisk {
    pub image: PathBuf,
    pub template: PathBuf,
}

/// A file tree in a mount namespace of its own, and the programs that turn it into a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// Files of control groups to join by writing `0`; see `cgroup::Group::procs`.
    pub groups: Vec<PathBuf>,
    /// The ids that own what is kept.
    pub ids: Ids,
    /// Whether the programs run in a user namespace of these ids and without a network.
    pub confined: bool,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Command {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub input: Input,
}

/// The standard input of a [`Command`].
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Given {
    /// Whether this is a machine of its own, where the agent mounts and limits for itself.
    pub machine: bool,
    /// Whether the agent starts as the inside's root, to arrange the network and to become
    /// [`USER`], which no program it starts can undo.
    pub root: bool,
    /// The host's namespaces, by name, as `/proc/self/ns` shows them: the inside must be in none.
    pub outside: Vec<(String, PathBuf)>,
}

/// First outside id of the range that sandboxes started by root use.
pub(crate) const FIRST_ID: u32 = 100_000;
/// How many ids.
pub(crate) const ID_COUNT: u32 = 65_536;

/// How ids inside map to ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ids {
    /// Inside 0..count is outside first..first+count; tools run as [`USER`] inside.
    Range { first: u32, count: u32 },
    /// Only [`USER`] exists inside and is the user the server runs as.
    Single,
}

impl Ids {
    /// What a server that runs as root gives sandboxes.
    pub(crate) const RANGE: Self = Self::Range {
        first: FIRST_ID,
        count: ID_COUNT,
    };
}

/// Top-level directories of the host that make up the system.
const SYSTEM: [&str; 8] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec",
];

/// Where the read-only system comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Root {
    /// These top-level directories of the host, and a made-up `/etc`.
    Host { dirs: Vec<PathBuf> },
    /// The top-level directories of an unpacked image, its own `/etc` included.
    Image { dir: PathBuf },
}

impl Root {
    /// That of an image, or else of the host.
    pub(crate) fn of(image: Option<&Path>) -> Self {
        match image {
            Some(dir) => Self::Image {
                dir: dir.to_owned(),
            },
            None => Self::Host {
                dirs: SYSTEM.iter().map(PathBuf::from).collect(),
            },
        }
    }
}

/// The user and group tools run as, inside.
pub(crate) const USER: u32 = 1000;
/// Where a staged agent, its loader and its libraries are shown inside.
pub(crate) const AGENT_DIR: &str = "/.freehold";
/// Names there.
pub(crate) const PROGRAM: &str = "agent";
pub(crate) const LOADER: &str = "loader";
pub(crate) const LIBRARIES: &str = "lib";
/// The agent's real and saved user, where a range is mapped.
pub(crate) const AGENT: u32 = 998;
/// Where programs are looked for inside.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The home directory of [`USER`].
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
