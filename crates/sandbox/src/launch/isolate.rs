//! The order of things, from an ordinary process to a locked-down agent. Each step's name is what
//! an operator sees when it fails.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use super::idmap::Mapper;
use super::plan::{HOME, Ids, Isolate, Plan};
use super::tree::Trees;
use super::{
    InStage, Ready, Roots, Step, idmap, init, landlock, lockdown, mounts, network, seccomp,
};
use crate::agent::AgentContext;
use crate::protocol::Handshake;
use crate::spec;

/// The name the inside knows itself by.
pub(super) const HOSTNAME: &str = "sandbox";
/// Directories inside that tools may write to, besides `/dev/shm`.
pub(super) const WRITABLE: [&str; 4] = ["/workspace", "/mnt/session/outputs", "/tmp", HOME];

/// Returns in the agent only; the launcher and pid 1 end with it.
pub(super) fn isolate(plan: &Plan, how: &Isolate, control: &UnixStream) -> Result<Ready, Step> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let lock = lock(&plan.dir)?;
    for procs in &how.groups {
        fs::write(procs, "0").stage("control groups")?;
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let (trees, mapper) = match how.ids {
        // The privilege to reach any directory and to map a range ends with `unshare`.
        Ids::Range { first, count } => (
            Some(Trees::clone_from_host(&plan.dir, &how.root)?),
            Some(Mapper::start(first, count).stage("id map")?),
        ),
        Ids::Single => (None, None),
    };
    unshare().stage("namespaces")?;
    match mapper {
        Some(mapper) => mapper.finish().stage("id map")?,
        None => idmap::single(uid.as_raw(), gid.as_raw()).stage("id map")?,
    }
    let trees = match trees {
        Some(trees) => trees,
        None => Trees::clone_from_host(&plan.dir, &how.root)?,
    };
    if let Some(child) = init::fork().stage("fork")? {
        drop(trees);
        // Also gives up what the launcher still holds in the new namespace. It is out of reach
        // from inside, so failing to is no reason to stop.
        let _ = lockdown::drop_capabilities();
        init::wait_outside(child)
    }
    drop(lock);
    let (handshake, listener) = inside(how, trees)?;
    match init::fork().stage("fork")? {
        Some(agent) => {
            drop(listener);
            init::reap(agent, control)
        }
        None => {
            rustix::process::setsid().stage("session")?;
            Ok(ready(handshake, listener))
        }
    }
}

/// Locks a state directory. Blocks while an earlier sandbox over it is still ending; the host sets
/// the limit.
pub(super) fn lock(dir: &Path) -> Result<fs::File, Step> {
    let lock = fs::File::create(dir.join(spec::LOCK)).stage("lock")?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).stage("lock")?;
    Ok(lock)
}

/// What pid 1 does before anything untrusted runs.
fn inside(how: &Isolate, trees: Trees) -> Result<(Handshake, Option<OwnedFd>), Step> {
    // A launcher that is killed takes the sandbox along; set again after each change of ids.
    die_with_parent().stage("parent death signal")?;
    if matches!(how.ids, Ids::Range { .. }) {
        lockdown::become_inside_root().stage("ids")?;
        die_with_parent().stage("parent death signal")?;
    }
    let limits = lockdown::NamespaceLimits::open();
    mounts::build(how, trees)?;
    let namespaces_capped = limits.close();
    network::loopback_up().stage("loopback")?;
    let listener = how
        .proxy
        .then(network::listen)
        .transpose()
        .stage("egress listener")?;
    rustix::system::sethostname(HOSTNAME.as_bytes()).stage("host name")?;
    lockdown::new_session_keyring().stage("keyring")?;
    lockdown::give_up_ids(matches!(how.ids, Ids::Range { .. })).stage("capabilities")?;
    die_with_parent().stage("parent death signal")?;
    lockdown::limit(&how.limits, how.memory_by_rlimit).stage("resource limits")?;
    std::env::set_current_dir("/workspace").stage("workspace")?;
    let landlock = landlock::confine(&WRITABLE);
    seccomp::install().stage("seccomp")?;
    let handshake = Handshake {
        landlock,
        agent_protected: false,
        seccomp: true,
        namespaces_capped,
    };
    Ok((handshake, listener))
}

fn unshare() -> rustix::io::Result<()> {
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: none of these flags affects the file descriptor table.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// What an isolated agent hands on.
pub(super) fn ready(handshake: Handshake, listener: Option<OwnedFd>) -> Ready {
    Ready {
        roots: Roots(served()),
        context: AgentContext {
            workspace: PathBuf::from("/workspace"),
            extra_roots: vec![
                (PathBuf::from("/mnt/session/outputs"), false),
                (PathBuf::from("/mnt/session/uploads"), true),
                (PathBuf::from("/tmp"), false),
                (PathBuf::from(HOME), false),
            ],
            env: std::env::vars_os().collect(),
            isolated: true,
        },
        handshake,
        listener,
    }
}

fn served() -> Vec<(PathBuf, PathBuf)> {
    [
        "/workspace",
        "/mnt/session/outputs",
        "/mnt/session/uploads",
        "/tmp",
        HOME,
    ]
    .into_iter()
    .map(|p| (PathBuf::from(p), PathBuf::from(p)))
    .collect()
}
