//! The default provider: Linux namespaces, as root or as an ordinary user.

mod disks;
mod pool;
mod report;
mod stock;
mod system;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

use crate::cgroup::{Group, Groups};
use crate::egress::EgressConfig;
use crate::host::{
    Claim, Claims, Holder, Nursery, Parts, Ready, Running, Way, bind, fill, prepare_dir, verify,
};
use crate::launch::plan::{
    Base, Bind, FIRST_ID, ID_COUNT, Ids, Keeps, Namespaces, Root, SpareDisk,
};
use crate::protocol::Handshake;
use disks::Disks;
use pool::{Kind, Pool, Warm};

use crate::{
    Capabilities, Isolation, Launcher, Limits, NetworkPolicy, Provider, Sandbox, SandboxError,
    SandboxSpec, Snapshot, disk, spec,
};

/// The provider's name.
const NAME: &str = "namespaces";

/// Settings of [`NamespaceProvider`].
#[derive(Clone)]
pub struct NamespaceConfig {
    /// The in-sandbox program.
    pub launcher: Launcher,
    /// `[a-z0-9_]`; tells this provider's control groups from another's on the same host, and must
    /// be its alone.
    pub instance: String,
    /// Where [`Provider::probe`] may make and delete a state directory, and where templates of disks
    /// are kept.
    pub probe_dir: PathBuf,
    /// An unpacked image whose directories become the read-only system; the host's own if `None`.
    pub image: Option<PathBuf>,
    /// How ids map.
    pub ids: IdMapping,
    /// Whether to use control groups where they can be written.
    pub control_groups: bool,
    /// Whether to keep each sandbox's files in a file system image of its own where that can be
    /// mounted (as root, with loop devices and e2fsprogs), which limits their size and number.
    pub own_disks: bool,
    /// Sandboxes prepared ahead, for quicker creation; none while nothing is created.
    pub warm: usize,
    /// Blank disks that lie ready for those that are not, and for the next ones prepared; none while
    /// nothing is created.
    pub disks: usize,
    /// How egress resolves names and judges addresses.
    pub egress: EgressConfig,
}

impl NamespaceConfig {
    /// The usual settings.
    pub fn new(launcher: Launcher, instance: impl Into<String>, probe_dir: PathBuf) -> Self {
        Self {
            launcher,
            instance: instance.into(),
            probe_dir,
            image: None,
            ids: IdMapping::Auto,
            control_groups: true,
            own_disks: true,
            warm: 0,
            disks: 0,
            egress: EgressConfig::default(),
        }
    }

    /// Prepares as much ahead as is right for who serves many sessions.
    pub fn prepare_ahead(&mut self) {
        (self.warm, self.disks) = (3, 4);
    }
}

/// How ids inside a sandbox map to the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapping {
    /// A range of unprivileged ids if the server is root, else as `Single`.
    Auto,
    /// The one user the launcher runs as.
    Single,
}

/// See the module's documentation.
pub struct NamespaceProvider {
    config: NamespaceConfig,
    groups: Groups,
    /// Ids of sandboxes that live, and handles to them as long as anyone has one.
    open: Claims,
    handles: Mutex<HashMap<String, Weak<Running>>>,
    /// Names of control groups in use.
    names: Claims,
    pool: Pool,
    nursery: Arc<Nursery>,
    disks: Disks,
}

/// What came of opening one.
struct Opened {
    running: Running,
    handshake: Handshake,
    ids: Ids,
    template: Option<PathBuf>,
}

/// A sandbox that stands, its launcher, its groups and their name.
type Bound = ((Ready, Box<dyn Holder>), Group, Claim);

impl NamespaceProvider {
    /// Prepares control groups; starts nothing.
    pub fn new(config: NamespaceConfig) -> Self {
        let groups = if config.control_groups {
            Groups::prepare(&config.instance)
        } else {
            Groups::none("control groups are switched off")
        };
        let names = Claims::default();
        Self {
            pool: Pool::new(config.warm, names.clone()),
            nursery: Arc::new(Nursery::new(config.launcher.clone())),
            disks: Disks::new(config.probe_dir.clone(), config.disks),
            config,
            groups,
            open: Claims::default(),
            handles: Mutex::default(),
            names,
        }
    }

    fn offers(&self) -> Isolation {
        if self.groups.complete() {
            Isolation::NamespacesAndLimits
        } else {
            Isolation::Namespaces
        }
    }

