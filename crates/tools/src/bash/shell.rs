//! A shell process: commands go in through a pipe, a thread reads what comes out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_base::{Entropy, SystemEntropy};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::Settings;
use super::group::Group;
use super::tail::{Finished, Output, Tail};
use crate::Cancel;

/// The shell.
const PROGRAM: &str = "/bin/bash";
/// Bytes read in one go.
const CHUNK: usize = 64 * 1024;
/// Bytes a call reads in one go, on its stack; of much output the thread reads the most.
const WORDS: usize = 4 * 1024;
/// Most a pipe can hold without privileges (`/proc/sys/fs/pipe-max-size`), bytes.
const MAX_PIPE: usize = 1024 * 1024;
/// Longest wait for a killed shell to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Stack of the threads that wait and read, bytes.
const STACK: usize = 256 * 1024;

/// How a command came out.
pub(super) enum Ran {
    /// It ended.
    Finished { output: Output, status: i32 },
    /// The shell ended with it.
    Ended { output: Output },
    /// Its time was over; the shell is killed.
    TimedOut,
    /// The call was cancelled; the shell is killed.
    Cancelled,
}

/// A running shell. Dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Shell {
    group: Arc<Group>,
    /// Never blocks.
    stdin: File,
    /// Never blocks. The thread has it to itself between calls.
    stdout: Arc<File>,
    /// Readable, as at its end, once the shell has ended.
    ended: Arc<OwnedFd>,
    printed: Arc<Printed>,
}

/// What the reading thread and a call share.
#[derive(Debug)]
struct Printed {
    state: Mutex<State>,
    /// Readable when the thread has changed what a call waits for.
    changed: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    tail: Tail,
    finished: Option<Finished>,
    /// The shell has ended and all it printed is in `tail`.
    ended: bool,
}

impl Printed {
    fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            changed: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        // It is told already if this is too much.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    /// Waits to be told, or for something to read.
    fn wait(&self, stdout: Option<&File>, time: Duration) {
        let fds = stdout.map(AsFd::as_fd).into_iter();
        let fds = fds.chain([self.changed.as_fd()]);
        let mut fds: Vec<_> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // Fails only when interrupted; then nothing has changed and the next round waits.
        let _ = poll(&mut fds, Some(&timespec(time)));
        let _ = rustix::io::read(&self.changed, &mut [0; 8]);
    }
}

impl Shell {
    /// Starts a shell in a session of its own: no terminal, and a group that can be killed whole.
    pub(super) fn start(settings: &Settings) -> io::Result<Self> {
        let (stdin_end, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ended, ended_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let printed = Printed::new()?;
        for end in [&stdin, &stdout] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let mut command = Command::new(PROGRAM);
        command
            .args(["--noprofile", "--norc"])
            .current_dir(&settings.directory)
            .env_clear()
            .envs(settings.env.iter().map(|(name, value)| (name, value)))
            .envs([("PS1", ""), ("PS2", ""), ("TERM", "dumb")])
            .stdin(stdin_end)
            .stderr(stdout_end.try_clone()?)
            .stdout(stdout_end);
        // SAFETY: `setsid` is one system call; it allocates nothing and takes no lock, so it is
        // fit for the time between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
        }
        settings.prepare.apply(&mut command);
        let group = Arc::new(Group::new(command.spawn()?));
        let shell = Self {
            group,
            stdin: stdin.into(),
            stdout: Arc::new(stdout.into()),
            ended: ended.into(),
            printed: Arc::new(printed),
        };
        // If a thread cannot start, dropping `shell` kills the process.
        shell.spawn_threads(ended_end)?;
        Ok(shell)
    }

