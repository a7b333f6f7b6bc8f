//! Programs started for the host. Output is pulled: a host that does not ask makes the program
//! wait, and nothing piles up here. Each has a thread from its start to its end, so that one that
//! takes all the tasks there are can still be heard.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::serve::failed;
use super::{AgentContext, Fence, supervise};
use crate::protocol::{Answer, CHUNK, Command, MAX_IN_FLIGHT, MAX_REASON, Problem};

/// The programs that run, by handle; at most [`MAX_IN_FLIGHT`].
pub(super) struct Programs {
    env: Vec<(OsString, OsString)>,
    workspace: PathBuf,
    fence: Fence,
    open: Mutex<HashMap<u64, Program>>,
}

struct Program {
    supervisor: Arc<OwnedFd>,
    /// To its thread: numbers of asks for what comes next.
    asks: Sender<u64>,
}

struct Streams {
    supervisor: Arc<OwnedFd>,
    child: Child,
    stdout: Option<File>,
    stderr: Option<File>,
    stdin: Option<(File, Vec<u8>)>,
    /// Bytes still to be passed on.
    left: u64,
    truncated: bool,
    /// Looks at the streams since the program ended.
    looks: u32,
}

/// Looks at the streams after the end; enough for what pipes hold, and a daemon that goes on
/// writing does not hold up the exit.
const MAX_LOOKS: u32 = 16;

type Answered = (Answer, Vec<u8>);

impl Programs {
    pub(super) fn new(context: &AgentContext) -> Self {
        Self {
            env: context.env.clone(),
            workspace: context.workspace.clone(),
            fence: context.fence,
            open: Mutex::default(),
        }
    }

    /// Starts what the first `command` bytes of `body` describe, with the rest as its input. Answers
    /// that, and then whatever [`Self::ask`] asks about it, until it has ended or is closed.
    pub(super) fn run(
        &self,
        handle: u64,
        command: usize,
        body: &[u8],
        answer: impl Fn(u64, Answered),
    ) {
        let mut streams = match self.start(command, body) {
            Ok(streams) => streams,
            Err(answered) => return answer(handle, answered),
        };
        let (asks, asked) = channel();
        let supervisor = streams.supervisor.clone();
        self.table().insert(handle, Program { supervisor, asks });
        answer(handle, (Answer::Done, Vec::new()));
        for id in asked {
            let answered = streams.next();
            let ended = matches!(answered.0, Answer::Exited { .. });
            if ended {
                self.table().remove(&handle);
            }
            answer(id, answered);
            if ended {
                return;
            }
        }
        // Closed, so killed: nobody is left to be told how it ended; waiting lets the kernel forget it.
        let _ = streams.child.wait();
    }

