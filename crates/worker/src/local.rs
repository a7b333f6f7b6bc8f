//! Sandboxes of `cloud` sessions, inside the server process.

mod follow;
mod keeper;
mod save;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_base::{SessionId, SharedClock, limits};
use freehold_sandbox::{
    FileProblem, HostPattern, Isolation, Limits, Network, Provider, Sandbox, SandboxError,
    SandboxSpec, Share, ToolRequest, footprint,
};
use freehold_wire::content::ContentBlock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::content::{self, Reply};
use crate::files::{self, FileSource, OutputFile, OutputReader};
use crate::floor::{self, Floor, NoSpace};
use crate::memory::{self, MemoryError, MemoryMount, Remote, Rules, SessionMemory};
use crate::network;
use crate::packages::{Layer, Packages, PackagesError, RETRY_AFTER};
use crate::skills::{self, Skill};
use crate::slot::{Installed, Memory, Open, Slot, State};
use crate::uploads::{self, Upload, UploadError};
use crate::variables::{self, Variable};
pub(crate) use follow::Line;
use follow::Use;
pub use keeper::{Entered, Keeper, Save, Saved};
use save::Following;

/// Where agents leave files for their users.
const OUTPUTS: &str = "/mnt/session/outputs";
/// What is known of memory folders, beside them in the state directory.
const MEMORY_STATE: &str = "memory.json";
/// Longest wait for a sandbox to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for room when as many sandboxes live as may, all of them at work.
const ROOM_TIMEOUT: Duration = Duration::from_secs(30);
/// Removed sessions remembered, so that a late preparation does not bring one back.
const REMEMBERED: usize = 1_024;
/// What a tool call that was stopped says (contract 40, "Interrupt").
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Options {
    /// State directories are made here, one a session; absolute.
    pub root: PathBuf,
    /// Limits of each sandbox.
    pub limits: Limits,
    /// Sandboxes weaker than this are not made.
    pub min_isolation: Isolation,
    /// Sandboxes that live at a time. Above it the one unused for longest is closed.
    pub max_live: usize,
    /// A sandbox unused for this long is closed: its processes end, its files stay.
    pub idle: Duration,
    /// Bytes of the root's file system that sandboxes leave free; 0 sets no floor.
    pub min_free: u64,
    /// Hosts that `allow_package_managers` adds to a limited network.
    pub package_hosts: Vec<HostPattern>,
    /// Variables while packages are installed, for example where a manager finds its index. What
    /// installs sees them: no secrets.
    pub package_env: Vec<(String, String)>,
    /// Where sandboxes show skills: what the agent is told.
    pub skills_at: &'static str,
}

/// Where a session's tools run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The environment's resolved `config` (contract 20).
    pub config: &'a serde_json::Value,
    /// Attached files.
    pub uploads: &'a [Upload],
    /// Skills; the same at every call.
    pub skills: &'a [Skill],
    /// Attached memory stores.
    pub memory: Option<MemorySource<'a>>,
    /// Variables of its vaults, as they are now.
    pub variables: &'a [Variable],
}

/// Memory stores of a session, and how they are reached with its rights.
#[derive(Clone, Copy)]
pub struct MemorySource<'a> {
    /// What is mounted; the same for as long as the session lives.
    pub mounts: &'a [MemoryMount],
    /// The stores.
    pub remote: &'a Arc<dyn Remote>,
    /// For the times that the sync looks at.
    pub clock: &'a SharedClock,
}

impl std::fmt::Debug for MemorySource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemorySource").field(&self.mounts).finish()
    }
}

/// One tool call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What the sandbox is asked.
    pub request: ToolRequest,
    /// Whether running it twice is the same as once: it is then repeated if the sandbox is lost.
    pub repeatable: bool,
}

