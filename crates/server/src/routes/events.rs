//! `/v1/sessions/{id}/events`: send, list, stream (contract 40).

mod send;

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_engine::Summary;
use freehold_store::{EventQuery, Input, NewEvent, SessionRow};
use freehold_wire::cursor::{Cursor, Order, Position, TimeRange};
use freehold_wire::event::EventBody;
use freehold_wire::event::params::event_deltas;
use freehold_wire::list::ListEvents;
use freehold_wire::session::Status;
use freehold_wire::{ApiError, Scope};

pub(crate) use send::send;

use super::query::{Asked, stored};
use super::stream::frames;
use crate::app::App;
use crate::auth::Principal;
use crate::http::{Fail, Reply, path_id, raw_json, sse};

/// How an event enters the session: results at once, the rest through the driver.
pub(super) fn input(app: &App, body: &EventBody) -> Input {
    let event = NewEvent::new(app.ids.next(), body);
    match body {
        EventBody::UserToolResult(_) | EventBody::UserCustomToolResult(_) => {
            Input::Record { event }
        }
        _ => {
            let starts_turn = matches!(
                body,
                EventBody::UserMessage(_) | EventBody::UserToolConfirmation(_)
            );
            Input::Queue { event, starts_turn }
        }
    }
}

/// Refuses a session that takes nothing more.
pub(super) fn open(row: &SessionRow) -> Result<(), ApiError> {
    let state = if row.archived_at.is_some() {
        "archived"
    } else if row.status == Status::Terminated {
        "terminated"
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(format!(
        "Session `{}` is {state} and takes no more events.",
        row.id
    )))
}

/// The totals of a session.
pub(super) fn summary(row: &SessionRow) -> Result<Summary, Fail> {
    row.summary
        .as_deref()
        .map_or_else(|| Ok(Summary::default()), stored)
}

/// `GET /v1/sessions/{id}/events`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let row = principal.session(&app, &id).await?;
    let asked = ListEvents::read(&query, &row.id)?;
    let scope = ListEvents::scope(&row.id, asked.order);
    let query = EventQuery {
        types: asked.types.iter().map(|t| (*t).to_owned()).collect(),
        descending: asked.order == Order::Desc,
        ..ranged(&asked.created_at)
    };
    page(
        &app,
        &row,
        scope,
        asked.page,
        EventQuery {
            limit: asked.limit,
            ..query
        },
    )
    .await
}

fn ranged(range: &TimeRange) -> EventQuery {
    EventQuery {
        gt: range.gt,
        gte: range.gte,
        lt: range.lt,
        lte: range.lte,
        ..EventQuery::default()
    }
}

/// Bytes after which a page ends early; the next one goes on from there. One event may be as large
/// as a request, so a page is bounded by more than its number of events.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// One page of a session's events.
pub(super) async fn page(
    app: &App,
    row: &SessionRow,
    scope: Scope<'_>,
    cursor: Option<Cursor>,
    mut query: EventQuery,
) -> Reply {
    query.after = cursor.and_then(|c| match c.position {
        Position::Sequence(log, inbox) => Some((log, inbox)),
        _ => None,
    });
    let limit = query.limit;
    let (mut found, mut more) = app
        .store
        .list_events_within(&row.id, query.clone(), MAX_PAGE_BYTES)
        .await?;
    more |= found.len() > limit;
    found.truncate(limit);
    let mut out = String::from("{\"data\":[");
    for (n, event) in found.iter().enumerate() {
        if out.len() >= MAX_PAGE_BYTES {
            more = true;
            found.truncate(n);
            break;
        }
        if n > 0 {
            out.push(',');
        }
        out.push_str(&event.wire());
    }
    query.after = query.position(&found).or(query.after);
    out.push_str("],\"next_page\":");
    match query.after.filter(|_| more) {
        Some((log, inbox)) => {
            out.push('"');
            out.push_str(&scope.next(Position::Sequence(log, inbox)));
            out.push('"');
        }
        None => out.push_str("null"),
    }
    out.push('}');
    Ok(raw_json(out))
}

/// `GET /v1/sessions/{id}/events/stream`
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let deltas = event_deltas(&query.list("event_deltas"))?;
    // Subscribed before the look at the log's head, so that nothing lies between the two.
    let live = app.runtime.hub().subscribe(&path_id("Session", &id)?);
    let row = principal.session(&app, &id).await?;
    let over = row.status == Status::Terminated;
    let frames = frames(
        &app,
        principal.credential,
        live,
        row.id,
        row.head_seq,
        deltas,
        over,
    );
    Ok(sse::response(frames.await))
}
