//! `POST /v1/vaults/{id}/credentials/{id}/mcp_oauth_validate` (contract 64 §4).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::Secret;
use freehold_mcp::HttpError;
use freehold_mcp::oauth::{Answer, RefreshError};
use freehold_runtime::mcp::{CredentialError, Validation};
use freehold_wire::ApiError;
use freehold_wire::credential::validation::{
    CredentialValidation, HttpResponse, McpProbe, RefreshAttempt, RefreshStatus, ValidationStatus,
};
use http::StatusCode;

use super::find;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Reply, json};

/// Characters of an answer that are shown.
const MAX_BODY: usize = 1_000;

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
        mcp_probe: found.probe.as_ref().map(|(method, error)| McpProbe {
            method,
            http_response: of_error(error, &found.secrets),
        }),
        refresh: refresh(&found),
    })
}

/// Whether the grant is gone, or only nobody can say.
fn status(found: &Validation) -> ValidationStatus {
    let refused = |error: &HttpError| {
        matches!(error, HttpError::Status { status, .. }
            if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    };
    match (&found.probe, &found.refresh) {
        (None, _) => ValidationStatus::Valid,
        (_, Some(Err(RefreshError::Gone(_)))) => ValidationStatus::Invalid,
        (_, Some(Err(_))) => ValidationStatus::Unknown,
        (Some((_, error)), _) if refused(error) => ValidationStatus::Invalid,
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
            let shown = of_answer(answer, &found.secrets);
            Some(attempt(RefreshStatus::Failed, Some(shown)))
        }
        Some(Err(_)) => Some(attempt(RefreshStatus::ConnectError, None)),
        None => {
            let unauthorized = matches!(&found.probe, Some((_, HttpError::Status { status, .. }))
                if *status == StatusCode::UNAUTHORIZED);
            (unauthorized && !found.has_refresh_token)
                .then(|| attempt(RefreshStatus::NoRefreshToken, None))
        }
    }
}

fn of_error(error: &HttpError, secrets: &[Secret<String>]) -> Option<HttpResponse> {
    let HttpError::Status {
        status,
        content_type,
        body,
        truncated,
    } = error
    else {
        return None;
    };
    Some(shown(*status, content_type, body, *truncated, secrets))
}

fn of_answer(answer: &Answer, secrets: &[Secret<String>]) -> HttpResponse {
    let body = answer.body.expose();
    shown(answer.status, &answer.content_type, body, false, secrets)
}

fn shown(
    status: StatusCode,
    content_type: &Option<String>,
    body: &str,
    truncated: bool,
    secrets: &[Secret<String>],
) -> HttpResponse {
    let body = scrubbed(body, secrets);
    let kept: String = body.chars().take(MAX_BODY).collect();
    HttpResponse {
        status_code: status.as_u16(),
        content_type: content_type.clone().unwrap_or_default(),
        body_truncated: truncated || kept.len() < body.len(),
        body: kept,
    }
}

/// Without the secrets, in the forms they were sent in.
fn scrubbed(body: &str, secrets: &[Secret<String>]) -> String {
    let mut body = body.to_owned();
    for secret in secrets.iter().map(Secret::expose).filter(|s| !s.is_empty()) {
        let encoded =
            percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC);
        for form in [secret.clone(), encoded.to_string()] {
            body = body.replace(&form, "[redacted]");
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_shown_back() {
        let secrets = [Secret::new("to/ken+1".to_owned())];
        let body = scrubbed("no: to/ken+1, to%2Fken%2B1", &secrets);
        assert_eq!(body, "no: [redacted], [redacted]");
    }
}
