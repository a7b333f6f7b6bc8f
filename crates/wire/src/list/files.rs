//! `GET /v1/files`.

use freehold_base::limits::page;
use freehold_base::{FileId, SessionId};

use super::cursor;
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope};
use crate::query::{Query, error};

/// Values of `ids[]` of a file list, after repeats are dropped (contract 72).
const MAX_IDS: usize = 100;

/// `GET /v1/files`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListFiles {
    /// These files, in one page; unknown ids are left out.
    Ids(Vec<FileId>),
    /// A page of all files, or of a session's.
    Page {
        /// Of this session.
        scope_id: Option<SessionId>,
        /// Page size.
        limit: usize,
        /// Where to start.
        page: Option<Cursor>,
    },
}

impl ListFiles {
    /// The scope of its cursors.
    pub fn scope(scope_id: Option<&SessionId>) -> Scope<'_> {
        Scope {
            list: List::Files,
            parent: scope_id.map_or("", SessionId::as_str),
            order: Order::Desc,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let scope_id: Option<SessionId> = query.id("scope_id")?;
        if query.has("ids") {
            for key in ["page", "limit", "scope_id"] {
                if query.has(key) {
                    return Err(error("ids", format_args!("Cannot be combined with {key}")));
                }
            }
            let mut distinct = query.list("ids");
            distinct.sort_unstable();
            distinct.dedup();
            if MAX_IDS < distinct.len() {
                return Err(error(
                    "ids",
                    format_args!("At most {MAX_IDS} ids are allowed, not {}", distinct.len()),
                ));
            }
            // What is no file id names no file: dropped like an unknown one.
            let ids = distinct.into_iter().filter_map(|id| id.parse().ok());
            return Ok(Self::Ids(ids.collect()));
        }
        let page = cursor(query, Self::scope(scope_id.as_ref()))?;
        Ok(Self::Page {
            scope_id,
            limit: query.limit(page::FILES)?,
            page,
        })
    }
}
