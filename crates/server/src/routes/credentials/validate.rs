//! `POST /v1/vaults/{id}/credentials/{id}/mcp_oauth_validate` (contract 64 §4).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_mcp::Probe;
use freehold_mcp::oauth::RefreshError;
use freehold_runtime::mcp::{CredentialError, Validation};
use freehold_wire::ApiError;
use freehold_wire::credential::validation::{
    CredentialValidation, HttpResponse, McpProbe, RefreshAttempt, RefreshStatus, ValidationStatus,
};

use super::find;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Reply, json};

pub(crate) async fn validate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Reply {
    let credential = find(&app, &caller, &path).await?;
    if credential.auth.kind() != "mcp_oauth" {
        return Err(ApiError::invalid(format!(
            "only mcp_oauth credentials can be validated; this one is {}",
            credential.auth.kind()
        ))
        .into());
    }
    if credential.archived_at.is_some() {
        return Err(
            ApiError::invalid("the credential is archived, and its tokens are gone").into(),
        );
    }
    let (vault, id) = (&credential.vault_id, &credential.id);
    let found = app
        .runtime
        .mcp()
        .credentials
        .validate(&caller.workspace, vault, id);
    let found = match found.await {
        Ok(Some(found)) => found,
        // Deleted or archived since we looked.
        Ok(None) => return Err(super::missing(&path.1).into()),
        Err(CredentialError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(Fail::internal(&error)),
    };
    json(&CredentialValidation {
        r#type: "vault_credential_validation",
        credential_id: credential.id.clone(),
        vault_id: credential.vault_id.clone(),
        validated_at: app.now(),
        has_refresh_token: found.has_refresh_token,
        status: status(&found),
        mcp_probe: match &found.probe {
            Probe::Works => None,
            Probe::Failed {
                method, response, ..
            } => Some(McpProbe {
                method: method.clone(),
                http_response: response.clone().map(shown),
            }),
        },
        refresh: refresh(&found),
    })
}

fn answered(found: &Validation) -> Option<u16> {
    match &found.probe {
        Probe::Failed {
            response: Some(response),
            ..
        } => Some(response.status_code),
        _ => None,
    }
}

/// Whether the grant is gone, or only nobody can say.
fn status(found: &Validation) -> ValidationStatus {
    match (&found.probe, &found.refresh) {
        (Probe::Works, _) => ValidationStatus::Valid,
        (_, Some(Err(RefreshError::Gone(_)))) => ValidationStatus::Invalid,
        (_, Some(Err(_))) => ValidationStatus::Unknown,
        _ if matches!(answered(found), Some(401 | 403)) => ValidationStatus::Invalid,
        _ => ValidationStatus::Unknown,
    }
}

fn refresh(found: &Validation) -> Option<RefreshAttempt> {
    let attempt = |status, http_response| RefreshAttempt {
        status,
        http_response,
    };
    match &found.refresh {
        Some(Ok(())) => Some(attempt(RefreshStatus::Succeeded, None)),
        Some(Err(RefreshError::Gone(answer) | RefreshError::Trouble(answer))) => {
            let secrets: Vec<_> = found.secrets.iter().map(|s| s.expose().as_str()).collect();
            let (status, body) = (answer.status.as_u16(), answer.body.expose());
            let clean = freehold_mcp::HttpResponse::new(
                status,
                &answer.content_type,
                body,
                false,
                &secrets,
            );
            Some(attempt(RefreshStatus::Failed, Some(shown(clean))))
        }
        Some(Err(_)) => Some(attempt(RefreshStatus::ConnectError, None)),
        None => (answered(found) == Some(401) && !found.has_refresh_token)
            .then(|| attempt(RefreshStatus::NoRefreshToken, None)),
    }
}

fn shown(response: freehold_mcp::HttpResponse) -> HttpResponse {
    HttpResponse {
        status_code: response.status_code,
        content_type: response.content_type,
        body: response.body,
        body_truncated: response.body_truncated,
    }
}
