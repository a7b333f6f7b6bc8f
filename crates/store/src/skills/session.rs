//! What sessions keep of the skills they were made with: all of it, so that nothing that happens to
//! a skill changes a session.

use freehold_base::{EnvironmentId, SessionId, SkillId, SkillVersionId, WorkspaceId};

use super::{SkillVersionRow, VersionName, version};
use crate::backend::{Tx, one, params};
use crate::{Store, StoreError};

/// Column order of [`version`].
const COLUMNS: &str =
    "v.version_id, v.skill_id, v.number, v.name, v.description, v.size, v.blob, v.created_at";

/// Gives a session these versions; `Err` in `Ok` is the first that does not exist.
pub(crate) fn attach(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    versions: &[SkillVersionId],
) -> Result<Result<(), SkillVersionId>, StoreError> {
    for (position, id) in (0i64..).zip(versions) {
        let copied = tx.execute(
            "INSERT INTO session_skill (session_id, position, skill_id, version_id, number, name,
               description, size, blob, created_at)
             SELECT ?1, ?2, v.skill_id, v.id, v.number, s.name, v.description, v.size, v.blob,
               v.created_at
             FROM skill_version v JOIN skill s ON s.id = v.skill_id
             WHERE v.id = ?3 AND s.workspace_id = ?4",
            params![session, position, id, workspace],
        )?;
        if copied == 0 {
            return Ok(Err(id.clone()));
        }
    }
    Ok(Ok(()))
}

/// Takes a session's skills away; gives the keys of blobs that lost a reference.
pub(crate) fn detach(tx: &mut dyn Tx, session: &SessionId) -> Result<Vec<String>, StoreError> {
    let sql = "DELETE FROM session_skill WHERE session_id = ?1 RETURNING blob";
    let rows = tx.query(sql, params![session])?.into_iter();
    rows.map(|mut row| row.text("skill blob")).collect()
}

impl Store {
    /// The skills a session was made with, in its agent's order.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_skills(
        &self,
        session: &SessionId,
    ) -> Result<Vec<SkillVersionRow>, StoreError> {
        let session = session.clone();
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM session_skill v WHERE v.session_id = ?1 ORDER BY v.position"
            );
            let rows = tx.query(&sql, params![&session])?.into_iter();
            rows.map(version).collect()
        })
        .await
    }

    /// A version of a skill as one session has it: also when it was deleted since, and `latest` is
    /// the one the session was made with.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_skill_version(
        &self,
        session: &SessionId,
        skill: &SkillId,
        name: VersionName,
    ) -> Result<Option<SkillVersionRow>, StoreError> {
        let (session, skill) = (session.clone(), skill.clone());
        let sql = format!(
            "SELECT {COLUMNS} FROM session_skill v
             WHERE v.skill_id = ?1 AND v.session_id = ?2 {}",
            VersionName::condition("version_id")
        );
        self.read(move |tx| {
            let rows = tx.query(&sql, params![&skill, &session, name.id(), name.number()])?;
            one(rows).map(version).transpose()
        })
        .await
    }

    /// A version of a skill that some session of the environment was made with.
    ///
    /// # Errors
    /// The store failed.
    pub async fn environment_skill_version(
        &self,
        environment: &EnvironmentId,
        skill: &SkillId,
        name: VersionName,
    ) -> Result<Option<SkillVersionRow>, StoreError> {
        let (environment, skill) = (environment.clone(), skill.clone());
        let sql = format!(
            "SELECT {COLUMNS} FROM session_skill v JOIN session s ON s.id = v.session_id
             WHERE v.skill_id = ?1 AND s.environment_id = ?2 {}",
            VersionName::condition("version_id")
        );
        self.read(move |tx| {
            let rows = tx.query(
                &sql,
                params![&skill, &environment, name.id(), name.number()],
            )?;
            one(rows).map(version).transpose()
        })
        .await
    }
}
