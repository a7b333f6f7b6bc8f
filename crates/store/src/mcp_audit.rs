//! The record of requests to MCP servers and of decisions over their tools. Bounded by age and by
//! number; written in batches.

use freehold_base::{McpAuditId, Timestamp, WorkspaceId};

use crate::backend::{Row, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMcpAudit {
    /// On whose behalf.
    pub workspace: WorkspaceId,
    /// When it began.
    pub at: Timestamp,
    /// The server's URL, normalised.
    pub server: String,
    /// A method such as `tools/call`, or a decision such as `approve`.
    pub action: String,
    /// The tool, if it concerns one.
    pub tool: Option<String>,
    /// What came of it.
    pub outcome: String,
    /// All else: a JSON object.
    pub body: String,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpAuditRow {
    /// Its id.
    pub id: McpAuditId,
    /// As it was written.
    pub entry: NewMcpAudit,
}

/// Which entries to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct McpAuditQuery {
    /// Of this server, by its normalised URL.
    pub server: Option<String>,
    /// Of tools of this name.
    pub tool: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// After this one.
    pub after: Option<(Timestamp, McpAuditId)>,
    /// At most this many; one more is given.
    pub limit: usize,
}

const COLUMNS: &str = "id, workspace_id, at, server, action, tool, outcome, body";

fn entry(mut row: Row) -> Result<McpAuditRow, StoreError> {
    let what = "MCP audit entry";
    Ok(McpAuditRow {
        id: row.id(what)?,
        entry: NewMcpAudit {
            workspace: row.id(what)?,
            at: row.time(what)?,
            server: row.text(what)?,
            action: row.text(what)?,
            tool: row.opt_text(what)?,
            outcome: row.text(what)?,
            body: row.text(what)?,
        },
    })
}

impl Store {
    /// Writes entries, all of them or none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_mcp_audit(&self, entries: Vec<NewMcpAudit>) -> Result<(), StoreError> {
        let ids = self.ids().clone();
        self.write_single(move |tx| {
            for new in &entries {
                let id: McpAuditId = ids.next();
                tx.execute(
                    &format!(
                        "INSERT INTO mcp_audit ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                    ),
                    params![
                        &id,
                        &new.workspace,
                        new.at,
                        &new.server,
                        &new.action,
                        new.tool.as_ref(),
                        &new.outcome,
                        &new.body
                    ],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Lists entries, newest first; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_mcp_audit(
        &self,
        workspace: &WorkspaceId,
        q: McpAuditQuery,
    ) -> Result<Vec<McpAuditRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            f.maybe("server = {}", q.server.as_ref());
            f.maybe("tool = {}", q.tool.as_ref());
            f.maybe("action = {}", q.action.as_ref());
            f.maybe("outcome = {}", q.outcome.as_ref());
            let page = f.newest(["at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM mcp_audit {page}");
            tx.query(&sql, &f.params)?.into_iter().map(entry).collect()
        })
        .await
    }

    /// Removes entries that began before `before`, and the oldest of each workspace beyond `most`,
    /// at most `batch` of each in one call. Gives how many went; fewer than `batch`: all that had
    /// to.
    ///
    /// # Errors
    /// The store failed.
    pub async fn trim_mcp_audit(
        &self,
        before: Timestamp,
        most: usize,
        batch: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |tx| {
            let mut gone = tx.execute(
                "DELETE FROM mcp_audit WHERE id IN
                   (SELECT id FROM mcp_audit WHERE at < ?1 ORDER BY at LIMIT ?2)",
                params![before, batch],
            )?;
            for mut row in tx.query("SELECT id FROM workspace ORDER BY id", &[])? {
                let workspace = row.text("workspace id")?;
                let newest = "SELECT at FROM mcp_audit WHERE workspace_id = ?1
                  ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?2";
                let Some(mut row) = one(tx.query(newest, params![&workspace, most])?) else {
                    continue;
                };
                let at = row.time("MCP audit entry")?;
                gone += tx.execute(
                    "DELETE FROM mcp_audit WHERE id IN
                       (SELECT id FROM mcp_audit WHERE workspace_id = ?1 AND at <= ?2
                        ORDER BY at LIMIT ?3)",
                    params![&workspace, at, batch],
                )?;
            }
            Ok(gone)
        })
        .await
    }
}
