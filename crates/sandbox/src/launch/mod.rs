//! From a freshly executed, single-threaded process to a locked-down agent.
//!
//! `enter` runs in the launcher. With namespaces it forks twice: the launcher stays outside to lend
//! what the sandbox sees, to hold the directory's lock and to wait; its child is pid 1 inside,
//! builds and reaps; and only the grandchild, the agent, returns. Nothing here may start a thread.

mod devices;
pub(crate) mod disk;
mod etc;
pub(crate) mod fds;
mod finish;
pub(crate) mod folders;
pub(crate) mod guest;
mod handover;
mod idmap;
mod init;
mod install;
mod isolate;
mod keep;
mod landlock;
mod layers;
mod lockdown;
mod mounts;
mod netlink;
mod network;
mod nursery;
mod overlay;
pub(crate) mod plan;
mod seccomp;
mod seccomp_set;
mod stage;
mod syscalls;
mod time;
mod tree;
mod trust;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::Access;
use crate::agent::{AgentContext, Fence};
use crate::protocol::{self, Failure, Handshake, MAX_BIND, encode, read_frame};
use crate::spec::WRITABLE;
use plan::{Base, Bind};

pub(crate) use crate::agent::Roots;
pub(crate) use keep::Control;
pub(crate) use landlock::protect_agent;
pub(crate) use lockdown::resources;
pub(crate) use seccomp::profile;

/// The agent, ready to serve.
pub(crate) struct Inside {
    pub control: Control,
    pub roots: Roots,
    pub context: AgentContext,
    pub handshake: Handshake,
    pub announce: Announce,
    pub kept: Kept,
}

/// The folders that snapshots are made of, by name; below an overlay what it writes to, so that its
/// marks are seen.
pub(crate) type Kept = Vec<(String, OwnedFd)>;

/// The process was not started by a [`crate::Launcher`].
pub(crate) struct NotStarted;

/// A set-up step that failed.
#[derive(Debug)]
pub(crate) struct Step {
    stage: &'static str,
    detail: String,
}

