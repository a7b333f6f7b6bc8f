//! Files that follow their session to another server process. Where several share the sessions, each
//! keeps sandboxes in a directory of its own; snapshots of them go to where all can read them, and
//! whoever takes a session over goes on from the last one.
//!
//! A directory remembers the *generation* of the files that it holds ([`Line`]). It is asked for
//! before each use whether that is still theirs: a process that was thought dead may come back, with
//! files of before.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_base::SessionId;
use freehold_sandbox::Snapshot;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::end::close;
use super::keeper::{Entered, Keeper, Saved};
use super::start::opened;
use super::{Place, SandboxUnavailable, SessionSandboxes};
use crate::packages::Layer;
use crate::slot::{Memory, Slot, State};
use crate::uploads::make_dir;

/// Longest time for fetching and unpacking a snapshot.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// What a directory remembers of its files.
const LINE: &str = "files.json";
/// Greatest such file, bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Where archives lie while they are made or unpacked.
const PASSING: &str = ".snapshots";

/// Whether a use of a sandbox may change its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Look,
    Change,
}

/// What a directory remembers of the files in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(super) generation: i64,
    /// What the agent has not been told yet.
    #[serde(default)]
    pub(super) note: Option<String>,
}

impl SessionSandboxes {
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
            digest: saved.digest.clone(),
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
        to.shutdown().await?;
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

    pub(super) fn passing(&self) -> PathBuf {
        self.options.root.join(PASSING)
    }
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
    make_dir(dir, 0o700).await?;
    let (path, temporary) = (dir.join(LINE), dir.join("files.json.tmp"));
    tokio::fs::write(&temporary, serde_json::to_vec(line)?).await?;
    tokio::fs::rename(&temporary, &path).await
}
