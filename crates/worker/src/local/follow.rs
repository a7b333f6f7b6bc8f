//! Files that follow their session to another server process. Where several share the sessions, each
//! keeps sandboxes in a directory of its own; snapshots of them go to where all can read them, and
//! whoever takes a session over goes on from the last one.
//!
//! A directory remembers the *generation* of the files that it holds ([`Line`]). It is asked for
//! before each use whether that is still theirs: a process that was thought dead may come back, with
//! files of before.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{SessionId, SharedClock, Timestamp};
use freehold_sandbox::{Sandbox, SandboxError, Snapshot, footprint};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Place, SandboxUnavailable, SessionSandboxes, close, opened};
use crate::packages::Layer;
use crate::slot::{Memory, Slot, State};

/// Snapshots taken at a time.
const SAVES: usize = 2;
/// A sandbox's snapshots take at most one part in so many of its time: a large one is saved less
/// often, because everything in it stands still meanwhile.
const PACE: u32 = 10;
/// Longest time for fetching and unpacking a snapshot.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// What a directory remembers of its files.
const LINE: &str = "files.json";
/// Greatest such file, bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Where archives lie while they are made or unpacked.
const PASSING: &str = ".snapshots";

/// Keeps snapshots where every process finds them, and knows which directory holds a session's files.
#[async_trait]
pub trait Keeper: Send + Sync + 'static {
    /// Takes a session's files up, or makes sure that they are still those of the generation `known`;
    /// with `changing` it counts a change, unless the generation is another.
    ///
    /// # Errors
    /// Another process has the session, or nobody can say.
    async fn enter(
        &self,
        session: &SessionId,
        known: Option<i64>,
        changing: bool,
    ) -> io::Result<Entered>;
    /// Keeps a snapshot that holds what the first `changes` changes did, and forgets the one before.
    /// False if somebody else has taken the files up.
    ///
    /// # Errors
    /// It could not be kept.
    async fn save(&self, session: &SessionId, save: Save<'_>) -> io::Result<bool>;
    /// Opens a snapshot's archive.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    async fn open(&self, key: &str) -> io::Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>>;
    /// The clock by which snapshots are dated.
    fn clock(&self) -> &SharedClock;
}

/// Where a session's files stand.
#[derive(Debug, Clone)]
pub struct Entered {
    /// What the directory is to remember.
    pub generation: i64,
    /// How many changes there were.
    pub changes: i64,
    /// Whether some are not in the snapshot.
    pub unsaved: bool,
    /// The last snapshot.
    pub saved: Option<Saved>,
    /// Nobody had files of the session before.
    pub first: bool,
}

/// A snapshot that is kept.
#[derive(Debug, Clone)]
pub struct Saved {
    /// SHA-256 of the archive, by which it is found.
    pub key: String,
    /// Bytes.
    pub bytes: u64,
    /// When it was taken.
    pub at: Timestamp,
}

/// A snapshot to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Save<'a> {
    /// Of these files.
    pub generation: i64,
    /// Changes that are in it.
    pub changes: i64,
    /// The archive.
    pub snapshot: &'a Snapshot,
    /// When it was taken.
    pub at: Timestamp,
}

/// Whether a use of a sandbox may change its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Look,
    Change,
}

/// What a directory remembers of the files in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    generation: i64,
    /// What the agent has not been told yet.
    #[serde(default)]
    note: Option<String>,
}

