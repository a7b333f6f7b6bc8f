//! Stopping a sandbox as a whole: the freezer of its own version 2 group, or a version 1 freezer
//! group that its processes are moved into when first needed, because each more group they start in
//! makes starting slower.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes may take to stand still.
const FREEZE: Duration = Duration::from_secs(5);
/// How often that is looked at: version 1 tells nobody.
const STEP: Duration = Duration::from_millis(1);

/// How a group can be frozen.
#[derive(Debug, Clone)]
pub(super) enum Freezer {
    /// A version 2 group that holds the processes already.
    Own(PathBuf),
    /// A version 1 group to be made, and a file that lists the processes.
    Beside { dir: PathBuf, procs: PathBuf },
}

impl Freezer {
    /// Stops everything. Blocks up to 5 s.
    pub(super) fn freeze(&self) -> io::Result<()> {
        match self {
            Self::Own(dir) => {
                fs::write(dir.join("cgroup.freeze"), "1")?;
                wait(|| {
                    let events = fs::read_to_string(dir.join("cgroup.events"))?;
                    Ok(events.lines().any(|l| l == "frozen 1"))
                })
            }
            Self::Beside { dir, procs } => {
                fs::create_dir_all(dir)?;
                // Once all are in, what they start is in, too.
                wait(|| gather(dir, procs))?;
                fs::write(dir.join("freezer.state"), "FROZEN")?;
                wait(|| Ok(fs::read_to_string(dir.join("freezer.state"))?.trim() == "FROZEN"))
            }
        }
    }

    /// Lets everything go on; nothing happens if it does.
    pub(super) fn thaw(&self) -> io::Result<()> {
        let thawed = match self {
            Self::Own(dir) => fs::write(dir.join("cgroup.freeze"), "0"),
            Self::Beside { dir, .. } => fs::write(dir.join("freezer.state"), "THAWED"),
        };
        match thawed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The directory that goes with the group.
    pub(super) fn beside(&self) -> Option<&Path> {
        match self {
            Self::Own(_) => None,
            Self::Beside { dir, .. } => Some(dir),
        }
    }
}

/// Moves the processes listed in `procs`; whether there was none to move any more.
fn gather(dir: &Path, procs: &Path) -> io::Result<bool> {
    let list = |path: &Path| -> io::Result<HashSet<String>> {
        let text = fs::read_to_string(path)?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let target = dir.join("cgroup.procs");
    let (all, moved) = (list(procs)?, list(&target)?);
    let mut done = true;
    for pid in all.difference(&moved) {
        match fs::write(&target, pid) {
            Ok(()) => done = false,
            // It has ended.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn wait(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while !done()? {
        if start.elapsed() > FREEZE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}
