//! Control groups by hand: version 1, version 2 and both mixed, decided for each controller.
//!
//! Groups are made below the server's own group, so its limits hold for all sandboxes together:
//! `<own>/freehold-<instance>/<sandbox>`.

mod detect;
mod freezer;
mod group;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{Access, AtFlags, CWD, accessat};

pub(crate) use group::Group;

use detect::Hierarchy;

/// The controllers a sandbox is limited by.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The groups sandboxes may be made in.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    parents: Vec<Parent>,
    missing: Vec<String>,
    /// Where version 1 freezer groups may be made.
    freezer: Option<PathBuf>,
}

/// A writable directory, and what it can limit.
#[derive(Debug, Clone)]
struct Parent {
    dir: PathBuf,
    version2: bool,
    controllers: Vec<&'static str>,
}

impl Groups {
    /// No control groups at all.
    pub(crate) fn none(why: &str) -> Self {
        Self {
            parents: Vec::new(),
            missing: vec![why.to_owned()],
            freezer: None,
        }
    }

    /// Finds and prepares what this host allows.
    pub(crate) fn prepare(instance: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (mountinfo, cgroup) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let found = detect::hierarchies(&mountinfo, &cgroup, &CONTROLLERS);
        let mut groups = Self::none("");
        groups.missing.clear();
        for hierarchy in found {
            match open(&hierarchy, instance) {
                Ok(Some(parent)) => groups.parents.push(parent),
                Ok(None) => {}
                Err(e) => {
                    groups
                        .missing
                        .push(format!("{} ({e})", hierarchy.dir.display()));
                }
            }
        }
        let freezers = detect::hierarchies(&mountinfo, &cgroup, &["freezer"]);
        let freezer = freezers.iter().find(|h| !h.version2);
        groups.freezer = freezer.and_then(|h| {
            let dir = h.dir.join(format!("freehold-{instance}"));
            make(&dir).is_ok().then_some(dir)
        });
        for controller in CONTROLLERS {
            if !groups.limits(controller) {
                groups
                    .missing
                    .push(format!("no writable '{controller}' controller"));
            }
        }
        groups
    }

    /// Whether the named controller is enforced.
    pub(crate) fn limits(&self, controller: &str) -> bool {
        self.parents
            .iter()
            .any(|p| p.controllers.contains(&controller))
    }

    /// Whether memory, processes and CPU are all enforced.
    pub(crate) fn complete(&self) -> bool {
        CONTROLLERS.iter().all(|c| self.limits(c))
    }

    /// Whether a sandbox can be stopped as a whole by its groups.
    pub(crate) fn freezes(&self) -> bool {
        self.parents.iter().any(|p| p.version2)
            || (self.freezer.is_some() && !self.parents.is_empty())
    }

    /// In words: what is enforced and how.
    pub(crate) fn describe(&self) -> String {
        let of = |p: &Parent| {
            let version = if p.version2 { "v2" } else { "v1" };
            format!("{} ({version})", p.controllers.join(", "))
        };
        let have: Vec<_> = self.parents.iter().map(of).collect();
        if have.is_empty() {
            "none".to_owned()
        } else {
            have.join("; ")
        }
    }

    /// In words: what is not there and why.
    pub(crate) fn missing(&self) -> String {
        self.missing.join("; ")
    }

    /// Makes the groups of one sandbox.
    pub(crate) fn create(&self, id: &str, limits: &crate::Limits) -> io::Result<Group> {
        Group::create(self, id, limits)
    }

    /// [`Group::procs`] of groups that may not have been made yet.
    pub(crate) fn procs(&self, id: &str) -> Vec<PathBuf> {
        Group::existing(self, id).procs()
    }

    /// A sandbox's group as an OCI bundle names it; `None` where there are no groups. A runtime
    /// takes a relative path as one below its own group, as ours are, and with version 2 an
    /// absolute one as below the place where all runtimes expect that version.
    pub(crate) fn oci_path(&self, id: &str) -> Option<String> {
        let parent = self.parents.first()?;
        if parent.version2 {
            let dir = parent.dir.strip_prefix("/sys/fs/cgroup").ok()?;
            return Some(format!("/{}/{id}", dir.display()));
        }
        let name = parent.dir.file_name()?.to_string_lossy();
        Some(format!("{name}/{id}"))
    }

    /// Removes what `prepare` made, as far as it is empty.
    pub(crate) fn withdraw(&self) {
        let dirs = self.parents.iter().map(|p| &p.dir);
        for dir in dirs.chain(&self.freezer) {
            // Still in use by another server with the same name, or gone: neither is ours to mend.
            let _ = fs::remove_dir(dir);
        }
    }

    /// Kills and removes groups of sandboxes that are not in `keep`; how many sandboxes. One that cannot
    /// be removed keeps no other from it. Blocks up to 5 s.
    pub(crate) fn reap(&self, keep: &HashSet<String>) -> io::Result<usize> {
        let mut ids = HashSet::new();
        for parent in &self.parents {
            let entries = match fs::read_dir(&parent.dir) {
                // Another of the same instance took it along.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type()?.is_dir() && !keep.contains(&name) {
                    ids.insert(name);
                }
            }
        }
        let left: Vec<_> = ids.iter().map(|id| Group::existing(self, id)).collect();
        left.iter().for_each(Group::kill);
        let by = Instant::now() + group::DRAIN;
        // Each is tried before the first error is told.
        let removed: Vec<_> = left.iter().map(|group| group.remove_by(by)).collect();
        removed.into_iter().collect::<io::Result<()>>()?;
        Ok(ids.len())
    }
}

impl Parent {
    /// Makes the directory, so that groups in it have its controllers.
    fn make(&self) -> io::Result<()> {
        make(&self.dir)?;
        if self.version2 {
            enable(&self.dir, &self.controllers)?;
        }
        Ok(())
    }
}

/// The directory in a hierarchy below which sandboxes get groups; `None` if it has no controller
/// we use.
fn open(hierarchy: &Hierarchy, instance: &str) -> io::Result<Option<Parent>> {
    let mut parent = Parent {
        dir: hierarchy.dir.join(format!("freehold-{instance}")),
        version2: hierarchy.version2,
        controllers: hierarchy.controllers.clone(),
    };
    if hierarchy.version2 {
        let available = fs::read_to_string(hierarchy.dir.join("cgroup.controllers"))?;
        let wanted = CONTROLLERS.into_iter();
        let wanted = wanted.filter(|c| available.split_whitespace().any(|a| a == *c));
        parent.controllers = wanted.collect();
        if parent.controllers.is_empty() {
            return Ok(None);
        }
        enable(&hierarchy.dir, &parent.controllers).or_else(|_| {
            // A group with processes of its own cannot share its controllers out: make room by moving
            // the server into a leaf (what systemd's Delegate= asks of its users).
            let leaf = hierarchy.dir.join(format!("freehold-{instance}-server"));
            fs::create_dir_all(&leaf)?;
            fs::write(leaf.join("cgroup.procs"), "0")?;
            enable(&hierarchy.dir, &parent.controllers)
        })?;
    }
    parent.make()?;
    Ok(Some(parent))
}

/// Makes a directory to make groups in. One that is there may be another user's: their server's, which
/// had a data directory that is gone, and this one's has its name.
fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, dir, all, AtFlags::EACCESS)?)
}

fn enable(dir: &Path, controllers: &[&str]) -> io::Result<()> {
    for controller in controllers {
        fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}