/// Why files were not saved.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error("its sandbox is closed")]
    Closed,
    #[error(transparent)]
    Full(#[from] crate::NoSpace),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the snapshot could not be kept")]
    Keep(#[source] io::Error),
    #[error("another server has taken the session over")]
    Elsewhere,
}

/// What is done to have files follow their sessions.
pub(super) struct Following {
    keeper: Arc<dyn Keeper>,
    /// Sessions that rest and are to be saved.
    due: Mutex<HashSet<SessionId>>,
    wanted: Notify,
    /// Whether the log says already that snapshots cannot be taken here.
    unsupported: AtomicBool,
}

impl Following {
    pub(super) fn new(keeper: Arc<dyn Keeper>) -> Self {
        Self {
            keeper,
            due: Mutex::default(),
            wanted: Notify::new(),
            unsupported: AtomicBool::new(false),
        }
    }

    fn due(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        // Whole between any two statements, so a poisoned lock is still usable.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionSandboxes {
    /// The session rests: what its calls left in the sandbox is saved soon, by
    /// [`SessionSandboxes::keep_saved`].
    pub fn rested(&self, session: &SessionId) {
        let Some(following) = &self.following else {
            return;
        };
        following.due().insert(session.clone());
        following.wanted.notify_one();
    }

    /// Saves what rests, for as long as it is polled.
    pub async fn keep_saved(&self) {
        let Some(following) = &self.following else {
            return std::future::pending().await;
        };
        let mut running = FuturesUnordered::new();
        let mut busy = HashSet::new();
        loop {
            let mut later = None;
            while running.len() < SAVES {
                let Some((session, slot)) = self.next_due(following, &busy) else {
                    break;
                };
                let at = slot.save_after();
                if at > Instant::now() {
                    later = Some(at);
                    break;
                }
                following.due().remove(&session);
                busy.insert(session.clone());
                running.push(async move {
                    self.save_resting(&session, &slot).await;
                    session
                });
            }
            let due = async {
                match later {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = following.wanted.notified() => {}
                () = due => {}
                Some(session) = running.next() => drop(busy.remove(&session)),
            }
        }
    }

    /// Of the sessions that are to be saved and are not being, the one whose time comes first.
    fn next_due(
        &self,
        following: &Following,
        busy: &HashSet<SessionId>,
    ) -> Option<(SessionId, Arc<Slot>)> {
        let slots = self.slots();
        let mut due = following.due();
        // What is not known any more was closed, and saved before.
        due.retain(|session| slots.by_session.contains_key(session));
        let free = due.iter().filter(|session| !busy.contains(*session));
        let known = free.filter_map(|s| Some((s, slots.by_session.get(s)?)));
        let first = known.min_by_key(|(_, slot)| slot.save_after())?;
        Some((first.0.clone(), Arc::clone(first.1)))
    }

    /// Saves what has not been, the smallest first, until a time; says in the log what could not be.
    /// To be called when nothing runs any more, and before others may take the sessions over.
    pub async fn save_all(&self, until: Instant) {
        if self.following.is_none() {
            return;
        }
        let mut all: Vec<_> = self.all();
        all.sort_by_cached_key(|(session, _)| footprint(&self.dir(session)).unwrap_or(0));
        let mut pending: HashSet<SessionId> = HashSet::new();
        for (session, slot) in &all {
            // One that is being saved is waited for.
            let saving = slot.saving.try_lock();
            if saving.is_err() || slot.state.lock().await.changed {
                pending.insert(session.clone());
            }
        }
        all.retain(|(session, _)| pending.contains(session));
        let saves = all.into_iter().map(|(session, slot)| async move {
            let saved = self.save(&session, &slot).await;
            (session, saved)
        });
        let saves = futures_util::stream::iter(saves).buffer_unordered(SAVES);
        tokio::pin!(saves);
        while let Ok(Some((session, saved))) = tokio::time::timeout_at(until, saves.next()).await {
            pending.remove(&session);
            if let Err(error) = saved {
                not_saved(&session, &error);
            }
        }
        for session in pending {
            tracing::warn!(%session, "no time was left to save the sandbox's files");
        }
    }

    /// Saves a session's files, unless it is at work again: then its next rest does.
    pub(super) async fn save_resting(&self, session: &SessionId, slot: &Slot) {
        if slot.idle_for().is_some()
            && let Err(error) = self.save(session, slot).await
        {
            not_saved(session, &error);
        }
    }

    /// Takes a snapshot and has it kept, if something ran since the last one.
    async fn save(&self, session: &SessionId, slot: &Slot) -> Result<(), SaveError> {
        let Some(following) = &self.following else {
            return Ok(());
        };
        let _saving = slot.saving.lock().await;
        let (sandbox, generation, changes) = {
            let mut state = slot.state.lock().await;
            // With something left to tell, the files are still those of the snapshot.
            let line = state.line.as_ref().filter(|line| line.note.is_none());
            let generation = line.map(|line| line.generation);
            let (true, Some(generation)) = (state.changed, generation) else {
                return Ok(());
            };
            let open = state.open.as_ref().filter(|o| o.sandbox.alive());
            let sandbox = Arc::clone(&open.ok_or(SaveError::Closed)?.sandbox);
            // What a call that begins now changes is saved next time.
            state.changed = false;
            (sandbox, generation, state.changes)
        };
        let at = following.keeper.clock().now();
        let begun = Instant::now();
        let archived = self.archive(session, &sandbox).await;
        let saved = match archived {
            Ok(snapshot) => {
                let save = Save {
                    generation,
                    changes,
                    snapshot: &snapshot,
                    at,
                };
                let saved = following.keeper.save(session, save).await;
                // One that stays is only a file that the next start removes.
                let _ = tokio::fs::remove_file(&snapshot.path).await;
                saved.map_err(SaveError::Keep)
            }
            Err(error) => Err(error),
        };
        let took = begun.elapsed();
        slot.save_not_before(Instant::now() + took * (PACE - 1));
        match saved {
            Ok(true) => {
                tracing::debug!(%session, millis = took.as_millis(), "sandbox saved");
                Ok(())
            }
            Ok(false) => Err(SaveError::Elsewhere),
            Err(error) => {
                slot.state.lock().await.changed = true;
                let never = matches!(error, SaveError::Sandbox(SandboxError::Unsupported { .. }));
                if never && following.unsupported.swap(true, Ordering::Relaxed) {
                    return Ok(()); // The log says so already.
                }
                Err(error)
            }
        }
    }

    async fn archive(
        &self,
        session: &SessionId,
        sandbox: &Arc<dyn Sandbox>,
    ) -> Result<Snapshot, SaveError> {
        let size = footprint(&self.dir(session)).unwrap_or(0);
        self.floor.check_with(size)?;
        let made = sandbox.snapshot(&self.passing()).await;
        if let Err(error) = &made
            && !matches!(error, SandboxError::Unsupported { .. })
        {
            // It may stand still for good in the middle of an archive; its files stay.
            let _ = sandbox.destroy().await;
        }
        Ok(made?)
    }

    /// Sees to it that the session's directory holds its files as they are now, and not as they were
    /// when this process last had them.
    pub(super) async fn follow(
        &self,
        slot: &Slot,
        place: Place<'_>,
        layer: Option<&Layer>,
        how: Use,
    ) -> Result<(), SandboxUnavailable> {
        let Some(following) = &self.following else {
            return Ok(());
        };
        let (session, dir) = (place.session, self.dir(place.session));
        let mut memory = slot.memory.lock().await;
        let mut state = slot.state.lock().await;
        if state.removed {
            return Err(SandboxUnavailable::Removed);
        }
        if state.line.is_none() {
            state.line = read_line(&dir).await;
        }
        loop {
            let known = state.line.as_ref().map(|line| line.generation);
            let changing = how == Use::Change && !state.changed;
            let entered = following.keeper.enter(session, known, changing).await;
            let entered = entered.map_err(SandboxUnavailable::Keeper)?;
            if known == Some(entered.generation) {
                state.changes = entered.changes;
                // What an earlier process of this directory did not save is saved by this one.
                state.changed |= entered.unsaved;
                return Ok(());
            }
            *memory = Memory::default();
            self.take_up(&mut state, place, layer, &entered).await?;
            if how == Use::Look {
                return Ok(());
            }
        }
    }

    /// Makes the directory hold what was saved last.
    async fn take_up(
        &self,
        state: &mut State,
        place: Place<'_>,
        layer: Option<&Layer>,
        entered: &Entered,
    ) -> Result<(), SandboxUnavailable> {
        let (session, dir) = (place.session, self.dir(place.session));
        close(session, state).await;
        state.forget_files();
        if !entered.first {
            self.discard(dir.clone()).await;
        }
        if let Some(saved) = &entered.saved {
            tracing::info!(%session, bytes = saved.bytes, "sandbox is restored from a snapshot");
            let restored = self.restore(state, place, layer, saved);
            tokio::time::timeout(RESTORE_TIMEOUT, restored)
                .await
                .map_err(|_| SandboxUnavailable::Restore(io::ErrorKind::TimedOut.into()))??;
        }
        let line = Line {
            generation: entered.generation,
            note: entered.unsaved.then(|| lost(entered.saved.as_ref())),
        };
        if line.note.is_some() {
            tracing::warn!(%session, "the last changes to the sandbox's files are lost");
        }
        write_line(&dir, &line)
            .await
            .map_err(SandboxUnavailable::Restore)?;
        state.changes = entered.changes;
        state.line = Some(line);
        Ok(())
    }

    async fn restore(
        &self,
        state: &mut State,
        place: Place<'_>,
        layer: Option<&Layer>,
        saved: &Saved,
    ) -> Result<(), SandboxUnavailable> {
        let Some(following) = &self.following else {
            return Ok(());
        };
        self.floor.check_with(saved.bytes)?;
        let permit = self.room().await?;
        let archive = self
            .fetch(&*following.keeper, saved)
            .await
            .map_err(SandboxUnavailable::Restore)?;
        let snapshot = Snapshot {
            digest: saved.key.clone(),
            path: archive.path().to_owned(),
            bytes: saved.bytes,
            skipped: 0,
        };
        let spec = self.spec(place, layer);
        let sandbox = self.provider.restore(&snapshot, &spec).await?;
        state.open = Some(opened(place, sandbox, permit));
        Ok(())
    }

    /// Brings an archive here, no more of it than there should be. Its content is checked when it is
    /// unpacked.
    async fn fetch(
        &self,
        keeper: &dyn Keeper,
        saved: &Saved,
    ) -> io::Result<tempfile::NamedTempFile> {
        let passing = self.passing();
        tokio::fs::create_dir_all(&passing).await?;
        let file = tempfile::NamedTempFile::new_in(&passing)?;
        let mut to = tokio::fs::File::from_std(file.reopen()?);
        let mut from = keeper.open(&saved.key).await?.take(saved.bytes);
        tokio::io::copy(&mut from, &mut to).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut to).await?;
        Ok(file)
    }

    /// What the agent is to be told of its files, once.
    pub(super) async fn told(&self, slot: &Slot, session: &SessionId) -> Option<String> {
        self.following.as_ref()?;
        let mut state = slot.state.lock().await;
        let line = state.line.as_mut()?;
        let note = line.note.take()?;
        if let Err(error) = write_line(&self.dir(session), line).await {
            tracing::warn!(%session, %error, "a note on a sandbox's files will be told again");
        }
        Some(note)
    }

    /// Removes archives that an earlier process left.
    pub(super) fn clear_passing(&self) {
        if let Err(error) = std::fs::remove_dir_all(self.passing())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "left-over archives not removed");
        }
    }

    fn passing(&self) -> PathBuf {
        self.options.root.join(PASSING)
    }
}

fn not_saved(session: &SessionId, error: &SaveError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(%session, error, "the sandbox's files were not saved");
}

/// Told to the agent when files are older than its history.
fn lost(saved: Option<&Saved>) -> String {
    match saved {
        Some(saved) => format!(
            "[The server that held this sandbox was lost. The sandbox was restored from a snapshot \
             taken at {}; later changes to files are lost, and no process runs any more. Check what \
             is there before you rely on it.]",
            saved.at
        ),
        None => "[The server that held this sandbox was lost before its files were saved. The \
                 sandbox is new and holds none of them.]"
            .to_owned(),
    }
}

/// What the directory remembers; nothing that cannot be read is believed.
async fn read_line(dir: &Path) -> Option<Line> {
    let file = tokio::fs::File::open(dir.join(LINE)).await.ok()?;
    let mut text = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut text).await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// Writes it, whole or not at all.
async fn write_line(dir: &Path, line: &Line) -> io::Result<()> {
    crate::uploads::make_dir(dir, 0o700).await?;
    let (path, temporary) = (dir.join(LINE), dir.join("files.json.tmp"));
    tokio::fs::write(&temporary, serde_json::to_vec(line)?).await?;
    tokio::fs::rename(&temporary, &path).await
}
