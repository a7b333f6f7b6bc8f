//! The processes around the agent: the launcher that waits outside, pid 1 that reaps inside.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;

/// `fork` for a process with one thread: the child, or `None` in the child.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has a single thread (see `agent::main`), so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// As [`fork`], with the child in new namespaces: pid 1 of the new pid namespace.
pub(super) fn fork_into(namespaces: UnshareFlags) -> io::Result<Option<Pid>> {
    // SAFETY: all zeroes asks for nothing: no stack of its own, no descriptors, no thread area.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.bits());
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: as `fork`; the arguments are valid and their size is given.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid as libc::pid_t)),
    }
}

/// Waits for pid 1 and ends as it did. When pid 1 has been reaped the kernel has ended everything
/// in its namespace.
pub(super) fn wait_outside(child: Pid) -> ! {
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) => std::process::exit(status.exit_status().unwrap_or(1)),
            _ => std::process::exit(1),
        }
    }
}

/// Pid 1: reaps what is orphaned, and ends with the agent or with the control socket, whichever
/// goes first. Ending it kills every process inside.
pub(super) fn reap(agent: Pid, control: &impl AsFd) -> ! {
    let Ok(children) = child_signals() else {
        std::process::exit(1)
    };
    loop {
        reap_all(agent);
        let mut fds = [
            PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
            // Hang-up is reported whether asked for or not.
            PollFd::from_borrowed_fd(control.as_fd(), PollFlags::RDHUP),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => std::process::exit(1),
        }
        if fds[1]
            .revents()
            .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
        {
            std::process::exit(0)
        }
        drain(&children);
    }
}

/// Takes what [`child_signals`] holds: one record stands for any number of dead children.
pub(super) fn drain(children: &OwnedFd) {
    let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
    // Non-blocking.
    let _ = rustix::io::read(children, &mut record);
}

fn reap_all(agent: Pid) {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == agent => {
                std::process::exit(status.exit_status().unwrap_or(1))
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Undoes what [`child_signals`] blocked, in a child that has its own use for signals.
pub(super) fn unblock_signals() {
    // SAFETY: a zeroed set is valid storage that sigemptyset initializes; the call keeps no pointer.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Blocks SIGCHLD and turns it into a descriptor.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: a zeroed set is valid storage that sigemptyset initializes.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for the calls, which read or fill it and keep no pointer.
    let fd = unsafe {
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd just returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
