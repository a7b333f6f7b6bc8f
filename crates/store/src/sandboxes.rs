//! The files of sandboxes where several replicas share a database. Each replica keeps the sandboxes
//! of its sessions in its own data directory, and puts snapshots of them into the blob store. What is
//! noted here says which directory holds a session's files now, and how old the snapshot is from
//! which another replica would go on.
//!
//! A directory is good as long as it is of the row's *generation*, which grows each time a directory
//! takes the files up. So one that comes back late, with files of before, is known for what it is, and
//! can save nothing either.

use freehold_base::{SessionId, Timestamp};

use crate::backend::{Tx, one, params};
use crate::blob::content;
use crate::{Store, StoreError};

/// A snapshot of a session's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFiles {
    /// Key of the archive's bytes.
    pub blob: String,
    /// Bytes.
    pub bytes: u64,
    /// When it was taken.
    pub at: Timestamp,
}

impl SavedFiles {
    /// SHA-256 of the archive, lower case hexadecimal; empty if the key is none.
    pub fn digest(&self) -> &str {
        content(&self.blob).unwrap_or_default()
    }
}

/// Where a session's files stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxFiles {
    /// What a directory that holds them is to remember.
    pub generation: i64,
    /// How often calls began to change them.
    pub changes: i64,
    /// Whether some of these changes are not in [`SandboxFiles::saved`].
    pub unsaved: bool,
    /// The last snapshot.
    pub saved: Option<SavedFiles>,
    /// Whether nobody had files of the session before.
    pub first: bool,
}

/// Why a session's files cannot be used here.
#[derive(Debug, thiserror::Error)]
pub enum EnterSandboxError {
    /// The session is gone, or another replica drives it.
    #[error("another server drives the session")]
    Elsewhere,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const READ: &str = "SELECT s.home, f.generation, f.changes, f.saved, f.blob, f.bytes, f.saved_at
 FROM session s LEFT JOIN session_sandbox f ON f.session_id = s.id WHERE s.id = ?1";

impl Store {
    /// To be asked before a sandbox is used. `known` is the generation that this replica's directory
    /// remembers. If the answer has another, the directory is to hold the files of
    /// [`SandboxFiles::saved`] instead, and to remember the new one: from now on it is the only one
    /// that may. With `changing` a change is counted, unless the generation is another.
    ///
    /// # Errors
    /// [`EnterSandboxError`].
    pub async fn enter_sandbox(
        &self,
        session: &SessionId,
        known: Option<i64>,
        changing: bool,
    ) -> Result<SandboxFiles, EnterSandboxError> {
        let (of, home) = (session.clone(), self.home());
        if !changing {
            let (of, home) = (of.clone(), home.clone());
            let found = self.read(move |tx| find(tx, &of, home.as_deref())).await?;
            if let Some(files) = found.filter(|f| Some(f.generation) == known) {
                return Ok(files);
            }
        }
        self.write_session(session, move |tx| {
            enter(tx, &of, home.as_deref(), known, changing)
        })
        .await
    }

    /// Notes a snapshot that holds what the first `changes` changes did. Its blob must be pinned until
    /// this returns; that of the snapshot before goes. False, and nothing noted, if another directory
    /// has taken the files up, or the session is gone.
    ///
    /// # Errors
    /// The store failed.
    pub async fn save_sandbox(
        &self,
        session: &SessionId,
        generation: i64,
        changes: i64,
        files: SavedFiles,
    ) -> Result<bool, StoreError> {
        let (of, key) = (session.clone(), files.blob.clone());
        let before = self
            .write_session(session, move |tx| {
                save(tx, &of, generation, changes, &files)
            })
            .await?;
        let Some(before) = before else {
            return Ok(false);
        };
        let freed: Vec<String> = before.into_iter().filter(|blob| *blob != key).collect();
        self.drop_blobs(&freed).await;
        Ok(true)
    }
}

/// What is noted of the files of a session that `home` may use; `None` if nothing is.
fn find(
    tx: &mut dyn Tx,
    session: &SessionId,
    home: Option<&str>,
) -> Result<Option<SandboxFiles>, EnterSandboxError> {
    let row = one(tx.query(READ, params![session])?);
    let mut row = row.ok_or(EnterSandboxError::Elsewhere)?;
    let at = row.opt_text("session home")?;
    if at.is_some_and(|at| home.is_some_and(|home| at != home)) {
        return Err(EnterSandboxError::Elsewhere);
    }
    let Some(generation) = row.opt_int("sandbox generation")? else {
        return Ok(None);
    };
    let changes = row.int("sandbox changes")?;
    let unsaved = row.int("sandbox saved")? < changes;
    let saved = match row.opt_text("sandbox blob")? {
        Some(blob) => Some(SavedFiles {
            blob,
            bytes: row.count("sandbox bytes")?,
            at: row.time("sandbox saved_at")?,
        }),
        None => None,
    };
    Ok(Some(SandboxFiles {
        generation,
        changes,
        unsaved,
        saved,
        first: false,
    }))
}

fn enter(
    tx: &mut dyn Tx,
    session: &SessionId,
    home: Option<&str>,
    known: Option<i64>,
    changing: bool,
) -> Result<SandboxFiles, EnterSandboxError> {
    let Some(mut files) = find(tx, session, home)? else {
        let sql = "INSERT INTO session_sandbox (session_id, generation, changes, saved)
           VALUES (?1, 1, 0, 0)";
        tx.execute(sql, params![session])?;
        return Ok(SandboxFiles {
            generation: 1,
            changes: 0,
            unsaved: false,
            saved: None,
            first: true,
        });
    };
    if known != Some(files.generation) {
        files.generation += 1;
        let sql = "UPDATE session_sandbox SET generation = ?2 WHERE session_id = ?1";
        tx.execute(sql, params![session, files.generation])?;
    } else if changing {
        files.changes += 1;
        files.unsaved = true;
        let sql = "UPDATE session_sandbox SET changes = ?2 WHERE session_id = ?1";
        tx.execute(sql, params![session, files.changes])?;
    }
    Ok(files)
}

/// Gives the key of the snapshot before, if there was one; nothing if the generation is another.
#[expect(
    clippy::option_option,
    reason = "noted or not, and what was there before"
)]
fn save(
    tx: &mut dyn Tx,
    session: &SessionId,
    generation: i64,
    changes: i64,
    files: &SavedFiles,
) -> Result<Option<Option<String>>, StoreError> {
    let sql = "SELECT blob FROM session_sandbox WHERE session_id = ?1 AND generation = ?2";
    let Some(mut row) = one(tx.query(sql, params![session, generation])?) else {
        return Ok(None);
    };
    let before = row.opt_text("sandbox blob")?;
    let sql = "UPDATE session_sandbox SET saved = ?2, blob = ?3, bytes = ?4, saved_at = ?5
       WHERE session_id = ?1";
    tx.execute(
        sql,
        params![session, changes, &files.blob, files.bytes, files.at],
    )?;
    Ok(Some(before))
}

/// Forgets the files of a session that is being deleted; gives the key of their snapshot.
pub(crate) fn forget(tx: &mut dyn Tx, session: &SessionId) -> Result<Option<String>, StoreError> {
    let sql = "DELETE FROM session_sandbox WHERE session_id = ?1 RETURNING blob";
    let gone = one(tx.query(sql, params![session])?);
    gone.map_or(Ok(None), |mut row| row.opt_text("sandbox blob"))
}
