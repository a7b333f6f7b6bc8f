//! `GET /v1/agents`.

use freehold_base::limits::page;

use super::{created_at, cursor};
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope, TimeRange};
use crate::query::{Query, error};

/// `GET /v1/agents`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAgents {
    /// `gte` and `lte` only.
    pub created_at: TimeRange,
    /// Also archived ones.
    pub include_archived: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListAgents {
    /// The scope of its cursors.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::Agents,
        parent: "",
        order: Order::Desc,
    };
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        for key in ["created_at[gt]", "created_at[lt]"] {
            if query.has(key) {
                // Ignoring it would answer another question than was asked.
                return Err(error(
                    key,
                    "Only created_at[gte] and created_at[lte] are supported",
                ));
            }
        }
        let created_at = created_at(query)?;
        let page = cursor(query, Self::SCOPE)?;
        page.as_ref()
            .map_or(Ok(()), |page| created_at.check(page))?;
        Ok(Self {
            created_at,
            include_archived: query.boolean("include_archived")?,
            limit: query.limit(page::AGENTS)?,
            page,
        })
    }
}
