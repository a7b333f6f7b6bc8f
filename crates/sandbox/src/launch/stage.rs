//! A stage: the inside's file tree in a mount namespace of its own, for a program (an OCI runtime,
//! a virtual machine monitor) that makes the sandbox out of it. Nothing of it appears in the host's
//! mount table, and it is gone with the last process that sees it.
//!
//! The launcher stays as the parent of everything those programs leave running. It ends with them,
//! and ends them when the host's side of the control socket closes.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::folders::Folders;
use super::keep::Control;
use super::plan::{AGENT_DIR, Command, Ids, Input, Stage};
use super::tree::Trees;
use super::{InStage, Step, idmap, init, isolate, lockdown, mounts};

/// What is kept of the programs' complaints, bytes.
const LOG: u64 = 16 * 1024;
/// What is told of them, bytes.
const TOLD: usize = 600;

/// Ends the process when everything it started has ended; returns only if it cannot start it.
pub(super) fn stage(stage: &Stage, control: &Control) -> Result<Infallible, Step> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let bind = super::bind(control)?;
    let _lock = isolate::lock(&bind.dir)?;
    for procs in &stage.groups {
        fs::write(procs, "0").stage("control groups")?;
    }
    let mut trees = Trees::without_devices(&stage.root, stage.user)?;
    if let Some(agent) = &stage.agent {
        trees
            .add_program(Path::new(AGENT_DIR), agent)
            .stage("agent")?;
    }
    let first = match stage.ids {
        Ids::Range { first, .. } => Some(first),
        Ids::Single => None,
    };
    let folders = Folders::lend(&bind, first, None)?;
    separate(stage.confined.then_some(stage.ids))?;
    mounts::on_stage(&stage.at, &bind, trees, folders)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).stage("subreaper")?;
    let children = init::child_signals().stage("signals")?;
    let mut log = log().stage("log")?;
    let mut started = Vec::new();
    for command in &stage.commands {
        match start(command, &control.reader, &log) {
            Ok(child) => started.push(child),
            Err(e) => {
                end_all();
                return Err(e.to_string()).stage_named(&command.program);
            }
        }
    }
    let ended = watch(&started, stage.detaches, &control.reader, &children);
    end_all();
    match ended {
        Ended::Well => std::process::exit(0),
        Ended::Badly(which) => {
            let program = stage.commands.get(which).map(|c| c.program.as_path());
            Err(told(&mut log)).stage_named(program.unwrap_or(Path::new("sandbox")))
        }
    }
}

/// A mount namespace of its own; with `ids` also a user namespace and no network.
fn separate(ids: Option<Ids>) -> Result<(), Step> {
    let Some(Ids::Range { first, count }) = ids else {
        return enter(UnshareFlags::NEWNS).stage("namespaces");
    };
    // Only a process outside the new user namespace may map a range into it.
    let (mut wait, mut go) = io::pipe().stage("id map")?;
    let target = rustix::process::getpid();
    let Some(helper) = init::fork().stage("id map")? else {
        drop(go);
        let told = wait.read_exact(&mut [0]);
        let mapped = told.and_then(|()| idmap::range(target, first, count));
        std::process::exit(i32::from(mapped.is_err()))
    };
    let flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    enter(flags).stage("namespaces")?;
    go.write_all(&[1]).stage("id map")?;
    let ended = rustix::process::waitpid(Some(helper), WaitOptions::empty()).stage("id map")?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => lockdown::become_inside_root().stage("ids"),
        _ => Err("the ids could not be mapped").stage("id map"),
    }
}

fn enter(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: no flag that is passed affects the file descriptor table.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn start(command: &Command, control: &File, log: &File) -> io::Result<Child> {
    let stdin: OwnedFd = match &command.input {
        Input::Control => control.as_fd().try_clone_to_owned()?,
        Input::Listener(path) => UnixListener::bind(path)?.into(),
    };
    std::process::Command::new(&command.program)
        .args(&command.args)
        .current_dir("/")
        .stdin(Stdio::from(stdin))
        // Not `/dev/null`: runtimes give a sandbox's standard streams to the sandbox's user.
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
}

enum Ended {
    Well,
    /// The command with this index failed, or ended while the others need it.
    Badly(usize),
}

/// Waits until nothing is left, the host goes, or a program ends that should not.
fn watch(started: &[Child], detaches: bool, control: &File, children: &OwnedFd) -> Ended {
    loop {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Err(rustix::io::Errno::INTR) => continue,
                Ok(None) => break,
                // Nothing is left.
                Err(_) => return Ended::Well,
            };
            let which = started.iter().position(|c| Pid::from_child(c) == pid);
            match which {
                Some(which) if which + 1 == started.len() => match status.exit_status() {
                    Some(0) if detaches => {}
                    Some(0) => return Ended::Well,
                    _ => return Ended::Badly(which),
                },
                Some(which) => return Ended::Badly(which),
                None => {}
            }
        }
        let mut fds = [
            PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(control.as_fd(), PollFlags::RDHUP),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ended::Well,
        }
        if !fds[1].revents().is_empty() {
            return Ended::Well;
        }
        init::drain(children);
    }
}

/// Kills all descendants: orphans become children of this process, so that in the end there is
/// none left.
fn end_all() {
    loop {
        for pid in children() {
            // It may have gone meanwhile, which is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero();
    // Without this file (a rare kernel) whoever waits for the launcher kills the control group.
    let listed = fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let listed = listed.unwrap_or_default();
    let pids = listed.split_whitespace().filter_map(|p| p.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// A file in memory that cannot grow beyond [`LOG`].
fn log() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("log", flags)?;
    rustix::fs::ftruncate(&fd, LOG)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(File::from(fd))
}

/// The end of the log, in one line.
fn told(log: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = log
        .seek(SeekFrom::Start(0))
        .and_then(|_| log.read_to_end(&mut bytes));
    if read.is_err() {
        return "it failed and its log cannot be read".to_owned();
    }
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let from = line.len().saturating_sub(TOLD);
    match line.char_indices().find(|(at, _)| *at >= from) {
        Some((at, _)) => line[at..].to_owned(),
        None => "it failed and said nothing".to_owned(),
    }
}

/// Names a step after the program that failed in it.
trait StageNamed<T> {
    fn stage_named(self, program: &Path) -> Result<T, Step>;
}

impl<T> StageNamed<T> for Result<T, String> {
    fn stage_named(self, program: &Path) -> Result<T, Step> {
        self.map_err(|detail| {
            let name = program.file_name().and_then(OsStr::to_str);
            Step {
                stage: "runtime",
                detail: format!("{}: {detail}", name.unwrap_or("it")),
            }
        })
    }
}
