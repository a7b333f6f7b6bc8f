//! `/v1/environments/{id}/work`: the queue workers claim sessions from (contract 50). Who may call
//! what is the table of its §1; where that leaves an API key open, we refuse it: what only workers
//! need must not tempt anybody to give a worker an API key.

mod lease;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use freehold_base::limits::MAX_WORKER_ID;
use freehold_base::{EnvironmentId, Secret, WorkspaceId};
use freehold_store::{EnvironmentRow, NewPoll, WorkQuery, WorkRow};
use freehold_wire::cursor::Position;
use freehold_wire::environment::{Environment, EnvironmentConfig};
use freehold_wire::list::ListPlain;
use freehold_wire::work::{
    PollQuery, StatsTag, UpdateWork, Work, WorkData, WorkSecret, WorkStats, WorkTag,
};
use freehold_wire::{ApiError, ErrorKind, Page, Query, parse};
use http::HeaderMap;
use tokio::time::Instant;

pub(crate) use lease::{ack, heartbeat, stop};

use super::environments;
use super::query::{Asked, created_position, stored};
use crate::app::App;
use crate::auth::{Caller, Principal, Reach};
use crate::credential;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update is made again on what somebody else left before it gives up.
const TRIES: usize = 8;

/// `GET /v1/environments/{id}/work`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let environment = of_worker(&principal, &id)?;
    page(&app, &environment, &query).await
}

/// One page of an environment's items.
pub(super) async fn page(app: &App, environment: &EnvironmentId, query: &Query) -> Reply {
    let asked = ListPlain::work(query, environment)?;
    let query = WorkQuery {
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let mut rows = app.store.list_work(environment, query).await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let position = Position::Created(last.created_at.as_micros(), last.id.to_string());
        ListPlain::work_scope(environment).next(position)
    });
    let data = rows.into_iter().map(|row| shown(row, None)).collect();
    json(&Page::<Work> { data, next_page })
}

/// `GET /v1/environments/{id}/work/{work_id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, work)): Path<(String, String)>,
) -> Reply {
    let environment = of_workspace(&app, &caller.workspace, &id).await?;
    json(&shown(find(&app, &environment, &work).await?, None))
}

/// `POST /v1/environments/{id}/work/{work_id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, work)): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let environment = of_workspace(&app, &caller.workspace, &id).await?;
    let request: UpdateWork = parse(&body)?;
    for _ in 0..TRIES {
        let row = find(&app, &environment, &work).await?;
        let metadata = request.metadata.apply(&row.metadata)?;
        let changed = app
            .store
            .set_work_metadata(&environment, &row.id, &row.metadata, &metadata)
            .await?;
        if let Some(row) = changed {
            return json(&shown(row, None));
        }
    }
    Err(ApiError::conflict("the work item is being changed by others; try again").into())
}

/// `GET /v1/environments/{id}/work/poll`: an item, or `null`.
pub(crate) async fn poll(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Asked(query): Asked,
    headers: HeaderMap,
) -> Reply {
    let environment = of_worker(&principal, &id)?;
    let Reach::Environment { key, .. } = &principal.reach else {
        return Err(no_api_key()); // `of_worker` lets no other pass.
    };
    let asked = PollQuery::read(&query)?;
    let worker = worker(&headers)?;
    let deadline = asked
        .block_ms
        .map(|ms| Instant::now() + Duration::from_millis(ms));
    let waiting = app.runtime.hub().work().queue(&environment);
    loop {
        let mut rung = std::pin::pin!(waiting.bell().notified());
        // Before the look at the queue, so that no item comes in between unheard.
        rung.as_mut().enable();
        let token = credential::generate_session_token(&app.ids);
        let poll = NewPoll {
            environment: environment.clone(),
            worker: worker.map(str::to_owned),
            key: key.clone(),
            reclaim_older_than_ms: asked.reclaim_older_than_ms,
            token_hash: credential::hash(token.expose()),
        };
        if let Some(row) = app.store.poll_work(poll).await? {
            return json(&shown(row, Some(token)));
        }
        let Some(deadline) = deadline else {
            return json(&None::<Work>);
        };
        tokio::select! {
            () = rung => {}
            () = app.stopping.cancelled() => return json(&None::<Work>),
            () = tokio::time::sleep_until(deadline) => return json(&None::<Work>),
        }
    }
}

