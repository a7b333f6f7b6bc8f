//! The general agent and environment that `run` makes once and then finds again.

use freehold_client::Client;
use serde_json::{Value, json};

use crate::commands::connect::{id, text};
use crate::exit::Failure;

/// Name of the agent, and key of the mark in its metadata.
const AGENT: &str = "freehold run";
const MARK: &str = "freehold-run";
/// Name of the environment; names of environments are unique.
const ENVIRONMENT: &str = "freehold-run";
/// Resources looked through before another one is made.
const MAX_SCANNED: usize = 1_000;
/// The id that is taken only when there is no other.
const REHEARSAL: &str = "rehearsal";

const SYSTEM: &str = "You are a capable assistant with a Linux sandbox. Do what the user asks, \
using the tools where they help, and say plainly what you did. Put files meant for the user into \
/mnt/session/outputs.";

/// The agent for `model`, or for the newest model.
pub(super) async fn agent(client: &Client, model: Option<&str>) -> Result<String, Failure> {
    let model = match model {
        Some(model) => model.to_owned(),
        None => newest(client).await?,
    };
    let mut agents = client.agents();
    for _ in 0..MAX_SCANNED {
        let Some(agent) = agents.next().await? else {
            break;
        };
        let ours = text(&agent, "/name") == AGENT && agent["metadata"][MARK].is_string();
        if ours && text(&agent, "/model/id") == model && agent["archived_at"].is_null() {
            return id(&agent);
        }
    }
    let made = client
        .create_agent(&json!({
            "name": AGENT,
            "description": "Made by `freehold run`",
            "model": model,
            "system": SYSTEM,
            "tools": [{ "type": "agent_toolset_20260401" }],
            "metadata": { MARK: "1" },
        }))
        .await?;
    id(&made)
}

async fn newest(client: &Client) -> Result<String, Failure> {
    let models = client.models().await?;
    let ids: Vec<&str> = models
        .iter()
        .map(|m| text(m, "/id"))
        .filter(|id| !id.is_empty())
        .collect();
    let id = ids.iter().find(|id| **id != REHEARSAL).or(ids.first());
    id.map(|id| (*id).to_owned()).ok_or_else(|| {
        Failure::usage("the server lists no models")
            .hint("name one with --model, if the server has a --model-url")
    })
}

/// The environment.
pub(super) async fn environment(client: &Client) -> Result<String, Failure> {
    if let Some(found) = find_environment(client).await? {
        return Ok(found);
    }
    let body = json!({ "name": ENVIRONMENT, "description": "Made by `freehold run`" });
    match client.create_environment(&body).await {
        Ok(made) => id(&made),
        // Another `run` was first.
        Err(error) if error.status() == Some(409) => {
            find_environment(client).await?.ok_or_else(|| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn find_environment(client: &Client) -> Result<Option<String>, Failure> {
    let mut environments = client.environments();
    for _ in 0..MAX_SCANNED {
        let Some(environment) = environments.next().await? else {
            break;
        };
        let fits = |e: &Value| {
            text(e, "/name") == ENVIRONMENT
                && e["archived_at"].is_null()
                && text(e, "/config/type") == "cloud"
        };
        if fits(&environment) {
            return id(&environment).map(Some);
        }
    }
    Ok(None)
}
