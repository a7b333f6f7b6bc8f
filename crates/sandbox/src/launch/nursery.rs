//! A launcher started once that becomes another for each sandbox: a fork of a small process with
//! one thread costs less than executing the program and linking it again.
//!
//! It knows nothing of any sandbox and holds nothing but its own control socket. The price: all
//! sandboxes' agents have their code and libraries at the same addresses, which only matters to who
//! has found a way to write an agent's memory. What tools start is executed, and placed anew.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{PidfdFlags, WaitOptions};

use super::keep::{self, Control};
use super::{InStage, Step, init, seccomp};
use crate::protocol::BORN;

/// Serves on its control socket; returns in each new launcher, with that one's. Ends the process
/// when the host goes away.
pub(super) fn nursery(control: Control) -> Result<Control, Step> {
    // Whatever happens to it in a child is no business of the parent's.
    let control = ManuallyDrop::new(control);
    seccomp::Filters::prepare().stage("seccomp")?;
    let children = ManuallyDrop::new(init::child_signals().stage("nursery")?);
    loop {
        while matches!(
            rustix::process::wait(WaitOptions::NOHANG),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR)
        ) {}
        let mut fds = [
            PollFd::from_borrowed_fd(control.reader.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e).stage("nursery"),
        }
        let (asked, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if ended {
            init::drain(&children);
        }
        if !asked {
            continue;
        }
        let Some(theirs) = receive(&control.reader).stage("nursery")? else {
            std::process::exit(0)
        };
        match init::fork().stage("nursery")? {
            None => return become_launcher(theirs).stage("nursery"),
            // The child cannot be reaped before this: only the loop above does.
            Some(child) => {
                let pidfd = rustix::process::pidfd_open(child, PidfdFlags::empty());
                answer(&control.writer, &pidfd.stage("nursery")?).stage("nursery")?;
            }
        }
    }
}

/// The control socket of a new launcher; `None` when the host is gone.
fn receive(from: &File) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = rustix::net::recvmsg(from, &mut bytes, &mut ancillary, flags)?;
    if read.bytes == 0 {
        return Ok(None);
    }
    let mut messages = ancillary.drain();
    let fd = messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Tells the host of a new launcher.
fn answer(to: &File, pidfd: &OwnedFd) -> io::Result<()> {
    let fds = [pidfd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let bytes = [IoSlice::new(&[BORN])];
    rustix::net::sendmsg(to, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// In the child: as if it had just been executed with `control`.
fn become_launcher(control: OwnedFd) -> io::Result<Control> {
    keep::close_others(&control);
    init::unblock_signals();
    rustix::process::setpgid(None, None)?;
    keep::control_of(control)
}
