//! Environments (contract 20). A body is JSON that this crate does not read; id, name and times
//! stand beside it and are the truth.

use freehold_base::{EnvironmentId, Timestamp, WorkspaceId};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// An environment to be made.
#[derive(Debug, Clone)]
pub struct NewEnvironment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name, unique among the workspace's environments that are not archived.
    pub name: String,
    /// The rest, JSON.
    pub body: String,
}

/// What an update leaves behind.
#[derive(Debug, Clone)]
pub struct EnvironmentChange {
    /// Only if the row still has this `updated_at`: the one the caller merged into.
    pub expected: Option<Timestamp>,
    /// The name.
    pub name: String,
    /// The rest, JSON.
    pub body: String,
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Its id.
    pub id: EnvironmentId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// The rest, JSON.
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed; rises strictly.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Which environments to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentQuery {
    /// Archived ones too.
    pub include_archived: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, EnvironmentId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why an environment was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateEnvironmentError {
    /// No such environment in the workspace.
    #[error("no such environment")]
    NotFound,
    /// The environment is archived.
    #[error("the environment is archived")]
    Archived,
    /// Another environment has the name.
    #[error("the name is taken")]
    NameTaken,
    /// Somebody changed it since the caller looked.
    #[error("the environment was changed meanwhile")]
    Conflict,
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for UpdateEnvironmentError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unique(_) => Self::NameTaken, // Ids are ours and random.
            error => Self::Store(error),
        }
    }
}

/// Why an environment was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteEnvironmentError {
    /// No such environment in the workspace.
    #[error("no such environment")]
    NotFound,
    /// Sessions refer to it.
    #[error("{sessions} sessions use the environment")]
    InUse {
        /// How many.
        sessions: u64,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const COLUMNS: &str = "id, workspace_id, name, body, created_at, updated_at, archived_at";

fn environment(mut row: Row) -> Result<EnvironmentRow, StoreError> {
    Ok(EnvironmentRow {
        id: row.id("environment id")?,
        workspace_id: row.id("environment workspace")?,
        name: row.text("environment name")?,
        body: row.text("environment")?,
        created_at: row.time("environment time")?,
        updated_at: row.time("environment time")?,
        archived_at: row.opt_time("environment time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &EnvironmentId,
) -> Result<Option<EnvironmentRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM environment WHERE id = ?1 AND workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(environment)
        .transpose()
}

fn sessions_of(tx: &mut dyn Tx, id: &EnvironmentId) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM session WHERE environment_id = ?1";
    one(tx.query(sql, params![id])?).map_or(Ok(0), |mut row| row.count("count"))
}

impl Store {
    /// Makes an environment.
    ///
    /// # Errors
    /// [`UpdateEnvironmentError::NameTaken`], or the store failed.
    pub async fn create_environment(
        &self,
        new: NewEnvironment,
    ) -> Result<EnvironmentRow, UpdateEnvironmentError> {
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "INSERT INTO environment (id, workspace_id, name, body, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                params![&new.id, &new.workspace_id, &new.name, &new.body, now],
            )?;
            Ok(EnvironmentRow {
                id: new.id.clone(),
                workspace_id: new.workspace_id.clone(),
                name: new.name.clone(),
                body: new.body.clone(),
                created_at: now,
                updated_at: now,
                archived_at: None,
            })
        })
        .await
    }

    /// Changes an environment.
    ///
    /// # Errors
    /// See [`UpdateEnvironmentError`].
    pub async fn update_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
        change: EnvironmentChange,
    ) -> Result<EnvironmentRow, UpdateEnvironmentError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "UPDATE environment SET name = ?3, body = ?4,
                   updated_at = CASE WHEN updated_at < ?5 THEN ?5 ELSE updated_at + 1 END
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL
                   AND (?6 IS NULL OR updated_at = ?6)
                 RETURNING {COLUMNS}"
            );
            let changed = tx.query(
                &sql,
                params![
                    &id,
                    &workspace,
                    &change.name,
                    &change.body,
                    now,
                    change.expected
                ],
            )?;
            match one(changed) {
                Some(row) => Ok(environment(row)?),
                None => Err(match get(tx, &workspace, &id)? {
                    None => UpdateEnvironmentError::NotFound,
                    Some(row) if row.archived_at.is_some() => UpdateEnvironmentError::Archived,
                    Some(_) => UpdateEnvironmentError::Conflict,
                }),
            }
        })
        .await
    }

    /// Archives an environment for good; again changes nothing. `None` if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<EnvironmentRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "UPDATE environment SET archived_at = ?3,
                   updated_at = CASE WHEN updated_at < ?3 THEN ?3 ELSE updated_at + 1 END
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL",
                params![&id, &workspace, now],
            )?;
            get(tx, &workspace, &id)
        })
        .await
    }

    /// Deletes an environment, archived or not, if no session refers to it.
    ///
    /// # Errors
    /// See [`DeleteEnvironmentError`].
    pub async fn delete_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<(), DeleteEnvironmentError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            if get(tx, &workspace, &id)?.is_none() {
                return Err(DeleteEnvironmentError::NotFound);
            }
            match sessions_of(tx, &id)? {
                0 => {}
                sessions => return Err(DeleteEnvironmentError::InUse { sessions }),
            }
            // All of it has stopped: its sessions are gone.
            tx.execute("DELETE FROM work WHERE environment_id = ?1", params![&id])?;
            tx.execute(
                "DELETE FROM environment_key WHERE environment_id = ?1",
                params![&id],
            )?;
            tx.execute("DELETE FROM poller WHERE environment_id = ?1", params![&id])?;
            // The foreign key backs the count up.
            tx.execute("DELETE FROM environment WHERE id = ?1", params![&id])?;
            Ok(())
        })
        .await
    }

    /// One environment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<EnvironmentRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.look_up(move |tx| get(tx, &workspace, &id)).await
    }

    /// One environment of any workspace: for those who administer all of them.
    ///
    /// # Errors
    /// The store failed.
    pub async fn environment_any(
        &self,
        id: &EnvironmentId,
    ) -> Result<Option<EnvironmentRow>, StoreError> {
        let id = id.clone();
        self.read(move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM environment WHERE id = ?1");
            one(tx.query(&sql, params![&id])?)
                .map(environment)
                .transpose()
        })
        .await
    }

    /// Lists environments; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_environments(
        &self,
        workspace: &WorkspaceId,
        q: EnvironmentQuery,
    ) -> Result<Vec<EnvironmentRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            if !q.include_archived {
                f.fixed("archived_at IS NULL");
            }
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM environment {page}");
            tx.query(&sql, &f.params)?
                .into_iter()
                .map(environment)
                .collect()
        })
        .await
    }

    /// How many sessions of the workspace refer to an environment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn count_sessions_of_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<u64, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| match get(tx, &workspace, &id)? {
            Some(_) => sessions_of(tx, &id),
            None => Ok(0),
        })
        .await
    }
}
