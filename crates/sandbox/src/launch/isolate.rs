//! The order of things, from an ordinary process to a locked-down agent. Each step's name is what
//! an operator sees when it fails.
//!
//! Two processes work together: the launcher, outside, keeps the rights of the server's user until
//! it has lent what the sandbox is to see; pid 1, inside, builds from that. Both do as much as they
//! can before they hear for which session it is.

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use super::disk::Spare;
use super::folders::Folders;
use super::keep::Control;
use super::plan::{Bind, Ids, Namespaces, USER};
use super::tree::Trees;
use super::{
    InStage, Ready, Step, fds, handover, idmap, init, landlock, lockdown, mounts, network,
};
use super::{seccomp, time};
use crate::agent::Fence;
use crate::protocol::Handshake;
use crate::spec;

/// The name the inside knows itself by.
pub(super) const HOSTNAME: &str = "sandbox";

/// Returns in the agent only; the launcher and pid 1 end with it.
pub(super) fn isolate(how: &Namespaces, control: &Control) -> Result<Ready, Step> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let ids = (rustix::process::geteuid(), rustix::process::getegid());
    let system = match how.ids {
        // Only out here every directory can be reached.
        Ids::Range { .. } => Some(Trees::of_the_system(how)?),
        Ids::Single => None,
    };
    join(how, control)?;
    let (ours, theirs) = UnixStream::pair().stage("fork")?;
    let fork = || init::fork_into(namespaces());
    let forked = match how.ids {
        Ids::Range { first, count } => {
            let maker = first
                + rustix::process::getpid()
                    .as_raw_nonzero()
                    .get()
                    .unsigned_abs()
                    % count;
            lockdown::as_maker(maker, fork)
        }
        Ids::Single => fork(),
    };
    match forked.stage("namespaces")? {
        Some(inside) => {
            drop(theirs);
            match outside(how, inside, system, ours, control)? {}
        }
        None => {
            drop(ours);
            if how.ids == Ids::Single {
                idmap::single(ids.0.as_raw(), ids.1.as_raw()).stage("id map")?;
            }
            inside(how, system, theirs, control)
        }
    }
}

/// Waits until its control groups have been made, and joins them.
fn join(how: &Namespaces, control: &Control) -> Result<(), Step> {
    let made = fds::receive(&control.reader).stage("control groups")?;
    if made.is_none() {
        // The host is gone, or made none.
        std::process::exit(0)
    }
    let mut procs = how.groups.iter();
    procs
        .try_for_each(|procs| fs::write(procs, "0"))
        .stage("control groups")
}

/// The launcher.
fn outside(
    how: &Namespaces,
    inside: Pid,
    system: Option<Trees>,
    mut to_inside: UnixStream,
    control: &Control,
) -> Result<Infallible, Step> {
    if let Ids::Range { first, count } = how.ids {
        idmap::range(inside, first, count).stage("id map")?;
    }
    // Not every file system can show other owners; the system then stays as it is.
    let mapped = |system: &Trees| how.installs && system.map_ids(inside).is_ok();
    let opened = system.as_ref().is_some_and(mapped);
    to_inside.write_all(&[u8::from(opened)]).stage("id map")?;
    // The inside has them, too; closing them takes a while that it need not wait.
    drop(system);
    let spare = how.spare.as_ref();
    let spare = spare.map(|disk| Spare::take(disk, &control.reader));
    let spare = spare.transpose().stage("disk")?.flatten();
    let bind = super::bind(control)?;
    let _lock = lock(&bind.dir)?;
    let folders = match how.ids {
        Ids::Range { first, .. } => Some(Folders::lend(&bind, Some(first), spare)?),
        Ids::Single => None,
    };
    handover::give(&to_inside, &bind, folders).stage("handing over")?;
    drop(to_inside);
    // It has no more use for what it may; failing to give that up outside is no reason to stop.
    let _ = lockdown::drop_capabilities();
    init::wait_outside(inside)
}

