//! Skills and their versions (contract 70): names and numbers here, archives in the blob store. What
//! sessions keep of them is in [`session`].

mod session;

use freehold_base::{SkillId, SkillVersionId, Timestamp, WorkspaceId};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

pub(crate) use session::{attach, detach};

/// A skill to be made, with its first version.
#[derive(Debug, Clone)]
pub struct NewSkill {
    /// Its id.
    pub id: SkillId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name for people.
    pub display_name: String,
    /// Its first version, which also names it.
    pub first: NewSkillVersion,
}

/// A version to be made. Its blob is put first and held until the row exists.
#[derive(Debug, Clone)]
pub struct NewSkillVersion {
    /// Its id.
    pub id: SkillVersionId,
    /// The name its SKILL.md gives: that of the skill.
    pub name: String,
    /// The description its SKILL.md gives.
    pub description: String,
    /// Bytes of its archive.
    pub size: u64,
    /// Key of its archive.
    pub blob: String,
}

/// A skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillRow {
    /// Its id.
    pub id: SkillId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The name all its versions have.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
    /// The newest version.
    pub latest: SkillVersionId,
    /// That version's number.
    pub latest_number: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its versions last changed.
    pub updated_at: Timestamp,
}

/// A version of a skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillVersionRow {
    /// Its id.
    pub id: SkillVersionId,
    /// Its skill.
    pub skill_id: SkillId,
    /// Ascending within the skill: the microsecond it was made in, or the next free one.
    pub number: u64,
    /// The skill's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Bytes of its archive.
    pub size: u64,
    /// Key of its archive.
    pub blob: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How a version is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionName {
    /// The newest.
    Latest,
    /// By its id.
    Id(SkillVersionId),
    /// By its number.
    Number(u64),
}

impl VersionName {
    /// The rest of a statement that finds the version, with parameters `?3` and `?4`.
    fn condition(id_column: &str) -> String {
        format!(
            "AND (?3 IS NULL OR v.{id_column} = ?3) AND (?4 IS NULL OR v.number = ?4)
             ORDER BY v.number DESC LIMIT 1"
        )
    }
    fn id(&self) -> Option<&SkillVersionId> {
        match self {
            Self::Id(id) => Some(id),
            Self::Latest | Self::Number(_) => None,
        }
    }
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Latest | Self::Id(_) => None,
        }
    }
}

