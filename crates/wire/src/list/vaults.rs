//! `GET /v1/vaults` and `GET /v1/vaults/{id}/credentials` (contract 64).

use freehold_base::VaultId;
use freehold_base::limits::page;

use super::cursor;
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope};
use crate::query::Query;

/// Vaults, or the credentials of one; newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListVaults {
    /// Also archived ones.
    pub include_archived: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListVaults {
    /// The scope of the cursors of vaults.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::Vaults,
        parent: "",
        order: Order::Desc,
    };
    /// The scope of the cursors of a vault's credentials.
    pub fn credentials_scope(vault: &VaultId) -> Scope<'_> {
        Scope {
            list: List::Credentials,
            parent: vault.as_str(),
            order: Order::Desc,
        }
    }
    /// Reads a query for vaults.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn vaults(query: &Query) -> Result<Self, ApiError> {
        Self::read(query, Self::SCOPE)
    }
    /// Reads a query for a vault's credentials.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn credentials(query: &Query, vault: &VaultId) -> Result<Self, ApiError> {
        Self::read(query, Self::credentials_scope(vault))
    }
    fn read(query: &Query, scope: Scope<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            include_archived: query.boolean("include_archived")?,
            limit: query.limit(page::VAULTS)?,
            page: cursor(query, scope)?,
        })
    }
}
