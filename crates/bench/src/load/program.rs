//! Another program, with what it starts, that can be killed and started again.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::process;

/// How long a program that was asked to end may take.
const STOP: Duration = Duration::from_secs(10);

/// A running program; killed with all its descendants when dropped.
pub(crate) struct Program {
    command: Command,
    child: Child,
}

impl Program {
    /// Starts it, without input and output.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn(&mut command)?;
        Ok(Self { command, child })
    }

    /// Its process, without what it started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time that it and its living descendants have used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let family = process::family(self.child.id());
        family.into_iter().map(process::cpu).sum()
    }

    /// Resident memory of all of them, MiB; what they share counts for each.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let family = process::family(self.child.id());
        family.into_iter().map(process::resident_mib).sum()
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) fn stop(mut self) {
        send(self.child.id(), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < STOP && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it without a word.
    pub(crate) fn kill(&mut self) {
        for pid in process::family(self.child.id()) {
            send(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Starts it again.
    pub(crate) fn again(&mut self) -> Result<()> {
        self.child = spawn(&mut self.command)?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.get_program().display().to_string();
    command
        .spawn()
        .with_context(|| format!("cannot start {program}"))
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It may have ended meanwhile; then there is nobody to send it to.
    let _ = pid.map(|pid| kill_process(pid, signal));
}
