//! `GET /v1/sessions`.

use freehold_base::AgentId;
use freehold_base::limits::page;

use super::{STATUSES, created_at, cursor};
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope, TimeRange};
use crate::query::Query;
use crate::session::Status;

/// `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSessions {
    /// Of this agent.
    pub agent_id: Option<AgentId>,
    /// At this version; only with `agent_id`.
    pub agent_version: Option<u64>,
    /// Created when.
    pub created_at: TimeRange,
    /// Made by this deployment.
    pub deployment_id: Option<String>,
    /// Also archived ones.
    pub include_archived: bool,
    /// With this memory store attached.
    pub memory_store_id: Option<String>,
    /// Any of these; empty is all.
    pub statuses: Vec<Status>,
    /// Newest first unless said otherwise.
    pub order: Order,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListSessions {
    /// The scope of its cursors.
    pub const fn scope(order: Order) -> Scope<'static> {
        Scope {
            list: List::Sessions,
            parent: "",
            order,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let order = query.one_of("order", &Order::NAMES)?.unwrap_or(Order::Desc);
        let created_at = created_at(query)?;
        let page = cursor(query, Self::scope(order))?;
        page.as_ref()
            .map_or(Ok(()), |page| created_at.check(page))?;
        let agent_id = query.id("agent_id")?;
        let agent_version = query.integer("agent_version", 1, i64::MAX as u64)?;
        if agent_version.is_some() && agent_id.is_none() {
            return Err(ApiError::invalid(
                "agent_version: only together with agent_id",
            ));
        }
        Ok(Self {
            agent_version,
            agent_id,
            created_at,
            deployment_id: query.text("deployment_id")?.map(str::to_owned),
            include_archived: query.boolean("include_archived")?,
            memory_store_id: query.text("memory_store_id")?.map(str::to_owned),
            statuses: query.many_of("statuses", &STATUSES)?,
            order,
            limit: query.limit(page::SESSIONS)?,
            page,
        })
    }
}
