//! Starting the launcher and hearing from it that the sandbox stands.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::launch::plan::Plan;
use crate::protocol::{FAILED, Failure, Handshake, Prefix, STARTED, encode};
use crate::{Launcher, SandboxError};

/// How long set-up may usually take, waiting for an earlier sandbox over the same directory included.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// A sandbox that stands.
pub(crate) struct Started {
    pub child: Child,
    pub control: UnixStream,
    pub handshake: Handshake,
    pub listener: Option<TcpListener>,
}

/// Runs the launcher with nothing but the given environment and the control socket.
pub(crate) async fn start(
    launcher: &Launcher,
    plans: &[Plan],
    env: &[(String, String)],
    patience: Duration,
) -> Result<Started, SandboxError> {
    let (ours, theirs) = StdStream::pair().map_err(SandboxError::host("making a socket pair"))?;
    let child = Command::new(&launcher.program)
        .args(&launcher.args)
        .env_clear()
        .envs(env.iter().map(|(k, v)| (k, v)))
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
    let control = ours
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(ours))
        .map_err(SandboxError::host("watching the control socket"))?;
    let shaken = tokio::time::timeout(patience, shake_hands(control, plans)).await;
    let (control, handshake, listener) = match shaken {
        Ok(result) => result?,
        Err(_) => {
            let detail = "no answer in time; is the sandbox open in another server?";
            return Err(failed("lock", detail.to_owned()));
        }
    };
    Ok(Started {
        child,
        control,
        handshake,
        listener,
    })
}

async fn shake_hands(
    mut control: UnixStream,
    plans: &[Plan],
) -> Result<(UnixStream, Handshake, Option<TcpListener>), SandboxError> {
    let broken = |e: io::Error| failed("launch", e.to_string());
    for plan in plans {
        let frame = encode(plan, 0).map_err(|e| failed("launch", e.to_string()))?;
        control.write_all(&frame).await.map_err(broken)?;
    }
    let (tag, fd) = first_byte(&control).await.map_err(broken)?;
    match tag {
        Some(STARTED) => {
            let handshake = frame_header(&mut control).await?;
            Ok((control, handshake, fd.map(TcpListener::from)))
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

/// The first byte and the descriptor that may come with it.
async fn first_byte(control: &UnixStream) -> io::Result<(Option<u8>, Option<OwnedFd>)> {
    control
        .async_io(Interest::READABLE, || {
            let mut byte = [0u8];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let read = rustix::net::recvmsg(
                control.as_fd(),
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let mut fd = None;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    fd = fds.last().or(fd);
                }
            }
            Ok(((read.bytes == 1).then_some(byte[0]), fd))
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

fn failed(stage: &str, detail: String) -> SandboxError {
    SandboxError::Start {
        stage: stage.to_owned(),
        detail,
    }
}
