//! `/v1/sessions/{id}/threads` (contract 45): the primary thread, the only one in this version.

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::ThreadId;
use freehold_engine::Rates;
use freehold_store::{EventQuery, SessionRow};
use freehold_wire::agent::{SessionAgent, ThreadAgent};
use freehold_wire::event::params::event_deltas;
use freehold_wire::list::{ListPlain, ListThreads};
use freehold_wire::session::Status;
use freehold_wire::thread::{Thread, ThreadStats, ThreadTag};
use freehold_wire::{ApiError, Page};

use super::query::{Asked, session, stored};
use super::stream::frames;
use super::{events, sessions};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Reply, json, path_id, sse};

/// `GET /v1/sessions/{id}/threads`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let asked = ListThreads::read(&query, &row.id)?;
    let mut data = Vec::new();
    // One thread never fills a page, so no cursor was given out, and one that was made up is past it.
    let wanted = asked.statuses.is_empty() || asked.statuses.contains(&row.status);
    if wanted && asked.page.is_none() {
        data.push(shown(&app, &row)?);
    }
    json(&Page {
        data,
        next_page: None,
    })
}

/// `GET /v1/sessions/{id}/threads/{thread}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, thread)): Path<(String, String)>,
) -> Reply {
    let row = find(&app, &caller, &id, &thread).await?;
    json(&shown(&app, &row)?)
}

/// `POST /v1/sessions/{id}/threads/{thread}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, thread)): Path<(String, String)>,
) -> Reply {
    find(&app, &caller, &id, &thread).await?;
    Err(ApiError::invalid("the primary thread cannot be archived; archive the session").into())
}

/// `GET /v1/sessions/{id}/threads/{thread}/events`
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, thread)): Path<(String, String)>,
    Asked(query): Asked,
) -> Reply {
    let row = find(&app, &caller, &id, &thread).await?;
    let asked = ListPlain::thread_events(&query, &row.thread_id)?;
    let scope = ListPlain::thread_events_scope(&row.thread_id);
    let query = EventQuery {
        limit: asked.limit,
        ..EventQuery::default()
    };
    events::page(&app, &row, scope, asked.page, query).await
}

/// `GET /v1/sessions/{id}/threads/{thread}/stream`
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, thread)): Path<(String, String)>,
    Asked(query): Asked,
) -> Reply {
    let deltas = event_deltas(&query.list("event_deltas"))?;
    let live = app.runtime.hub().subscribe(&path_id("Session", &id)?);
    let row = find(&app, &caller, &id, &thread).await?;
    let over = row.status == Status::Terminated;
    let frames = frames(
        &app,
        caller.credential,
        live,
        row.id,
        row.head_seq,
        deltas,
        over,
    );
    Ok(sse::response(frames.await))
}

/// The session whose primary thread is named.
async fn find(app: &App, caller: &Caller, id: &str, thread: &str) -> Result<SessionRow, Fail> {
    let row = session(app, caller, id).await?;
    let parsed: ThreadId = path_id("Thread", thread)?;
    if parsed != row.thread_id {
        return Err(ApiError::not_found("Thread", thread).into());
    }
    Ok(row)
}

fn shown(app: &App, row: &SessionRow) -> Result<Thread, Fail> {
    let agent = ThreadAgent::from(stored::<SessionAgent>(&row.agent)?);
    let now = app.now();
    let began = row.summary.is_some();
    let summary = events::summary(row)?;
    let was_idle = began && (summary.active_micros > 0 || row.status != Status::Running);
    // A thread's cost leaves the running time out (contract 45).
    let rates = Rates {
        running_second: 0,
        ..app.rates
    };
    let stats = sessions::stats(row, &summary, now);
    Ok(Thread {
        id: row.thread_id.clone(),
        r#type: ThreadTag::SessionThread,
        session_id: row.id.clone(),
        parent_thread_id: None,
        workflow_run_id: None,
        agent,
        status: row.status,
        stats: began.then_some(ThreadStats {
            active_seconds: stats.active_seconds,
            duration_seconds: stats.duration_seconds,
            startup_seconds: 0.0,
        }),
        usage: was_idle.then(|| summary.usage(now, rates)),
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
    })
}
