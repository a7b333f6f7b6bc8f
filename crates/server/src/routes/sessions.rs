//! `/v1/sessions` (contract 30). Creation is in `create`, the rest here.

mod create;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{SessionId, Timestamp, VaultId};
use freehold_engine::Summary;
use freehold_store::{
    ArchiveError, DeleteSessionError, Direction as Walk, NewEvent, ResourceRow, SessionChange,
    SessionCursor, SessionQuery, SessionRow, UpdateSessionError,
};
use freehold_wire::agent::SessionAgent;
use freehold_wire::cursor::{Direction, Order, Position};
use freehold_wire::event::{Empty, EventBody, ThreadStatus};
use freehold_wire::list::ListSessions;
use freehold_wire::session::{
    Session, SessionChanges, SessionStats, SessionTag, Status, Updatable, UpdateSession,
};
use freehold_wire::usage::Budget;
use freehold_wire::{ApiError, BiPage, Deleted, parse};
use serde_json::value::RawValue;

pub(crate) use create::create;

use super::models::Configured;
use super::query::{Asked, created_position, session, stored, to_json};
use super::{events, resources, vaults};
use crate::app::App;
use crate::auth::{Caller, Principal};
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update is made again on what somebody else left before it gives up. A running session
/// changes often.
const TRIES: usize = 16;

/// `GET /v1/sessions`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(query): Asked,
) -> Reply {
    let asked = ListSessions::read(&query)?;
    let scope = ListSessions::scope(asked.order);
    let limit = asked.limit;
    let cursor = asked.page.clone().map(cursor).transpose()?;
    let back = cursor.as_ref().is_some_and(|c| c.direction == Walk::Prev);
    let paged = cursor.is_some();
    let mut rows = app
        .store
        .list_sessions(&caller.workspace, lookup(asked, cursor))
        .await?;
    let more = rows.len() > limit;
    if more && back {
        rows.remove(0);
    }
    rows.truncate(limit);
    // Walking back, what lies after is where we come from; walking on, what lies before is.
    let (before, after) = if back { (more, true) } else { (paged, more) };
    let position =
        |row: &SessionRow| Position::Created(row.created_at.as_micros(), row.id.to_string());
    let prev_page = rows
        .first()
        .filter(|_| before)
        .map(|row| scope.prev(position(row)));
    let next_page = rows
        .last()
        .filter(|_| after)
        .map(|row| scope.next(position(row)));
    let ids = rows.iter().map(|row| row.id.clone()).collect();
    let mut attached: HashMap<SessionId, Vec<ResourceRow>> = HashMap::new();
    for resource in app.store.resources_of(&caller.workspace, ids).await? {
        attached
            .entry(resource.session_id.clone())
            .or_default()
            .push(resource);
    }
    let data = rows.into_iter().map(|row| {
        let attached = attached.remove(&row.id).unwrap_or_default();
        shown(&app, row, attached)
    });
    json(&BiPage {
        data: data.collect::<Result<Vec<_>, _>>()?,
        next_page,
        prev_page,
    })
}

fn cursor(page: freehold_wire::Cursor) -> Result<SessionCursor, ApiError> {
    let direction = match page.direction {
        Direction::Next => Walk::Next,
        Direction::Prev => Walk::Prev,
    };
    let (created_at, id) = created_position(page)?;
    Ok(SessionCursor {
        created_at,
        id,
        direction,
    })
}

fn lookup(asked: ListSessions, cursor: Option<SessionCursor>) -> SessionQuery {
    SessionQuery {
        agent_id: asked.agent_id,
        agent_version: asked.agent_version,
        created_gt: asked.created_at.gt,
        created_gte: asked.created_at.gte,
        created_lt: asked.created_at.lt,
        created_lte: asked.created_at.lte,
        deployment_id: asked.deployment_id,
        include_archived: asked.include_archived,
        statuses: asked.statuses,
        memory_store_id: asked.memory_store_id,
        ascending: asked.order == Order::Asc,
        cursor,
        limit: asked.limit,
    }
}

/// `GET /v1/sessions/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Reply {
    let row = principal.session(&app, &id).await?;
    reply(&app, row).await
}

