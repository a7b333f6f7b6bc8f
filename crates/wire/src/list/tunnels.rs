//! `GET /v1/tunnels` and `GET /v1/tunnels/{id}/certificates` (contract 60).

use freehold_base::TunnelId;
use freehold_base::limits::page;

use super::cursor;
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope};
use crate::query::Query;

/// Tunnels, or the certificates of one; newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTunnels {
    /// Also archived ones.
    pub include_archived: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListTunnels {
    /// The scope of the cursors of tunnels.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::Tunnels,
        parent: "",
        order: Order::Desc,
    };
    /// The scope of the cursors of a tunnel's certificates.
    pub fn certificates_scope(tunnel: &TunnelId) -> Scope<'_> {
        Scope {
            list: List::TunnelCertificates,
            parent: tunnel.as_str(),
            order: Order::Desc,
        }
    }
    /// Reads a query for tunnels.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn tunnels(query: &Query) -> Result<Self, ApiError> {
        Self::read(query, Self::SCOPE)
    }
    /// Reads a query for a tunnel's certificates.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn certificates(query: &Query, tunnel: &TunnelId) -> Result<Self, ApiError> {
        Self::read(query, Self::certificates_scope(tunnel))
    }
    fn read(query: &Query, scope: Scope<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            include_archived: query.boolean("include_archived")?,
            limit: query.limit(page::TUNNELS)?,
            page: cursor(query, scope)?,
        })
    }
}
