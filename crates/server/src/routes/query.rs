//! What handlers read beside bodies: query strings, and the rows that paths name.

use axum::extract::FromRequestParts;
use freehold_base::{Id, Kind, Timestamp};
use freehold_store::SessionRow;
use freehold_wire::cursor::{Cursor, Position};
use freehold_wire::{ApiError, Page, Query, Scope};
use http::request::Parts;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Reply, json, path_id};

/// The decoded query string.
pub(crate) struct Asked(pub(crate) Query);

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fail> {
        Ok(Self(Query::parse(parts.uri.query().unwrap_or_default())?))
    }
}

/// The session a path names, in the caller's workspace.
///
/// # Errors
/// 404 for one that does not exist or belongs to another workspace: they cannot be told apart.
pub(crate) async fn session(app: &App, caller: &Caller, id: &str) -> Result<SessionRow, Fail> {
    let parsed = path_id("Session", id)?;
    let row = app.store.session(&caller.workspace, &parsed).await?;
    row.ok_or_else(|| ApiError::not_found("Session", id).into())
}

/// Where a list ordered by creation goes on.
///
/// # Errors
/// 400 for a cursor whose id is none.
pub(crate) fn created_position<K: Kind>(cursor: Cursor) -> Result<(Timestamp, Id<K>), ApiError> {
    let id = match &cursor.position {
        Position::Created(at, id) => id.parse().map(|id| (Timestamp::from_micros(*at), id)).ok(),
        _ => None,
    };
    id.ok_or_else(|| ApiError::invalid("page: not a valid page cursor"))
}

/// A page of what the store gave, which is one more than `limit` if there is more. `place` is where
/// in the list a row stands.
pub(crate) fn created_page<R, T: serde::Serialize>(
    mut rows: Vec<R>,
    limit: usize,
    scope: Scope<'_>,
    place: impl Fn(&R) -> (Timestamp, String),
    shown: impl Fn(R) -> Result<T, Fail>,
) -> Reply {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let (at, id) = place(last);
        scope.next(Position::Created(at.as_micros(), id))
    });
    let data = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    json(&Page { data, next_page })
}

/// Reads JSON that this server stored; failing to is a fault of ours.
pub(crate) fn stored<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fail> {
    serde_json::from_str(text).map_err(|error| Fail::internal(&error))
}

/// The JSON of a value of ours.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Fail> {
    serde_json::to_string(value).map_err(|error| Fail::internal(&error))
}