/// Why a session has no sandbox now. The text is fit for the model.
#[derive(Debug, thiserror::Error)]
pub enum SandboxUnavailable {
    /// The session was deleted.
    #[error("the session was deleted")]
    Removed,
    /// All sandboxes that may live are at work.
    #[error("all {max} sandboxes of this server are in use")]
    NoRoom {
        /// How many.
        max: usize,
    },
    /// The disk is nearly full.
    #[error(transparent)]
    Full(#[from] NoSpace),
    /// It did not come up in time.
    #[error("the sandbox did not start within {} seconds", START_TIMEOUT.as_secs())]
    Slow,
    /// It could not be made, or failed at a file operation.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Attached files could not be shown in it.
    #[error(transparent)]
    Uploads(#[from] UploadError),
    /// A memory store could not be mounted.
    #[error("a memory store could not be mounted: {0}")]
    Memory(#[from] MemoryError),
    /// Nobody can say whether the files here are still the session's, or another server drives it.
    #[error("where the session's files are could not be found out")]
    Keeper(#[source] std::io::Error),
    /// Its files are not here, and could not be brought here.
    #[error("the session's files could not be restored from their snapshot")]
    Restore(#[source] std::io::Error),
    /// The environment's packages are not there.
    #[error("the environment's packages could not be installed: {0}")]
    Packages(Arc<PackagesError>),
}

/// All sandboxes of this process.
pub struct SessionSandboxes {
    provider: Arc<dyn Provider>,
    source: Arc<dyn FileSource>,
    options: Options,
    packages: Arc<Packages>,
    room: Arc<Semaphore>,
    floor: Floor,
    following: Option<Following>,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_session: HashMap<SessionId, Arc<Slot>>,
    removed: VecDeque<SessionId>,
}

impl SessionSandboxes {
    /// Makes nothing yet.
    pub fn new(provider: Arc<dyn Provider>, source: Arc<dyn FileSource>, options: Options) -> Self {
        let room = Arc::new(Semaphore::new(options.max_live.max(1)));
        Self {
            packages: Arc::new(Packages::new(Arc::clone(&provider), &options)),
            floor: Floor::new(&options.root, options.min_free),
            provider,
            source,
            options,
            room,
            following: None,
            slots: Mutex::default(),
        }
    }

    /// Has files follow their sessions to other processes and back.
    #[must_use]
    pub fn following(mut self, keeper: Arc<dyn Keeper>) -> Self {
        self.clear_passing();
        self.following = Some(Following::new(keeper));
        self
    }

    /// Brings the session's sandbox up. Safe to call at any time; does nothing if it is up.
    ///
    /// # Errors
    /// [`SandboxUnavailable`].
    pub async fn prepare(&self, place: Place<'_>) -> Result<(), SandboxUnavailable> {
        let slot = self.slot(place.session)?;
        let _using = slot.enter();
        let sandbox = self.sandbox(&slot, place, Use::Look).await?;
        self.recall(&slot, place, &sandbox, true).await
    }

    /// Runs one call to its end. Every failure becomes a reply the model can read. When `cancel`
    /// fires, what runs inside is killed.
    pub async fn call(&self, place: Place<'_>, call: Call, cancel: &CancellationToken) -> Reply {
        let slot = match self.slot(place.session) {
            Ok(slot) => slot,
            Err(error) => return unavailable(place.session, &error),
        };
        let _using = slot.enter();
        let mut attempts = if call.repeatable { 2 } else { 1 };
        loop {
            attempts -= 1;
            let sandbox = tokio::select! {
                biased;
                () = cancel.cancelled() => return Reply::error(INTERRUPTED),
                sandbox = self.sandbox(&slot, place, Use::Change) => match sandbox {
                    Ok(sandbox) => sandbox,
                    Err(error) => return unavailable(place.session, &error),
                },
            };
            if let Err(error) = self.recall(&slot, place, &sandbox, false).await {
                return unavailable(place.session, &error);
            }
            slot.state.lock().await.unlisted = true;
            return match sandbox.call(call.request.clone(), cancel).await {
                Ok(reply) => {
                    let mut reply = content::check(&reply);
                    network::explain(&mut reply, &sandbox.take_denials());
                    let note = self.told(&slot, place.session).await;
                    reply.content.extend(note.map(ContentBlock::text));
                    reply
                }
                Err(SandboxError::Lost { .. }) if attempts > 0 && !cancel.is_cancelled() => {
                    continue;
                }
                Err(SandboxError::Lost { .. }) if self.floor.check().is_err() => ended(&self.floor),
                Err(error) => failed(place.session, &call.request, &error),
            };
        }
    }

    /// A round of calls has ended: what they left in memory stores becomes visible to others.
    /// Nothing is done without a live sandbox; the next one that is made goes on from there.
    pub async fn settle(&self, place: Place<'_>) {
        let Ok(slot) = self.slot(place.session) else {
            return;
        };
        let _using = slot.enter();
        let mut memory = slot.memory.lock().await;
        memory.fresh = false;
        let open = slot
            .state
            .lock()
            .await
            .open
            .as_ref()
            .map(|o| Arc::clone(&o.sandbox));
        if let (Some(session), Some(sandbox)) = (&mut memory.session, open)
            && sandbox.alive()
        {
            let folders = memory::folders(&sandbox, &self.dir(place.session), session.mounts());
            session.sync(&folders).await;
        }
    }

    /// Brings memory stores into a sandbox that is about to be used: once for each round of calls,
    /// so that it sees what others wrote. `early` only makes them ready.
    async fn recall(
        &self,
        slot: &Slot,
        place: Place<'_>,
        sandbox: &Arc<dyn Sandbox>,
        early: bool,
    ) -> Result<(), SandboxUnavailable> {
        let Some(source) = place.memory.filter(|m| !m.mounts.is_empty()) else {
            return Ok(());
        };
        let mut memory = slot.memory.lock().await;
        if memory.fresh {
            return Ok(());
        }
        let dir = self.dir(place.session);
        let folders = memory::folders(sandbox, &dir, source.mounts);
        match &mut memory.session {
            Some(session) if !early => session.sync(&folders).await,
            Some(_) => {}
            None => {
                let mut session = SessionMemory::new(
                    source.mounts.to_vec(),
                    Arc::clone(source.remote),
                    Arc::clone(source.clock),
                    Rules::beside_the_store(),
                    Some(dir.join(MEMORY_STATE)),
                )
                .await;
                session.open(&folders).await?;
                memory.session = Some(session);
            }
        }
        memory.fresh = !early;
        Ok(())
    }

    /// Writes a file inside the session's sandbox.
    ///
    /// # Errors
    /// [`SandboxUnavailable`].
    pub async fn write_file(
        &self,
        place: Place<'_>,
        path: &str,
        bytes: Vec<u8>,
    ) -> Result<(), SandboxUnavailable> {
        let slot = self.slot(place.session)?;
        let _using = slot.enter();
        let sandbox = self.sandbox(&slot, place, Use::Change).await?;
        Ok(sandbox.write_file(path, bytes.into()).await?)
    }

    /// What lies in the outputs folder. Empty if the session never had a sandbox, and none is
    /// made then; empty also if its sandbox is closed and no tool ran since the last listing,
    /// because then nothing can be new.
    ///
    /// # Errors
    /// [`SandboxUnavailable`].
    pub async fn outputs(&self, place: Place<'_>) -> Result<Vec<OutputFile>, SandboxUnavailable> {
        let slot = self.slot(place.session)?;
        let _using = slot.enter();
        let exists = tokio::fs::try_exists(self.dir(place.session))
            .await
            .unwrap_or(true);
        {
            let state = slot.state.lock().await;
            if !exists || (state.open.is_none() && !state.unlisted) {
                return Ok(Vec::new());
            }
        }
        let sandbox = self.sandbox(&slot, place, Use::Look).await?;
        // Cleared first: what a call that runs now writes is listed next time.
        slot.state.lock().await.unlisted = false;
        match sandbox.list_files(OUTPUTS).await {
            Ok(listing) => {
                if listing.truncated {
                    tracing::warn!(session = %place.session, "some outputs were left out");
                }
                let all = listing.files.into_iter().map(|f| OutputFile {
                    path: f.path,
                    size: f.size,
                    mtime_micros: f.mtime_micros,
                });
                Ok(all.collect())
            }
            // The agent may have removed its own folder.
            Err(SandboxError::File {
                problem: FileProblem::NotFound,
            }) => Ok(Vec::new()),
            Err(error) => {
                slot.state.lock().await.unlisted = true;
                Err(error.into())
            }
        }
    }

    /// Reads one output of at most [`limits::MAX_FILE`] bytes.
    ///
    /// # Errors
    /// [`SandboxUnavailable`].
    pub async fn read_output(
        &self,
        place: Place<'_>,
        path: &str,
    ) -> Result<OutputReader, SandboxUnavailable> {
        let slot = self.slot(place.session)?;
        let _using = slot.enter();
        let sandbox = self.sandbox(&slot, place, Use::Look).await?;
        let file = sandbox
            .read_file(&format!("{OUTPUTS}/{path}"), limits::MAX_FILE)
            .await?;
        Ok(files::reader(file))
    }

    /// Ends the session's sandbox and deletes its files, in the background where that takes time.
    pub async fn remove(&self, session: &SessionId) {
        let slot = {
            let mut slots = self.slots();
            slots.removed.push_back(session.clone());
            if slots.removed.len() > REMEMBERED {
                slots.removed.pop_front();
            }
            slots.by_session.remove(session)
        };
        if let Some(slot) = slot {
            let mut state = slot.state.lock().await;
            state.removed = true;
            close(session, &mut state).await;
        }
        self.discard(self.dir(session)).await;
    }

    /// Ends the session's sandbox if it is open; files stay.
    pub async fn close(&self, session: &SessionId) {
        let slot = self.slots().by_session.get(session).cloned();
        if let Some(slot) = slot {
            // Whoever opens it again may reach the stores with other rights.
            *slot.memory.lock().await = Memory::default();
            close(session, &mut *slot.state.lock().await).await;
        }
    }

    /// Closes what has been unused for [`Options::idle`]; returns how many. To be called now and
    /// then.
    pub async fn close_idle(&self) -> usize {
        let mut closed = 0;
        for (session, slot) in self.all() {
            if slot.idle_for().is_none_or(|idle| idle < self.options.idle) {
                continue;
            }
            self.save_resting(&session, &slot).await;
            if close_if_unused(&session, &slot).await {
                closed += 1;
            }
        }
        self.packages.evict();
        // What is closed and known to nobody else need not be remembered.
        self.slots().by_session.retain(|_, slot| {
            let unused = Arc::strong_count(slot) == 1;
            !(unused
                && slot
                    .state
                    .try_lock()
                    .is_ok_and(|state| state.open.is_none()))
        });
        closed
    }

    /// Ends sandboxes that take the last of the disk, for as long as it is polled.
    pub async fn keep_floor(&self) {
        let mut sizes = floor::Sizes::default();
        loop {
            tokio::time::sleep(floor::LOOK).await;
            if !self.floor.is_near() {
                continue;
            }
            let live = self.all().into_iter().filter_map(|(session, slot)| {
                let open = slot
                    .state
                    .try_lock()
                    .is_ok_and(|state| state.open.is_some());
                open.then(|| (session.clone(), footprint(&self.dir(&session))))
            });
            let grown = sizes.grown(live.collect());
            let Err(full) = self.floor.check() else {
                continue;
            };
            for session in grown {
                tracing::warn!(%session, error = %full, "sandbox ended to keep the disk free");
                self.close(&session).await;
            }
        }
    }

    /// Clears what earlier processes left behind: control groups, and deletions that were cut
    /// short. Gives the sessions that have files here; [`SessionSandboxes::remove`] those that no
    /// longer exist.
    ///
    /// # Errors
    /// The root cannot be read.
    pub async fn reap(&self) -> std::io::Result<Vec<SessionId>> {
        if let Err(error) = self.provider.reap(&self.live()).await {
            tracing::warn!(%error, "left-over sandboxes not cleared");
        }
        self.packages.reap();
        let mut sessions = Vec::new();
        let mut entries = match tokio::fs::read_dir(&self.options.root).await {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(sessions),
            Err(e) => return Err(e),
        };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.parse::<SessionId>() {
                Ok(session) => sessions.push(session),
                Err(_) if name.starts_with(".trash-") || is_dead_probe(&name) => {
                    self.discard(entry.path()).await
                }
                Err(_) => {}
            }
        }
        Ok(sessions)
    }

    /// Ends every sandbox; files stay. Calls that run lose theirs.
    pub async fn close_all(&self) {
        for (session, slot) in self.all() {
            close(&session, &mut *slot.state.lock().await).await;
        }
    }

    /// Sandboxes that live now.
    pub fn live_count(&self) -> usize {
        self.options.max_live.max(1) - self.room.available_permits()
    }

    fn live(&self) -> std::collections::HashSet<String> {
        self.slots().by_session.keys().map(sandbox_id).collect()
    }

    fn dir(&self, session: &SessionId) -> PathBuf {
        self.options.root.join(session.as_str())
    }

    fn slot(&self, session: &SessionId) -> Result<Arc<Slot>, SandboxUnavailable> {
        let mut slots = self.slots();
        if slots.removed.contains(session) {
            return Err(SandboxUnavailable::Removed);
        }
        let slot = slots
            .by_session
            .entry(session.clone())
            .or_insert_with(|| Arc::new(Slot::new()));
        Ok(Arc::clone(slot))
    }

    /// The session's live sandbox with its files in place.
    async fn sandbox(
        &self,
        slot: &Slot,
        place: Place<'_>,
        how: Use,
    ) -> Result<Arc<dyn Sandbox>, SandboxUnavailable> {
        let is_open = |open: &Option<Open>| open.as_ref().is_some_and(|o| o.sandbox.alive());
        if !is_open(&slot.state.lock().await.open) {
            self.floor.check()?;
        }
        // First, because it may take long, and what needs no sandbox must not wait for it.
        let layer = self.installed(slot, place).await?;
        self.follow(slot, place, layer.as_ref(), how).await?;
        let mut state = slot.state.lock().await;
        if state.removed {
            return Err(SandboxUnavailable::Removed);
        }
        let spec = self.spec(place, layer.as_ref());
        if state.uploads.as_deref() != Some(place.uploads) {
            uploads::sync(&spec, place.uploads, &*self.source).await?;
            state.uploads = Some(place.uploads.to_vec());
        }
        let missing = place.skills.iter().filter(|s| !state.skills.contains(s));
        let missing: Vec<Skill> = missing.cloned().collect();
        if !missing.is_empty() {
            let settled = self.lay_skills(&spec, place.session, missing).await;
            state.skills.extend(settled);
        }
        if let Some(open) = &mut state.open {
            let lacks = !variables::held(place.variables, &open.env);
            if !open.sandbox.alive() {
                tracing::info!(session = %place.session, "sandbox lost; starting it again");
            } else if lacks && slot.is_alone() {
                // Nobody's call is cut off, and files stay.
                tracing::info!(session = %place.session, "sandbox starts again with new variables");
            } else {
                if open.variables != place.variables {
                    let network = self.network(place, &open.env);
                    open.sandbox.set_network(network).await?;
                    open.variables = place.variables.to_vec();
                }
                return Ok(Arc::clone(&open.sandbox));
            }
            close(place.session, &mut state).await;
        }
        let permit = self.room().await?;
        let sandbox = tokio::time::timeout(START_TIMEOUT, self.provider.create(&spec))
            .await
            .map_err(|_| SandboxUnavailable::Slow)??;
        state.open = Some(opened(place, Arc::clone(&sandbox), permit));
        Ok(sandbox)
    }

    /// The layer with the environment's packages. A session that once has one keeps it for as long as
    /// its slot lives.
    async fn installed(
        &self,
        slot: &Slot,
        place: Place<'_>,
    ) -> Result<Option<Layer>, SandboxUnavailable> {
        let mut installed = slot.packages.lock().await;
        match &*installed {
            Installed::Unknown => {}
            Installed::There(layer) => return Ok(layer.clone()),
            Installed::Failed(when, _) if when.elapsed() >= RETRY_AFTER => {}
            Installed::Failed(_, error) => {
                return Err(SandboxUnavailable::Packages(Arc::clone(error)));
            }
        }
        match self.packages.layer(place.config).await {
            Ok(layer) => {
                *installed = Installed::There(layer.clone());
                Ok(layer)
            }
            Err(error) => {
                *installed = Installed::Failed(Instant::now(), Arc::clone(&error));
                Err(SandboxUnavailable::Packages(error))
            }
        }
    }

    /// Puts skills where the sandbox sees them. One that fails is logged and left out, since the
    /// agent may well do without it. Gives those that need no other attempt at the next call.
    async fn lay_skills(
        &self,
        spec: &SandboxSpec,
        session: &SessionId,
        wanted: Vec<Skill>,
    ) -> Vec<Skill> {
        if let Err(error) = uploads::make_dir(&spec.dir, 0o700).await {
            tracing::warn!(%session, %error, "no room for skills");
            return Vec::new();
        }
        let folder = spec.dir.join(skills::FOLDER);
        let laid = skills::lay(&wanted, &folder, &*self.source).await;
        let settled = wanted.into_iter().zip(laid).filter(|(skill, laid)| {
            let Err(failed) = laid else {
                return true;
            };
            let error = failed as &dyn std::error::Error;
            tracing::warn!(%session, skill = skill.name, error, "skill left out");
            failed.is_final()
        });
        settled.map(|(skill, _)| skill).collect()
    }

    /// The folders that a session's sandbox shows besides its own.
    fn shares(&self, place: Place<'_>) -> Vec<Share> {
        let mounts = place.memory.map_or(&[][..], |memory| memory.mounts);
        let mut shares = vec![uploads::share()];
        if !place.skills.is_empty() {
            shares.push(skills::share(self.options.skills_at));
        }
        shares.extend(memory::shares(mounts));
        shares
    }

    fn spec(&self, place: Place<'_>, layer: Option<&Layer>) -> SandboxSpec {
        let variables = variables::env(place.variables);
        let network = self.network(place, &variables);
        let mut env = layer.map(|l| l.env.clone()).unwrap_or_default();
        env.extend(variables);
        SandboxSpec {
            id: sandbox_id(place.session),
            dir: self.dir(place.session),
            limits: self.options.limits,
            network,
            min_isolation: self.options.min_isolation,
            shares: self.shares(place),
            layers: layer.map(|l| l.dir.clone()).into_iter().collect(),
            env,
        }
    }

    /// The network of a sandbox with this environment.
    fn network(&self, place: Place<'_>, env: &[(String, String)]) -> Network {
        Network {
            policy: network::policy(place.config, &self.options.package_hosts),
            injections: variables::injections(place.variables, env),
        }
    }

    /// A share of the number that may live, taken from the longest unused if need be.
    async fn room(&self) -> Result<OwnedSemaphorePermit, SandboxUnavailable> {
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            return Ok(permit);
        }
        let mut idle: Vec<_> = self
            .all()
            .into_iter()
            .filter_map(|(session, slot)| Some((slot.idle_for()?, session, slot)))
            .collect();
        idle.sort_by_key(|(idle, ..)| std::cmp::Reverse(*idle));
        for (_, session, slot) in idle {
            self.save_resting(&session, &slot).await;
            if close_if_unused(&session, &slot).await {
                break;
            }
        }
        let wait = tokio::time::timeout(ROOM_TIMEOUT, Arc::clone(&self.room).acquire_owned());
        match wait.await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(SandboxUnavailable::NoRoom {
                max: self.options.max_live,
            }),
        }
    }

    async fn discard(&self, dir: PathBuf) {
        let provider = Arc::clone(&self.provider);
        let done = tokio::task::spawn_blocking(move || provider.remove_state(&dir)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a sandbox's files were not deleted"),
            Err(error) => tracing::error!(%error, "a sandbox's files were not deleted"),
        }
    }

    fn all(&self) -> Vec<(SessionId, Arc<Slot>)> {
        self.slots()
            .by_session
            .iter()
            .map(|(s, slot)| (s.clone(), Arc::clone(slot)))
            .collect()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Whole between any two statements, so a poisoned lock is still usable.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where state directories are made.
    pub fn root(&self) -> &Path {
        &self.options.root
    }
}

/// Whether a provider's probe (`probe-PID`) left the directory and its process is gone.
fn is_dead_probe(name: &str) -> bool {
    let pid = name
        .strip_prefix("probe-")
        .and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

fn sandbox_id(session: &SessionId) -> String {
    session.as_str().to_ascii_lowercase()
}

/// Closes an open sandbox that nobody uses or is about to use.
async fn close_if_unused(session: &SessionId, slot: &Slot) -> bool {
    let (Ok(_saving), Ok(mut state)) = (slot.saving.try_lock(), slot.state.try_lock()) else {
        return false;
    };
    if state.open.is_none() || slot.idle_for().is_none() {
        return false;
    }
    close(session, &mut state).await;
    true
}

/// A sandbox just made for a place.
fn opened(place: Place<'_>, sandbox: Arc<dyn Sandbox>, permit: OwnedSemaphorePermit) -> Open {
    Open {
        sandbox,
        env: variables::env(place.variables),
        variables: place.variables.to_vec(),
        _permit: permit,
    }
}

async fn close(session: &SessionId, state: &mut State) {
    let Some(open) = state.open.take() else {
        return;
    };
    if let Err(error) = open.sandbox.destroy().await {
        tracing::warn!(%session, %error, "sandbox not destroyed cleanly");
    }
}

fn unavailable(session: &SessionId, error: &SandboxUnavailable) -> Reply {
    tracing::warn!(%session, error = error as &dyn std::error::Error, "no sandbox");
    let mut text = format!("The tool could not run: {error}.");
    if let SandboxUnavailable::Packages(error) = error
        && !error.output().is_empty()
    {
        text.push_str(&format!(" Its last lines:\n{}", error.output()));
    }
    Reply::error(text)
}

/// A call lost its sandbox for want of space.
fn ended(floor: &Floor) -> Reply {
    let why = floor
        .check()
        .map_or_else(|full| format!(": {full}"), |()| String::new());
    Reply::error(format!(
        "The sandbox was ended while the tool ran{why}. What the call was writing may be \
         incomplete; other files are kept."
    ))
}

fn failed(session: &SessionId, request: &ToolRequest, error: &SandboxError) -> Reply {
    tracing::warn!(
        %session, call = %request.id, error = error as &dyn std::error::Error, "tool call failed"
    );
    match error {
        SandboxError::Cancelled => Reply::error(INTERRUPTED),
        SandboxError::Lost { .. } => Reply::error(
            "The sandbox ended while the tool ran. Whether the call took effect is unknown. \
             Files are kept; running processes and shell state are gone. The next call starts \
             a new sandbox.",
        ),
        other => Reply::error(format!("The tool could not run: {other}.")),
    }
}
