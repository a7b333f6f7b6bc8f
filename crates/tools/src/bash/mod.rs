//! `bash` (contract 55 §7): one shell for all calls, so that its directory, variables and jobs
//! persist. A shell that ended or had to be killed is replaced by the next call.

mod clean;
mod group;
mod shell;
mod tail;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result, reason};
use crate::{Cancel, Prepare, ToolOutput, input};
use shell::{Ran, Shell};

/// Most output of one call, bytes; the last are kept.
const MAX_OUTPUT: usize = 102_400;
/// Time for a command that names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time a command can have; more is cut to it.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// What a shell starts with.
#[derive(Debug, Clone)]
struct Settings {
    directory: PathBuf,
    env: Vec<(OsString, OsString)>,
    prepare: Prepare,
}

/// The bash tool.
#[derive(Debug)]
pub(crate) struct Bash {
    settings: Settings,
    turn: Arc<Turn>,
}

/// Who may use the shell. Not a plain mutex: a cancelled call must not wait for its turn.
#[derive(Debug, Default)]
struct Turn {
    seat: Mutex<Seat>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seat {
    taken: bool,
    /// Here while nobody uses it.
    shell: Option<Shell>,
}

impl Bash {
    pub(crate) fn new(
        directory: PathBuf,
        env: Vec<(OsString, OsString)>,
        prepare: Prepare,
    ) -> Self {
        Self {
            settings: Settings {
                directory,
                env,
                prepare,
            },
            turn: Arc::default(),
        }
    }

    /// Runs a command in the shell, or starts a new shell.
    pub(crate) fn call(&self, input: &input::Bash, cancel: &Cancel) -> Result<ToolOutput> {
        let mut turn = self.take_turn(cancel)?;
        if input.restart == Some(true) {
            turn.shell = None;
            turn.shell = Some(self.start()?);
            return Ok(ToolOutput::text("bash session restarted"));
        }
        let Some(command) = input
            .command
            .as_deref()
            .filter(|command| !command.is_empty())
        else {
            return Err(Failure::new("bash: command is required"));
        };
        let timeout = match input.timeout_ms {
            None | Some(0) => DEFAULT_TIMEOUT,
            Some(millis) => Duration::from_millis(millis).min(MAX_TIMEOUT),
        };
        let mut shell = match turn.shell.take() {
            Some(shell) if !shell.has_ended() => shell,
            _ => self.start()?,
        };
        match shell.run(command, Instant::now() + timeout, cancel) {
            Ran::Finished { output, status } => {
                // A cancellation that came with the end has killed it all the same.
                if !cancel.is_cancelled() {
                    turn.shell = Some(shell);
                }
                let text = clean::text(&output);
                if status == 0 {
                    Ok(ToolOutput::text(text))
                } else {
                    Err(Failure::new(text))
                }
            }
            Ran::Ended { output } => Err(Failure::new(clean::text(&output).trim())),
            Ran::TimedOut => Err(Failure::new(format!(
                "bash: bash command timed out after {:?}s",
                timeout.as_secs_f64()
            ))),
            Ran::Cancelled => Err(aborted()),
        }
    }

    fn start(&self) -> Result<Shell> {
        Shell::start(&self.settings).map_err(|error| {
            Failure::new(format!("bash: cannot start the shell: {}", reason(&error)))
        })
    }

    /// Waits until no other call uses the shell.
    fn take_turn(&self, cancel: &Cancel) -> Result<Taken> {
        let turn = self.turn.clone();
        let _wake = cancel.on_cancel(move || {
            // Under the lock, so that no waiter misses it between its look and its wait.
            let _seat = turn.seat();
            turn.changed.notify_all();
        });
        let mut seat = self.turn.seat();
        while seat.taken {
            if cancel.is_cancelled() {
                return Err(aborted());
            }
            seat = self
                .turn
                .changed
                .wait(seat)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if cancel.is_cancelled() {
            return Err(aborted());
        }
        seat.taken = true;
        Ok(Taken {
            turn: self.turn.clone(),
            shell: seat.shell.take(),
        })
    }
}

fn aborted() -> Failure {
    Failure::new("bash: aborted")
}

impl Turn {
    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shell, for one call; given back when dropped.
struct Taken {
    turn: Arc<Turn>,
    shell: Option<Shell>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seat = self.turn.seat();
        seat.taken = false;
        seat.shell = self.shell.take();
        self.turn.changed.notify_all();
    }
}
