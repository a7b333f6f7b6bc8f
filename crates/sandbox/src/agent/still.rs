//! Holding everything still while files are archived.

use libc::{SIGCONT, SIGSTOP, pid_t};

/// Every process inside but pid 1 and the agent is stopped for as long as this lives.
pub(super) struct Still {
    /// Those that were stopped before, and are to stay so.
    stopped: Vec<pid_t>,
}

impl Still {
    /// Stops them. One signal to all is enough: a process cannot fork past it.
    pub(super) fn new() -> Self {
        let stopped = stopped();
        signal(-1, SIGSTOP);
        Self { stopped }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        signal(-1, SIGCONT);
        for &pid in &self.stopped {
            signal(pid, SIGSTOP);
        }
    }
}

fn signal(pid: pid_t, signal: libc::c_int) {
    // SAFETY: takes numbers only. -1 names all that may be signalled, never the caller. No process
    // to signal is no error.
    unsafe { libc::kill(pid, signal) };
}

/// Processes that are stopped now.
fn stopped() -> Vec<pid_t> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let pid: pid_t = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before it may hold anything, a parenthesis too.
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.starts_with('T').then_some(pid)
    })
    .collect()
}
