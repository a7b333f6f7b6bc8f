//! From a freshly executed, single-threaded process to a locked-down agent.
//!
//! `enter` runs in the launcher. With isolation it forks twice: the launcher stays outside to hold
//! the directory's lock and wait, its child is pid 1 inside and reaps, and only the grandchild, the
//! agent, returns. Nothing here may start a thread.

mod devices;
mod etc;
mod finish;
pub(crate) mod guest;
mod idmap;
mod init;
mod isolate;
mod keep;
mod landlock;
mod lockdown;
mod mounts;
mod network;
pub(crate) mod plan;
mod seccomp;
mod stage;
mod syscalls;
mod tree;

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::agent::AgentContext;
use crate::protocol::{self, Failure, Handshake, encode, read_frame};
use plan::{How, Plan};

pub(crate) use crate::agent::Roots;
pub(crate) use landlock::protect_agent;
pub(crate) use lockdown::resources;
pub(crate) use seccomp::profile;

/// The agent, ready to serve.
pub(crate) struct Inside {
    pub control: UnixStream,
    pub roots: Roots,
    pub context: AgentContext,
    pub handshake: Handshake,
    pub announce: Announce,
}

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
    let Ok(Some((plan, _))) = read_frame::<Plan>(&control, 0) else {
        return Err(NotStarted);
    };
    let result = match &plan.how {
        How::Plain => plain(&plan),
        How::Isolated(isolation) => isolate::isolate(&plan, isolation, &control),
        How::Staged(stage) => stage::stage(&plan, stage, &control).map(|never| match never {}),
        How::Inside(inside) => finish::finish(inside, &control),
    };
    match result {
        Ok(ready) => Ok(Inside {
            control,
            roots: ready.roots,
            context: ready.context,
            handshake: ready.handshake,
            announce: Announce(ready.listener),
        }),
        Err(step) => {
            report_failure(&control, step);
            std::process::exit(1)
        }
    }
}

/// What either way of setting up hands on.
pub(crate) struct Ready {
    pub roots: Roots,
    pub context: AgentContext,
    pub handshake: Handshake,
    pub listener: Option<OwnedFd>,
}

/// No isolation: the agent serves from the state directory itself.
fn plain(plan: &Plan) -> Result<Ready, Step> {
    let workspace = plan.dir.join(crate::spec::WORKSPACE);
    std::env::set_current_dir(&workspace).stage("state directories")?;
    let named = |name: &str, dir: &str| (PathBuf::from(name), plan.dir.join(dir));
    let roots = Roots(vec![
        named("/workspace", crate::spec::WORKSPACE),
        named("/mnt/session/outputs", crate::spec::OUTPUTS),
        named("/mnt/session/uploads", crate::spec::UPLOADS),
    ]);
    Ok(Ready {
        roots,
        context: AgentContext {
            workspace,
            extra_roots: vec![
                (plan.dir.join(crate::spec::OUTPUTS), false),
                (plan.dir.join(crate::spec::UPLOADS), true),
            ],
            env: std::env::vars_os().collect(),
            isolated: false,
        },
        handshake: Handshake::default(),
        listener: None,
    })
}

/// Best effort: when this fails too, the host sees the socket close.
fn report_failure(mut control: &UnixStream, step: Step) {
    let failure = Failure {
        stage: step.stage.to_owned(),
        detail: step.detail,
    };
    if let Ok(frame) = encode(&failure, 0) {
        let _ = control.write_all(&[protocol::FAILED]);
        let _ = control.write_all(&frame);
    }
}

/// Tells the host that the sandbox is ready, handing over the egress listener.
pub(crate) struct Announce(Option<OwnedFd>);

impl Announce {
    pub(crate) fn started(self, control: &Mutex<UnixStream>, hello: &Handshake) -> io::Result<()> {
        let frame = encode(hello, 0).map_err(io::Error::other)?;
        let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = self.0.iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("no room for the listener"));
        }
        let byte = [protocol::STARTED];
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&*control, &[IoSlice::new(&byte)], &mut ancillary, flags)?;
        control.write_all(&frame)
    }
}
