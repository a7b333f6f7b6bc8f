//! The control groups of one sandbox.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::freezer::Freezer;
use super::{Groups, Parent};
use crate::{Limits, Stats};

/// Microseconds over which CPU time is shared out.
const CPU_PERIOD_US: u64 = 100_000;
/// How long the last processes may take to leave after they were killed.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const DRAIN_STEP: Duration = Duration::from_millis(5);
/// Times a directory is made in one that others remove.
const TRIES: usize = 16;

/// One directory in each hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    dirs: Vec<Dir>,
    freezer: Option<Freezer>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    version2: bool,
    controllers: Vec<&'static str>,
}

impl Group {
    /// Makes the directories and sets the limits; removes them again if one cannot be set.
    pub(super) fn create(groups: &Groups, id: &str, limits: &Limits) -> io::Result<Self> {
        let group = Self::existing(groups, id);
        let mut dirs = groups.parents.iter().zip(&group.dirs);
        let made = dirs.try_for_each(|(parent, dir)| {
            make_in(parent, &dir.path)?;
            dir.limit(limits)
        });
        if let Err(e) = made {
            // The error that counts is the first one.
            let _ = group.remove();
            return Err(e);
        }
        Ok(group)
    }

    /// The directories a sandbox of this name has or had.
    pub(super) fn existing(groups: &Groups, id: &str) -> Self {
        let dir = |p: &Parent| Dir {
            path: p.dir.join(id),
            version2: p.version2,
            controllers: p.controllers.clone(),
        };
        let dirs: Vec<_> = groups.parents.iter().map(dir).collect();
        let own = dirs.iter().find(|d| d.version2);
        let freezer = match (own, &groups.freezer, dirs.first()) {
            (Some(own), ..) => Some(Freezer::Own(own.path.clone())),
            (None, Some(freezer), Some(any)) => Some(Freezer::Beside {
                dir: freezer.join(id),
                procs: any.path.join("cgroup.procs"),
            }),
            _ => None,
        };
        Self { dirs, freezer }
    }

    /// Sets other limits.
    pub(crate) fn limit(&self, limits: &Limits) -> io::Result<()> {
        self.dirs.iter().try_for_each(|dir| dir.limit(limits))
    }

    /// The files a process with a single thread writes `0` into to join.
    ///
    /// In version 1 it joins as a thread: a thread that moves itself need not wait until no process
    /// on the whole host forks or ends, which takes the kernel some 10 ms.
    pub(crate) fn procs(&self) -> Vec<PathBuf> {
        let name = |d: &Dir| if d.version2 { "cgroup.procs" } else { "tasks" };
        self.dirs.iter().map(|d| d.path.join(name(d))).collect()
    }

    /// Kills whatever is inside.
    pub(crate) fn kill(&self) {
        // What is frozen does not die; a failure shows when the groups do not empty.
        let _ = self.thaw();
        for dir in &self.dirs {
            if dir.version2 && fs::write(dir.path.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            let pids = fs::read_to_string(dir.path.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|l| l.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // It may have gone meanwhile, which is what is wanted.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// Stops everything inside; `false` where there is no freezer. Blocks up to 5 s.
    pub(crate) fn freeze(&self) -> io::Result<bool> {
        match &self.freezer {
            Some(freezer) => freezer.freeze().map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether [`Group::freeze`] can.
    pub(crate) fn can_freeze(&self) -> bool {
        self.freezer.is_some()
    }

    /// Lets everything inside go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.freezer.as_ref().map_or(Ok(()), Freezer::thaw)
    }

    /// Removes the directories, waiting for killed processes to leave them. Blocks up to 5 s.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.remove_by(Instant::now() + DRAIN)
    }

    /// As [`Group::remove`]; blocks until the given time at most.
    pub(super) fn remove_by(&self, by: Instant) -> io::Result<()> {
        let beside = self.freezer.as_ref().and_then(Freezer::beside);
        let dirs = self.dirs.iter().map(|d| d.path.as_path());
        for dir in beside.into_iter().chain(dirs) {
            loop {
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                    // There is no event for it in version 1.
                    Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < by => {
                        std::thread::sleep(DRAIN_STEP);
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// How many processes inside were killed for want of memory.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        self.dirs.iter().find_map(Dir::oom_kills)
    }

    /// Adds what the groups know to `stats`.
    pub(crate) fn stats(&self, stats: &mut Stats) {
        for dir in &self.dirs {
            dir.stats(stats);
        }
    }
}

/// Makes a directory in its parent, which another process of the same instance takes along when it ends,
/// if it was empty then.
fn make_in(parent: &Parent, dir: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => parent.make()?,
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => return Ok(()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

impl Dir {
    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let set = |file: &str, value: String| fs::write(self.path.join(file), value);
        let optional = |file: &str, value: String| match set(file, value) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            // The file exists where the kernel was built to account swap, and cannot be opened for
            // writing where it does not.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
        let memory = limits.memory_bytes.to_string();
        let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000;
        for controller in &self.controllers {
            match (*controller, self.version2) {
                ("memory", false) => {
                    // Above the limit with swap it is refused until that one is raised.
                    if set("memory.limit_in_bytes", memory.clone()).is_err() {
                        optional("memory.memsw.limit_in_bytes", memory.clone())?;
                        set("memory.limit_in_bytes", memory.clone())?;
                    }
                    optional("memory.memsw.limit_in_bytes", memory.clone())?;
                }
                ("memory", true) => {
                    set("memory.max", memory.clone())?;
                    optional("memory.swap.max", "0".to_owned())?;
                }
                ("cpu", false) => {
                    set("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                    set("cpu.cfs_quota_us", quota.to_string())?;
                }
                ("cpu", true) => set("cpu.max", format!("{quota} {CPU_PERIOD_US}"))?,
                ("pids", _) => set("pids.max", limits.pids.to_string())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn oom_kills(&self) -> Option<u64> {
        let file = match self.version2 {
            true => "memory.events",
            false => "memory.oom_control",
        };
        let limits = self.controllers.contains(&"memory");
        limits.then(|| self.field(file, "oom_kill"))?
    }

    fn stats(&self, stats: &mut Stats) {
        let number = |file: &str| self.text(file)?.trim().parse().ok();
        for controller in &self.controllers {
            match (*controller, self.version2) {
                ("memory", version2) => {
                    let (now, peak) = match version2 {
                        true => ("memory.current", "memory.peak"),
                        false => ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
                    };
                    stats.memory_bytes = number(now);
                    stats.memory_peak_bytes = number(peak);
                    stats.oom_kills = self.oom_kills();
                }
                ("cpu", false) => {
                    stats.cpu_micros = number("cpuacct.usage").map(|ns: u64| ns / 1000);
                }
                ("cpu", true) => stats.cpu_micros = self.field("cpu.stat", "usage_usec"),
                ("pids", _) => stats.pids = number("pids.current"),
                _ => {}
            }
        }
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path.join(file)).ok()
    }

    /// A number in a file of names and numbers.
    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = self.text(file)?;
        let mut lines = text.lines();
        lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }
}
