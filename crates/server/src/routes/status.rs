//! `GET /v1/freehold/status`, for admin keys: what this server is and can do.

use std::sync::Arc;

use axum::extract::State;
use freehold_wire::session::Status;
use freehold_wire::tool::BuiltinTool;
use serde_json::{Map, Value, json as value};

use crate::app::App;
use crate::auth::Admin;
use crate::http::{Reply, json};

/// `GET /v1/freehold/status`
pub(crate) async fn status(State(app): State<Arc<App>>, _: Admin) -> Reply {
    let mut sessions: Map<String, Value> = [
        Status::Idle,
        Status::Running,
        Status::Rescheduling,
        Status::Terminated,
    ]
    .map(|s| (s.as_str().to_owned(), 0.into()))
    .into_iter()
    .collect();
    for (status, n) in app.store.count_sessions().await? {
        sessions.insert(status.as_str().to_owned(), n.into());
    }
    let tools: Map<String, Value> = BuiltinTool::ALL
        .into_iter()
        .map(|t| {
            (
                t.name().to_owned(),
                value!({ "unavailable": app.runtime.unavailable(t) }),
            )
        })
        .collect();
    json(&value!({
        "type": "status",
        "version": app.about.version,
        "organization_id": app.organization,
        "started_at": app.started_at,
        "sandbox": {
            "provider": app.about.sandbox_provider,
            "capabilities": app.about.sandbox_capabilities,
            "refusal": app.runtime.cloud_refusal(),
        },
        "tools": tools,
        "models": { "configured": app.models.list().len(), "fallback": app.models.has_fallback() },
        "sessions": sessions,
        "sessions_driven": app.runtime.driven(),
    }))
}
