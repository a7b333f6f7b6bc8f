//! When snapshots of sandboxes are taken: once a session rests, before its sandbox is closed for want
//! of use, and when the server stops.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_base::SessionId;
use freehold_sandbox::{Sandbox, SandboxError, Snapshot, footprint};
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::SessionSandboxes;
use super::keeper::{Keeper, Save};
use crate::floor::NoSpace;
use crate::slot::Slot;

/// Snapshots taken at a time.
const SAVES: usize = 2;
/// A sandbox's snapshots take at most one part in so many of its time: a large one is saved less
/// often, because everything in it stands still meanwhile.
const PACE: u32 = 10;

/// Why files were not saved.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error("its sandbox is closed")]
    Closed,
    #[error(transparent)]
    Full(#[from] NoSpace),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the snapshot could not be kept")]
    Keep(#[source] io::Error),
    #[error("another server has taken the session over")]
    Elsewhere,
}

/// What is done to have files follow their sessions.
pub(super) struct Following {
    pub(super) keeper: Arc<dyn Keeper>,
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
        let saves = stream::iter(saves).buffer_unordered(SAVES);
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
}

fn not_saved(session: &SessionId, error: &SaveError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(%session, error, "the sandbox's files were not saved");
}
