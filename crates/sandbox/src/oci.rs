//! Sandboxes made by an OCI runtime of the host: runc, crun, or gVisor's runsc. The runtime
//! isolates, by instructions as strict as what the `namespaces` provider does itself; the tree it
//! works on is a stage of ours (see `launch/stage.rs`), and inside runs nothing but our agent, which
//! checks what the runtime did and locks itself down further.
//!
//! Needs root: the ids of a sandbox are a range, and its tree is made in a mount namespace.

mod bundle;
mod report;
mod runtime;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;

use crate::cgroup::{Group, Groups};
use crate::egress::EgressConfig;
use crate::host::{
    Claims, Parts, Running, START_LIMIT, Way, bind, fill, launch, prepare_dir, verify,
};
use crate::launch::plan::{
    AGENT_DIR, Base, Command, FIRST_ID, Given, ID_COUNT, Ids, Input, Program, Root, Stage,
};
use crate::program::Needs;
use crate::protocol::Handshake;
use crate::{
    Access, Capabilities, Isolation, Launcher, Limits, NetworkPolicy, Operation, Provider, Sandbox,
    SandboxError, SandboxSpec, Snapshot, disk, program, spec,
};

use bundle::Bundle;
pub use runtime::{Runtime, RuntimeKind};

/// The provider's name.
const NAME: &str = "oci";
/// Where the runtime keeps its records, below [`OciConfig::run_dir`].
const STATE: &str = "state";
/// Where bundles are, below [`OciConfig::run_dir`].
const BUNDLES: &str = "bundles";
/// Where a bundle's tree is staged.
const TREE: &str = "tree";

/// Settings of [`OciProvider`].
#[derive(Clone)]
pub struct OciConfig {
    /// The runtime.
    pub runtime: Runtime,
    /// The in-sandbox program.
    pub launcher: Launcher,
    /// As for the `namespaces` provider.
    pub instance: String,
    /// Where [`Provider::probe`] may make and delete a state directory.
    pub probe_dir: PathBuf,
    /// Where bundles and the runtime's records may be kept while sandboxes live, this provider's
    /// alone. Users other than root must be able to enter it, its parents included.
    pub run_dir: PathBuf,
    /// An unpacked image whose directories become the read-only system; the host's own if `None`.
    pub image: Option<PathBuf>,
    /// How egress resolves names and judges addresses.
    pub egress: EgressConfig,
}

/// See the module's documentation.
pub struct OciProvider {
    config: OciConfig,
    groups: Groups,
    open: Claims,
    needs: Needs,
}

impl OciProvider {
    /// Prepares control groups; starts nothing.
    pub fn new(config: OciConfig) -> Self {
        Self {
            groups: Groups::prepare(&config.instance),
            config,
            open: Claims::default(),
            needs: Needs::default(),
        }
    }

    fn offers(&self) -> Isolation {
        self.config.runtime.isolation(self.groups.complete())
    }

