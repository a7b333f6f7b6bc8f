//! What is done with one item by whoever holds it: ack, heartbeat, stop (contract 50 §4, §5).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{EnvironmentId, WorkId, limits};
use freehold_store::{AckError, BeatError, NewBeat, StopError, WorkRow};
use freehold_wire::work::{BeatQuery, Heartbeat, HeartbeatTag, LeaseState, StopWork};
use freehold_wire::{ApiError, ErrorKind, parse_or_empty};

use super::{elsewhere, forbidden, missing, no_api_key, of_worker, of_workspace, shown};
use crate::app::App;
use crate::auth::{AtItem, Principal, Reach};
use crate::http::{Fail, Payload, Reply, json, path_id};
use crate::routes::query::Asked;

/// `POST /v1/environments/{id}/work/{work_id}/ack`
pub(crate) async fn ack(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path((id, work)): Path<(String, String)>,
) -> Reply {
    let (environment, item) = of_holder(&principal, &id, &work)?;
    match app.store.ack_work(&environment, &item).await {
        Ok(row) => json(&shown(row, None)),
        Err(AckError::NotFound) => Err(missing(&work).into()),
        Err(AckError::Conflict(state)) => Err(ApiError::conflict(format!(
            "the work item is {} and cannot be acknowledged: only an item that was polled can be, \
             once",
            state.as_str()
        ))
        .into()),
        Err(AckError::Store(error)) => Err(error.into()),
    }
}

/// `POST /v1/environments/{id}/work/{work_id}/heartbeat`
pub(crate) async fn heartbeat(
    State(app): State<Arc<App>>,
    AtItem(principal): AtItem,
    Path((id, work)): Path<(String, String)>,
    Asked(query): Asked,
) -> Reply {
    let (environment, item) = of_holder(&principal, &id, &work)?;
    let asked = BeatQuery::read(&query)?;
    let beat = NewBeat {
        expected: asked.expected_last_heartbeat,
        ttl_seconds: asked.ttl_seconds.unwrap_or(app.lease_seconds),
        by: principal.credential.bytes(),
    };
    match app.store.heartbeat_work(&environment, &item, beat).await {
        Ok(beat) => json(&Heartbeat {
            r#type: HeartbeatTag::WorkHeartbeat,
            last_heartbeat: last(&beat.row).unwrap_or_default(),
            lease_extended: beat.extended,
            state: beat.row.state,
            ttl_seconds: ttl_seconds(&beat.row),
        }),
        Err(BeatError::NotFound) => Err(missing(&work).into()),
        Err(BeatError::Queued) => Err(ApiError::invalid(
            "the work item is queued: acknowledge it before the first heartbeat",
        )
        .into()),
        Err(BeatError::Precondition(row)) => Err(precondition(&row)?.into()),
        Err(BeatError::Store(error)) => Err(error.into()),
    }
}

/// `POST /v1/environments/{id}/work/{work_id}/stop`
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    AtItem(principal): AtItem,
    Path((id, work)): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let (environment, item) = match &principal.reach {
        Reach::Workspace { .. } => (
            of_workspace(&app, &principal.workspace, &id).await?,
            path_id("Work", &work)?,
        ),
        Reach::Environment { .. } | Reach::Session { .. } => of_holder(&principal, &id, &work)?,
    };
    let request: StopWork = parse_or_empty(&body)?;
    // A worker that ends its item has answered its calls; an operator cannot know.
    let stopped = match principal.reach {
        Reach::Workspace { .. } if request.force => app.store.cut_work(&environment, &item).await,
        _ => {
            let force = request.force;
            app.store.stop_work(&environment, &item, force).await
        }
    };
    match stopped {
        Ok(row) => json(&shown(row, None)),
        Err(StopError::NotFound) => Err(missing(&work).into()),
        Err(StopError::Stopped) => {
            Err(ApiError::conflict("the work item has stopped already").into())
        }
        Err(StopError::Store(error)) => Err(error.into()),
    }
}

/// The item a path names, for its environment's key and its own token.
fn of_holder(principal: &Principal, id: &str, work: &str) -> Result<(EnvironmentId, WorkId), Fail> {
    match &principal.reach {
        Reach::Environment { .. } => Ok((of_worker(principal, id)?, path_id("Work", work)?)),
        Reach::Workspace { .. } => Err(no_api_key()),
        Reach::Session {
            environment,
            work: item,
            ..
        } => {
            let asked: EnvironmentId = path_id("Environment", id)?;
            if *environment != asked {
                return Err(elsewhere());
            }
            if item.as_str() != work {
                return Err(forbidden("the session token belongs to another work item"));
            }
            Ok((asked, item.clone()))
        }
    }
}

/// The latest heartbeat, in the one form it is compared in.
fn last(row: &WorkRow) -> Option<String> {
    row.latest_heartbeat_at.map(|at| at.to_string())
}

/// How long the latest heartbeat, or what came instead of one, lets the item be.
fn ttl_seconds(row: &WorkRow) -> u64 {
    let (_, default, _) = limits::WORK_LEASE_SECONDS;
    match (row.lease_until, row.latest_heartbeat_at) {
        (Some(until), Some(latest)) => until.seconds_since(latest).round() as u64,
        _ => default,
    }
}

fn precondition(row: &WorkRow) -> Result<ApiError, Fail> {
    let state = LeaseState {
        state: row.state,
        last_heartbeat: last(row),
        lease_extended: false,
        ttl_seconds: ttl_seconds(row),
    };
    let state = serde_json::to_value(state).map_err(|error| Fail::internal(&error))?;
    Ok(ApiError::new(
        ErrorKind::PreconditionFailed,
        "expected_last_heartbeat does not match",
    )
    .with_code("heartbeat_precondition_failed")
    .with_detail("current_state", state))
}
