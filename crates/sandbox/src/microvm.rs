//! Sandboxes in virtual machines of their own. QEMU's `microvm` machine boots a kernel the operator
//! chose with an initramfs of ours; the file tree is staged as for a container runtime (see
//! `launch/stage.rs`) and served by virtiofs; the agent is reached through a virtio serial port. The
//! monitor and the file server run without privileges over the host, in a user namespace, without a
//! network.
//!
//! Whether a machine can be run is found out by running one. `/dev/kvm` may open and still not be
//! able to run a guest; emulation always can, slowly, and is used only where the operator says so.

mod initramfs;
mod modules;
mod report;
mod vmm;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::cgroup::{Group, Groups};
use crate::host::{
    Claims, Parts, Running, START_LIMIT, Way, bind, fill, launch, prepare_dir, verify,
};
use crate::launch::plan::{Base, FIRST_ID, Given, Ids, Program, Root, Stage, USER};
use crate::program::Needs;
use crate::protocol::Handshake;
use crate::{
    Capabilities, Isolation, Launcher, Limits, NetworkPolicy, Operation, Provider, Sandbox,
    SandboxError, SandboxSpec, Snapshot, disk,
};

/// The provider's name.
const NAME: &str = "microvm";
/// Where machines keep their sockets, below [`MicrovmConfig::run_dir`].
const MACHINES: &str = "machines";

/// What executes the machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// A translator; some fifty times slower for work that computes.
    Tcg,
}

impl Accelerator {
    /// How long a machine may take until its agent answers.
    fn patience(self) -> Duration {
        match self {
            Self::Kvm => START_LIMIT,
            Self::Tcg => Duration::from_secs(300),
        }
    }
}

/// Settings of [`MicrovmProvider`].
#[derive(Debug, Clone)]
pub struct MicrovmConfig {
    /// The in-sandbox program.
    pub launcher: Launcher,
    /// As for the `namespaces` provider.
    pub instance: String,
    /// Where [`Provider::probe`] may make and delete a state directory.
    pub probe_dir: PathBuf,
    /// As for the `oci` provider.
    pub run_dir: PathBuf,
    /// An unpacked image whose directories become the read-only system; the host's own if `None`.
    pub image: Option<PathBuf>,
    /// `qemu-system-x86_64`.
    pub monitor: PathBuf,
    /// `virtiofsd`.
    pub file_server: PathBuf,
    /// The machine's kernel, with virtio over mmio, virtio console and virtiofs. Empty: there is
    /// none, and the provider only says so.
    pub kernel: PathBuf,
    /// `/lib/modules/VERSION` of that kernel, if it needs modules for these.
    pub modules: Option<PathBuf>,
    /// What executes the machine's instructions.
    pub accelerator: Accelerator,
    /// Whether emulation may be used; without it [`Accelerator::Tcg`] is refused.
    pub allow_emulation: bool,
}

/// See the module's documentation.
pub struct MicrovmProvider {
    config: MicrovmConfig,
    groups: Groups,
    open: Claims,
    needs: Needs,
    initramfs: OnceCell<PathBuf>,
}

impl MicrovmProvider {
    /// Prepares control groups; starts nothing.
    pub fn new(config: MicrovmConfig) -> Self {
        Self {
            groups: Groups::prepare(&config.instance),
            config,
            open: Claims::default(),
            needs: Needs::default(),
            initramfs: OnceCell::new(),
        }
    }

    async fn open(&self, spec: &SandboxSpec) -> Result<(Running, Handshake), SandboxError> {
        spec.check()?;
        self.check_host()?;
        if spec.network.policy.reaches_out() {
            return Err(SandboxError::Unsupported {
                provider: NAME,
                operation: Operation::Egress,
            });
        }
        let claim = self.open.take(&spec.id).await?;
        let needs = self.needs.of(&self.config.launcher).await?;
        let initramfs = self.initramfs(needs).await?.to_owned();
        prepare_dir(&spec.dir).map_err(SandboxError::host("preparing the state directory"))?;
        let place = Place::make(&self.config.run_dir, &spec.id)
            .map_err(SandboxError::host("preparing the machine's directory"))?;
        let disk = disk::of(spec, &self.config.probe_dir, true).await?;
        let bind = bind(spec, disk, &Way::default());
        let group = self
            .groups
            .create(&spec.id, &outside(&spec.limits))
            .map_err(SandboxError::host("making a control group"))?;
        let base = Base::Staged(self.stage(&place, spec, &initramfs, &group));
        let started = async {
            let waiting = launch(&self.config.launcher, &base)?;
            let patience = self.config.accelerator.patience();
            let given = Given {
                machine: true,
                root: true,
                outside: Vec::new(),
            };
            waiting.stage(&bind, given, patience).await
        };
        let (mut ready, child) = match started.await {
            Ok(started) => started,
            Err(error) => {
                let removed = tokio::task::spawn_blocking(move || {
                    group.kill();
                    let removed = group.remove();
                    place.clear();
                    removed
                });
                if let Ok(Err(e)) = removed.await {
                    tracing::warn!(sandbox = %spec.id, error = %e, "a control group was left behind");
                }
                return Err(error);
            }
        };
        ready.handshake.disk_quota = bind.disk.is_some();
        let parts = Parts {
            provider: NAME,
            holder: child,
            limits: spec.limits,
            own_disk: bind.disk.is_some(),
            id: spec.id.clone(),
            group: Some(group),
            egress: None,
            on_end: Box::new(move || {
                place.clear();
                drop(claim);
            }),
        };
        Ok((Running::new(ready.channel, parts), ready.handshake))
    }

