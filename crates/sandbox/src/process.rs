//! No isolation at all: the agent as an ordinary child process. For development on hosts that
//! cannot isolate, and only when the operator accepts the risk by name.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::host::{Parts, Running, START_LIMIT, start};
use crate::launch::plan::{How, Plan};
use crate::{
    Capabilities, Feature, Isolation, Launcher, Provider, Sandbox, SandboxError, SandboxSpec,
    Status, spec,
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
        for name in [spec::WORKSPACE, spec::OUTPUTS, spec::HOME, spec::UPLOADS] {
            std::fs::create_dir_all(spec.dir.join(name))
                .map_err(SandboxError::host("preparing the state directory"))?;
        }
        let home = spec.dir.join(spec::HOME).to_string_lossy().into_owned();
        let env = [
            ("PATH", self.config.path.clone()),
            ("HOME", home),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "dumb".to_owned()),
        ]
        .map(|(k, v)| (k.to_owned(), v));
        let plan = Plan {
            dir: spec.dir.clone(),
            how: How::Plain,
        };
        let started = start(&self.config.launcher, &[plan], &env, START_LIMIT).await?;
        Ok(Running::new(
            started,
            Parts {
                id: spec.id.clone(),
                group: None,
                egress: None,
                on_end: Box::new(|| ()),
            },
        ))
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
            network: crate::NetworkPolicy::None,
            min_isolation: Isolation::None,
        };
        let result = async { self.open(&spec).await?.destroy().await }.await;
        if let Err(error) = self.remove_state(&spec.dir) {
            tracing::warn!(%error, "the probe's directory could not be removed");
        }
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
                unsupported: Vec::new(),
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
