//! What the launcher, outside, gives to pid 1, inside: for whom the sandbox is, and the mounts that
//! only the launcher could make.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::folders::Folders;
use super::plan::Bind;
use crate::protocol::{MAX_BIND, encode, read_frame};
use crate::{MAX_LAYERS, MAX_SHARES};

/// Most descriptors that go over: the store, shares, layers.
const MAX_FDS: usize = 1 + MAX_SHARES + MAX_LAYERS;
/// Stands for folders that the inside is to lend itself.
const NONE: u8 = 0;
/// Stands for folders that come along.
const LENT: u8 = 1;

/// Sends both.
pub(super) fn give(to: &UnixStream, bind: &Bind, folders: Option<Folders>) -> io::Result<()> {
    let tag = [if folders.is_some() { LENT } else { NONE }];
    let fds = folders.map(Folders::into_fds).unwrap_or_default();
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many folders"));
    }
    rustix::net::sendmsg(
        to,
        &[IoSlice::new(&tag)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    let body = serde_json::to_vec(bind)?;
    let mut to = to;
    to.write_all(&encode(&(), body.len()).map_err(io::Error::other)?)?;
    to.write_all(&body)
}

/// Receives both. Ends the process when the launcher is gone.
pub(super) fn take(from: &UnixStream) -> io::Result<(Bind, Option<Folders>)> {
    let mut tag = [NONE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let read = rustix::net::recvmsg(
        from,
        &mut [IoSliceMut::new(&mut tag)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if read.bytes == 0 {
        std::process::exit(0);
    }
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    let frame = read_frame::<()>(from, MAX_BIND).map_err(io::Error::other)?;
    let ((), body) = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
    let bind: Bind = serde_json::from_slice(&body)?;
    let folders = (tag[0] == LENT).then(|| Folders::from_fds(&bind, fds));
    Ok((bind, folders.transpose()?))
}
