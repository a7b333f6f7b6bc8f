//! Starting the launcher and hearing from it that the sandbox stands.

use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::{Channel, Holder};
use crate::launch::fds;
use crate::launch::plan::{Base, Bind, Given};
use crate::protocol::{FAILED, Failure, Handshake, MAX_BIND, MAX_SOCKETS, Prefix, STARTED, encode};
use crate::{Launcher, SandboxError};

/// How long set-up may take, waiting for an earlier sandbox over the same directory included.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// A launcher that has been told how to isolate, not yet for whom.
pub(crate) struct Waiting {
    pub child: Box<dyn Holder>,
    pub(super) control: UnixStream,
}

/// A sandbox that stands.
pub(crate) struct Ready {
    pub channel: Arc<Channel>,
    pub handshake: Handshake,
    /// What the egress proxy serves.
    pub sockets: Vec<OwnedFd>,
}

/// Runs the launcher with nothing but the control socket, and tells it the base.
pub(crate) fn launch(launcher: &Launcher, base: &Base) -> Result<Waiting, SandboxError> {
    let (child, control) = run(launcher)?;
    let (child, control) = (Box::new(child), tell(control, base)?);
    Ok(Waiting { child, control })
}

/// Runs it.
pub(super) fn run(launcher: &Launcher) -> Result<(Child, StdStream), SandboxError> {
    let (ours, theirs) = StdStream::pair().map_err(SandboxError::host("making a socket pair"))?;
    let child = Command::new(&launcher.program)
        .args(&launcher.args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the server's terminal goes to its whole group: the server ends its sandboxes
        // itself, after the running calls have had their time.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed("launch", e.to_string()))?;
    Ok((child, ours))
}

/// Tells a launcher the base, which is little.
pub(super) fn tell(control: StdStream, base: &Base) -> Result<UnixStream, SandboxError> {
    let frame = encode(base, 0).map_err(|e| failed("launch", e.to_string()))?;
    control
        .set_nonblocking(true)
        .and_then(|()| (&control).write_all(&frame))
        .and_then(|()| UnixStream::from_std(control))
        .map_err(|e| failed("launch", e.to_string()))
}

impl Waiting {
    /// Whether it still waits: it has neither ended nor said that something failed.
    pub(crate) fn waits(&mut self) -> bool {
        let silent = self.control.try_read(&mut [0]);
        let silent = silent.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        silent && !self.child.has_ended()
    }

    /// Says that its control groups are there.
    pub(crate) async fn join(self) -> Self {
        self.lend(None).await
    }

    /// Gives it the disk it was told to expect, or says that there is none.
    pub(crate) async fn lend(self, disk: Option<OwnedFd>) -> Self {
        let send = || fds::send(&self.control, disk.as_ref().map(AsFd::as_fd));
        // What went wrong is told on the same socket, so a write that fails is no news.
        let _ = self.control.async_io(Interest::WRITABLE, send).await;
        self
    }

    /// Tells it for whom, and waits until the sandbox stands.
    pub(crate) async fn bind(self, bind: &Bind) -> Result<(Ready, Box<dyn Holder>), SandboxError> {
        self.bind_within(bind, START_LIMIT).await
    }

    /// As [`Waiting::bind`] where the launcher stages: it and the agent are both told.
    pub(crate) async fn stage(
        mut self,
        bind: &Bind,
        given: Given,
        patience: Duration,
    ) -> Result<(Ready, Box<dyn Holder>), SandboxError> {
        let mut frames = bind_frame(bind)?;
        let given = encode(&Base::Given(given), 0).map_err(|e| failed("launch", e.to_string()))?;
        frames.extend(given);
        // What went wrong is told on the same socket, so a write that fails is no news.
        let _ = self.control.write_all(&frames).await;
        self.bind_within(bind, patience).await
    }

    async fn bind_within(
        self,
        bind: &Bind,
        patience: Duration,
    ) -> Result<(Ready, Box<dyn Holder>), SandboxError> {
        let shaken = tokio::time::timeout(patience, shake_hands(self.control, bind)).await;
        match shaken {
            Ok(ready) => Ok((ready?, self.child)),
            Err(_) => {
                let detail = "no answer in time; is the sandbox open in another server?";
                Err(failed("lock", detail.to_owned()))
            }
        }
    }
}

fn bind_frame(bind: &Bind) -> Result<Vec<u8>, SandboxError> {
    let body = serde_json::to_vec(bind).map_err(|e| failed("launch", e.to_string()))?;
    if body.len() > MAX_BIND {
        let what = "paths, shares and variables are too long together";
        return Err(SandboxError::InvalidSpec(what.to_owned()));
    }
    let mut frame = encode(&(), body.len()).map_err(|e| failed("launch", e.to_string()))?;
    frame.extend(body);
    Ok(frame)
}

async fn shake_hands(mut control: UnixStream, bind: &Bind) -> Result<Ready, SandboxError> {
    // What went wrong before is told on the same socket, so a write that fails is no news.
    let _ = control.write_all(&bind_frame(bind)?).await;
    let broken = |e: io::Error| failed("launch", e.to_string());
    let (tag, sockets) = first_byte(&control).await.map_err(broken)?;
    match tag {
        Some(STARTED) => {
            let handshake = frame_header(&mut control).await?;
            let (reader, writer) = control.into_split();
            Ok(Ready {
                channel: Channel::open(reader, writer),
                handshake,
                sockets,
            })
        }
        Some(FAILED) => {
            let failure: Failure = frame_header(&mut control).await?;
            Err(failed(&failure.stage, failure.detail))
        }
        _ => Err(failed(
            "launch",
            "the sandbox program ended at once".to_owned(),
        )),
    }
}

/// The first byte and the descriptors that may come with it.
async fn first_byte(control: &UnixStream) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    control
        .async_io(Interest::READABLE, || {
            let mut byte = [0u8];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let read = rustix::net::recvmsg(
                control.as_fd(),
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let mut sockets = Vec::new();
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    sockets.extend(fds);
                }
            }
            Ok(((read.bytes == 1).then_some(byte[0]), sockets))
        })
        .await
}

/// A frame without a body, before any untrusted code runs inside.
async fn frame_header<T: DeserializeOwned>(control: &mut UnixStream) -> Result<T, SandboxError> {
    let broken = |e: String| failed("launch", e);
    let mut prefix = [0; Prefix::LEN];
    control
        .read_exact(&mut prefix)
        .await
        .map_err(|e| broken(e.to_string()))?;
    let prefix = Prefix::parse(prefix, 0).map_err(|e| broken(e.to_string()))?;
    let mut header = vec![0; prefix.header];
    control
        .read_exact(&mut header)
        .await
        .map_err(|e| broken(e.to_string()))?;
    Prefix::header(&header).map_err(|e| broken(e.to_string()))
}

pub(super) fn failed(stage: &str, detail: String) -> SandboxError {
    SandboxError::Start {
        stage: stage.to_owned(),
        detail,
    }
}
