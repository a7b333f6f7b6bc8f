//! `/v1/agents` (contract 10).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::WorkspaceId;
use freehold_store::{AgentQuery, AgentRow, NewAgent, UpdateAgentError};
use freehold_wire::agent::multiagent_request::{FoundAgent, Reference};
use freehold_wire::agent::request::{CreateAgent, UpdateAgent};
use freehold_wire::agent::{Agent, AgentConfig};
use freehold_wire::cursor::Position;
use freehold_wire::list::{ListAgents, ListPlain};
use freehold_wire::{ApiError, Page, parse};

use super::models::Configured;
use super::query::{Asked, created_position, stored, to_json};
use super::skills;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update without `version` is made again on the newest version before it gives up.
const TRIES: usize = 8;

/// `POST /v1/agents`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Payload(body): Payload,
) -> Reply {
    let draft = parse::<CreateAgent>(&body)?.resolve(&Configured(&app.models))?;
    let found = look_up(&app, &caller.workspace, draft.references()).await?;
    let id = app.ids.next();
    let config = draft.finish(&id, &found)?;
    skills::resolve(&app, &caller.workspace, &config.skills).await?;
    let now = app.now();
    let body = to_json(&config.into_agent(id.clone(), 1, now, now))?;
    let new = NewAgent {
        id,
        workspace_id: caller.workspace,
        body,
    };
    json(&shown(app.store.create_agent(new).await?)?)
}

/// `GET /v1/agents`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(query): Asked,
) -> Reply {
    let asked = ListAgents::read(&query)?;
    let query = AgentQuery {
        created_gte: asked.created_at.gte,
        created_lte: asked.created_at.lte,
        include_archived: asked.include_archived,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let mut rows = app.store.list_agents(&caller.workspace, query).await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let id = last.id.to_string();
        ListAgents::SCOPE.next(Position::Created(last.created_at.as_micros(), id))
    });
    let data = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    json(&Page { data, next_page })
}

/// `GET /v1/agents/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let version = query.integer("version", 1, i64::MAX as u64)?;
    let row = app
        .store
        .agent(&caller.workspace, &path_id("Agent", &id)?, version)
        .await?;
    match (row, version) {
        (Some(row), _) => json(&shown(row)?),
        (None, None) => Err(ApiError::not_found("Agent", &id).into()),
        (None, Some(version)) => {
            Err(ApiError::not_found(&format!("Version {version} of agent"), &id).into())
        }
    }
}

/// `POST /v1/agents/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: UpdateAgent = parse(&body)?;
    for _ in 0..TRIES {
        let now = find(&app, &caller.workspace, &id).await?;
        let update = request.clone().resolve(&now, &Configured(&app.models))?;
        let found = look_up(&app, &caller.workspace, update.references()).await?;
        let Some(config) = update.finish(&now, &found)? else {
            return json(&now);
        };
        // Those it has may be gone by now; that is no reason to refuse another change.
        if config.skills != now.skills {
            skills::resolve(&app, &caller.workspace, &config.skills).await?;
        }
        match put(&app, &caller.workspace, &now, config).await {
            Ok(row) => return json(&shown(row)?),
            // Named or not, the version looked at is no longer the newest: look again, which also
            // refuses a named one.
            Err(UpdateAgentError::Conflict { .. } | UpdateAgentError::Archived) => {}
            Err(UpdateAgentError::NotFound) => {
                return Err(ApiError::not_found("Agent", &id).into());
            }
            Err(UpdateAgentError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the agent is being changed by others; try again").into())
}

async fn put(
    app: &App,
    workspace: &WorkspaceId,
    now: &Agent,
    config: AgentConfig,
) -> Result<AgentRow, UpdateAgentError> {
    let agent = config.into_agent(now.id.clone(), now.version + 1, now.created_at, app.now());
    // Our own closed types always serialise.
    let body = serde_json::to_string(&agent).unwrap_or_default();
    app.store
        .update_agent(workspace, &now.id, now.version, body)
        .await
}

/// `POST /v1/agents/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let row = app
        .store
        .archive_agent(&caller.workspace, &path_id("Agent", &id)?)
        .await?;
    json(&shown(
        row.ok_or_else(|| ApiError::not_found("Agent", &id))?,
    )?)
}

/// `GET /v1/agents/{id}/versions`
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let agent = find(&app, &caller.workspace, &id).await?.id;
    let asked = ListPlain::versions(&query, &agent)?;
    let before = asked.page.and_then(|page| match page.position {
        Position::Number(version) => Some(version),
        _ => None,
    });
    let versions = app
        .store
        .list_agent_versions(&caller.workspace, &agent, before, asked.limit);
    let mut rows = versions.await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows
        .last()
        .filter(|_| more)
        .map(|last| ListPlain::versions_scope(&agent).next(Position::Number(last.version)));
    let data = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    json(&Page { data, next_page })
}

async fn find(app: &App, workspace: &WorkspaceId, id: &str) -> Result<Agent, Fail> {
    let row = app
        .store
        .agent(workspace, &path_id("Agent", id)?, None)
        .await?;
    shown(row.ok_or_else(|| ApiError::not_found("Agent", id))?)
}

/// The agent of a row: its columns are the truth about what they hold.
pub(super) fn shown(row: AgentRow) -> Result<Agent, Fail> {
    let agent: Agent = stored(&row.body)?;
    Ok(Agent {
        id: row.id,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        ..agent
    })
}

/// Finds the agents a roster names; what is missing is left out, and refused by whoever needs it.
async fn look_up(
    app: &App,
    workspace: &WorkspaceId,
    references: Vec<Reference>,
) -> Result<BTreeMap<Reference, FoundAgent>, Fail> {
    let mut found = BTreeMap::new();
    for (id, version) in references {
        let Some(row) = app.store.agent(workspace, &id, version).await? else {
            continue;
        };
        let agent = shown(row)?;
        let entry = FoundAgent {
            id: agent.id,
            version: agent.version,
            name: agent.name,
            archived: agent.archived_at.is_some(),
            has_multiagent: agent.multiagent.is_some(),
            inference_geo: agent.model.inference_geo,
        };
        found.insert((id, version), entry);
    }
    Ok(found)
}
