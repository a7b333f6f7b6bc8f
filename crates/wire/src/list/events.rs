//! `GET /v1/sessions/{id}/events`.

use freehold_base::SessionId;
use freehold_base::limits::page;

use super::{created_at, cursor};
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope, TimeRange};
use crate::event::FILTERABLE;
use crate::query::{Query, error};

/// `GET /v1/sessions/{id}/events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEvents {
    /// Compared with `processed_at`.
    pub created_at: TimeRange,
    /// Any of these; empty is all.
    pub types: Vec<&'static str>,
    /// Oldest first unless said otherwise.
    pub order: Order,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListEvents {
    /// The scope of its cursors.
    pub fn scope(session: &SessionId, order: Order) -> Scope<'_> {
        Scope {
            list: List::Events,
            parent: session.as_str(),
            order,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter; an unknown event type is named too.
    pub fn read(query: &Query, session: &SessionId) -> Result<Self, ApiError> {
        let order = query.one_of("order", &Order::NAMES)?.unwrap_or(Order::Asc);
        let mut types = Vec::new();
        for given in query.list("types") {
            let Some(known) = FILTERABLE.into_iter().find(|t| *t == given) else {
                return Err(error(
                    "types",
                    format_args!(
                        "'{}' is not an event type that can be filtered by",
                        crate::decode::echo(given)
                    ),
                ));
            };
            if !types.contains(&known) {
                types.push(known);
            }
        }
        Ok(Self {
            created_at: created_at(query)?,
            types,
            order,
            limit: query.limit(page::EVENTS)?,
            page: cursor(query, Self::scope(session, order))?,
        })
    }
}
