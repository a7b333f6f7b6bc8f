//! Listing sessions, in both directions.

use freehold_base::{AgentId, SessionId, Timestamp, WorkspaceId};
use freehold_wire::session::Status;

use super::row::{COLUMNS, SessionRow, session};
use crate::backend::Value;
use crate::sql::Filter;
use crate::{Store, StoreError};

/// Which way a cursor walks, in the order of the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the page that follows.
    Next,
    /// To the page before.
    Prev,
}

/// A place between two sessions of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCursor {
    /// `created_at` of the session at the page's edge.
    pub created_at: Timestamp,
    /// That session.
    pub id: SessionId,
    /// Which way to go from it.
    pub direction: Direction,
}

/// Which sessions to list, newest first unless `ascending`.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Only of this agent.
    pub agent_id: Option<AgentId>,
    /// Only of this version of it.
    pub agent_version: Option<u64>,
    /// Only made after.
    pub created_gt: Option<Timestamp>,
    /// Only made at or after.
    pub created_gte: Option<Timestamp>,
    /// Only made before.
    pub created_lt: Option<Timestamp>,
    /// Only made at or before.
    pub created_lte: Option<Timestamp>,
    /// Only of this deployment.
    pub deployment_id: Option<String>,
    /// Archived ones too.
    pub include_archived: bool,
    /// Only with one of these statuses, if not empty.
    pub statuses: Vec<Status>,
    /// Only with this memory store attached.
    pub memory_store_id: Option<String>,
    /// Oldest first.
    pub ascending: bool,
    /// Where to go on.
    pub cursor: Option<SessionCursor>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

impl Store {
    /// Lists sessions, always in the order asked for; up to `limit + 1`. The surplus session, which
    /// says that there is more in the direction of walking, is the **last** one, but the **first**
    /// one when the cursor walks to [`Direction::Prev`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_sessions(
        &self,
        workspace: &WorkspaceId,
        q: SessionQuery,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let back = q
                .cursor
                .as_ref()
                .is_some_and(|c| c.direction == Direction::Prev);
            let (order, beyond) = if q.ascending != back {
                ("ASC", ">")
            } else {
                ("DESC", "<")
            };
            let mut f = filter(&workspace, &q);
            if let Some(cursor) = &q.cursor {
                f.and(
                    &format!("(s.created_at, s.id) {beyond} ({{}}, {{}})"),
                    [cursor.created_at.into(), Value::from(&cursor.id)],
                );
            }
            let limit = f.param(q.limit.saturating_add(1).into());
            let sql = format!(
                "SELECT {COLUMNS} FROM session s JOIN session_body b ON b.session_id = s.id
                 WHERE {} ORDER BY s.created_at {order}, s.id {order} LIMIT {limit}",
                f.text()
            );
            let rows = tx.query(&sql, &f.params)?.into_iter().map(session);
            let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
            if back {
                rows.reverse();
            }
            Ok(rows)
        })
        .await
    }

    /// How many sessions have each status, over all workspaces; archived ones are left out. Looks
    /// at every open session: for operators, not for requests.
    ///
    /// # Errors
    /// The store failed.
    pub async fn count_sessions(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.read(|tx| {
            let sql = "SELECT status, COUNT(*) FROM session WHERE archived_at IS NULL
               GROUP BY status ORDER BY status";
            let rows = tx.query(sql, &[])?.into_iter();
            rows.map(|mut row| {
                let status = Status::from_name(&row.text("session status")?);
                let status = status.ok_or(StoreError::Corrupt {
                    what: "session status",
                })?;
                Ok((status, row.count("count")?))
            })
            .collect()
        })
        .await
    }
}

fn filter<'a>(workspace: &'a WorkspaceId, q: &'a SessionQuery) -> Filter<'a> {
    let mut f = Filter::default();
    f.and("s.workspace_id = {}", [Value::from(workspace)]);
    f.maybe("s.agent_id = {}", q.agent_id.as_ref());
    f.maybe("s.agent_version = {}", q.agent_version);
    f.maybe("s.created_at > {}", q.created_gt);
    f.maybe("s.created_at >= {}", q.created_gte);
    f.maybe("s.created_at < {}", q.created_lt);
    f.maybe("s.created_at <= {}", q.created_lte);
    f.maybe("s.deployment_id = {}", q.deployment_id.as_ref());
    f.maybe(
        "EXISTS (SELECT 1 FROM session_resource r
           WHERE r.session_id = s.id AND r.memory_store_id = {})",
        q.memory_store_id.as_ref(),
    );
    if !q.include_archived {
        f.fixed("s.archived_at IS NULL");
    }
    if !q.statuses.is_empty() {
        f.one_of(
            "s.status",
            q.statuses.iter().map(|s| Value::from(s.as_str())),
        );
    }
    f
}
