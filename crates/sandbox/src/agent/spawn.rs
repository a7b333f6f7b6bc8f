//! Starting a program below a supervisor of its own (see [`super::supervise`]).
//!
//! A fork would copy the page tables of an agent with many threads, twice, and everything written
//! afterwards. Here both processes use the agent's memory, each on a stack of its own, until the
//! program is executed; so what they run, and all it touches, is made before they start and stays
//! until the supervisor has ended.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_char, c_int};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::{Fence, supervise};
use crate::stack::Stack;

/// No way to end.
const RUNNING: i32 = i32::MIN;
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// Runs a text that names no interpreter.
const SHELL: &CStr = c"/bin/sh";

/// A program to start.
pub(super) struct Program<'a> {
    pub argv: &'a [String],
    /// Later ones win.
    pub env: Vec<(&'a OsStr, &'a OsStr)>,
    pub cwd: &'a OsStr,
    pub fence: Fence,
}

/// A program that runs. Dropped, it is killed, with all it started, and waited for.
pub(super) struct Supervised {
    /// Of the supervisor, which ends with the program.
    fd: Arc<OwnedFd>,
    pid: Pid,
    status: Option<ExitStatus>,
    /// In use by the supervisor until it has ended.
    order: *mut Order,
}

/// Our ends of its standard streams.
pub(super) struct Pipes {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What the two processes need to know. They read it while the thread that made it waits.
pub(super) struct Order {
    /// Paths to try in turn.
    pub paths: Vec<CString>,
    pub argv: Vec<*const c_char>,
    /// The same for the shell; the second is to be the path.
    pub shell: Vec<Cell<*const c_char>>,
    pub envp: Vec<*const c_char>,
    pub cwd: CString,
    /// To become 0, 1 and 2.
    pub streams: [RawFd; 3],
    /// Takes the error of a start that failed, as a number; closed by one that did not.
    pub report: RawFd,
    pub fence: Fence,
    /// How the program ended, as the kernel tells a parent; [`RUNNING`] before.
    pub ended: AtomicI32,
    /// Of the program's process, until it is executed.
    pub stack: Stack,
    supervisor_stack: Stack,
    _strings: Vec<CString>,
}

/// Starts it, and waits until it has been executed.
///
/// # Errors
/// Whatever kept it from being executed.
pub(super) fn spawn(program: &Program<'_>) -> io::Result<(Supervised, Pipes)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, feed), (out, stdout), (err, stderr)) = (pipe()?, pipe()?, pipe()?);
    let (failure, report) = pipe()?;
    let streams = [&stdin, &stdout, &stderr].map(AsRawFd::as_raw_fd);
    let mut supervised = start(Order::new(program, streams, report.as_raw_fd())?)?;
    drop((stdin, stdout, stderr, report));
    let mut errno = [0; size_of::<c_int>()];
    // Not through the C library: its error number is in memory that the two processes use, too.
    let read = loop {
        match rustix::io::read(&failure, &mut errno) {
            Err(Errno::INTR) => {}
            read => break read?,
        }
    };
    if read > 0 {
        supervised.wait()?;
        return Err(io::Error::from_raw_os_error(c_int::from_ne_bytes(errno)));
    }
    let pipes = Pipes {
        stdin: feed,
        stdout: out,
        stderr: err,
    };
    Ok((supervised, pipes))
}

/// Starts the supervisor.
fn start(order: Order) -> io::Result<Supervised> {
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut fd: c_int = -1;
    let stack = order.supervisor_stack.top();
    let order = Box::into_raw(Box::new(order));
    // SAFETY: the stack is this process's alone, and it and the order live until the process has
    // ended, which `Supervised` waits for. What it runs uses no memory but those, and no thread-local
    // (see there). The descriptor is written before the call returns.
    let pid = unsafe {
        libc::clone(
            supervise::supervise,
            stack,
            flags,
            order.cast(),
            &raw mut fd,
        )
    };
    let error = io::Error::last_os_error();
    let Some(pid) = Pid::from_raw(pid.max(0)) else {
        // SAFETY: there is no process that uses it.
        drop(unsafe { Box::from_raw(order) });
        return Err(error);
    };
    let fd = match fd {
        // gVisor makes the process and no descriptor.
        ..0 => rustix::process::pidfd_open(pid, PidfdFlags::empty()),
        // SAFETY: the call gave this descriptor, and to nobody else.
        _ => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    };
    match fd {
        Ok(fd) => Ok(Supervised {
            fd: Arc::new(fd),
            pid,
            status: None,
            order,
        }),
        Err(error) => {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = reap(pid);
            // SAFETY: the process that used it has ended.
            drop(unsafe { Box::from_raw(order) });
            Err(error.into())
        }
    }
}

impl Order {
    fn new(program: &Program<'_>, streams: [RawFd; 3], report: RawFd) -> io::Result<Self> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "no program is named");
        let name = program.argv.first().ok_or_else(none)?;
        let env: BTreeMap<_, _> = program.env.iter().copied().collect();
        let search = env.get(OsStr::new("PATH")).copied();
        let paths = paths(name, search.unwrap_or(OsStr::new(DEFAULT_PATH)))?;
        let mut strings = Vec::with_capacity(program.argv.len() + env.len());
        let mut keep = |text: Vec<u8>| -> io::Result<*const c_char> {
            let text = CString::new(text)?;
            // Moving it does not move its bytes.
            let at = text.as_ptr();
            strings.push(text);
            Ok(at)
        };
        let mut argv = Vec::with_capacity(program.argv.len() + 1);
        for arg in program.argv {
            argv.push(keep(arg.clone().into_bytes())?);
        }
        let mut envp = Vec::with_capacity(env.len() + 1);
        for (key, value) in env {
            let mut pair = OsString::from(key);
            pair.push("=");
            pair.push(value);
            envp.push(keep(pair.into_encoded_bytes())?);
        }
        let shell = [SHELL.as_ptr(), null()].into_iter();
        let shell = shell.chain(argv.iter().copied().skip(1)).chain([null()]);
        let shell = shell.map(Cell::new).collect();
        argv.push(null());
        envp.push(null());
        Ok(Self {
            paths,
            argv,
            shell,
            envp,
            cwd: CString::new(program.cwd.as_bytes())?,
            streams,
            report,
            fence: program.fence,
            ended: AtomicI32::new(RUNNING),
            stack: Stack::new(),
            supervisor_stack: Stack::new(),
            _strings: strings,
        })
    }
}

/// Where a program may be, as `execvp` looks for it.
fn paths(name: &str, search: &OsStr) -> io::Result<Vec<CString>> {
    if name.contains('/') || name.is_empty() {
        return Ok(vec![CString::new(name)?]);
    }
    let dirs = search.as_bytes().split(|b| *b == b':');
    let path = |dir: &[u8]| {
        let mut path = dir.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        Ok(CString::new(path)?)
    };
    dirs.map(path).collect()
}

impl Supervised {
    /// Readable once it has ended; takes `SIGTERM` for killing all of it.
    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let supervisor = reap(self.pid)?;
        // SAFETY: freed only when this is dropped.
        let program = unsafe { &(*self.order).ended }.load(Ordering::Acquire);
        let status = match program {
            // The supervisor was killed.
            RUNNING => supervisor.as_raw(),
            program => program,
        };
        Ok(*self.status.insert(ExitStatus::from_raw(status)))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.status.is_none() {
            kill(&self.fd);
            // An error means that there is no such process.
            let _ = self.wait();
        }
        // SAFETY: made by `start`, freed nowhere else, and the supervisor, which used it, has ended.
        drop(unsafe { Box::from_raw(self.order) });
    }
}

/// Waits for a child's end.
fn reap(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Has a supervisor kill all that is below it.
pub(super) fn kill(supervisor: &OwnedFd) {
    // It may have ended, which is what is wanted.
    let _ = rustix::process::pidfd_send_signal(supervisor, Signal::TERM);
}