/// Names the step an error happened in.
pub(crate) trait InStage<T> {
    fn stage(self, stage: &'static str) -> Result<T, Step>;
}

impl<T, E: std::fmt::Display> InStage<T> for Result<T, E> {
    fn stage(self, stage: &'static str) -> Result<T, Step> {
        self.map_err(|e| Step {
            stage,
            detail: e.to_string(),
        })
    }
}

/// Sets up what the host's plan says. Returns in the agent only.
pub(crate) fn enter() -> Result<Inside, NotStarted> {
    let control = if guest::here() {
        guest::enter()
    } else {
        keep::take_control().ok_or(NotStarted)?
    };
    let Some(base) = base(&control) else {
        return Err(NotStarted);
    };
    let (control, base) = match base {
        Base::Nursery => match nursery::nursery(control) {
            Ok(control) => {
                let Some(base) = self::base(&control) else {
                    std::process::exit(1)
                };
                (control, base)
            }
            // The host sees the socket close.
            Err(_) => std::process::exit(1),
        },
        base => (control, base),
    };
    let result = match &base {
        // One is enough.
        Base::Nursery => std::process::exit(1),
        Base::Host => bind(&control).and_then(|bind| on_host(&bind)),
        Base::Staged(stage) => stage::stage(stage, &control).map(|never| match never {}),
        Base::Given(given) => {
            bind(&control).and_then(|bind| finish::finish(given, &bind, &control))
        }
        Base::Namespaces(how) => isolate::isolate(how, &control),
    };
    match result {
        Ok(ready) => Ok(Inside {
            control,
            roots: ready.roots,
            context: ready.context,
            handshake: ready.handshake,
            announce: Announce(ready.sockets),
            kept: ready.kept,
        }),
        Err(step) => {
            report_failure(&control.writer, step);
            std::process::exit(1)
        }
    }
}

/// What there is to do. `None` if no host says so.
fn base(control: &Control) -> Option<Base> {
    let frame = read_frame::<Base>(&control.reader, 0).ok()?;
    frame.map(|(base, _)| base)
}

/// Waits to hear for whom the sandbox is. Ends the process if the host goes away instead, as it
/// does with sandboxes it prepared in vain.
fn bind(control: &Control) -> Result<Bind, Step> {
    match read_frame::<()>(&control.reader, MAX_BIND) {
        Ok(Some(((), body))) => serde_json::from_slice(&body).stage("plan"),
        Ok(None) => std::process::exit(0),
        Err(e) => Err(e).stage("plan"),
    }
}

/// What either way of setting up hands on.
pub(crate) struct Ready {
    pub roots: Roots,
    pub context: AgentContext,
    pub handshake: Handshake,
    /// What the host serves; see [`network::Sockets`].
    pub sockets: Vec<OwnedFd>,
    pub kept: Kept,
}

/// No isolation: the agent serves from the state directory itself.
fn on_host(bind: &Bind) -> Result<Ready, Step> {
    let real = |folder: &str| bind.dir.join(folder);
    let own = WRITABLE.map(|(folder, at)| (PathBuf::from(at), real(folder)));
    let shares = bind.shares.iter();
    let shares = shares.map(|s| (PathBuf::from(&s.at), real(&s.folder), s.access));
    let mut roots = own.to_vec();
    let mut extra_roots: Vec<_> = own[1..].iter().map(|(_, r)| (r.clone(), false)).collect();
    for (at, real, access) in shares {
        roots.push((at, real.clone()));
        extra_roots.push((real, access == Access::ReadOnly));
    }
    let workspace = real(crate::spec::WORKSPACE);
    std::env::set_current_dir(&workspace).stage("state directories")?;
    Ok(Ready {
        roots: Roots::new(roots),
        context: AgentContext {
            workspace,
            extra_roots,
            env: environment(bind),
            isolated: false,
            fence: Fence::default(),
        },
        handshake: Handshake::default(),
        sockets: Vec::new(),
        kept: Kept::new(),
    })
}

/// An agent that sees folders where they are to appear.
fn isolated(
    bind: &Bind,
    handshake: Handshake,
    sockets: Vec<OwnedFd>,
    fence: Fence,
    kept: Kept,
) -> Ready {
    let own = WRITABLE.iter().map(|(_, at)| (PathBuf::from(at), false));
    let shares = bind.shares.iter();
    let shares = shares.map(|s| (PathBuf::from(&s.at), s.access == Access::ReadOnly));
    let tmp = (PathBuf::from("/tmp"), false);
    let all: Vec<_> = own.chain(shares).chain([tmp]).collect();
    Ready {
        roots: Roots::new(all.iter().map(|(at, _)| (at.clone(), at.clone())).collect()),
        context: AgentContext {
            workspace: PathBuf::from(WRITABLE[0].1),
            extra_roots: all[1..].to_vec(),
            env: environment(bind),
            isolated: true,
            fence,
        },
        handshake,
        sockets,
        kept,
    }
}

fn environment(bind: &Bind) -> Vec<(OsString, OsString)> {
    let pairs = bind.env.iter();
    pairs.map(|(k, v)| (k.into(), v.into())).collect()
}

/// Best effort: when this fails too, the host sees the socket close.
fn report_failure(mut control: &File, step: Step) {
    let failure = Failure {
        stage: step.stage.to_owned(),
        detail: step.detail,
    };
    if let Ok(frame) = encode(&failure, 0) {
        let _ = control.write_all(&[protocol::FAILED]);
        let _ = control.write_all(&frame);
    }
}

/// Tells the host that the sandbox is ready, handing over the egress sockets.
pub(crate) struct Announce(Vec<OwnedFd>);

impl Announce {
    pub(crate) fn started(self, control: &Mutex<File>, hello: &Handshake) -> io::Result<()> {
        let frame = encode(hello, 0).map_err(io::Error::other)?;
        let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(protocol::MAX_SOCKETS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = self.0.iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("no room for the egress sockets"));
        }
        let message = [&[protocol::STARTED], frame.as_slice()].concat();
        let flags = SendFlags::NOSIGNAL;
        let all = [IoSlice::new(&message)];
        let sent = rustix::net::sendmsg(&*control, &all, &mut ancillary, flags)?;
        control.write_all(&message[sent..])
    }
}
