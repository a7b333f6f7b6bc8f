//! A launcher started once that becomes another for each sandbox: a fork of a small process with
//! one thread costs less than executing the program and linking it again.
//!
//! It knows nothing of any sandbox and holds nothing but its own control socket. The price: all
//! sandboxes' agents have their code and libraries at the same addresses, which only matters to who
//! has found a way to write an agent's memory. What tools start is executed, and placed anew.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, WaitOptions};

use super::keep::{self, Control};
use super::{InStage, Step, fds, init, seccomp};

/// Serves on its control socket; returns in each new launcher, with that one's. Ends the process
/// when the host goes away.
pub(super) fn nursery(control: Control) -> Result<Control, Step> {
    // Whatever happens to it in a child is no business of the parent's.
    let control = ManuallyDrop::new(control);
    seccomp::Filter::prepare().stage("seccomp")?;
    let children = ManuallyDrop::new(init::child_signals().stage("nursery")?);
    loop {
        while matches!(
            rustix::process::wait(WaitOptions::NOHANG),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR)
        ) {}
        let mut polled = [
            PollFd::from_borrowed_fd(control.reader.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e).stage("nursery"),
        }
        let (asked, ended) = (
            !polled[0].revents().is_empty(),
            !polled[1].revents().is_empty(),
        );
        if ended {
            init::drain(&children);
        }
        if !asked {
            continue;
        }
        // Also when the host is gone.
        let Ok(Some(Some(theirs))) = fds::receive(&control.reader) else {
            std::process::exit(0)
        };
        match init::fork().stage("nursery")? {
            None => return become_launcher(theirs).stage("nursery"),
            // The child cannot be reaped before this: only the loop above does.
            Some(child) => {
                let pidfd = rustix::process::pidfd_open(child, PidfdFlags::empty());
                let pidfd = pidfd.stage("nursery")?;
                fds::send(&control.writer, Some(pidfd.as_fd())).stage("nursery")?;
            }
        }
    }
}

/// In the child: as if it had just been executed with `control`.
fn become_launcher(control: OwnedFd) -> io::Result<Control> {
    keep::close_others(&control);
    init::unblock_signals();
    rustix::process::setpgid(None, None)?;
    keep::control_of(control)
}
