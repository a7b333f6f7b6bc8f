//! Launchers from a nursery: one process of the launcher's program, kept as long as it serves, that
//! forks for each sandbox. See `launch::nursery`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use async_trait::async_trait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::Mutex;

use super::start::{launch, run, tell};
use super::{Holder, Waiting};
use crate::launch::fds;
use crate::launch::plan::Base;
use crate::{Launcher, SandboxError};

/// How long it may take to fork.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(crate) struct Nursery {
    launcher: Launcher,
    running: Mutex<Option<Running>>,
}

struct Running {
    control: UnixStream,
    /// Killed when dropped; what it forked lives on.
    _child: Child,
}

impl Nursery {
    /// Starts nothing yet.
    pub(crate) fn new(launcher: Launcher) -> Self {
        Self {
            launcher,
            running: Mutex::default(),
        }
    }

    /// A launcher that has been told the base.
    pub(crate) async fn launch(&self, base: &Base) -> Result<Waiting, SandboxError> {
        match tokio::time::timeout(PATIENCE, self.fork(base)).await {
            Ok(Ok(waiting)) => Ok(waiting),
            failed => {
                // It was killed, for example. The next sandbox finds a new one.
                let error = failed.map(|forked| forked.err());
                tracing::debug!(?error, "the nursery does not serve");
                launch(&self.launcher, base)
            }
        }
    }

    async fn fork(&self, base: &Base) -> io::Result<Waiting> {
        let mut running = self.running.lock().await;
        // One that fails, or is not waited for, is not put back: its answer would be taken for that
        // to another.
        let nursery = match running.take() {
            Some(nursery) => nursery,
            None => Running::start(&self.launcher)?,
        };
        let (ours, theirs) = StdStream::pair()?;
        // Before it is there to hear it, so that it need not wait.
        let ours = tell(ours, base).map_err(io::Error::other)?;
        let control = &nursery.control;
        let send = || fds::send(control, Some(theirs.as_fd()));
        control.async_io(Interest::WRITABLE, send).await?;
        let receive = || fds::receive(control);
        let pidfd = control.async_io(Interest::READABLE, receive).await?;
        let pidfd = pidfd.flatten().ok_or(io::ErrorKind::UnexpectedEof)?;
        *running = Some(nursery);
        Ok(Waiting {
            child: Box::new(Forked::new(pidfd)?),
            control: ours,
        })
    }
}

impl Running {
    fn start(launcher: &Launcher) -> io::Result<Self> {
        let (child, control) = run(launcher).map_err(io::Error::other)?;
        Ok(Self {
            control: tell(control, &Base::Nursery).map_err(io::Error::other)?,
            _child: child,
        })
    }
}

/// A launcher that is the nursery's child. Killed when dropped.
struct Forked(AsyncFd<OwnedFd>);

impl Forked {
    fn new(pidfd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an owned descriptor is the same, and open, until it is dropped.
        let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Self(watched))
    }

    fn end(&self) {
        // It may have ended, which is what is wanted.
        let _ = pidfd_send_signal(self.0.get_ref(), Signal::KILL);
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Holder for Forked {
    async fn ended(&mut self) {
        // The descriptor of a process is readable once it has ended.
        let _ = self.0.readable().await;
    }

    fn has_ended(&mut self) -> bool {
        let mut fds = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    async fn kill(&mut self) {
        self.end();
    }
}
