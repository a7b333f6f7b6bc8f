//! Programs started inside without a tool: what is asked, and what comes back while they run.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::SandboxError;

/// A program to run inside.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Program (looked up in the inside's `PATH`) and arguments; at most 1 MiB in all.
    pub argv: Vec<String>,
    /// Variables added to the sandbox's own.
    pub env: Vec<(String, String)>,
    /// Where it starts, an inside path; `/workspace` if `None`.
    pub cwd: Option<String>,
    /// All of its standard input, at most 16 MiB.
    pub stdin: Bytes,
    /// How long it may run. Then it and all it started are killed, daemons included.
    pub timeout: Duration,
    /// Bytes of output passed on, of both streams together; what comes after is read and dropped.
    pub output_bytes: u64,
}

impl ExecRequest {
    /// With no input, ten minutes and 16 MiB of output.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: Bytes::new(),
            timeout: Duration::from_secs(600),
            output_bytes: 16 << 20,
        }
    }
}

/// What happens to a program. [`ExecEvent::Exit`] is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes of its standard output, at most 256 KiB; may split a character.
    Stdout(Bytes),
    /// Bytes of its standard error, likewise.
    Stderr(Bytes),
    /// It ended. What it left running without its streams goes on until the sandbox ends, unless
    /// the program was killed or ran out of time.
    Exit(Exit),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether it was killed for running too long.
    pub timed_out: bool,
    /// Whether the sandbox ran out of memory and this program was killed for it.
    pub oom: bool,
    /// Whether output was dropped.
    pub truncated: bool,
}

/// A program that runs. Dropping it kills the program.
#[derive(Debug)]
pub struct ExecHandle {
    pub(crate) events: mpsc::Receiver<Result<ExecEvent, SandboxError>>,
    pub(crate) kill: CancellationToken,
    pub(crate) _kill_on_drop: DropGuard,
}

/// A program's whole output and end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit: Exit,
}

impl ExecHandle {
    /// The next event; `None` after the exit. A consumer that waits makes the program wait.
    pub async fn next(&mut self) -> Option<Result<ExecEvent, SandboxError>> {
        self.events.recv().await
    }

    /// Has the program and all it started killed; the exit still comes.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits for the end and keeps everything, which the request's bound on output limits.
    pub async fn finish(mut self) -> Result<Finished, SandboxError> {
        let mut all = Finished::default();
        while let Some(event) = self.next().await {
            match event? {
                ExecEvent::Stdout(bytes) => all.stdout.extend_from_slice(&bytes),
                ExecEvent::Stderr(bytes) => all.stderr.extend_from_slice(&bytes),
                ExecEvent::Exit(exit) => all.exit = exit,
            }
        }
        Ok(all)
    }
}
