//! What keeps a program from signalling the agent that started it.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Starts programs as the tools' user and nothing else. The agent itself acts as that user on files,
/// but its real and saved ids are another's, and by those the kernel judges who may signal whom.
/// Where only one id is mapped there is no such difference.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fence(Option<u32>);

impl Fence {
    /// For an agent that runs beside the tools' user, or as it (`None`).
    pub(crate) fn new(user: Option<u32>) -> Self {
        Self(user)
    }

    /// Whether programs cannot signal the agent.
    pub(crate) fn holds(self) -> bool {
        self.0.is_some()
    }

    /// Fences in the program `command` will start. Every process that runs what an agent asked for
    /// must be started with it.
    pub fn apply(self, command: &mut Command) {
        if self.holds() {
            // SAFETY: makes one system call, as a fork of a process with threads may.
            unsafe { command.pre_exec(move || self.enter()) };
        }
    }

    /// Puts the calling process, freshly forked, on the far side of the fence for good.
    pub fn enter(self) -> std::io::Result<()> {
        let Some(user) = self.0 else {
            return Ok(());
        };
        // SAFETY: takes numbers only. The C library's function would tell other threads.
        let rc = unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
        if rc == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    }
}