    fn start(&self, command: usize, body: &[u8]) -> Result<Streams, Answered> {
        let Some((command, stdin)) = body.split_at_checked(command) else {
            return Err(failed(Problem::Protocol));
        };
        let Ok(command) = serde_json::from_slice::<Command>(command) else {
            return Err(failed(Problem::Protocol));
        };
        if self.table().len() >= MAX_IN_FLIGHT {
            return Err(failed(Problem::Busy));
        }
        match self.spawn(&command, stdin) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(failed(Problem::Busy)),
            Err(e) => {
                let mut reason = e.to_string().into_bytes();
                reason.truncate(MAX_REASON);
                Err((failed(Problem::Exec).0, reason))
            }
            Ok(streams) => Ok(streams),
        }
    }

    fn spawn(&self, command: &Command, stdin: &[u8]) -> std::io::Result<Streams> {
        let none = || std::io::Error::new(ErrorKind::InvalidInput, "no program is named");
        let (program, args) = command.argv.split_first().ok_or_else(none)?;
        let mut process = Process::new(program);
        process
            .args(args)
            .env_clear()
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .envs(command.env.iter().map(|(k, v)| (k, v)))
            .current_dir(
                command
                    .cwd
                    .as_ref()
                    .map_or(&*self.workspace, |c| c.as_ref()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: makes system calls only, as a fork of a process with threads must.
        unsafe { process.pre_exec(supervise::split) };
        self.fence.apply(&mut process);
        let mut child = process.spawn()?;
        let pid = Pid::from_child(&child);
        let supervisor = Arc::new(rustix::process::pidfd_open(pid, PidfdFlags::empty())?);
        let stdin = child
            .stdin
            .take()
            .filter(|_| !stdin.is_empty())
            .map(|pipe| (File::from(OwnedFd::from(pipe)), stdin.to_vec()));
        let stdout = child.stdout.take().map(|p| File::from(OwnedFd::from(p)));
        let stderr = child.stderr.take().map(|p| File::from(OwnedFd::from(p)));
        let pipes = stdout
            .iter()
            .chain(&stderr)
            .chain(stdin.iter().map(|s| &s.0));
        for pipe in pipes {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Streams {
            supervisor,
            child,
            stdout,
            stderr,
            stdin,
            left: command.output,
            truncated: false,
            looks: 0,
        })
    }

    /// Has the ask of this number answered with a program's next output, or its end, as soon as there
    /// is any. `false` if there is no such program.
    pub(super) fn ask(&self, handle: u64, id: u64) -> bool {
        let table = self.table();
        table.get(&handle).is_some_and(|p| p.asks.send(id).is_ok())
    }

    /// Has a program and all below it killed.
    pub(super) fn kill(&self, handle: u64) {
        if let Some(program) = self.table().get(&handle) {
            program.kill();
        }
    }

    /// Kills and forgets.
    pub(super) fn close(&self, handle: u64) {
        if let Some(program) = self.table().remove(&handle) {
            program.kill();
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Program>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    fn kill(&self) {
        // It may have ended, which is what is wanted.
        let _ = rustix::process::pidfd_send_signal(&*self.supervisor, Signal::TERM);
    }
}

impl Streams {
    /// Waits until there is output, or the end.
    fn next(&mut self) -> Answered {
        loop {
            let ended = match self.wait() {
                Ok(ended) => ended,
                Err(_) => return failed(Problem::Protocol),
            };
            self.looks += u32::from(ended);
            if self.looks > MAX_LOOKS {
                return self.exited();
            }
            self.feed();
            for error in [false, true] {
                if let Some(chunk) = self.take(error) {
                    return (Answer::Output { error }, chunk);
                }
            }
            // What daemons keep open is not waited for; what has been written was read above.
            if ended && !self.readable() {
                return self.exited();
            }
        }
    }

    /// Waits for anything to do; whether the program has ended.
    fn wait(&self) -> rustix::io::Result<bool> {
        let mut fds = vec![PollFd::new(&*self.supervisor, PollFlags::IN)];
        for pipe in self.stdout.iter().chain(&self.stderr) {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        if let Some((pipe, _)) = &self.stdin {
            fds.push(PollFd::new(pipe, PollFlags::OUT));
        }
        loop {
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e),
                Ok(_) => return Ok(!fds[0].revents().is_empty()),
            }
        }
    }

    /// Writes what its input takes now.
    fn feed(&mut self) {
        let Some((pipe, bytes)) = &mut self.stdin else {
            return;
        };
        match pipe.write(bytes) {
            Ok(n) if n < bytes.len() => drop(bytes.drain(..n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // All written, or it does not want more.
            _ => self.stdin = None,
        }
    }

    /// What a stream has now, up to the bound; a stream that ended is forgotten.
    fn take(&mut self, error: bool) -> Option<Vec<u8>> {
        let stream = if error {
            &mut self.stderr
        } else {
            &mut self.stdout
        };
        let mut chunk = vec![0; CHUNK];
        match stream.as_mut()?.read(&mut chunk) {
            Ok(0) => *stream = None,
            Ok(n) => {
                let kept = self.left.min(n as u64) as usize;
                self.truncated |= kept < n;
                self.left -= kept as u64;
                chunk.truncate(kept);
                return (kept > 0).then_some(chunk);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => *stream = None,
        }
        None
    }

    /// Whether a stream has more right now.
    fn readable(&self) -> bool {
        let ready = |pipe: &File| {
            let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
            let zero = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            poll(&mut fds, Some(&zero)).is_ok() && fds[0].revents().contains(PollFlags::IN)
        };
        self.stdout.iter().chain(&self.stderr).any(ready)
    }

    fn exited(&mut self) -> Answered {
        let Ok(status) = self.child.wait() else {
            return failed(Problem::Protocol);
        };
        let answer = Answer::Exited {
            code: status.code(),
            signal: status.signal(),
            truncated: self.truncated,
        };
        (answer, Vec::new())
    }
}
