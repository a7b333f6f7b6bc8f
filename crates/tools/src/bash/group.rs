//! The shell and the processes it started, as something that can be killed at any time.

use std::process::Child;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// A process group led by a child of ours.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    /// `None` once reaped: from then on the id may belong to someone else.
    child: Mutex<Option<Child>>,
}

impl Group {
    /// Takes over `child`, which must lead a process group of its own.
    pub(super) fn new(child: Child) -> Self {
        let leader = Pid::from_child(&child);
        Self {
            leader,
            child: Mutex::new(Some(child)),
        }
    }

    /// Kills the shell and everything that stayed in its group.
    pub(super) fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some() {
            // Fails only if there is nothing left to kill.
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
    }

    /// Waits for the shell to end, then kills the rest of its group and reaps the shell.
    pub(super) fn wait(&self) {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(self.leader), ended) {}
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            // The shell is dead but not reaped, so the group's id is still its own.
            let _ = kill_process_group(self.leader, Signal::KILL);
            let _ = child.wait();
        }
    }
}
