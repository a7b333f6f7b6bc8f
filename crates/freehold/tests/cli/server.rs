//! A server of the built binary with a data directory of its own, ended when dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

pub const KEY: &str = "sk-test-0123456789abcdef";

/// The binary with an environment of its own.
pub fn freehold(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

pub struct Server {
    child: Child,
    /// What it said until it listened.
    pub greeting: String,
    pub url: String,
    rest: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts with the bootstrap key [`KEY`].
    pub fn start(home: &Path) -> Self {
        Self::spawn(freehold(home).env("FREEHOLD_BOOTSTRAP_KEY", KEY))
    }

    /// Starts as the command says, on a free port.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--rehearsal-delay-ms",
                "0",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                lines.read_line(&mut line).unwrap(),
                0,
                "ended early:\n{greeting}"
            );
            greeting.push_str(&line);
            // The last line of the greeting.
            if line.contains("freehold run") {
                break;
            }
        }
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = lines.read_to_string(&mut rest);
            rest
        });
        let (_, after) = greeting.split_once("listening on ").expect("no address");
        let url = after.split_whitespace().next().unwrap().to_owned();
        Self {
            child,
            greeting,
            url,
            rest: Some(rest),
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs a client command.
    pub fn run(&self, home: &Path, args: &[&str]) -> Output {
        let mut command = freehold(home);
        command
            .env("FREEHOLD_URL", &self.url)
            .env("FREEHOLD_API_KEY", KEY);
        command.args(args).output().unwrap()
    }

    /// Asks for an orderly end; what it said after the greeting.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        (status, self.rest.take().unwrap().join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
