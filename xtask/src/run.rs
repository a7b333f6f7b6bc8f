//! Running commands as timed steps, and summing up at the end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::counts::Counts;
use crate::paths;

/// Longest time one step may take. A cold build on two slow cores is the longest.
const STEP_LIMIT: Duration = Duration::from_secs(40 * 60);
/// How long a step that is told to stop may tidy up.
const GRACE: Duration = Duration::from_secs(30);

/// The steps taken so far.
pub struct Steps {
    done: Vec<Done>,
    started: Instant,
}

struct Done {
    name: String,
    took: Duration,
    passed: bool,
    counts: Counts,
}

impl Steps {
    /// No steps yet.
    pub fn new() -> Self {
        Self {
            done: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Runs a command, showing what it prints.
    ///
    /// # Errors
    /// It cannot be started, fails, or takes longer than forty minutes.
    pub fn command(&mut self, name: &str, command: &mut Command) -> Result<Counts> {
        begin(name, &shown(command));
        let begun = Instant::now();
        let outcome = watched(command);
        let (passed, counts) = match &outcome {
            Ok((status, counts)) => (status.success(), *counts),
            Err(_) => (false, Counts::default()),
        };
        self.finish(name, begun, passed, counts);
        let (status, counts) = outcome?;
        if !status.success() {
            bail!("{name}: `{}` ended with {status}", shown(command));
        }
        Ok(counts)
    }

    /// Runs something of our own as a step.
    ///
    /// # Errors
    /// Whatever `work` fails with.
    pub fn own<T>(
        &mut self,
        name: &str,
        what: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        begin(name, what);
        let begun = Instant::now();
        let outcome = work();
        self.finish(name, begun, outcome.is_ok(), Counts::default());
        outcome.with_context(|| name.to_owned())
    }

    fn finish(&mut self, name: &str, begun: Instant, passed: bool, counts: Counts) {
        let took = begun.elapsed();
        println!("<== {name}: {} in {}", word(passed), seconds(took));
        self.done.push(Done {
            name: name.to_owned(),
            took,
            passed,
            counts,
        });
    }

    /// Prints what was run.
    pub fn summary(&self) {
        println!(
            "\n{:<28} {:>9} {:>9} {:>8}  result",
            "step", "time", "passed", "failed"
        );
        let mut total = Counts::default();
        for step in &self.done {
            let Counts { passed, failed } = step.counts;
            let number = |n: u64| {
                if passed + failed == 0 {
                    "-".to_owned()
                } else {
                    n.to_string()
                }
            };
            println!(
                "{:<28} {:>9} {:>9} {:>8}  {}",
                step.name,
                seconds(step.took),
                number(passed),
                number(failed),
                word(step.passed),
            );
            total.passed += passed;
            total.failed += failed;
        }
        let whole = seconds(self.started.elapsed());
        println!(
            "{} passed, {} failed; {whole} in all",
            total.passed, total.failed
        );
    }
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn begin(name: &str, what: &str) {
    println!("\n==> {name}: {what}");
    // Progress is worth nothing if it cannot be shown; the step itself does not depend on it.
    let _ = std::io::stdout().flush();
}

/// A command with its working directory at the workspace root.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::root()).stdin(Stdio::null());
    command
}

/// The program with which cargo was called, so that the same toolchain is used.
pub fn cargo() -> Command {
    command(option_env!("CARGO").unwrap_or("cargo"))
}

/// The command as one would type it, paths below the workspace shortened.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let root = format!("{}/", paths::root().display());
    words
        .map(|word| word.to_string_lossy().replace(&root, ""))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs quietly; what it printed is only shown if it fails.
///
/// # Errors
/// It cannot be started or fails.
pub fn quiet(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}\n{}{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the program can be run and succeeds.
pub fn works(program: &str, args: &[&str]) -> bool {
    command(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn watched(command: &mut Command) -> Result<(ExitStatus, Counts)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let (sender, lines) = mpsc::channel();
    let readers = [
        child
            .stdout
            .take()
            .map(|out| forward(out, std::io::stdout(), sender.clone())),
        child
            .stderr
            .take()
            .map(|err| forward(err, std::io::stderr(), sender)),
    ];
    let status = wait(&mut child, STEP_LIMIT);
    for reader in readers.into_iter().flatten() {
        // A reader ends with its pipe; that it panicked would only cost output.
        let _ = reader.join();
    }
    let mut counts = Counts::default();
    for line in lines.try_iter() {
        counts.read(&line);
    }
    Ok((status?, counts))
}

/// Shows what comes through the pipe and keeps the lines.
fn forward(
    pipe: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    lines: mpsc::Sender<String>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = BufReader::new(pipe);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n != 0) {
            // If the terminal is gone there is nobody to show it to.
            let _ = to.write_all(&line).and_then(|()| to.flush());
            let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    })
}

/// Waits for the child, and makes it stop when its time is over.
fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + limit;
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return match asked {
                None => Ok(status),
                Some(()) => bail!("took longer than {}", seconds(limit)),
            };
        }
        let now = Instant::now();
        if end <= now && asked.is_none() {
            // An interrupt, so that test runners stop the servers they have started.
            interrupt(child.id());
            asked = Some(());
        } else if end + GRACE <= now {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends SIGINT; the standard library has no call for it.
pub fn interrupt(pid: u32) {
    let _ = Command::new("kill")
        .args(["-INT", &pid.to_string()])
        .status();
}

/// Reads a file of the project.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
