//! `POST /v1/sessions`: everything is checked and looked up first, then written in one
//! transaction, so that a refused create leaves nothing behind.

use std::sync::Arc;

use axum::extract::State;
use freehold_store::{CreateSessionError, NewResource, NewSession};
use freehold_wire::agent::SessionAgent;
use freehold_wire::environment::{Environment, EnvironmentConfig};
use freehold_wire::resource::ResourceParam;
use freehold_wire::session::{AgentParam, CreateSession};
use freehold_wire::{ApiError, ErrorKind, parse, vault};

use super::{reply, shown};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, json};
use crate::routes::models::Configured;
use crate::routes::query::to_json;
use crate::routes::{agents, environments, events, files, resources, skills, vaults};

/// `POST /v1/sessions`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Payload(body): Payload,
) -> Reply {
    let request: CreateSession = parse(&body)?;
    let mut agent = agent(&app, &caller, &request).await?;
    let environment = environment(&app, &caller, &request).await?;
    for refusal in [agent.unsupported(), request.unsupported()] {
        refusal.map_or(Ok(()), Err)?;
    }
    if matches!(environment.config, EnvironmentConfig::Cloud(_))
        && let Some(why) = app.runtime.cloud_refusal()
    {
        return Err(no_sandbox(&why).into());
    }
    let skills = skills::resolve(&app, &caller.workspace, &agent.skills).await?;
    // From here on `latest` is what it is now, for as long as the session lives.
    for (skill, found) in agent.skills.iter_mut().zip(&skills) {
        skill.version = found.id.to_string();
    }
    vaults::check_usable(&app, &caller.workspace, &request.vault_ids).await?;
    request.check_budget(&agent, &Configured(&app.models))?;
    for (n, event) in request.initial_events.iter().enumerate() {
        files::check_references(&app, &caller.workspace, event.file_ids())
            .await
            .map_err(|fail| fail.within(&format!("initial_events.{n}")))?;
    }
    request.check_memory(&agent)?;
    let stores = request.memory_stores();
    let stores = resources::new_memory_stores(&app, &caller.workspace, &stores).await?;
    let mut new = assemble(&app, &caller, request, &agent, &environment, stores)?;
    new.skills = skills.into_iter().map(|skill| skill.id).collect();
    let (starts, attaches) = (!new.initial.is_empty(), !new.resources.is_empty());
    let row = match app.store.create_session(new).await {
        Ok(row) => row,
        Err(error) => return Err(refused(error)),
    };
    app.runtime.session_created(&row.id);
    if starts {
        app.runtime.wake(&row.id);
    }
    if attaches {
        return reply(&app, row).await;
    }
    json(&shown(&app, row, Vec::new())?)
}

async fn agent(app: &App, caller: &Caller, request: &CreateSession) -> Result<SessionAgent, Fail> {
    let AgentParam { id, version, .. } = &request.agent;
    let row = app.store.agent(&caller.workspace, id, *version).await?;
    let row = row.ok_or_else(|| match version {
        None => ApiError::not_found("Agent", id.as_str()),
        Some(n) => ApiError::not_found(&format!("Version {n} of agent"), id.as_str()),
    })?;
    let stored = agents::shown(row)?;
    Ok(request
        .agent
        .clone()
        .resolve(&stored, &Configured(&app.models))?)
}

async fn environment(
    app: &App,
    caller: &Caller,
    request: &CreateSession,
) -> Result<Environment, Fail> {
    let id = request.environment_id.as_str();
    let environment = environments::find(app, &caller.workspace, id).await?;
    if environment.archived_at.is_some() {
        return Err(archived(id).into());
    }
    request.check_environment(&environment.config)?;
    Ok(environment)
}

fn assemble(
    app: &App,
    caller: &Caller,
    request: CreateSession,
    agent: &SessionAgent,
    environment: &Environment,
    memory_stores: Vec<NewResource>,
) -> Result<NewSession, Fail> {
    let mut initial = Vec::new();
    for event in request.initial_events {
        initial.push(events::input(app, &event.into_body()?));
    }
    let mut memory_stores = memory_stores.into_iter();
    let attached: Vec<NewResource> = request
        .resources
        .iter()
        .filter_map(|resource| match resource {
            ResourceParam::File(file) => Some(resources::new_file(app, file)),
            ResourceParam::MemoryStore(_) => memory_stores.next(),
            // Refused before.
            ResourceParam::GithubRepository(_) => None,
        })
        .collect();
    Ok(NewSession {
        id: app.ids.next(),
        workspace_id: caller.workspace.clone(),
        thread_id: app.ids.next(),
        environment_id: environment.id.clone(),
        environment: to_json(&environment.config)?,
        self_hosted: matches!(environment.config, EnvironmentConfig::SelfHosted),
        agent_id: agent.id.clone(),
        agent_version: agent.version,
        agent: to_json(agent)?,
        deployment_id: None,
        title: request.title,
        metadata: request.metadata,
        budget: request.budget.as_ref().map(to_json).transpose()?,
        vault_ids: to_json(&request.vault_ids)?,
        initial,
        resources: attached,
        skills: Vec::new(),
    })
}

fn archived(id: &str) -> ApiError {
    ApiError::invalid(format!(
        "environment_id: Environment `{id}` is archived and cannot be used for new sessions."
    ))
    .with_code("environment_archived")
}

/// A state of this host, not of the request, but nothing a retry would mend: hence a 400.
fn no_sandbox(why: &str) -> ApiError {
    ApiError::new(
        ErrorKind::InvalidRequest,
        format!(
            "this server cannot run sessions of cloud environments: {why}. Use a self_hosted \
             environment, or ask the operator to run `freehold doctor`"
        ),
    )
    .with_code("sandbox_unavailable")
}

fn refused(error: CreateSessionError) -> Fail {
    match error {
        CreateSessionError::EnvironmentGone => {
            ApiError::invalid("environment_id: the environment was archived or deleted").into()
        }
        CreateSessionError::AgentGone => ApiError::invalid("agent: the agent was archived").into(),
        CreateSessionError::FileGone(id) => ApiError::not_found("File", id.as_str()).into(),
        CreateSessionError::SkillGone(id) => {
            ApiError::not_found("Skill version", id.as_str()).into()
        }
        CreateSessionError::MemoryStoreGone(id) => resources::unusable_store(&id).into(),
        CreateSessionError::VaultGone(id) => vault::archived(&id).into(),
        CreateSessionError::TooManyResources => {
            ApiError::invalid("resources: more than a session may have").into()
        }
        CreateSessionError::Store(error) => error.into(),
    }
}
