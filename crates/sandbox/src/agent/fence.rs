//! What keeps a program from signalling the agent that started it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// Puts programs out of reach of the agent and of each other's supervisors: each gets a Landlock
/// domain below the agent's, from which no signal goes up. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fence(Option<Arc<OwnedFd>>);

impl Fence {
    /// A fence as strong as the kernel offers; the ruleset is made once.
    pub(crate) fn new(ruleset: Option<OwnedFd>) -> Self {
        Self(ruleset.map(Arc::new))
    }

    /// Whether programs cannot signal the agent.
    pub(crate) fn holds(&self) -> bool {
        self.0.is_some()
    }

    /// Fences in the program `command` will start. Every process that runs what an agent asked for
    /// must be started with it.
    pub fn apply(&self, command: &mut Command) {
        let Some(ruleset) = self.0.clone() else {
            return;
        };
        let enter = move || {
            // SAFETY: takes a descriptor, which `ruleset` holds open, and no pointer.
            let rc =
                unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
            if rc == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        };
        // SAFETY: makes one system call, as a fork of a process with threads may.
        unsafe { command.pre_exec(enter) };
    }
}
