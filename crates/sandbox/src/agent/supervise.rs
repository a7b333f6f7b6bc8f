//! The process between the agent and a program: everything the program starts stays below it, also
//! what leaves its session, so that all of it can be killed together.
//!
//! It and, until the program is executed, the program's process use the agent's memory (see
//! [`super::spawn`]), its thread-local variables included, which belong to a thread that goes on. So:
//! no allocation, no lock, and nothing of the C library that could fail (it would write that thread's
//! `errno`), once that thread does not wait any more. `rustix` makes its calls itself.

use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use libc::{c_int, sigset_t};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use super::spawn::Order;

/// How long to wait for a killed child before looking for more.
const STEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};
/// What a process ends with whose program could not be executed.
const NOT_STARTED: c_int = 127;

/// The supervisor: starts what the [`Order`] says, notes there how it ended, and kills everything below
/// itself on `SIGTERM`.
pub(super) extern "C" fn supervise(order: *mut c_void) -> c_int {
    // SAFETY: what `spawn` gave, which lives until this process has ended.
    let told = unsafe { &*order.cast::<Order>() };
    let signals = match watch_signals() {
        Ok(signals) => signals,
        Err(e) => fail(told, e),
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is the new process's alone; this one stands until it has been executed or
    // has ended.
    let child = unsafe { libc::clone(execute, told.stack.top(), flags, order) };
    let Some(child) = Pid::from_raw(child.max(0)) else {
        fail(told, last_error())
    };
    // From here on the agent's thread does not wait.
    let signals = alone(signals);
    let mut status = None;
    loop {
        if signal(&signals, None) == Some(Signal::TERM) {
            kill_all(child, &signals, &mut status);
            end(told, status);
        }
        while reap(child, &mut status) {}
        if status.is_some() {
            end(told, status);
        }
    }
}

/// Begins a session, adopts orphans, and turns the signals that matter into a descriptor.
fn watch_signals() -> Result<OwnedFd, c_int> {
    // The handlers that the agent has would use its memory, at a moment the tools could choose.
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        default_action(signal)?;
    }
    begin_session()?;
    // Where there is no such thing, what leaves the program's group is not found.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let set = signal_set(&[libc::SIGCHLD, libc::SIGTERM]);
    // SAFETY: the set is valid for the calls, which keep no pointer.
    let fd = unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &set, null_mut());
        libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the call gave this descriptor, and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes everything but the signals: the streams are the program's, and the report is closed for
/// the agent to see that it runs.
fn alone(signals: OwnedFd) -> OwnedFd {
    // SAFETY: nothing of this process uses another descriptor any more; numbers are taken only. It
    // fails in kernels only that are too old for everything else.
    unsafe {
        let kept = signals.as_raw_fd().unsigned_abs();
        libc::syscall(libc::SYS_close_range, 0, kept - 1, 0);
        libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0);
    }
    signals
}

/// The program's process until it is the program.
extern "C" fn execute(order: *mut c_void) -> c_int {
    // SAFETY: as in `supervise`, which stands meanwhile.
    let order = unsafe { &*order.cast::<Order>() };
    let error = match prepare(order) {
        Ok(()) => try_all(order),
        Err(e) => e,
    };
    fail(order, error)
}

/// Everything but executing it.
fn prepare(order: &Order) -> Result<(), c_int> {
    let ok = |rc: c_int| if rc < 0 { Err(last_error()) } else { Ok(()) };
    begin_session()?;
    // SAFETY: descriptors and a C string; nothing keeps a pointer.
    unsafe {
        for (number, stream) in (0..).zip(order.streams) {
            ok(libc::dup2(stream, number))?;
        }
        ok(libc::chdir(order.cwd.as_ptr()))?;
    }
    // The Rust runtime ignores it; programs expect to be ended by it.
    default_action(libc::SIGPIPE)?;
    // The effective user stays the same. So the memory, which is the agent's, stays out of reach of
    // that user's other processes, as it would not with a change of it.
    let entered = order.fence.enter();
    entered.map_err(|e| e.raw_os_error().unwrap_or(libc::EPERM))?;
    let none = signal_set(&[]);
    // SAFETY: the set is valid for the call, which keeps no pointer.
    ok(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, null_mut()) })
}

