//! Which open files the process keeps: the control stream, and nothing else.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, sockopt};

/// The stream to the host. Over a socket both are the same; a container engine may give a pipe each
/// way.
pub(crate) struct Control {
    pub reader: File,
    pub writer: File,
}

/// Takes the control socket from standard input, points the standard streams at `/dev/null`, and
/// closes everything else that was inherited. `None` if standard input is no such socket.
pub(super) fn take_control() -> Option<Control> {
    let stdin = std::io::stdin();
    if sockopt::socket_domain(stdin.as_fd()).ok()? != AddressFamily::UNIX {
        return None;
    }
    let control = rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3).ok()?;
    close_others(&control);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    point_standard_streams(&null).ok()?;
    control_of(control).ok()
}

/// Both directions of a socket.
pub(super) fn control_of(socket: OwnedFd) -> std::io::Result<Control> {
    let reader = File::from(socket);
    let writer = reader.try_clone()?;
    Ok(Control { reader, writer })
}

/// Makes 0, 1 and 2 copies of `null`.
pub(super) fn point_standard_streams(null: &OwnedFd) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)?;
    rustix::stdio::dup2_stderr(null)
}

/// Closes every descriptor from 3 up except `keep`.
pub(super) fn close_others(keep: &OwnedFd) {
    let keep = keep.as_raw_fd().unsigned_abs();
    let close = |from: u32, to: u32| {
        if from <= to {
            // SAFETY: no object of this process owns a descriptor in the range; it runs before
            // anything but `keep` has been opened.
            unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        }
    };
    close(3, keep.saturating_sub(1));
    close(keep + 1, u32::MAX);
}
