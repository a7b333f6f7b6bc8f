//! The rest of the lock-down in a sandbox that another program made: what that program was asked
//! for is checked, not believed, and what an agent does for itself everywhere is done here too.

use std::io;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Resource};
use rustix::thread::CapabilitySet;

use super::keep::Control;
use super::plan::{Bind, Given, USER};
use super::{
    InStage, Kept, Ready, Step, folders, guest, init, isolate, landlock, lockdown, network, seccomp,
};
use crate::Limits;
use crate::agent::Fence;
use crate::protocol::Handshake;

/// Returns in the agent only; the process that was started reaps and ends with it.
pub(super) fn finish(given: &Given, bind: &Bind, control: &Control) -> Result<Ready, Step> {
    if given.machine {
        set_up_machine(&bind.limits)?;
    }
    check_namespaces(&given.outside).stage("namespaces")?;
    let sockets = match &bind.network {
        Some(outward) if given.root => network::open(outward.redirect).stage("egress sockets")?,
        Some(_) => network::open_without_privileges().stage("egress sockets")?,
        None => network::Sockets::default(),
    };
    if given.root {
        lockdown::give_up_ids(true).stage("capabilities")?;
    }
    check_privileges().stage("capabilities")?;
    check_limits(&bind.limits).stage("resource limits")?;
    rustix::thread::set_no_new_privs(true).stage("capabilities")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).stage("capabilities")?;
    std::env::set_current_dir("/workspace").stage("workspace")?;
    let mut kept = Kept::new();
    for (name, at) in folders::writable(bind) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(at, flags, Mode::empty()).stage("state directories")?;
        kept.push((name.to_owned(), folder));
    }
    let landlock = landlock::confine(&isolate::writable(bind), &kept);
    let filter = seccomp::Filter::compile().stage("seccomp")?;
    filter.install().stage("seccomp")?;
    let handshake = Handshake {
        landlock,
        seccomp: true,
        ports_missing: sockets.ports_missing,
        ..Handshake::default()
    };
    match init::fork().stage("fork")? {
        Some(agent) => {
            drop(sockets.fds);
            init::reap(agent, &control.reader)
        }
        None => {
            own_session().stage("session")?;
            // Elsewhere the runtime gave the agent one id and no way to another.
            let fence = Fence::new(given.root.then_some(USER));
            Ok(super::isolated(bind, handshake, sockets.fds, fence, kept))
        }
    }
}

/// What a runtime does for a container, in a machine of its own.
fn set_up_machine(limits: &Limits) -> Result<(), Step> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    guest::mount_own(limits.tmp_bytes).stage("mounts")?;
    network::loopback_up().stage("loopback")?;
    rustix::system::sethostname(isolate::HOSTNAME.as_bytes()).stage("host name")?;
    lockdown::new_session_keyring().stage("keyring")?;
    lockdown::limit(limits, false).stage("resource limits")
}

/// `setsid`, for kernels that are not Linux too: gVisor answers 0 instead of the session's id.
fn own_session() -> io::Result<()> {
    // SAFETY: the call takes nothing and changes only which session this process is in.
    match unsafe { libc::setsid() } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether this process has left all of the host's namespaces.
fn check_namespaces(outside: &[(String, PathBuf)]) -> Result<(), String> {
    for (kind, theirs) in outside {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"));
        let own = own.map_err(|e| format!("{kind}: {e}"))?;
        if own == *theirs {
            return Err(format!(
                "the runtime left the agent in the host's {kind} namespace"
            ));
        }
    }
    Ok(())
}

/// Whether the limits are no higher than they should be.
fn check_limits(limits: &Limits) -> Result<(), String> {
    let wanted = [
        (Resource::Core, lockdown::CORE),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nproc, limits.pids.into()),
    ];
    for (resource, most) in wanted {
        let now = rustix::process::getrlimit(resource).maximum;
        if now.is_none_or(|now| now > most) {
            return Err(format!("the runtime set {resource:?} to {now:?}"));
        }
    }
    Ok(())
}

/// Whether this is an unprivileged user without a capability, or a way to one.
fn check_privileges() -> Result<(), String> {
    if rustix::process::geteuid().is_root() || rustix::process::getuid().is_root() {
        return Err("the runtime started the agent as root".to_owned());
    }
    let sets = rustix::thread::capabilities(None).map_err(|e| e.to_string())?;
    let held = sets.effective | sets.permitted | sets.inheritable;
    if !held.is_empty() {
        return Err("the runtime left the agent capabilities".to_owned());
    }
    for capability in CapabilitySet::all().iter() {
        // A capability this kernel does not know cannot be had.
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            return Err("the runtime left the agent a bounding set".to_owned());
        }
    }
    Ok(())
}
