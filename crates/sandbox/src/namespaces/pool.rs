//! Sandboxes prepared ahead: everything that is the same for every session is done, so that making
//! one comes down to claiming it. What cannot be used is thrown away, and nobody notices.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disks::{Disks, Spare};
use super::stock::{Maker, Stock};
use crate::cgroup::{Group, Groups};
use crate::host::{Claim, Claims, Nursery, Waiting};
use crate::launch::plan::{Ids, Root};
use crate::{Limits, SandboxError};

/// What it takes to start a launcher.
#[derive(Clone)]
pub(super) struct Kind {
    pub nursery: Arc<Nursery>,
    pub ids: Ids,
    pub root: Root,
    pub groups: Groups,
    /// Whether packages are to be installed.
    pub installs: bool,
    pub disks: Disks,
    /// The template of a disk to mount ahead.
    pub template: Option<PathBuf>,
}

/// A launcher that waits to hear for whom, in control groups of its own.
pub(super) struct Warm {
    pub waiting: Waiting,
    pub group: Group,
    /// What the groups limit it to.
    pub limits: Limits,
    /// The groups' name.
    pub name: Claim,
    /// The disk mounted ahead.
    pub spare: Option<Arc<Spare>>,
}

/// Those that wait.
pub(super) struct Pool {
    ready: Arc<Stock<Warming>>,
    next: Arc<AtomicU64>,
    /// Names of control groups in use.
    names: Claims,
}

/// Starts launchers for nobody yet.
#[derive(Clone)]
struct Warming {
    kind: Kind,
    next: Arc<AtomicU64>,
    names: Claims,
}

impl Maker for Warming {
    type Made = Warm;

    async fn make(&self) -> Result<Warm, SandboxError> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        // No sandbox's id has a hyphen.
        let name = format!("warm-{n}");
        let limits = Limits::default();
        self.kind.start(&self.names, &name, &limits).await
    }

    fn fits(&self, _: &Warm) -> bool {
        // What differs is given with the claim.
        true
    }

    fn discard(made: Warm) {
        discard(made);
    }
}

impl Pool {
    pub(super) fn new(want: usize, names: Claims) -> Self {
        Self {
            ready: Stock::new(want),
            next: Arc::default(),
            names,
        }
    }

    /// One that waits, limited anew.
    pub(super) fn claim(&self, limits: &Limits) -> Option<Warm> {
        loop {
            let mut warm = self.ready.take(|_| true)?;
            let limited = warm.limits == *limits || warm.group.limit(limits).is_ok();
            if limited && warm.waiting.waits() {
                return Some(warm);
            }
            discard(warm);
        }
    }

    /// Starts as many as are missing, in the background and not at once.
    pub(super) fn fill(&self, kind: Kind) {
        self.ready.fill(Warming {
            kind,
            next: self.next.clone(),
            names: self.names.clone(),
        });
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }
}

/// Ends one that is not wanted; blocks until its groups are empty.
pub(super) fn discard(warm: Warm) {
    let Warm {
        waiting,
        group,
        name,
        ..
    } = warm;
    // Kills the launcher, and with it the rest.
    drop(waiting);
    group.kill();
    if let Err(error) = group.remove() {
        tracing::warn!(%error, "a control group was left behind");
    }
    drop(name);
}

impl Kind {
    /// Starts a launcher in control groups of the given name.
    pub(super) async fn start(
        &self,
        names: &Claims,
        name: &str,
        limits: &Limits,
    ) -> Result<Warm, SandboxError> {
        let claim = names.take(name).await?;
        let template = self.template.as_deref();
        let (spare, disk) = template.map(|t| self.disks.take(t)).unzip();
        let base = super::base(self, name, spare.as_ref().map(|s| s.disk().clone()));
        // The launcher comes to be, and a disk is mounted, while its groups are made.
        let groups = async {
            // The nursery was woken on this thread's processor, and would wait for it.
            std::thread::yield_now();
            self.groups.create(name, limits)
        };
        let (launched, group) = tokio::join!(self.nursery.launch(&base), groups);
        let group = match group {
            Ok(group) => group,
            Err(error) => {
                return Err(SandboxError::host("making a control group")(error));
            }
        };
        let joined = match launched {
            Ok(launched) => Ok(launched.join().await),
            Err(error) => Err(error),
        };
        let disk = match disk {
            Some(mounted) => Some(mounted.await),
            None => None,
        };
        let started = match (joined, disk) {
            (Ok(waiting), Some(disk)) => Ok(waiting.lend(disk).await),
            (joined, _) => joined,
        };
        match started {
            Ok(waiting) => Ok(Warm {
                waiting,
                group,
                limits: *limits,
                name: claim,
                spare,
            }),
            Err(error) => {
                super::forget(group, name).await;
                Err(error)
            }
        }
    }
}