/// Which skills to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct SkillQuery {
    /// Only after this one.
    pub after: Option<(Timestamp, SkillId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why a version was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddSkillVersionError {
    /// No such skill in the workspace.
    #[error("no such skill")]
    NotFound,
    /// The version names itself otherwise than the skill.
    #[error("the skill is named {name}")]
    OtherName {
        /// The skill's name.
        name: String,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Why a version was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteSkillVersionError {
    /// No such version of such a skill in the workspace.
    #[error("no such version")]
    NotFound,
    /// The skill has no other.
    #[error("a skill has at least one version")]
    Last,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Skills with their newest versions. Column order of [`skill`].
const SKILLS: &str = "SELECT s.id, s.workspace_id, s.name, s.display_name, v.id, v.number,
     s.created_at, s.updated_at
   FROM skill s JOIN skill_version v ON v.skill_id = s.id
     AND v.number = (SELECT MAX(n.number) FROM skill_version n WHERE n.skill_id = s.id)";

fn skill(mut row: Row) -> Result<SkillRow, StoreError> {
    Ok(SkillRow {
        id: row.id("skill id")?,
        workspace_id: row.id("skill workspace")?,
        name: row.text("skill name")?,
        display_name: row.text("skill name")?,
        latest: row.id("skill version")?,
        latest_number: row.count("skill version")?,
        created_at: row.time("skill time")?,
        updated_at: row.time("skill time")?,
    })
}

/// Column order of [`version`].
const VERSIONS: &str = "SELECT v.id, v.skill_id, v.number, s.name, v.description, v.size, v.blob,
     v.created_at
   FROM skill_version v JOIN skill s ON s.id = v.skill_id
   WHERE v.skill_id = ?1 AND s.workspace_id = ?2";

fn version(mut row: Row) -> Result<SkillVersionRow, StoreError> {
    Ok(SkillVersionRow {
        id: row.id("skill version id")?,
        skill_id: row.id("skill id")?,
        number: row.count("skill version")?,
        name: row.text("skill name")?,
        description: row.text("skill description")?,
        size: row.count("skill size")?,
        blob: row.text("skill blob")?,
        created_at: row.time("skill time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &SkillId,
) -> Result<Option<SkillRow>, StoreError> {
    let sql = format!("{SKILLS} WHERE s.id = ?1 AND s.workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(skill)
        .transpose()
}

fn get_version(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    skill: &SkillId,
    name: &VersionName,
) -> Result<Option<SkillVersionRow>, StoreError> {
    let sql = format!("{VERSIONS} {}", VersionName::condition("id"));
    let rows = tx.query(&sql, params![skill, workspace, name.id(), name.number()])?;
    one(rows).map(version).transpose()
}

fn insert_version(
    tx: &mut dyn Tx,
    skill: &SkillId,
    number: u64,
    new: &NewSkillVersion,
) -> Result<(), StoreError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO skill_version (id, skill_id, number, description, size, blob, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            &new.id,
            skill,
            number,
            &new.description,
            new.size,
            &new.blob,
            now
        ],
    )
    .map(drop)
}

impl Store {
    /// Makes a skill with its first version.
    ///
    /// # Errors
    /// The store failed.
    pub async fn create_skill(&self, new: NewSkill) -> Result<SkillRow, StoreError> {
        self.write(move |tx| {
            let now = tx.now();
            let number = u64::try_from(now.as_micros()).unwrap_or_default();
            tx.execute(
                "INSERT INTO skill (id, workspace_id, name, display_name, last_number, created_at,
                   updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![
                    &new.id,
                    &new.workspace_id,
                    &new.first.name,
                    &new.display_name,
                    number,
                    now
                ],
            )?;
            insert_version(tx, &new.id, number, &new.first)?;
            get(tx, &new.workspace_id, &new.id)?.ok_or(StoreError::Corrupt { what: "skill" })
        })
        .await
    }

    /// Adds a version, which becomes the newest.
    ///
    /// # Errors
    /// See [`AddSkillVersionError`].
    pub async fn add_skill_version(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        new: NewSkillVersion,
    ) -> Result<SkillVersionRow, AddSkillVersionError> {
        let (workspace, skill) = (workspace.clone(), skill.clone());
        self.write(move |tx| {
            let now = tx.now();
            // Two in one microsecond are still told apart, and no number comes back.
            let moved = tx.query(
                "UPDATE skill SET updated_at = ?4,
                   last_number = CASE WHEN last_number < ?4 THEN ?4 ELSE last_number + 1 END
                 WHERE id = ?1 AND workspace_id = ?2 AND name = ?3 RETURNING last_number",
                params![&skill, &workspace, &new.name, now],
            )?;
            let Some(mut row) = one(moved) else {
                return Err(match get(tx, &workspace, &skill)? {
                    Some(skill) => AddSkillVersionError::OtherName { name: skill.name },
                    None => AddSkillVersionError::NotFound,
                });
            };
            let number = row.count("skill version")?;
            insert_version(tx, &skill, number, &new)?;
            get_version(tx, &workspace, &skill, &VersionName::Id(new.id.clone()))?
                .ok_or(AddSkillVersionError::NotFound)
        })
        .await
    }

    /// One skill.
    ///
    /// # Errors
    /// The store failed.
    pub async fn skill(
        &self,
        workspace: &WorkspaceId,
        id: &SkillId,
    ) -> Result<Option<SkillRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| get(tx, &workspace, &id)).await
    }

    /// Lists skills; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_skills(
        &self,
        workspace: &WorkspaceId,
        q: SkillQuery,
    ) -> Result<Vec<SkillRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("s.workspace_id = {}", [Value::from(&workspace)]);
            let page = f.newest(["s.created_at", "s.id"], q.after.as_ref(), q.limit);
            let sql = format!("{SKILLS} {page}");
            tx.query(&sql, &f.params)?.into_iter().map(skill).collect()
        })
        .await
    }

    /// One version of a skill.
    ///
    /// # Errors
    /// The store failed.
    pub async fn skill_version(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        name: VersionName,
    ) -> Result<Option<SkillVersionRow>, StoreError> {
        let (workspace, skill) = (workspace.clone(), skill.clone());
        self.read(move |tx| get_version(tx, &workspace, &skill, &name))
            .await
    }

    /// Lists a skill's versions, newest first, only those numbered below `before`; up to
    /// `limit + 1`. Empty if there is no such skill.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_skill_versions(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<SkillVersionRow>, StoreError> {
        let (workspace, skill) = (workspace.clone(), skill.clone());
        self.read(move |tx| {
            let sql = format!("{VERSIONS} AND v.number < ?3 ORDER BY v.number DESC LIMIT ?4");
            let before = before.unwrap_or(i64::MAX as u64);
            let limit = limit.saturating_add(1);
            let rows = tx.query(&sql, params![&skill, &workspace, before, limit])?;
            rows.into_iter().map(version).collect()
        })
        .await
    }

    /// Deletes a skill with all its versions, and their bytes unless something else has the same.
    /// Sessions keep what they were made with. Gives whether there was one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_skill(
        &self,
        workspace: &WorkspaceId,
        id: &SkillId,
    ) -> Result<bool, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let freed = self
            .write(move |tx| {
                if get(tx, &workspace, &id)?.is_none() {
                    return Ok(None);
                }
                let sql = "DELETE FROM skill_version WHERE skill_id = ?1 RETURNING blob";
                let freed = tx.query(sql, params![&id])?.into_iter();
                let freed = freed.map(|mut row| row.text("skill blob"));
                let freed = freed.collect::<Result<Vec<_>, _>>()?;
                tx.execute("DELETE FROM skill WHERE id = ?1", params![&id])?;
                Ok::<_, StoreError>(Some(freed))
            })
            .await?;
        self.drop_blobs(freed.as_deref().unwrap_or_default()).await;
        Ok(freed.is_some())
    }

    /// Deletes a version that is not the skill's only one. Sessions keep what they were made with.
    ///
    /// # Errors
    /// See [`DeleteSkillVersionError`].
    pub async fn delete_skill_version(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        name: VersionName,
    ) -> Result<SkillVersionRow, DeleteSkillVersionError> {
        let (workspace, skill) = (workspace.clone(), skill.clone());
        let deleted = self
            .write(move |tx| {
                let now = tx.now();
                // Writing the row first locks it where rows are locked: two that delete one of two
                // versions each must not leave none.
                tx.execute(
                    "UPDATE skill SET updated_at = ?3 WHERE id = ?1 AND workspace_id = ?2",
                    params![&skill, &workspace, now],
                )?;
                let found = get_version(tx, &workspace, &skill, &name)?
                    .ok_or(DeleteSkillVersionError::NotFound)?;
                let sql = "SELECT COUNT(*) FROM skill_version WHERE skill_id = ?1";
                let count = one(tx.query(sql, params![&skill])?);
                if count.map_or(Ok(0), |mut row| row.int("versions"))? < 2 {
                    return Err(DeleteSkillVersionError::Last);
                }
                tx.execute(
                    "DELETE FROM skill_version WHERE id = ?1",
                    params![&found.id],
                )?;
                Ok(found)
            })
            .await?;
        self.drop_blobs(std::slice::from_ref(&deleted.blob)).await;
        Ok(deleted)
    }
}
