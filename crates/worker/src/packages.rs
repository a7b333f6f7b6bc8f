//! Packages of an environment (contract 20): installed once into a layer over the system, which every
//! sandbox of the environment then has, read-only. A layer is known by what it was made of: the lists
//! of packages, the system below, what may be reached, and the operator's settings.

mod build;
mod managers;
mod shelf;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_base::{Clock, SystemClock};
use freehold_sandbox::{Isolation, Limits, NetworkPolicy, Provider, SandboxError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use crate::local::Options;
use crate::network;
use shelf::Shelf;

pub(crate) use shelf::Layer;

/// Counts with the key: another way of installing makes other layers.
const GENERATION: u32 = 1;
/// The folder beside the sessions' state directories that holds the layers.
const FOLDER: &str = ".layers";
/// Builds at a time; others wait.
const MAX_BUILDS: usize = 2;
/// How long one build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// When a session whose packages could not be installed tries again. Others do at once.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// Packages by manager; those of none are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Lists {
    apt: Vec<String>,
    cargo: Vec<String>,
    gem: Vec<String>,
    go: Vec<String>,
    npm: Vec<String>,
    pip: Vec<String>,
}

/// Why packages are not there.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The stored configuration is not one this version knows.
    #[error("the environment's list of packages cannot be read")]
    Unreadable,
    /// Nothing could be fetched from anywhere.
    #[error("no package host may be reached; the server's operator sets sandbox.package_hosts")]
    NoHosts,
    /// The manager is not there.
    #[error("the sandboxes' system has no {manager}")]
    NoManager {
        /// Its name in the API.
        manager: &'static str,
    },
    /// System packages, where only a prefix can be written to.
    #[error(
        "apt packages take a server that runs as root, with its system on a file system that can \
         show other owners; other managers need neither"
    )]
    NoRoot,
    /// The manager failed.
    #[error("{manager} failed, {how}")]
    Failed {
        /// Its name in the API.
        manager: &'static str,
        /// How it ended.
        how: String,
        /// The last lines it said; hostile.
        output: String,
    },
    /// It took longer than a build may.
    #[error("installing took longer than {} minutes", BUILD_LIMIT.as_secs() / 60)]
    Slow,
    /// The sandbox to install in could not be made, or was lost.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// There is no room for the layer.
    #[error("cannot keep what was installed")]
    Keep(#[source] std::io::Error),
    /// The build ended without a word.
    #[error("the build was interrupted")]
    Interrupted,
}

impl PackagesError {
    /// What the manager said last, for the model; empty if it was not a manager that failed.
    pub(crate) fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            _ => "",
        }
    }
}

/// How one build ended, for all who wait for it.
type Outcome = Result<(), Arc<PackagesError>>;

/// All layers of this process.
pub(crate) struct Packages {
    provider: Arc<dyn Provider>,
    shelf: Shelf,
    limits: Limits,
    min_isolation: Isolation,
    hosts: Vec<freehold_sandbox::HostPattern>,
    env: Vec<(String, String)>,
    room: Semaphore,
    /// Builds that run, by key.
    builds: Mutex<HashMap<String, watch::Receiver<Option<Outcome>>>>,
}

impl Packages {
    pub(crate) fn new(provider: Arc<dyn Provider>, options: &Options) -> Self {
        Self {
            shelf: Shelf::new(options.root.join(FOLDER), Arc::clone(&provider)),
            provider,
            limits: options.limits,
            min_isolation: options.min_isolation,
            hosts: options.package_hosts.clone(),
            env: options.package_env.clone(),
            room: Semaphore::new(MAX_BUILDS),
            builds: Mutex::default(),
        }
    }

    /// The layer with the packages of an environment's resolved `config`, installed now if it is not
    /// there; `None` for one without packages. Whoever stops waiting does not stop the build.
    pub(crate) async fn layer(
        self: &Arc<Self>,
        config: &Value,
    ) -> Result<Option<Layer>, Arc<PackagesError>> {
        let lists = lists(config).map_err(Arc::new)?;
        if lists == Lists::default() {
            return Ok(None);
        }
        let policy = network::for_packages(config, &self.hosts);
        let key = self.key(&lists, &policy);
        let env = managers::session_env(&lists);
        if let Some(layer) = self.shelf.take(&key, &env) {
            return Ok(Some(layer));
        }
        let mut ended = self.build(&key, lists, policy);
        let outcome = match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| Err(Arc::new(PackagesError::Interrupted)))?;
        let layer = self.shelf.take(&key, &env);
        layer
            .map(Some)
            .ok_or_else(|| Arc::new(PackagesError::Interrupted))
    }

    /// Removes what nobody has used for long, and what is too much.
    pub(crate) fn evict(&self) {
        self.shelf.evict(SystemClock.now());
    }

    /// Clears what earlier processes left half-made. To be called before anything is made.
    pub(crate) fn clear_left_behind(&self) {
        self.shelf.clear();
        self.evict();
    }

    /// The build of this key, started if none runs.
    fn build(
        self: &Arc<Self>,
        key: &str,
        lists: Lists,
        policy: NetworkPolicy,
    ) -> watch::Receiver<Option<Outcome>> {
        let mut builds = self.builds();
        if let Some(running) = builds.get(key) {
            return running.clone();
        }
        let (tell, told) = watch::channel(None);
        builds.insert(key.to_owned(), told.clone());
        let (packages, key) = (Arc::clone(self), key.to_owned());
        tokio::spawn(async move {
            let entry = Entry(&packages, &key);
            let built = packages.build_now(&key, &lists, policy).await;
            // Gone before anyone hears of it: whoever asks after a failure starts anew.
            drop(entry);
            tell.send_replace(Some(built.map_err(Arc::new)));
            packages.evict();
        });
        told
    }

    async fn build_now(
        &self,
        key: &str,
        lists: &Lists,
        policy: NetworkPolicy,
    ) -> Result<(), PackagesError> {
        let _room = self.room.acquire().await;
        // One that ended while this one was about to begin.
        if self.shelf.has(key) {
            return Ok(());
        }
        build::build(self, key, lists, policy).await
    }

    fn key(&self, lists: &Lists, policy: &NetworkPolicy) -> String {
        let made_of = format!(
            "{GENERATION}\n{}\n{lists:?}\n{policy:?}\n{:?}",
            self.provider.system(),
            self.env
        );
        freehold_base::hex::encode(Sha256::digest(made_of))
    }

    fn builds(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Outcome>>>> {
        // Whole between any two statements, so a poisoned lock is still usable.
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that runs; forgotten when dropped, however it ends.
struct Entry<'a>(&'a Packages, &'a str);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.builds().remove(self.1);
    }
}

fn lists(config: &Value) -> Result<Lists, PackagesError> {
    match config.get("packages") {
        None | Some(Value::Null) => Ok(Lists::default()),
        Some(packages) => Lists::deserialize(packages).map_err(|_| PackagesError::Unreadable),
    }
}

/// A directory as a path, and of no interest to others.
pub(crate) fn private_dir(path: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map(|()| path.to_owned())
}
