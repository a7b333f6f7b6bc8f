//! `GET /healthz` and `GET /readyz`: no key, no version, for load balancers and supervisors.

use std::sync::Arc;

use axum::extract::State;
use freehold_wire::{ApiError, ErrorKind};

use crate::app::App;
use crate::http::{Reply, json};

/// The process answers.
pub(crate) async fn healthz() -> Reply {
    json(&serde_json::json!({ "status": "ok" }))
}

/// The process can do work: its store answers, and it is not stopping.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Reply {
    if app.stopping.is_cancelled() {
        return Err(ApiError::new(ErrorKind::Unavailable, "the server is stopping").into());
    }
    if let Err(error) = app.store.keys_is_empty().await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the store does not answer"
        );
        return Err(ApiError::new(ErrorKind::Unavailable, "the store does not answer").into());
    }
    json(&serde_json::json!({ "status": "ready" }))
}
