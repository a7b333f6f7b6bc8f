//! Every endpoint, and where it lives.

mod agents;
mod answers;
mod credentials;
mod environment_keys;
mod environments;
mod events;
mod files;
mod form;
mod health;
mod keys;
mod mcp_audit;
mod mcp_servers;
mod memories;
mod memory_stores;
mod memory_versions;
mod messages;
mod models;
mod query;
mod resources;
mod sessions;
mod skills;
mod status;
mod stream;
mod threads;
mod tunnels;
mod upload;
mod vaults;
mod work;
mod workspaces;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use freehold_wire::{ApiError, ErrorKind};

use crate::app::App;
use crate::http::{Fail, outer};

/// The whole API.
pub fn router(app: Arc<App>) -> Router {
    let uploads = Router::new()
        .route("/v1/files", post(files::create).get(files::list))
        .route("/v1/skills", post(skills::create).get(skills::list))
        .route(
            "/v1/skills/{id}/versions",
            post(skills::create_version).get(skills::versions),
        )
        // Uploads count their bytes themselves.
        .layer(DefaultBodyLimit::disable());
    let memory = Router::new()
        .route(
            "/v1/memory_stores",
            post(memory_stores::create).get(memory_stores::list),
        )
        .route(
            "/v1/memory_stores/{id}",
            get(memory_stores::retrieve)
                .post(memory_stores::update)
                .delete(memory_stores::delete),
        )
        .route(
            "/v1/memory_stores/{id}/archive",
            post(memory_stores::archive),
        )
        .route(
            "/v1/memory_stores/{id}/memories",
            post(memories::create).get(memories::list),
        )
        .route(
            "/v1/memory_stores/{id}/memories/{memory}",
            get(memories::retrieve)
                .post(memories::update)
                .patch(memories::update)
                .delete(memories::delete),
        )
        .route(
            "/v1/memory_stores/{id}/memory_versions",
            get(memory_versions::list),
        )
        .route(
            "/v1/memory_stores/{id}/memory_versions/{version}",
            get(memory_versions::retrieve),
        )
        .route(
            "/v1/memory_stores/{id}/memory_versions/{version}/redact",
            post(memory_versions::redact),
        )
        .layer(from_fn(memory_stores::check_betas));
    let mcp = Router::new()
        .route("/v1/freehold/mcp/servers", get(mcp_servers::list))
        .route("/v1/freehold/mcp/servers/{id}", get(mcp_servers::retrieve))
        .route("/v1/freehold/mcp/servers/{id}/pin", post(mcp_servers::pin))
        .route(
            "/v1/freehold/mcp/servers/{id}/unpin",
            post(mcp_servers::unpin),
        )
        .route(
            "/v1/freehold/mcp/servers/{id}/policy",
            post(mcp_servers::policy),
        )
        .route("/v1/freehold/mcp/servers/{id}/diff", get(mcp_servers::diff))
        .route(
            "/v1/freehold/mcp/servers/{id}/tools",
            get(mcp_servers::tools::list),
        )
        .route(
            "/v1/freehold/mcp/servers/{id}/tools/{name}",
            get(mcp_servers::tools::retrieve),
        )
        .route(
            "/v1/freehold/mcp/servers/{id}/tools/{name}/approve",
            post(mcp_servers::tools::approve),
        )
        .route(
            "/v1/freehold/mcp/servers/{id}/tools/{name}/refuse",
            post(mcp_servers::tools::refuse),
        )
        .route(
            "/v1/freehold/mcp/servers/{id}/tools/{name}/deprecate",
            post(mcp_servers::tools::deprecate),
        )
        .route(
            "/v1/freehold/mcp/servers/{id}/tools/{name}/class",
            post(mcp_servers::tools::class),
        )
        .route("/v1/freehold/mcp/audit", get(mcp_audit::list));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/v1/agents", post(agents::create).get(agents::list))
        .route(
            "/v1/agents/{id}",
            get(agents::retrieve).post(agents::update),
        )
        .route("/v1/agents/{id}/archive", post(agents::archive))
        .route("/v1/agents/{id}/versions", get(agents::versions))
        .route(
            "/v1/environments",
            post(environments::create).get(environments::list),
        )
        .route(
            "/v1/environments/{id}",
            get(environments::retrieve)
                .post(environments::update)
                .delete(environments::delete),
        )
        .route("/v1/environments/{id}/archive", post(environments::archive))
        .route("/v1/environments/{id}/work", get(work::list))
        .route("/v1/environments/{id}/work/poll", get(work::poll))
        .route("/v1/environments/{id}/work/stats", get(work::stats))
        .route(
            "/v1/environments/{id}/work/{work}",
            get(work::retrieve).post(work::update),
        )
        .route("/v1/environments/{id}/work/{work}/ack", post(work::ack))
        .route(
            "/v1/environments/{id}/work/{work}/heartbeat",
            post(work::heartbeat),
        )
        .route("/v1/environments/{id}/work/{work}/stop", post(work::stop))
        .route("/v1/sessions", post(sessions::create).get(sessions::list))
        .route(
            "/v1/sessions/{id}",
            get(sessions::retrieve)
                .post(sessions::update)
                .delete(sessions::delete),
        )
        .route("/v1/sessions/{id}/archive", post(sessions::archive))
        .route(
            "/v1/sessions/{id}/resources",
            post(resources::add).get(resources::list),
        )
        .route(
            "/v1/sessions/{id}/resources/{resource}",
            get(resources::retrieve)
                .post(resources::update)
                .delete(resources::delete),
        )
        .route(
            "/v1/sessions/{id}/events",
            post(events::send).get(events::list),
        )
        .route("/v1/sessions/{id}/events/stream", get(events::stream))
        .route("/v1/sessions/{id}/threads", get(threads::list))
        .route("/v1/sessions/{id}/threads/{thread}", get(threads::retrieve))
        .route(
            "/v1/sessions/{id}/threads/{thread}/archive",
            post(threads::archive),
        )
        .route(
            "/v1/sessions/{id}/threads/{thread}/events",
            get(threads::events),
        )
        .route(
            "/v1/sessions/{id}/threads/{thread}/stream",
            get(threads::stream),
        )
        .merge(uploads)
        .merge(memory)
        .route("/v1/vaults", post(vaults::create).get(vaults::list))
        .route(
            "/v1/vaults/{id}",
            get(vaults::retrieve)
                .post(vaults::update)
                .delete(vaults::delete),
        )
        .route("/v1/vaults/{id}/archive", post(vaults::archive))
        .route(
            "/v1/vaults/{id}/credentials",
            post(credentials::create).get(credentials::list),
        )
        .route(
            "/v1/vaults/{id}/credentials/{credential}",
            get(credentials::retrieve)
                .post(credentials::update)
                .delete(credentials::delete),
        )
        .route(
            "/v1/vaults/{id}/credentials/{credential}/archive",
            post(credentials::archive),
        )
        .route(
            "/v1/vaults/{id}/credentials/{credential}/mcp_oauth_validate",
            post(credentials::validate),
        )
        .route("/v1/tunnels", post(tunnels::create).get(tunnels::list))
        .route("/v1/tunnels/{id}", get(tunnels::retrieve))
        .route("/v1/tunnels/{id}/archive", post(tunnels::archive))
        .route("/v1/tunnels/{id}/reveal_token", post(tunnels::reveal))
        .route("/v1/tunnels/{id}/rotate_token", post(tunnels::rotate))
        .route("/v1/tunnels/{id}/connections", get(tunnels::connections))
        .route(
            "/v1/tunnels/{id}/certificates",
            post(tunnels::add_certificate).get(tunnels::list_certificates),
        )
        .route(
            "/v1/tunnels/{id}/certificates/{certificate}",
            get(tunnels::retrieve_certificate),
        )
        .route(
            "/v1/tunnels/{id}/certificates/{certificate}/archive",
            post(tunnels::archive_certificate),
        )
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route(
            "/v1/skills/{id}",
            get(skills::retrieve).delete(skills::delete),
        )
        .route(
            "/v1/skills/{id}/versions/{version}",
            get(skills::retrieve_version).delete(skills::delete_version),
        )
        .route(
            "/v1/skills/{id}/versions/{version}/content",
            get(skills::content),
        )
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::retrieve))
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/v1/freehold/keys", post(keys::create).get(keys::list))
        .route("/v1/freehold/keys/{id}/revoke", post(keys::revoke))
        .route(
            "/v1/freehold/environments/{id}/keys",
            post(environment_keys::create).get(environment_keys::list),
        )
        .route(
            "/v1/freehold/environments/{id}/keys/{key}/revoke",
            post(environment_keys::revoke),
        )
        .route(
            "/v1/freehold/environments/{id}/work",
            get(environment_keys::work),
        )
        .route(
            "/v1/freehold/workspaces",
            post(workspaces::create).get(workspaces::list),
        )
        .route(
            "/v1/freehold/workspaces/{id}/archive",
            post(workspaces::archive),
        )
        .merge(mcp)
        .route("/v1/freehold/status", get(status::status))
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), outer))
        .with_state(app)
}

async fn no_such_endpoint() -> Fail {
    ApiError::new(ErrorKind::NotFound, "no such endpoint").into()
}

async fn wrong_method() -> Fail {
    ApiError::new(
        ErrorKind::MethodNotAllowed,
        "method not allowed at this endpoint",
    )
    .into()
}
