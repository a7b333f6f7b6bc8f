//! The process between the agent and a program: everything the program starts stays below it, also
//! what leaves its session, so that all of it can be killed together.
//!
//! It is forked from an agent with many threads and never executes anything, so it makes system
//! calls only: no allocation, no lock.

use std::io;

use libc::{c_int, pid_t, sigset_t};

/// How long to wait for a killed child before looking for more, nanoseconds.
const STEP_NS: i64 = 5_000_000;

/// Splits the calling process, freshly forked for a program, in two: returns in the one that is to
/// execute it. The other ends as the program ends, and kills everything below it on `SIGTERM`.
pub(super) fn split() -> io::Result<()> {
    let (mut set, mut old) = (empty(), empty());
    // SAFETY: the sets are valid for the calls, which keep no pointer; prctl takes numbers only.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, &mut old);
    }
    // SAFETY: both sides make system calls only, until the child executes the program.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: as above.
            unsafe {
                libc::setsid();
                libc::sigprocmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
            }
            Ok(())
        }
        child => supervise(child, &set),
    }
}

fn empty() -> sigset_t {
    // SAFETY: a zeroed set is valid storage, and sigemptyset makes it an empty set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        set
    }
}

fn supervise(child: pid_t, set: &sigset_t) -> ! {
    // SAFETY: nothing of this process uses a descriptor any more; the program's streams and the
    // pipe on which its failure to start is told are the other side's.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    let mut status = None;
    loop {
        // SAFETY: the set is valid and no information is asked for.
        let signal = unsafe { libc::sigwaitinfo(set, std::ptr::null_mut()) };
        if signal == libc::SIGTERM {
            kill_all(child, set, &mut status);
            end_as(status.unwrap_or(libc::SIGKILL));
        }
        while reap(child, &mut status) {}
        if let Some(status) = status {
            end_as(status);
        }
    }
}

/// Reaps one child; whether there may be more that have ended.
fn reap(child: pid_t, status: &mut Option<c_int>) -> bool {
    let mut now = 0;
    // SAFETY: writes to a local.
    let pid = unsafe { libc::waitpid(-1, &mut now, libc::WNOHANG) };
    if pid == child {
        *status = Some(now);
    }
    pid > 0
}

/// Kills children until there are none: those of a killed one come up to this process.
fn kill_all(child: pid_t, set: &sigset_t, status: &mut Option<c_int>) {
    loop {
        kill_children(child);
        while reap(child, status) {}
        // SAFETY: fills a local; the flags leave every child as it is.
        let left = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_ALL, 0, &mut info, flags)
        };
        if left != 0 {
            return;
        }
        let step = libc::timespec {
            tv_sec: 0,
            tv_nsec: STEP_NS,
        };
        // SAFETY: set and time are valid for the call.
        unsafe { libc::sigtimedwait(set, std::ptr::null_mut(), &step) };
    }
}

/// One round of killing direct children. Where the kernel does not list them, those of the
/// program's own group must do.
fn kill_children(child: pid_t) {
    // SAFETY: a path that is a C string, flags, and a buffer with its length.
    unsafe {
        let path = c"/proc/thread-self/children".as_ptr();
        let fd = libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            libc::kill(-child, libc::SIGKILL);
            return;
        }
        let mut pid: pid_t = 0;
        let mut buffer = [0u8; 4096];
        loop {
            let read = libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len());
            if read <= 0 {
                break;
            }
            for byte in &buffer[..read.unsigned_abs()] {
                match byte {
                    b'0'..=b'9' => pid = pid.wrapping_mul(10).wrapping_add((byte - b'0').into()),
                    _ if pid > 0 => {
                        libc::kill(pid, libc::SIGKILL);
                        pid = 0;
                    }
                    _ => {}
                }
            }
        }
        if pid > 0 {
            libc::kill(pid, libc::SIGKILL);
        }
        libc::close(fd);
    }
}

/// Ends this process the way the program ended, so that the agent sees it as its own child's end.
fn end_as(status: c_int) -> ! {
    // SAFETY: system calls on this process alone.
    unsafe {
        if libc::WIFEXITED(status) {
            libc::_exit(libc::WEXITSTATUS(status));
        }
        let signal = libc::WTERMSIG(status);
        libc::signal(signal, libc::SIG_DFL);
        let all = empty();
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
        libc::_exit(128 + signal)
    }
}
