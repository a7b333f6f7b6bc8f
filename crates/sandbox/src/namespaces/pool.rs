//! Sandboxes prepared ahead: everything that is the same for every session is done, so that making
//! one comes down to claiming it. What cannot be used is thrown away, and nobody notices.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::disks::{Disks, Spare};
use crate::cgroup::{Group, Groups};
use crate::host::{Claim, Claims, Nursery, Waiting};
use crate::launch::plan::{Ids, Root};
use crate::{Limits, SandboxError};

/// How long new ones are put off after one was made: preparing takes the processors that the first
/// calls of the one just made wait for.
pub(super) const REST: Duration = Duration::from_millis(20);

/// What it takes to start a launcher.
pub(super) struct Kind {
    pub nursery: Arc<Nursery>,
    pub ids: Ids,
    pub root: Root,
    pub groups: Groups,
    /// Whether packages are to be installed.
    pub installs: bool,
    pub disks: Arc<Disks>,
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
    want: usize,
    waiting: Mutex<Vec<Warm>>,
    filling: AtomicBool,
    next: AtomicU64,
    /// Names of control groups in use.
    names: Claims,
}

impl Pool {
    pub(super) fn new(want: usize, names: Claims) -> Arc<Self> {
        Arc::new(Self {
            want,
            waiting: Mutex::default(),
            filling: AtomicBool::new(false),
            next: AtomicU64::new(0),
            names,
        })
    }

    /// One that waits, limited anew.
    pub(super) fn claim(&self, limits: &Limits) -> Option<Warm> {
        loop {
            let mut warm = self.waiting().pop()?;
            let limited = warm.limits == *limits || warm.group.limit(limits).is_ok();
            if limited && warm.waiting.waits() {
                return Some(warm);
            }
            discard(warm);
        }
    }

    /// Starts as many as are missing, in the background and not at once.
    pub(super) fn fill(self: &Arc<Self>, kind: Kind) {
        if self.want == 0 || self.filling.swap(true, Ordering::SeqCst) {
            return;
        }
        let pool = Arc::downgrade(self);
        let (want, names) = (self.want, self.names.clone());
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            while let Some(pool) = pool.upgrade() {
                if pool.waiting().len() >= want {
                    break;
                }
                let n = pool.next.fetch_add(1, Ordering::Relaxed);
                // No sandbox's id has a hyphen.
                match kind
                    .start(&names, &format!("warm-{n}"), &Limits::default())
                    .await
                {
                    Ok(warm) => pool.waiting().push(warm),
                    Err(error) => {
                        tracing::debug!(%error, "no sandbox could be prepared");
                        break;
                    }
                }
            }
            if let Some(pool) = pool.upgrade() {
                pool.filling.store(false, Ordering::SeqCst);
            }
        });
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Warm>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.waiting());
        all.into_iter().for_each(discard);
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
        let spare = self.template.as_deref();
        let spare = spare.map(|template| Arc::new(self.disks.take(template)));
        // The launcher comes to be, and a disk is mounted, while its groups are made.
        let groups = async {
            let disk = spare
                .clone()
                .map(|spare| tokio::task::spawn_blocking(move || spare.mount().ok()));
            // The nursery was woken on this thread's processor, and would wait for it.
            std::thread::yield_now();
            (self.groups.create(name, limits), disk)
        };
        let base = super::base(self, name, spare.as_ref().map(|s| s.disk().clone()));
        let (launched, (group, disk)) = tokio::join!(self.nursery.launch(&base), groups);
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
            Some(mounting) => Some(mounting.await.ok().flatten()),
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