/// `POST /v1/sessions/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: UpdateSession = parse(&body)?;
    for _ in 0..TRIES {
        let row = session(&app, &caller, &id).await?;
        let changes = changes(&app, &row, request.clone())?;
        let vaults = changes.vault_ids.as_deref().unwrap_or_default();
        vaults::check_usable(&app, &caller.workspace, vaults).await?;
        // Whether or not it would change anything: the answer must not depend on that.
        if let Some(part) = request.needs_rest()
            && row.status != Status::Idle
        {
            return Err(not_idle(part, &row).into());
        }
        if changes.is_empty() {
            return reply(&app, row).await;
        }
        let wakes = changes.budget.is_some();
        let change = change(&app, &row, &changes)?;
        match app
            .store
            .update_session(&caller.workspace, &row.id, change)
            .await
        {
            Ok(row) => {
                if wakes {
                    app.runtime.wake(&row.id);
                }
                return reply(&app, row).await;
            }
            Err(UpdateSessionError::NotFound) => return Err(missing(&id).into()),
            // It or a vault changed, or it began to run, since we looked: look again.
            Err(
                UpdateSessionError::Conflict
                | UpdateSessionError::Running
                | UpdateSessionError::VaultGone(_),
            ) => {}
            Err(UpdateSessionError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the session is being changed by others; try again").into())
}

fn changes(app: &App, row: &SessionRow, request: UpdateSession) -> Result<SessionChanges, Fail> {
    events::open(row)?;
    let agent: SessionAgent = stored(&row.agent)?;
    let budget: Option<Budget> = row.budget.as_deref().map(stored).transpose()?;
    let vault_ids: Vec<VaultId> = stored(&row.vault_ids)?;
    let now = Updatable {
        agent: &agent,
        title: row.title.as_deref(),
        metadata: &row.metadata,
        budget: budget.as_ref(),
        vault_ids: &vault_ids,
        consumed: events::summary(row)?.list_cost(app.now(), app.rates),
    };
    let changes = request.changes(&now, &Configured(&app.models))?;
    if let Some(refusal) = changes.agent.as_ref().and_then(SessionAgent::unsupported) {
        return Err(refusal.into());
    }
    Ok(changes)
}

fn change(app: &App, row: &SessionRow, changes: &SessionChanges) -> Result<SessionChange, Fail> {
    let event = EventBody::Updated(Box::new(changes.event()));
    let budget = changes.budget.as_ref();
    Ok(SessionChange {
        title: changes.title.clone(),
        metadata: changes.metadata.clone(),
        agent: changes.agent.as_ref().map(to_json).transpose()?,
        budget: budget
            .map(|b| b.as_ref().map(to_json).transpose())
            .transpose()?,
        vault_ids: changes.vault_ids.as_ref().map(to_json).transpose()?,
        event: Some(NewEvent::new(app.ids.next(), &event)),
        require_not_running: changes.agent.is_some() || changes.vault_ids.is_some(),
        expected: Some(row.updated_at),
    })
}

/// `POST /v1/sessions/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let agent: SessionAgent = stored(&row.agent)?;
    let thread = ThreadStatus {
        session_thread_id: row.thread_id.clone(),
        agent_name: agent.name,
    };
    let ending = [
        EventBody::ThreadTerminated(thread),
        EventBody::StatusTerminated(Empty {}),
    ];
    let ending = ending
        .iter()
        .map(|body| NewEvent::new(app.ids.next(), body))
        .collect();
    match app
        .store
        .archive_session(&caller.workspace, &row.id, ending)
        .await
    {
        Ok(row) => reply(&app, row).await,
        Err(ArchiveError::NotFound) => Err(missing(&id).into()),
        Err(ArchiveError::Running) => Err(running("archived").into()),
        Err(ArchiveError::Store(error)) => Err(error.into()),
    }
}

/// `DELETE /v1/sessions/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed: SessionId = path_id("Session", &id)?;
    match app.store.delete_session(&caller.workspace, &parsed).await {
        Ok(()) => {
            app.runtime.session_deleted(&parsed).await;
            json(&Deleted {
                id,
                r#type: "session_deleted",
            })
        }
        Err(DeleteSessionError::NotFound) => Err(missing(&id).into()),
        Err(DeleteSessionError::Running) => Err(running("deleted").into()),
        Err(DeleteSessionError::Store(error)) => Err(error.into()),
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("Session", id)
}

fn running(what: &str) -> ApiError {
    ApiError::invalid(format!(
        "a running session cannot be {what}; send user.interrupt and wait until it is idle"
    ))
}

fn not_idle(part: &str, row: &SessionRow) -> ApiError {
    ApiError::invalid(format!(
        "{part}: can be changed only while the session is idle; it is {}",
        row.status.as_str()
    ))
}

/// The session of a row with what is attached to it.
async fn reply(app: &App, row: SessionRow) -> Reply {
    let attached = resources::all(app, &row).await?;
    json(&shown(app, row, attached)?)
}

fn shown(
    app: &App,
    row: SessionRow,
    attached: Vec<ResourceRow>,
) -> Result<Session<Box<RawValue>>, Fail> {
    let now = app.now();
    let summary = events::summary(&row)?;
    let stats = stats(&row, &summary, now);
    Ok(Session {
        id: row.id,
        r#type: SessionTag::Session,
        // Stored as it is shown; reading it would cost more than all the rest.
        agent: RawValue::from_string(row.agent).map_err(|error| Fail::internal(&error))?,
        environment_id: row.environment_id,
        status: row.status,
        title: row.title,
        metadata: row.metadata,
        resources: attached
            .into_iter()
            .map(resources::shown)
            .collect::<Result<_, _>>()?,
        vault_ids: stored(&row.vault_ids)?,
        budget: row.budget.as_deref().map(stored).transpose()?,
        usage: summary.usage(now, app.rates),
        stats,
        outcome_evaluations: Vec::new(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        deployment_id: row.deployment_id,
    })
}

/// Times of a session as of `now`.
pub(super) fn stats(row: &SessionRow, summary: &Summary, now: Timestamp) -> SessionStats {
    SessionStats {
        active_seconds: summary.active_seconds(now),
        duration_seconds: row
            .terminated_at
            .unwrap_or(now)
            .seconds_since(row.created_at),
    }
}
