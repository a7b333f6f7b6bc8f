//! Sandboxes of `cloud` sessions, inside the server process.

mod end;
mod follow;
mod keeper;
mod replies;
mod save;
mod start;
mod types;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_base::{SessionId, limits};
use freehold_sandbox::{FileProblem, Provider, Sandbox, SandboxError};
use freehold_wire::content::ContentBlock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::content::{self, Reply};
use crate::files::{self, FileSource, OutputFile, OutputReader};
use crate::floor::Floor;
use crate::memory::{self, Rules, SessionMemory};
use crate::network;
use crate::packages::Packages;
use crate::slot::Slot;
pub(crate) use follow::Line;
use follow::Use;
pub use keeper::{Entered, Keeper, Save, Saved};
use replies::{INTERRUPTED, ended, failed, unavailable};
use save::Following;
pub use types::{Call, MemorySource, Options, Place, SandboxUnavailable};

/// Where agents leave files for their users.
const OUTPUTS: &str = "/mnt/session/outputs";
/// What is known of memory folders, beside them in the state directory.
const MEMORY_STATE: &str = "memory.json";

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

fn sandbox_id(session: &SessionId) -> String {
    session.as_str().to_ascii_lowercase()
}
