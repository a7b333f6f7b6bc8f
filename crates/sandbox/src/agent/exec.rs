//! Programs started for the host. Output is pulled: a host that does not ask makes the program
//! wait, and nothing piles up here. Each has a thread from its start to its end, so that one that
//! takes all the tasks there are can still be heard.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::serve::failed;
use super::spawn::{self, Supervised, kill};
use super::{AgentContext, Fence};
use crate::protocol::{Answer, CHUNK, Command, MAX_IN_FLIGHT, MAX_REASON, Problem};

/// The programs that run, by handle; at most [`MAX_IN_FLIGHT`].
pub(super) struct Programs {
    env: Vec<(OsString, OsString)>,
    workspace: PathBuf,
    fence: Fence,
    open: Mutex<HashMap<u64, Program>>,
}

/// One that runs, or is about to.
struct Program {
    /// Once it runs.
    supervisor: Option<Arc<OwnedFd>>,
    /// Whether it is to be killed.
    unwanted: bool,
    /// To its thread: numbers of asks for what comes next.
    asks: Sender<u64>,
    /// Until its thread has come for it.
    asked: Option<Receiver<u64>>,
}

struct Streams {
    supervised: Supervised,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    stdin: Option<(OwnedFd, Vec<u8>)>,
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

    /// Makes a place for a program that is about to be started; `false` if there are too many.
    pub(super) fn expect(&self, handle: u64) -> bool {
        let mut table = self.table();
        if table.len() >= MAX_IN_FLIGHT {
            return false;
        }
        let (asks, asked) = channel();
        let program = Program {
            supervisor: None,
            unwanted: false,
            asks,
            asked: Some(asked),
        };
        table.insert(handle, program);
        true
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
        let asked = self.table().get_mut(&handle).and_then(|p| p.asked.take());
        let Some(asked) = asked else {
            return answer(handle, failed(Problem::Protocol));
        };
        let mut streams = match self.start(command, body) {
            Ok(streams) => streams,
            Err(answered) => {
                self.table().remove(&handle);
                answer(handle, answered);
                for id in asked.try_iter() {
                    answer(id, failed(Problem::Protocol));
                }
                return;
            }
        };
        self.started(handle, streams.supervised.fd().clone());
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
        // Closed, so killed: nobody is left to be told how it ended.
    }

    /// It runs; it is killed if that was asked for meanwhile.
    fn started(&self, handle: u64, supervisor: Arc<OwnedFd>) {
        match self.table().get_mut(&handle) {
            Some(program) if !program.unwanted => program.supervisor = Some(supervisor),
            _ => kill(&supervisor),
        }
    }

    fn start(&self, command: usize, body: &[u8]) -> Result<Streams, Answered> {
        let Some((command, stdin)) = body.split_at_checked(command) else {
            return Err(failed(Problem::Protocol));
        };
        let Ok(command) = serde_json::from_slice::<Command>(command) else {
            return Err(failed(Problem::Protocol));
        };
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
        let own = self.env.iter().map(|(k, v)| (k.as_ref(), v.as_ref()));
        let given = command.env.iter();
        let given = given.map(|(k, v)| (OsStr::new(k), OsStr::new(v)));
        let cwd = command.cwd.as_ref().map(OsStr::new);
        let (supervised, pipes) = spawn::spawn(&spawn::Program {
            argv: &command.argv,
            env: own.chain(given).collect(),
            cwd: cwd.unwrap_or(self.workspace.as_os_str()),
            fence: self.fence,
        })?;
        for pipe in [&pipes.stdin, &pipes.stdout, &pipes.stderr] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let input = (!stdin.is_empty()).then(|| (pipes.stdin, stdin.to_vec()));
        Ok(Streams {
            supervised,
            stdout: Some(pipes.stdout),
            stderr: Some(pipes.stderr),
            stdin: input,
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
        if let Some(program) = self.table().get_mut(&handle) {
            program.kill();
        }
    }

    /// Kills and forgets; what had been asked and nobody has come for.
    pub(super) fn close(&self, handle: u64) -> Vec<u64> {
        let Some(mut program) = self.table().remove(&handle) else {
            return Vec::new();
        };
        program.kill();
        let asked = program.asked.take();
        asked.iter().flat_map(Receiver::try_iter).collect()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Program>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    fn kill(&mut self) {
        self.unwanted = true;
        if let Some(supervisor) = &self.supervisor {
            kill(supervisor);
        }
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
        let mut fds = vec![PollFd::new(&**self.supervised.fd(), PollFlags::IN)];
        for pipe in self.stdout.iter().chain(&self.stderr) {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        if let Some((pipe, _)) = &self.stdin {
            fds.push(PollFd::new(pipe, PollFlags::OUT));
        }
        loop {
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
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
        match rustix::io::write(&*pipe, bytes) {
            Ok(n) if n < bytes.len() => drop(bytes.drain(..n)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
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
        let mut chunk = Vec::with_capacity(CHUNK);
        match rustix::io::read(stream.as_ref()?, spare_capacity(&mut chunk)) {
            Ok(0) => *stream = None,
            Ok(n) => {
                let kept = self.left.min(n as u64) as usize;
                self.truncated |= kept < n;
                self.left -= kept as u64;
                chunk.truncate(kept);
                return (kept > 0).then_some(chunk);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(_) => *stream = None,
        }
        None
    }

    /// Whether a stream has more right now.
    fn readable(&self) -> bool {
        let ready = |pipe: &OwnedFd| {
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
        let Ok(status) = self.supervised.wait() else {
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
