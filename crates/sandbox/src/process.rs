//! No isolation at all: the agent as an ordinary child process. For development on hosts that
//! cannot isolate, and only when the operator accepts the risk by name.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::host::{Parts, Running, launch};
use crate::launch::plan::{Base, Bind, Keeps};
use crate::{
    Capabilities, Feature, Isolation, Launcher, Operation, Provider, Sandbox, SandboxError,
    SandboxSpec, Status, spec,
};

/// Settings of [`ProcessProvider`].
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The in-sandbox program.
    pub launcher: Launcher,
    /// `PATH` for tools.
    pub path: String,
    /// Where [`Provider::probe`] may make and delete a state directory.
    pub probe_dir: PathBuf,
}

/// The agent's processes are the user's own among all others: they cannot be stopped together.
const UNSUPPORTED: [Operation; 7] = [
    Operation::SetNetwork,
    Operation::Egress,
    Operation::Layers,
    Operation::Snapshot,
    Operation::Restore,
    Operation::Pause,
    Operation::Install,
];

/// See the module's documentation.
pub struct ProcessProvider {
    config: ProcessConfig,
}

impl ProcessProvider {
    /// Warns, and starts nothing.
    pub fn new(config: ProcessConfig) -> Self {
        tracing::warn!(
            "sandboxes are NOT isolated: tools run with every right of this server's user"
        );
        Self { config }
    }

    async fn open(&self, spec: &SandboxSpec) -> Result<Running, SandboxError> {
        spec.check()?;
        if spec.min_isolation > Isolation::None {
            return Err(SandboxError::TooWeak {
                wanted: spec.min_isolation,
                offered: Isolation::None,
                why: "the process provider isolates nothing".to_owned(),
            });
        }
        if !spec.layers.is_empty() {
            return Err(self.unsupported(Operation::Layers));
        }
        let own = spec::WRITABLE.into_iter().map(|(name, _)| name);
        for name in own.chain(spec.shares.iter().map(|s| s.folder.as_str())) {
            std::fs::create_dir_all(spec.dir.join(name))
                .map_err(SandboxError::host("preparing the state directory"))?;
        }
        let home = spec.dir.join(spec::HOME).to_string_lossy().into_owned();
        let mut env = [
            ("PATH", self.config.path.clone()),
            ("HOME", home),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "dumb".to_owned()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .to_vec();
        env.extend_from_slice(&spec.env);
        let bind = Bind {
            dir: spec.dir.clone(),
            limits: spec.limits,
            shares: spec.shares.clone(),
            layers: Vec::new(),
            keeps: Keeps::Folders,
            env,
            disk: None,
            network: None,
        };
        let waiting = launch(&self.config.launcher, &Base::Host)?;
        let (ready, child) = waiting.bind(&bind).await?;
        Ok(Running::new(
            ready.channel,
            Parts {
                provider: self.name(),
                id: spec.id.clone(),
                holder: child,
                limits: spec.limits,
                own_disk: false,
                group: None,
                egress: None,
                on_end: Box::new(|| ()),
            },
        )
        .without(&UNSUPPORTED))
    }
}

#[async_trait]
impl Provider for ProcessProvider {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn probe(&self) -> Capabilities {
        let spec = SandboxSpec {
            id: format!("probe_{}", std::process::id()),
            dir: self
                .config
                .probe_dir
                .join(format!("probe-{}", std::process::id())),
            limits: crate::Limits::default(),
            network: crate::NetworkPolicy::None.into(),
            min_isolation: Isolation::None,
            shares: Vec::new(),
            layers: Vec::new(),
            env: Vec::new(),
        };
        let result = async { self.open(&spec).await?.destroy().await }.await;
        crate::trash::remove_probe(&spec.dir).await;
        match result {
            Ok(()) => Capabilities {
                provider: self.name(),
                isolation: Isolation::None,
                works: true,
                features: vec![Feature::weak(
                    "isolation",
                    Status::Missing,
                    "none: tools run as the server's user, with its files and its network",
                    "use the namespaces provider; this one is for development",
                )],
                unsupported: UNSUPPORTED.to_vec(),
            },
            Err(error) => Capabilities::broken(self.name(), &error),
        }
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        Ok(Arc::new(self.open(spec).await?))
    }

    async fn reap(&self, _keep: &HashSet<String>) -> Result<usize, SandboxError> {
        // Agents end with the control socket; there is nothing else to leave behind.
        Ok(0)
    }
}