    fn spawn_threads(&self, ended_end: OwnedFd) -> io::Result<()> {
        let thread = |name: &str| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .stack_size(STACK)
        };
        let group = self.group.clone();
        thread("bash-wait").spawn(move || {
            group.wait();
            // Closing the only writing end tells everyone.
            drop(ended_end);
        })?;
        let (stdout, ended) = (self.stdout.clone(), self.ended.clone());
        let printed = self.printed.clone();
        thread("bash-read").spawn(move || {
            collect(&stdout, &ended, &printed);
            printed.state().ended = true;
            printed.tell();
        })?;
        Ok(())
    }

    /// Whether the shell is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.printed.state().ended || is_ready(&self.ended)
    }

    /// Runs `command`. After anything but [`Ran::Finished`] the shell is of no more use.
    pub(super) fn run(&mut self, command: &str, deadline: Instant, cancel: &Cancel) -> Ran {
        let group = self.group.clone();
        let _kill = cancel.on_cancel(move || group.kill());
        let marker = marker();
        {
            let mut state = self.printed.state();
            state.finished = None;
            state.tail.expect(marker.clone().into_bytes());
        }
        let script = script(command, &marker);
        self.send(script.as_bytes(), deadline);
        let ran = self.await_end(deadline);
        if cancel.is_cancelled() && !matches!(ran, Ran::Finished { .. }) {
            return Ran::Cancelled;
        }
        ran
    }

    /// Writes to the shell until it has all, has ended or `deadline` has come; what then happens
    /// is found out by [`Self::await_end`].
    fn send(&self, mut script: &[u8], deadline: Instant) {
        while !script.is_empty() {
            match (&self.stdin).write(script) {
                Ok(written) => script = &script[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [
                        PollFd::new(&self.stdin, PollFlags::OUT),
                        PollFd::new(&*self.ended, PollFlags::IN),
                    ];
                    let wait = deadline.saturating_duration_since(Instant::now());
                    match poll(&mut fds, Some(&timespec(wait))) {
                        Ok(1..) if fds[1].revents().is_empty() => {}
                        Err(Errno::INTR) => {}
                        _ => return,
                    }
                }
                // The shell is gone.
                Err(_) => return,
            }
        }
    }

    /// Waits for the end of the command. It reads what the shell prints itself, beside the thread: to be
    /// woken by that would be one more change of threads in each call.
    fn await_end(&self, deadline: Instant) -> Ran {
        let mut words = [0; WORDS];
        let mut open = true;
        loop {
            {
                let mut state = self.printed.state();
                if let Some(Finished { output, status }) = state.finished.take() {
                    return Ran::Finished { output, status };
                }
                if state.ended {
                    return Ran::Ended {
                        output: state.tail.take(),
                    };
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.printed.wait(open.then_some(&*self.stdout), left);
            // A shell can close its output and live on.
            open = open && read(&self.stdout, &mut words, &self.printed) != Left::Nothing;
        }
        self.group.kill();
        let gone = Instant::now() + KILL_WAIT;
        // So that whoever is told of the timeout finds nothing of the command left. A process
        // that even a kill does not end at once is not waited for longer.
        while !self.printed.state().ended {
            let left = gone.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.printed.wait(None, left);
        }
        Ran::TimedOut
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.group.kill();
    }
}

/// Reads all the shell prints into `printed`, until the shell has ended. Jobs that outlive a
/// command can so print as long as they like without ever having to wait.
fn collect(stdout: &File, ended: &OwnedFd, printed: &Printed) {
    let mut buffer = vec![0; CHUNK];
    let mut read = || {
        let left = read(stdout, &mut buffer, printed);
        if printed.state().finished.is_some() {
            printed.tell();
        }
        left
    };
    // Whether anyone can still print; a shell can close its output and live on.
    let mut open = true;
    while open && !is_ready(ended) {
        let mut fds = [
            PollFd::new(stdout, PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
        ];
        // Fails only when interrupted; then there is nothing to read and the next round waits.
        let _ = poll(&mut fds, None);
        open = read() != Left::Nothing;
    }
    if !open {
        // Returns when the shell has ended; interrupted, the wait below finds out.
        while !is_ready(ended) {
            let _ = poll(&mut [PollFd::new(ended, PollFlags::IN)], None);
        }
    }
    // What the shell printed before its end. A process that left the group may go on printing, so
    // no more than a pipe can hold.
    for _ in 0..MAX_PIPE / CHUNK {
        if read() != Left::Maybe {
            return;
        }
    }
}

/// What a pipe may still hold.
#[derive(PartialEq)]
enum Left {
    /// There may be more.
    Maybe,
    /// Not now.
    NotNow,
    /// Nobody can write to it any more.
    Nothing,
}

/// Two may read at a time, so what is read is noted before another can read on.
fn read(mut stdout: &File, buffer: &mut [u8], printed: &Printed) -> Left {
    let mut state = printed.state();
    match stdout.read(buffer) {
        Ok(0) => Left::Nothing,
        Ok(read) => {
            if let Some(finished) = state.tail.push(&buffer[..read]) {
                state.finished = Some(finished);
            }
            Left::Maybe
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Left::Maybe,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Left::NotNow,
        Err(_) => Left::Nothing,
    }
}

fn is_ready(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1..))
}

fn timespec(time: Duration) -> Timespec {
    // A wait is never longer than the longest timeout.
    Timespec::try_from(time).unwrap_or(Timespec {
        tv_sec: 600,
        tv_nsec: 0,
    })
}

/// What the shell is told. Contract 55 §7 has `{ CMD` in the clear; here it is a quoted argument of
/// `eval`, for then a command with an open quote or a syntax error fails at once, where the clear
/// form waits out its time or takes the shell with it. Nothing else can be seen of the difference.
/// The quotes in the marker keep it out of what the shell reads: a trace or an error that repeats
/// the line is not the end. It need not be on a line of its own: the shell writes line by line, and
/// whoever reads would be woken twice.
fn script(command: &str, marker: &str) -> String {
    let quoted = command.replace('\'', r"'\''");
    let (head, rest) = marker.split_at(8);
    format!("eval '{{ {quoted}\n}}' </dev/null 2>&1\nprintf '{head}''{rest}%d\\n' $?\n")
}

/// New for each call, so that a command cannot print it in advance.
fn marker() -> String {
    format!("__ANT_CMD_{}_DONE__", SystemEntropy.hex(16))
}