    async fn open(&self, spec: &SandboxSpec) -> Result<(Running, Handshake), SandboxError> {
        spec.check()?;
        let runtime = &self.config.runtime;
        let offered = self.offers();
        if offered < spec.min_isolation {
            return Err(SandboxError::TooWeak {
                wanted: spec.min_isolation,
                offered,
                why: format!("{}; {}", runtime.kind.name(), self.groups.missing()),
            });
        }
        if !rustix::process::geteuid().is_root() {
            return Err(SandboxError::Start {
                stage: "runtime".to_owned(),
                detail: "the oci provider needs root; the namespaces provider does not".to_owned(),
            });
        }
        if spec.network.policy.reaches_out() && !runtime.shares_kernel() {
            return Err(SandboxError::Unsupported {
                provider: NAME,
                operation: Operation::Egress,
            });
        }
        let claim = self.open.take(&spec.id).await?;
        let agent = self.needs.of(&self.config.launcher).await?.clone();
        prepare_dir(&spec.dir).map_err(SandboxError::host("preparing the state directory"))?;
        let way = Way::out(spec, &self.config.egress)?;
        let disk = disk::of(spec, &self.config.probe_dir, true).await?;
        let bind = bind(spec, disk, &way);
        let given = self
            .given()
            .map_err(SandboxError::host("reading own namespaces"))?;
        let place = Place::new(&self.config, &spec.id);
        if place.bundle.exists() {
            // Left by a process that ended without a chance to clean up. The runtime removes the groups
            // along with the container.
            let left = Place::new(&self.config, &spec.id);
            let cleared = tokio::task::spawn_blocking(move || left.clear()).await;
            cleared.map_err(|e| SandboxError::lost(e.to_string()))?;
        }
        let group = self
            .groups
            .create(&spec.id, &runtime.outside(&spec.limits))
            .map_err(SandboxError::host("making a control group"))?;
        let started = async {
            self.bundle(&place, spec, &agent)
                .map_err(SandboxError::host("writing the runtime's instructions"))?;
            let base = Base::Staged(self.stage(&place, spec, agent, &group));
            let waiting = launch(&self.config.launcher, &base)?;
            waiting.stage(&bind, given, START_LIMIT).await
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
        let sockets = std::mem::take(&mut ready.sockets);
        let egress = way.serve(spec, sockets, &self.config.egress)?;
        ready.handshake.disk_quota = bind.disk.is_some();
        let parts = Parts {
            provider: NAME,
            holder: child,
            limits: spec.limits,
            own_disk: bind.disk.is_some(),
            id: spec.id.clone(),
            group: Some(group),
            egress,
            on_end: Box::new(move || {
                place.clear();
                drop(claim);
            }),
        };
        Ok((Running::new(ready.channel, parts), ready.handshake))
    }

    /// What the agent is told of where it finds itself.
    fn given(&self) -> io::Result<Given> {
        if !self.config.runtime.shares_kernel() {
            return Ok(Given::default());
        }
        let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
        let outside = kinds.map(|kind| {
            let link = fs::read_link(format!("/proc/self/ns/{kind}"));
            link.map(|link| (kind.to_owned(), link))
        });
        Ok(Given {
            machine: false,
            root: true,
            outside: outside.into_iter().collect::<io::Result<_>>()?,
        })
    }

    /// Writes the bundle.
    fn bundle(&self, place: &Place, spec: &SandboxSpec, agent: &Program) -> io::Result<()> {
        for dir in [&place.run_dir, &place.bundle, &place.tree] {
            fs::create_dir_all(dir)?;
            fs::set_permissions(dir, PermissionsExt::from_mode(0o711))?;
        }
        let runtime = &self.config.runtime;
        let own = spec::WRITABLE.map(|(_, at)| (at.to_owned(), false));
        let shares = spec.shares.iter();
        let shares = shares.map(|s| (s.at.clone(), s.access == Access::ReadOnly));
        let config = Bundle {
            kind: runtime.kind,
            root: &place.tree,
            args: program::command_line(agent, AGENT_DIR, &self.config.launcher.args),
            limits: &spec.limits,
            memory_by_rlimit: !self.groups.limits("memory"),
            user: if runtime.shares_kernel() {
                0
            } else {
                runtime.user()
            },
            ids: (FIRST_ID, ID_COUNT),
            cgroup: if runtime.joins_groups() {
                self.groups.oci_path(&spec.id)
            } else {
                None
            },
            shares: own.into_iter().chain(shares).collect(),
        }
        .config();
        fs::write(place.bundle.join("config.json"), config.to_string())
    }

    fn stage(&self, place: &Place, spec: &SandboxSpec, agent: Program, group: &Group) -> Stage {
        let root = Root::of(self.config.image.as_deref());
        let runtime = &self.config.runtime;
        let mut args = runtime.global(&place.state);
        args.extend(["run", "--detach", "--bundle"].map(String::from));
        args.push(place.bundle.to_string_lossy().into_owned());
        args.push(spec.id.clone());
        Stage {
            groups: if runtime.joins_groups() {
                Vec::new()
            } else {
                group.procs()
            },
            ids: Ids::RANGE,
            confined: false,
            root,
            user: runtime.user(),
            at: place.tree.clone(),
            agent: Some(agent),
            commands: vec![Command {
                program: runtime.program.clone(),
                args,
                input: Input::Control,
            }],
            detaches: true,
        }
    }

    /// Runs a sandbox and has it write and read a file.
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

/// Where one sandbox's bundle is, and how to be rid of it.
struct Place {
    runtime: Runtime,
    id: String,
    run_dir: PathBuf,
    state: PathBuf,
    bundle: PathBuf,
    tree: PathBuf,
}

impl Place {
    fn new(config: &OciConfig, id: &str) -> Self {
        let bundle = config.run_dir.join(BUNDLES).join(id);
        Self {
            runtime: config.runtime.clone(),
            id: id.to_owned(),
            run_dir: config.run_dir.clone(),
            state: config.run_dir.join(STATE),
            tree: bundle.join(TREE),
            bundle,
        }
    }

    /// Has the runtime forget the sandbox, which has ended or is killed by this. Blocks for as long
    /// as the runtime takes.
    fn clear(&self) {
        let deleted = std::process::Command::new(&self.runtime.program)
            .args(self.runtime.global(&self.state))
            .args(["delete", "--force", &self.id])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = deleted {
            tracing::warn!(sandbox = %self.id, %error, "the runtime could not be asked to clean up");
        }
        match fs::remove_dir_all(&self.bundle) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(sandbox = %self.id, %error, "a bundle was left behind");
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Provider for OciProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Capabilities {
        let id = format!("probe_{}", std::process::id());
        let spec = SandboxSpec {
            dir: self.config.probe_dir.join(&id),
            id,
            limits: Limits::default(),
            network: if self.config.runtime.shares_kernel() {
                NetworkPolicy::Public.into()
            } else {
                NetworkPolicy::None.into()
            },
            min_isolation: Isolation::Namespaces,
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
        tracing::debug!(sandbox = %spec.id, landlock = %handshake.landlock, "sandbox started");
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
        let (groups, config) = (self.groups.clone(), self.config.clone());
        self.open
            .clear(keep, "removing sandboxes left behind", move |keep| {
                let left = left_behind(&config.run_dir, keep)?;
                for id in &left {
                    Place::new(&config, id).clear();
                }
                Ok(groups.reap(keep)?.max(left.len()))
            })
            .await
    }
}

/// Sandboxes of an earlier process: those that have a bundle.
fn left_behind(run_dir: &Path, keep: &HashSet<String>) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(run_dir.join(BUNDLES)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut left = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !keep.contains(&name) {
            left.push(name);
        }
    }
    Ok(left)
}

impl Drop for OciProvider {
    fn drop(&mut self) {
        self.groups.withdraw();
    }
}