/// Locks a state directory. Blocks while an earlier sandbox over it is still ending; the host sets
/// the limit.
pub(super) fn lock(dir: &Path) -> Result<fs::File, Step> {
    let lock = fs::File::open(dir).stage("lock")?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).stage("lock")?;
    Ok(lock)
}

/// Pid 1 and the agent.
fn inside(
    how: &Namespaces,
    system: Option<Trees>,
    mut from_outside: UnixStream,
    control: &Control,
) -> Result<Ready, Step> {
    // A launcher that is killed takes the sandbox along; set again after each change of ids.
    die_with_parent().stage("parent death signal")?;
    let network = network::Making::start().stage("network")?;
    // Before the change of ids, after which this process's own `/proc` is out of its reach.
    let time_namespace = time::hide_uptime();
    let mut opened = [0];
    from_outside.read_exact(&mut opened).stage("id map")?;
    if matches!(how.ids, Ids::Range { .. }) {
        lockdown::become_inside_root().stage("ids")?;
        die_with_parent().stage("parent death signal")?;
    }
    let limits = lockdown::NamespaceLimits::open();
    let system = match system {
        Some(system) => system,
        None => Trees::of_the_system(how)?,
    };
    let root = mounts::begin(how, system)?;
    rustix::system::sethostname(HOSTNAME.as_bytes()).stage("host name")?;
    lockdown::new_session_keyring().stage("keyring")?;
    let filter = seccomp::Filter::compile().stage("seccomp")?;
    network.enter().stage("network")?;

    // Where the launcher lends the folders, nothing outside is needed any more.
    let lent = matches!(how.ids, Ids::Range { .. });
    if lent {
        mounts::move_in(&root)?;
    }
    let (bind, folders) = handover::take(&from_outside).stage("handing over")?;
    drop(from_outside);
    let folders = match folders {
        Some(folders) => folders,
        None => Folders::lend(&bind, None, None)?,
    };
    if !lent {
        mounts::move_in(&root)?;
    }
    let built = mounts::finish(&bind, root, folders, opened != [0])?;
    let namespaces_capped = limits.close();
    let sockets = match &bind.network {
        Some(outward) => network::open(outward.redirect).stage("egress sockets")?,
        None => network::Sockets::default(),
    };
    let ranged = matches!(how.ids, Ids::Range { .. });
    if how.installs && ranged {
        lockdown::stay_inside_root().stage("capabilities")?;
    } else {
        lockdown::give_up_ids(ranged).stage("capabilities")?;
    }
    die_with_parent().stage("parent death signal")?;
    lockdown::limit(&bind.limits, how.memory_by_rlimit).stage("resource limits")?;
    std::env::set_current_dir("/workspace").stage("workspace")?;
    let writable = if how.installs {
        vec!["/"]
    } else {
        writable(&bind)
    };
    let landlock = landlock::confine(&writable, &built.kept);
    filter.install().stage("seccomp")?;
    let handshake = Handshake {
        landlock,
        agent_fenced: false,
        agent_protected: false,
        seccomp: true,
        namespaces_capped,
        time_namespace,
        hidden_paths: built.hidden_paths,
        disk_quota: built.disk_quota,
        ports_missing: sockets.ports_missing,
    };
    match init::fork().stage("fork")? {
        Some(agent) => {
            drop(sockets.fds);
            init::reap(agent, &control.reader)
        }
        None => {
            rustix::process::setsid().stage("session")?;
            let fence = Fence::new((ranged && !how.installs).then_some(USER));
            Ok(super::isolated(
                &bind,
                handshake,
                sockets.fds,
                fence,
                built.kept,
            ))
        }
    }
}

/// Directories inside that tools may write to, besides `/dev/shm`.
pub(super) fn writable(bind: &Bind) -> Vec<&str> {
    let own = spec::WRITABLE.iter().map(|(_, at)| *at);
    let shares = bind.shares.iter();
    let shares = shares
        .filter(|s| s.access == crate::Access::ReadWrite)
        .map(|s| s.at.as_str());
    own.chain(shares).chain(["/tmp"]).collect()
}

/// All but the network's, which takes longest and is made beside the rest.
fn namespaces() -> UnshareFlags {
    UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP
}

fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}