/// Not by `rustix`, for which the number 0 that gVisor gives is none.
fn begin_session() -> Result<(), c_int> {
    // SAFETY: takes nothing.
    match unsafe { libc::setsid() } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

fn default_action(signal: c_int) -> Result<(), c_int> {
    // SAFETY: all zeroes is a valid action, and the default one; nothing keeps a pointer.
    let rc = unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &action, null_mut())
    };
    match rc {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Tries every path as `execvp` does; why none could be executed.
fn try_all(order: &Order) -> c_int {
    let mut denied = false;
    let mut last = libc::ENOENT;
    for path in &order.paths {
        let (argv, envp) = (order.argv.as_ptr(), order.envp.as_ptr());
        // SAFETY: C strings, and lists of such with a null at their ends.
        unsafe { libc::execve(path.as_ptr(), argv, envp) };
        last = last_error();
        match last {
            libc::ENOEXEC => {
                // A text without a first line that names its interpreter.
                order.shell[1].set(path.as_ptr());
                let shell = order.shell.as_ptr().cast();
                // SAFETY: as above.
                unsafe { libc::execve(order.shell[0].get(), shell, envp) };
                return last_error();
            }
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => {}
            _ => return last,
        }
    }
    if denied { libc::EACCES } else { last }
}

/// Reports an error and ends the process.
fn fail(order: &Order, error: c_int) -> ! {
    // SAFETY: the descriptor is open until this process closes it, and the call ends the process.
    unsafe {
        let _ = rustix::io::write(BorrowedFd::borrow_raw(order.report), &error.to_ne_bytes());
        libc::_exit(NOT_STARTED)
    }
}

fn last_error() -> c_int {
    // SAFETY: the thread's own variable; only this process uses it now.
    unsafe { *libc::__errno_location() }
}

fn signal_set(signals: &[c_int]) -> sigset_t {
    // SAFETY: a zeroed set is valid storage, and sigemptyset makes it an empty set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        set
    }
}

/// Waits for a signal; `None` if none came in time. Several children that ended are one signal.
fn signal(signals: &OwnedFd, patience: Option<&Timespec>) -> Option<Signal> {
    let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    // What was interrupted looks like a signal: there is no harm in looking.
    let _ = poll(&mut fds, patience);
    let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut record).ok()?;
    let [a, b, c, d, ..] = record;
    Signal::from_named_raw(i32::from_ne_bytes([a, b, c, d]))
}

/// Reaps one child; whether there may be more that have ended.
fn reap(child: Pid, status: &mut Option<WaitStatus>) -> bool {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, ended))) => {
            if pid == child {
                *status = Some(ended);
            }
            true
        }
        _ => false,
    }
}

/// Kills children until there are none: those of a killed one come up to this process.
fn kill_all(child: Pid, signals: &OwnedFd, status: &mut Option<WaitStatus>) {
    loop {
        kill_children(child);
        while reap(child, status) {}
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if rustix::process::waitid(WaitId::All, look).is_err() {
            return;
        }
        signal(signals, Some(&STEP));
    }
}

/// One round of killing direct children. Where the kernel does not list them, those of the
/// program's own group must do.
fn kill_children(child: Pid) {
    const LIST: &CStr = c"/proc/thread-self/children";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(list) = rustix::fs::open(LIST, flags, Mode::empty()) else {
        let _ = rustix::process::kill_process_group(child, Signal::KILL);
        return;
    };
    let kill = |pid: i32| {
        if let Some(pid) = Pid::from_raw(pid.max(0)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    };
    let mut pid = 0i32;
    let mut buffer = [0u8; 4096];
    loop {
        let read = match rustix::io::read(&list, &mut buffer) {
            Ok(read) if read > 0 => read,
            _ => break,
        };
        for byte in buffer.iter().take(read) {
            match byte {
                b'0'..=b'9' => pid = pid.wrapping_mul(10).wrapping_add((byte - b'0').into()),
                _ if pid > 0 => {
                    kill(pid);
                    pid = 0;
                }
                _ => {}
            }
        }
    }
    if pid > 0 {
        kill(pid);
    }
}

/// Ends this process, and leaves word how the program ended. Not by ending the same way: of a signal
/// that dumps memory, older kernels end all who share it.
fn end(order: &Order, status: Option<WaitStatus>) -> ! {
    let status = status.map_or(libc::SIGKILL, WaitStatus::as_raw);
    order.ended.store(status, Ordering::Release);
    // SAFETY: ends this process alone.
    unsafe { libc::_exit(0) }
}