/// `GET /v1/environments/{id}/work/stats`
pub(crate) async fn stats(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Reply {
    let environment = match &principal.reach {
        Reach::Workspace { .. } => of_workspace(&app, &principal.workspace, &id).await?,
        Reach::Environment { .. } | Reach::Session { .. } => of_worker(&principal, &id)?,
    };
    let queue = app.store.work_stats(&environment).await?;
    json(&WorkStats {
        r#type: StatsTag::WorkQueueStats,
        depth: queue.depth,
        pending: queue.pending,
        oldest_queued_at: queue.oldest_queued_at,
        workers_polling: Some(queue.polling),
    })
}

fn worker(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(id) = headers.get("anthropic-worker-id") else {
        return Ok(None);
    };
    let id = id.to_str().ok().map(str::trim);
    id.filter(|id| (1..=MAX_WORKER_ID).contains(&id.len()))
        .map(Some)
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "anthropic-worker-id: should have 1 to {MAX_WORKER_ID} visible ASCII characters"
            ))
        })
}

/// The environment a path names, for its key.
///
/// # Errors
/// 403 for every other credential, saying why an API key is none a worker should hold.
fn of_worker(principal: &Principal, id: &str) -> Result<EnvironmentId, Fail> {
    let asked: EnvironmentId = path_id("Environment", id)?;
    match &principal.reach {
        Reach::Environment { environment, .. } if *environment == asked => Ok(asked),
        Reach::Environment { .. } => Err(elsewhere()),
        Reach::Workspace { .. } => Err(no_api_key()),
        Reach::Session { .. } => Err(forbidden(
            "a session token opens its session and its work item only; this endpoint needs the \
             environment key",
        )),
    }
}

/// The environment a path names, in a workspace.
///
/// # Errors
/// 404, or 400 if it has no queue.
async fn of_workspace(app: &App, workspace: &WorkspaceId, id: &str) -> Result<EnvironmentId, Fail> {
    self_hosted(environments::find(app, workspace, id).await?)
}

/// The same of any workspace, for those who administer all of them.
pub(super) async fn of_any(app: &App, id: &str) -> Result<EnvironmentId, Fail> {
    let row = app
        .store
        .environment_any(&path_id("Environment", id)?)
        .await?;
    let row: EnvironmentRow = row.ok_or_else(|| ApiError::not_found("Environment", id))?;
    let environment: Environment = stored(&row.body)?;
    self_hosted(Environment {
        id: row.id,
        ..environment
    })
}

fn self_hosted(environment: Environment) -> Result<EnvironmentId, Fail> {
    if environment.config == EnvironmentConfig::SelfHosted {
        return Ok(environment.id);
    }
    Err(ApiError::invalid(format!(
        "Environment `{}` is not a self-hosted environment: only those have a work queue and keys.",
        environment.id
    ))
    .into())
}

async fn find(app: &App, environment: &EnvironmentId, id: &str) -> Result<WorkRow, Fail> {
    let row = app.store.work(environment, &path_id("Work", id)?).await?;
    row.ok_or_else(|| missing(id).into())
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("Work", id)
}

fn forbidden(message: &str) -> Fail {
    ApiError::new(ErrorKind::Permission, message).into()
}

fn elsewhere() -> Fail {
    forbidden("the credential belongs to another environment")
}

fn no_api_key() -> Fail {
    forbidden(
        "this endpoint takes an environment key, not an API key. A worker runs what agents ask for, \
         and an API key in its hands would open the whole workspace to them; an environment key \
         opens this queue and its sessions only, and is revoked alone. Make one with `freehold \
         environments keys create`",
    )
}

/// An item as shown.
fn shown(row: WorkRow, token: Option<Secret<String>>) -> Work {
    let secret = token.and_then(|sessions_token| WorkSecret { sessions_token }.encode().ok());
    Work {
        id: row.id,
        r#type: WorkTag::Work,
        environment_id: row.environment_id,
        data: WorkData {
            r#type: "session".to_owned(),
            id: row.session_id.to_string(),
        },
        state: row.state,
        secret: secret.map(|s| s.expose().clone()),
        metadata: row.metadata,
        created_at: row.created_at,
        acknowledged_at: row.acknowledged_at,
        started_at: row.started_at,
        latest_heartbeat_at: row.latest_heartbeat_at,
        stop_requested_at: row.stop_requested_at,
        stopped_at: row.stopped_at,
    }
}
