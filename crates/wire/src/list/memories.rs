//! The lists of contract 74.

use freehold_base::limits::page;
use freehold_base::{ApiKeyId, MemoryId, MemoryStoreId, SessionId};

use super::{created_at, cursor};
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope, TimeRange};
use crate::memory::{View, check_prefix};
use crate::memory_version::Operation;
use crate::query::{Query, error};

/// `GET /v1/memory_stores`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListMemoryStores {
    /// Made within.
    pub created_at: TimeRange,
    /// Also archived ones.
    pub include_archived: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListMemoryStores {
    /// The scope of its cursors.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::MemoryStores,
        parent: "",
        order: Order::Desc,
    };
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let created_at = created_at(query)?;
        let page = cursor(query, Self::SCOPE)?;
        page.as_ref()
            .map_or(Ok(()), |page| created_at.check(page))?;
        Ok(Self {
            created_at,
            include_archived: query.boolean("include_archived")?,
            limit: query.limit(page::MEMORIES)?,
            page,
        })
    }
}

/// `GET /v1/memory_stores/{id}/memories`, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListMemories {
    /// Ends in `/`; `/` is the whole store.
    pub path_prefix: String,
    /// Only direct children; deeper memories are folded into prefixes.
    pub folded: bool,
    /// With content or without.
    pub view: View,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListMemories {
    /// The scope of its cursors.
    pub fn scope(store: &MemoryStoreId) -> Scope<'_> {
        Scope {
            list: List::Memories,
            parent: store.as_str(),
            order: Order::Asc,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query, store: &MemoryStoreId) -> Result<Self, ApiError> {
        let path_prefix = query.text("path_prefix")?.unwrap_or("/").to_owned();
        check_prefix(&path_prefix).map_err(|problem| error("path_prefix", problem))?;
        let view = view(query, View::Basic)?;
        Ok(Self {
            path_prefix,
            folded: query.integer("depth", 0, 1)? == Some(1),
            view,
            limit: limit(query, view)?,
            page: cursor(query, Self::scope(store))?,
        })
    }
}

/// `GET /v1/memory_stores/{id}/memory_versions`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListMemoryVersions {
    /// Of this memory.
    pub memory_id: Option<MemoryId>,
    /// Of this kind.
    pub operation: Option<Operation>,
    /// Written by this session.
    pub session_id: Option<SessionId>,
    /// Written with this key.
    pub api_key_id: Option<ApiKeyId>,
    /// Written by this service account; this server has none.
    pub service_account_id: Option<String>,
    /// Made within.
    pub created_at: TimeRange,
    /// With content or without.
    pub view: View,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListMemoryVersions {
    /// The scope of its cursors.
    pub fn scope(store: &MemoryStoreId) -> Scope<'_> {
        Scope {
            list: List::MemoryVersions,
            parent: store.as_str(),
            order: Order::Desc,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query, store: &MemoryStoreId) -> Result<Self, ApiError> {
        let created_at = created_at(query)?;
        let page = cursor(query, Self::scope(store))?;
        page.as_ref()
            .map_or(Ok(()), |page| created_at.check(page))?;
        let view = view(query, View::Basic)?;
        Ok(Self {
            memory_id: query.id("memory_id")?,
            operation: query.one_of("operation", &Operation::NAMES)?,
            session_id: query.id("session_id")?,
            api_key_id: query.id("api_key_id")?,
            service_account_id: query.text("service_account_id")?.map(str::to_owned),
            created_at,
            view,
            limit: limit(query, view)?,
            page,
        })
    }
}

/// The `view` asked for.
///
/// # Errors
/// 400 for an unknown one.
pub fn view(query: &Query, default: View) -> Result<View, ApiError> {
    Ok(query.one_of("view", &View::NAMES)?.unwrap_or(default))
}

/// `limit`; pages with content hold less, whatever was asked for.
fn limit(query: &Query, view: View) -> Result<usize, ApiError> {
    let limit = query.limit(page::MEMORIES)?;
    Ok(match view {
        View::Basic => limit,
        View::Full => limit.min(page::MEMORIES_FULL),
    })
}
