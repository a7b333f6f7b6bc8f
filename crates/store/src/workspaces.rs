//! The organization and its workspaces (contract 84).

use freehold_base::{IdSource, OrganizationId, Timestamp, WorkspaceId};

use crate::backend::{Announcement, Row, Tx, one, params};
use crate::{Store, StoreError};

/// The organization; there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationRow {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// When the data directory was made.
    pub created_at: Timestamp,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Whether it is the one made at first start.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was archived; its keys stopped then.
    pub archived_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, is_default, created_at, archived_at";

fn workspace(mut row: Row) -> Result<WorkspaceRow, StoreError> {
    Ok(WorkspaceRow {
        id: row.id("workspace id")?,
        name: row.text("workspace name")?,
        is_default: row.flag("workspace flag")?,
        created_at: row.time("workspace time")?,
        archived_at: row.opt_time("workspace time")?,
    })
}

/// Makes the organization and its default workspace, if there is none yet.
///
/// # Errors
/// The database failed.
pub fn seed(tx: &mut dyn Tx, ids: &IdSource) -> Result<(), StoreError> {
    if !tx.query("SELECT 1 FROM organization", &[])?.is_empty() {
        return Ok(());
    }
    let (organization, default): (OrganizationId, WorkspaceId) = (ids.next(), ids.next());
    let now = tx.now();
    tx.execute(
        "INSERT INTO organization (id, name, created_at) VALUES (?1, ?2, ?3)",
        params![&organization, "Freehold", now],
    )?;
    tx.execute(
        "INSERT INTO workspace (id, organization_id, name, is_default, created_at)
         VALUES (?1, ?2, ?3, 1, ?4)",
        params![&default, &organization, "Default", now],
    )?;
    Ok(())
}

impl Store {
    /// The organization.
    ///
    /// # Errors
    /// The store failed.
    pub async fn organization(&self) -> Result<OrganizationRow, StoreError> {
        self.read(|tx| {
            let rows = tx.query("SELECT id, name, created_at FROM organization", &[])?;
            let mut row = one(rows).ok_or(StoreError::Corrupt {
                what: "organization",
            })?;
            Ok(OrganizationRow {
                id: row.id("organization id")?,
                name: row.text("organization name")?,
                created_at: row.time("organization time")?,
            })
        })
        .await
    }

    /// The workspace made at first start.
    ///
    /// # Errors
    /// The store failed.
    pub async fn default_workspace(&self) -> Result<WorkspaceRow, StoreError> {
        self.read(|tx| {
            let sql = format!("SELECT {COLUMNS} FROM workspace WHERE is_default = 1");
            let row = one(tx.query(&sql, &[])?);
            workspace(row.ok_or(StoreError::Corrupt {
                what: "default workspace",
            })?)
        })
        .await
    }

    /// Makes a workspace. Names need not be unique.
    ///
    /// # Errors
    /// The store failed.
    pub async fn create_workspace(&self, name: String) -> Result<WorkspaceRow, StoreError> {
        let id: WorkspaceId = self.ids().next();
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "INSERT INTO workspace (id, organization_id, name, is_default, created_at)
                 SELECT ?1, id, ?2, 0, ?3 FROM organization RETURNING {COLUMNS}"
            );
            let row = one(tx.query(&sql, params![&id, &name, now])?);
            workspace(row.ok_or(StoreError::Corrupt {
                what: "organization",
            })?)
        })
        .await
    }

    /// One workspace, archived or not.
    ///
    /// # Errors
    /// The store failed.
    pub async fn workspace(&self, id: &WorkspaceId) -> Result<Option<WorkspaceRow>, StoreError> {
        let id = id.clone();
        self.read(move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM workspace WHERE id = ?1");
            one(tx.query(&sql, params![&id])?)
                .map(workspace)
                .transpose()
        })
        .await
    }

    /// All workspaces, oldest first. They are made by the operator and few: no pages.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_workspaces(
        &self,
        include_archived: bool,
    ) -> Result<Vec<WorkspaceRow>, StoreError> {
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM workspace WHERE ?1 = 1 OR archived_at IS NULL
                 ORDER BY created_at, id"
            );
            tx.query(&sql, params![include_archived])?
                .into_iter()
                .map(workspace)
                .collect()
        })
        .await
    }

    /// Archives a workspace for good: its keys stop working. `None` if it does not exist or is the
    /// default one, which stays; archiving again changes nothing.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_workspace(
        &self,
        id: &WorkspaceId,
    ) -> Result<Option<WorkspaceRow>, StoreError> {
        let id = id.clone();
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "UPDATE workspace SET archived_at = COALESCE(archived_at, ?2)
                 WHERE id = ?1 AND is_default = 0 RETURNING {COLUMNS}"
            );
            tx.announce(Announcement::AccessChanged);
            one(tx.query(&sql, params![&id, now])?)
                .map(workspace)
                .transpose()
        })
        .await
    }
}