    /// The sandbox, what it said, how its ids map, and the template of its disk.
    async fn open(&self, spec: &SandboxSpec, keeps: Keeps) -> Result<Opened, SandboxError> {
        spec.check()?;
        let offered = self.offers();
        if offered < spec.min_isolation {
            return Err(SandboxError::TooWeak {
                wanted: spec.min_isolation,
                offered,
                why: self.groups.missing(),
            });
        }
        let claim = self.open.take(&spec.id).await?;
        let ids = self.ids()?;
        let way = Way::out(spec, &self.config.egress)?;
        let disk = match keeps {
            // Other sandboxes are to see what is kept.
            Keeps::Unpacked => None,
            _ => self.disk(spec, ids).await?,
        };
        let mut bind = bind(spec, disk.clone(), &way);
        bind.keeps = keeps;
        let prepared = match keeps {
            Keeps::Folders => self.pool.claim(&spec.limits),
            _ => None,
        };
        let (warm, ahead) = match prepared {
            Some(warm) => (warm, true),
            None => (self.cold(spec, ids, &bind).await?, false),
        };
        // The launcher still has work that does not need it.
        let warm = with_dir(warm, &spec.dir).await?;
        let bound = match self.bind(warm, &bind, &spec.id).await {
            // What was prepared may have died meanwhile.
            Err(SandboxError::Start { stage, .. }) if ahead && stage == "launch" => {
                let warm = self.cold(spec, ids, &bind).await?;
                self.bind(warm, &bind, &spec.id).await?
            }
            bound => bound?,
        };
        let ((mut ready, child), group, name) = bound;
        let sockets = std::mem::take(&mut ready.sockets);
        let egress = way.serve(spec, sockets, &self.config.egress)?;
        let parts = Parts {
            provider: NAME,
            holder: child,
            limits: spec.limits,
            own_disk: ready.handshake.disk_quota,
            id: spec.id.clone(),
            group: Some(group),
            egress,
            on_end: Box::new(move || drop((claim, name))),
        };
        Ok(Opened {
            running: Running::new(ready.channel, parts),
            handshake: ready.handshake,
            ids,
            template: disk,
        })
    }

    /// A launcher for this sandbox and no other.
    async fn cold(&self, spec: &SandboxSpec, ids: Ids, bind: &Bind) -> Result<Warm, SandboxError> {
        let mut kind = self.kind(ids);
        kind.installs = bind.keeps != Keeps::Folders;
        // One that is there is only mounted under the directory's lock.
        if !spec.dir.join(spec::DISK).exists() {
            kind.template = bind.disk.clone();
        }
        kind.start(&self.names, &spec.id, &spec.limits).await
    }

    async fn bind(&self, warm: Warm, bind: &Bind, id: &str) -> Result<Bound, SandboxError> {
        let Warm {
            waiting,
            group,
            name,
            spare: _spare,
            ..
        } = warm;
        match waiting.bind(bind).await {
            Ok(started) => Ok((started, group, name)),
            Err(error) => {
                // The launcher was killed with the error; its group empties at once.
                forget(group, id).await;
                Err(error)
            }
        }
    }

    fn kind(&self, ids: Ids) -> Kind {
        let root = Root::of(self.config.image.as_deref());
        Kind {
            nursery: self.nursery.clone(),
            ids,
            root,
            groups: self.groups.clone(),
            installs: false,
            disks: self.disks.clone(),
            template: None,
        }
    }

    /// How many sandboxes are prepared ahead now.
    pub fn prepared(&self) -> usize {
        self.pool.len()
    }

    async fn disk(&self, spec: &SandboxSpec, ids: Ids) -> Result<Option<PathBuf>, SandboxError> {
        let possible = self.config.own_disks && matches!(ids, Ids::Range { .. });
        disk::of(spec, &self.config.probe_dir, possible).await
    }

    fn ids(&self) -> Result<Ids, SandboxError> {
        if self.config.ids == IdMapping::Single || !rustix::process::geteuid().is_root() {
            return Ok(Ids::Single);
        }
        let map = std::fs::read_to_string("/proc/self/uid_map")
            .map_err(SandboxError::host("reading the id map"))?;
        if maps_range(&map) {
            return Ok(Ids::RANGE);
        }
        // Root of a container without those ids: its own id is an ordinary one outside, unless it
        // is the real root, which no sandbox may run as.
        let real_root = map.split_whitespace().nth(1) == Some("0");
        if real_root {
            return Err(SandboxError::Start {
                stage: "id map".to_owned(),
                detail: format!(
                    "root without the ids {FIRST_ID} to {} cannot map an unprivileged user",
                    FIRST_ID + ID_COUNT - 1
                ),
            });
        }
        Ok(Ids::Single)
    }
}

/// Makes the state directory; without it the launcher is not needed.
async fn with_dir(warm: Warm, dir: &Path) -> Result<Warm, SandboxError> {
    let dir = dir.to_owned();
    let made = tokio::task::spawn_blocking(move || match prepare_dir(&dir) {
        Ok(()) => Ok(warm),
        Err(error) => {
            pool::discard(warm);
            Err(error)
        }
    });
    let made = made.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    made.map_err(SandboxError::host("preparing the state directory"))
}

/// Whether `/proc/self/uid_map` covers the range.
fn maps_range(map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line
            .split_whitespace()
            .map(|n| n.parse::<u64>().unwrap_or(0));
        let (inside, _outside, count) = (numbers.next(), numbers.next(), numbers.next());
        let (Some(inside), Some(count)) = (inside, count) else {
            return false;
        };
        inside <= FIRST_ID.into() && inside + count >= u64::from(FIRST_ID) + u64::from(ID_COUNT)
    })
}