    fn check_host(&self) -> Result<(), SandboxError> {
        let no = |detail: &str| {
            Err(SandboxError::Start {
                stage: "machine".to_owned(),
                detail: detail.to_owned(),
            })
        };
        if !rustix::process::geteuid().is_root() {
            return no("the microvm provider needs root; the namespaces provider does not");
        }
        if self.config.accelerator == Accelerator::Tcg && !self.config.allow_emulation {
            return no("emulation is slow and must be allowed by name (allow_emulation)");
        }
        if self.config.kernel.as_os_str().is_empty() {
            return no("no kernel for machines is configured (sandbox.microvm.kernel)");
        }
        let files = [
            &self.config.monitor,
            &self.config.file_server,
            &self.config.kernel,
        ];
        match files.iter().find(|f| !f.is_file()) {
            Some(missing) => no(&format!("{} does not exist", missing.display())),
            None => Ok(()),
        }
    }

    /// Written once for each provider: the agent does not change while the server runs.
    async fn initramfs(&self, needs: &Program) -> Result<&PathBuf, SandboxError> {
        let write = || async {
            let (config, needs) = (self.config.clone(), needs.clone());
            let written = tokio::task::spawn_blocking(move || write_initramfs(&config, &needs));
            written
                .await
                .map_err(|e| SandboxError::lost(e.to_string()))?
                .map_err(SandboxError::host("writing the machine's initramfs"))
        };
        self.initramfs.get_or_try_init(write).await
    }

    fn stage(&self, place: &Place, spec: &SandboxSpec, initramfs: &Path, group: &Group) -> Stage {
        let root = Root::of(self.config.image.as_deref());
        let socket = place.dir.join("tree.sock");
        Stage {
            groups: group.procs(),
            ids: Ids::RANGE,
            confined: true,
            root,
            user: USER,
            at: place.tree.clone(),
            agent: None,
            commands: vec![
                vmm::file_server(&self.config, &place.tree, &socket),
                vmm::monitor(&self.config, initramfs, &socket, &spec.limits),
            ],
            detaches: false,
        }
    }

    /// Runs a machine and has it write and read a file.
    async fn try_out(&self, spec: &SandboxSpec) -> Result<Handshake, SandboxError> {
        let (sandbox, handshake) = self.open(spec).await?;
        let done = async {
            sandbox.write_file("/workspace/probe", "ok".into()).await?;
            let file = sandbox.read_file("/workspace/probe", 16).await?;
            file.collect().await
        }
        .await;
        sandbox.destroy().await?;
        done.map(|_| handshake)
    }
}

/// What a machine of these limits may take of the host.
fn outside(limits: &Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes + vmm::OVERHEAD,
        pids: vmm::OVERHEAD_TASKS,
        ..*limits
    }
}

fn write_initramfs(config: &MicrovmConfig, needs: &Program) -> io::Result<PathBuf> {
    let modules = match &config.modules {
        Some(dir) => modules::needed(dir)?,
        None => Vec::new(),
    };
    let archive = initramfs::build(&config.launcher.program, needs, &modules)?;
    open_dir(&config.run_dir)?;
    let path = config.run_dir.join("initramfs");
    fs::write(&path, archive)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
    Ok(path)
}

/// A directory others may enter.
fn open_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, PermissionsExt::from_mode(0o711))
}

/// Where one machine's socket and tree are.
struct Place {
    dir: PathBuf,
    tree: PathBuf,
}

impl Place {
    fn make(run_dir: &Path, id: &str) -> io::Result<Self> {
        let machines = run_dir.join(MACHINES);
        let dir = machines.join(id);
        let tree = dir.join("tree");
        // A socket that was left behind cannot be bound again.
        clear(&dir)?;
        for dir in [run_dir, &machines, &dir] {
            open_dir(dir)?;
        }
        fs::create_dir(&tree)?;
        chown(&dir, Some(FIRST_ID), Some(FIRST_ID))?;
        Ok(Self { dir, tree })
    }

    fn clear(&self) {
        if let Err(error) = clear(&self.dir) {
            tracing::warn!(%error, "a machine's directory was left behind");
        }
    }
}

fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[async_trait]
impl Provider for MicrovmProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Capabilities {
        let id = format!("probe_{}", std::process::id());
        let spec = SandboxSpec {
            dir: self.config.probe_dir.join(&id),
            id,
            limits: Limits::default(),
            network: NetworkPolicy::None.into(),
            min_isolation: Isolation::Microvm,
            shares: Vec::new(),
            layers: Vec::new(),
            env: Vec::new(),
        };
        let result = self.try_out(&spec).await;
        crate::trash::remove_probe(&spec.dir).await;
        match result {
            Ok(handshake) => self.capabilities(&handshake),
            Err(error) => Capabilities::broken(self.name(), &error),
        }
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let (running, handshake) = self.open(spec).await?;
        tracing::debug!(sandbox = %spec.id, landlock = %handshake.landlock, "machine started");
        Ok(Arc::new(running))
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
        let (running, _) = self.open(spec).await?;
        let running = fill(self, running, snapshot, &spec.dir).await?;
        Ok(Arc::new(running))
    }

    async fn reap(&self, keep: &HashSet<String>) -> Result<usize, SandboxError> {
        let groups = self.groups.clone();
        self.open
            .clear(keep, "removing machines left behind", move |keep| {
                groups.reap(keep)
            })
            .await
    }
}

impl Drop for MicrovmProvider {
    fn drop(&mut self) {
        self.groups.withdraw();
        if let Some(initramfs) = self.initramfs.get() {
            // The next provider writes its own over it.
            let _ = fs::remove_file(initramfs);
        }
    }
}
