//! How sandboxes of sessions end: with their session, for want of use, of room or of disk, and with the
//! process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{SessionId, chain};
use freehold_sandbox::footprint;
use tokio::sync::OwnedSemaphorePermit;

use super::{SandboxUnavailable, SessionSandboxes};
use crate::floor;
use crate::slot::{Memory, Slot, State};

/// Longest wait for room when as many sandboxes live as may, all of them at work.
const ROOM_TIMEOUT: Duration = Duration::from_secs(30);
/// Removed sessions remembered, so that a late preparation does not bring one back.
const REMEMBERED: usize = 1_024;

impl SessionSandboxes {
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

    /// Closes what has been unused for [`Options::idle`](super::Options::idle); returns how many. To be called now and
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

    /// Clears what earlier processes left behind: sandboxes that are still ending, what was half-made,
    /// and deletions that were cut short. To be called once, by who has the root alone, and before a
    /// sandbox is asked for: it would find what is left of the earlier one of its name. Takes up to 5 s
    /// for processes that do not end.
    pub async fn clear_left_behind(&self) {
        if let Err(error) = self.provider.reap(&HashSet::new()).await {
            tracing::warn!(error = %chain(&error), "left-over sandboxes not cleared");
        }
        self.packages.clear_left_behind();
        let root = &self.options.root;
        if let Err(error) = self.provider.resume_removals(root) {
            tracing::warn!(error = %chain(&error), "deletions that were cut short are left");
        }
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if is_dead_probe(&entry.file_name().to_string_lossy()) {
                self.discard(entry.path()).await;
            }
        }
    }

    /// The sessions that have files here; [`SessionSandboxes::remove`] those that no longer exist.
    ///
    /// # Errors
    /// The root cannot be read.
    pub async fn kept(&self) -> std::io::Result<Vec<SessionId>> {
        let mut sessions = Vec::new();
        let mut entries = match tokio::fs::read_dir(&self.options.root).await {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(sessions),
            Err(e) => return Err(e),
        };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            sessions.extend(name.parse::<SessionId>());
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

    /// A share of the number that may live, taken from the longest unused if need be.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, SandboxUnavailable> {
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

    pub(super) async fn discard(&self, dir: PathBuf) {
        let provider = Arc::clone(&self.provider);
        let done = tokio::task::spawn_blocking(move || provider.remove_state(&dir)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a sandbox's files were not deleted"),
            Err(error) => tracing::error!(%error, "a sandbox's files were not deleted"),
        }
    }
}

/// Whether a provider's probe (`probe-PID`, `probe_PID`) left the directory and its process is gone.
fn is_dead_probe(name: &str) -> bool {
    let pid = name
        .strip_prefix("probe")
        .and_then(|rest| rest.strip_prefix(['-', '_']))
        .and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
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

pub(super) async fn close(session: &SessionId, state: &mut State) {
    let Some(open) = state.open.take() else {
        return;
    };
    if let Err(error) = open.sandbox.destroy().await {
        tracing::warn!(%session, %error, "sandbox not destroyed cleanly");
    }
}