/// What a launcher is told that is to be in the groups of this name.
fn base(kind: &Kind, name: &str, spare: Option<SpareDisk>) -> Base {
    Base::Namespaces(Namespaces {
        ids: kind.ids,
        groups: kind.groups.procs(name),
        memory_by_rlimit: !kind.groups.limits("memory"),
        root: kind.root.clone(),
        installs: kind.installs,
        spare,
    })
}

/// Removes the groups of a sandbox that did not come to be.
async fn forget(group: Group, id: &str) {
    let removed = tokio::task::spawn_blocking(move || {
        group.kill();
        group.remove()
    });
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(sandbox = %id, %error, "a control group was left behind");
    }
}

impl Drop for NamespaceProvider {
    fn drop(&mut self) {
        // Those that wait leave their groups first.
        self.pool = Pool::new(0, self.names.clone());
        self.groups.withdraw();
    }
}

#[async_trait]
impl Provider for NamespaceProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Capabilities {
        let dir = self
            .config
            .probe_dir
            .join(format!("probe-{}", std::process::id()));
        let spec = SandboxSpec {
            id: format!("probe_{}", std::process::id()),
            dir: dir.clone(),
            limits: Limits::default(),
            network: NetworkPolicy::Public.into(),
            min_isolation: Isolation::Namespaces,
            shares: Vec::new(),
            layers: Vec::new(),
            env: Vec::new(),
        };
        let result = self.try_out(&spec).await;
        crate::trash::remove_probe(&dir).await;
        match result {
            Ok(handshake) => self.capabilities(&handshake),
            Err(error) => Capabilities::broken(self.name(), &error),
        }
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let Opened {
            running,
            handshake,
            ids,
            template,
        } = self.open(spec, Keeps::Folders).await?;
        tracing::debug!(sandbox = %spec.id, landlock = %handshake.landlock, "sandbox started");
        let mut kind = self.kind(ids);
        // The next session's disk will be of the same size.
        kind.template = template;
        if let Some(template) = &kind.template {
            self.disks.fill(template);
        }
        self.pool.fill(kind);
        Ok(self.hand_out(running))
    }

    async fn restore(
        &self,
        snapshot: &Snapshot,
        spec: &SandboxSpec,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        verify(snapshot).await?;
        if spec.dir.exists() {
            return Err(SandboxError::AlreadyOpen);
        }
        let running = self.open(spec, Keeps::Folders).await?.running;
        let running = fill(self, running, snapshot, &spec.dir).await?;
        Ok(self.hand_out(running))
    }

    fn system(&self) -> String {
        system::identity(self.config.image.as_deref().unwrap_or(Path::new("/")))
    }

    async fn installer(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let running = self.open(spec, Keeps::Written).await?.running;
        Ok(self.hand_out(running))
    }

    async fn layer(
        &self,
        snapshot: &Snapshot,
        spec: &SandboxSpec,
    ) -> Result<PathBuf, SandboxError> {
        verify(snapshot).await?;
        if spec.dir.exists() {
            return Err(SandboxError::AlreadyOpen);
        }
        let running = self.open(spec, Keeps::Unpacked).await?.running;
        let running = fill(self, running, snapshot, &spec.dir).await?;
        running.destroy().await?;
        Ok(spec.dir.join(spec::LAYER))
    }

    async fn attach(&self, id: &str) -> Result<Option<Arc<dyn Sandbox>>, SandboxError> {
        let running = self.handles().get(id).and_then(Weak::upgrade);
        let alive = running.filter(|running| running.alive());
        Ok(alive.map(|running| running as Arc<dyn Sandbox>))
    }

    async fn reap(&self, keep: &HashSet<String>) -> Result<usize, SandboxError> {
        let (groups, disks) = (self.groups.clone(), self.disks.clone());
        self.names
            .clear(keep, "removing control groups left behind", move |keep| {
                disks.remove_left_behind();
                groups.reap(keep)
            })
            .await
    }
}

impl NamespaceProvider {
    fn hand_out(&self, running: Running) -> Arc<dyn Sandbox> {
        let running = Arc::new(running);
        let mut handles = self.handles();
        handles.retain(|_, handle| handle.strong_count() > 0);
        handles.insert(running.id().to_owned(), Arc::downgrade(&running));
        running
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Running>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a sandbox and has it write and read a file.
    async fn try_out(&self, spec: &SandboxSpec) -> Result<Handshake, SandboxError> {
        let Opened {
            running: sandbox,
            handshake,
            ..
        } = self.open(spec, Keeps::Folders).await?;
        let done = async {
            sandbox.write_file("/workspace/probe", "ok".into()).await?;
            sandbox
                .read_file("/workspace/probe", 16)
                .await?
                .collect()
                .await
        }
        .await;
        sandbox.destroy().await?;
        done.map(|_| handshake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_be_mapped_whole() {
        assert!(maps_range("         0          0 4294967295\n"));
        assert!(maps_range("0 1000 1\n1 100000 165535\n"));
        for short in ["", "0 1000 1\n", "0 100000 65536\n", "junk"] {
            assert!(!maps_range(short), "{short}");
        }
    }
}
