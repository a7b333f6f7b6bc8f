//! Requests that use MCP servers (contract 62 §2): the tools are listed, called and answered here,
//! whatever the provider speaks.

mod call;
mod changes;
mod fields;
mod history;
mod offer;
mod out;
mod request;
mod turn;

use std::sync::Arc;

use freehold_base::{RequestId, WorkspaceId};
use freehold_model::{ModelEntry, ModelRequest, RawObject};
use freehold_wire::ApiError;

use crate::app::App;
use request::Asked;
use turn::{Clients, Turn};

/// Whether a request is not the provider's alone: it has `mcp_servers`, or toolsets, or blocks of MCP
/// under a beta that lets it have them.
pub(super) fn wanted(request: &ModelRequest) -> bool {
    let mentions = |key| {
        request
            .body
            .get(key)
            .is_some_and(|v| v.get().contains("mcp_tool"))
    };
    let servers = request.body.get("mcp_servers");
    servers.is_some_and(|s| s.get() != "null")
        || (request::permitted(&request.beta) && (mentions("messages") || mentions("tools")))
}

/// Makes a request one that its provider can answer, with the tools of its servers.
///
/// # Errors
/// 400 with the place in the request, or naming the server that cannot be used.
pub(super) async fn prepare(
    app: &App,
    entry: Arc<ModelEntry>,
    mut request: ModelRequest,
    workspace: &WorkspaceId,
    owner: RequestId,
) -> Result<Turn, ApiError> {
    let asked = request::read(&request.body, &request.beta)?;
    let mut history = history::read(&request.body)?;
    let clients = Clients {
        connector: app.runtime.mcp().connector.clone(),
        catalogue: app.catalogue.clone(),
        owner,
    };
    let offer = offer::make(&clients, workspace, &asked, &history.listings).await?;
    changes::resolve(&mut history.messages, &offer)?;
    put(&mut request.body, &asked, &offer, &history);
    request.beta.retain(|beta| !request::is_ours(beta));
    Ok(Turn {
        entry,
        request,
        messages: history.messages,
        offer,
        clients,
        ids: app.ids.clone(),
    })
}

fn put(body: &mut RawObject, asked: &Asked, offer: &offer::Offer, history: &history::History) {
    body.remove("mcp_servers");
    body.set_raw("messages", history::raw_of(&history.messages));
    if offer.tools.is_empty() && !asked.tools.is_empty() {
        // Toolsets of which nothing is enabled.
        body.remove("tools");
    } else if !offer.tools.is_empty() {
        body.set_raw("tools", history::raw_of(&offer.tools));
    }
}
