//! A new access token for a refresh token (contract 64 §6).

use freehold_base::{Secret, WorkspaceId};
use http::StatusCode;
use serde::Deserialize;

use crate::http::{Basic, Http, HttpError};

/// Longest token, bytes.
const MAX_TOKEN: usize = 16 << 10;
/// Longest life of a token that is believed, seconds.
const MAX_LIFE: u64 = 366 * 24 * 60 * 60;

/// How a client proves itself.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// Not at all.
    None,
    /// Its secret in the `Authorization` header.
    Basic(Secret<String>),
    /// Its secret in the body.
    Post(Secret<String>),
}

/// What is asked of a token endpoint.
#[derive(Debug, Clone)]
pub struct Refresh<'a> {
    /// On whose behalf.
    pub workspace: &'a WorkspaceId,
    /// Where.
    pub token_endpoint: &'a str,
    /// Who asks.
    pub client_id: &'a str,
    /// With which proof.
    pub auth: ClientAuth,
    /// The grant.
    pub refresh_token: &'a Secret<String>,
    /// The scope to ask for.
    pub scope: Option<&'a str>,
    /// The resource indicator.
    pub resource: Option<&'a str>,
}

/// What it gave.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The token.
    pub access_token: Secret<String>,
    /// The next grant, if the last one was used up.
    pub refresh_token: Option<Secret<String>>,
    /// Seconds the token lives, if it says so.
    pub expires_in: Option<u64>,
}

/// Why there is no new token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RefreshError {
    /// The grant is gone, or the client is not accepted: asking again changes nothing.
    #[error("the token endpoint refused the refresh token (HTTP {})", .0.status)]
    Gone(Answer),
    /// The endpoint has trouble: asking later may help.
    #[error("the token endpoint answered with HTTP {}", .0.status)]
    Trouble(Answer),
    /// There was no answer.
    #[error("the token endpoint could not be asked: {0}")]
    Unreachable(HttpError),
    /// There was one, and it is no token.
    #[error("the token endpoint's answer is not a token")]
    Unusable,
}

/// An answer that was no success. Its body may hold anything, also what was sent.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its type; empty if it names none.
    pub content_type: String,
    /// The body.
    pub body: Secret<String>,
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
    #[serde(default)]
    token_type: Option<String>,
}

/// Asks once, following nothing.
///
/// # Errors
/// [`RefreshError`].
pub async fn refresh(http: &Http, asked: &Refresh<'_>) -> Result<Refreshed, RefreshError> {
    let mut fields = vec![
        ("grant_type", "refresh_token"),
        ("refresh_token", asked.refresh_token.expose().as_str()),
    ];
    fields.extend(asked.scope.map(|s| ("scope", s)));
    fields.extend(asked.resource.map(|r| ("resource", r)));
    let basic = match &asked.auth {
        ClientAuth::None => {
            fields.push(("client_id", asked.client_id));
            None
        }
        ClientAuth::Post(secret) => {
            fields.push(("client_id", asked.client_id));
            fields.push(("client_secret", secret.expose().as_str()));
            None
        }
        ClientAuth::Basic(secret) => Some(Basic {
            id: asked.client_id.to_owned(),
            secret: secret.clone(),
        }),
    };
    let answer = http
        .form(
            asked.workspace,
            asked.token_endpoint,
            &fields,
            basic.as_ref(),
        )
        .await
        .map_err(RefreshError::Unreachable)?;
    let kind = answer.headers.get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or_default();
    given(answer.status, kind, &answer.body)
}

fn given(status: StatusCode, content_type: &str, body: &[u8]) -> Result<Refreshed, RefreshError> {
    if !status.is_success() {
        let answer = Answer {
            status,
            content_type: content_type.to_owned(),
            body: Secret::new(String::from_utf8_lossy(body).into_owned()),
        };
        let gone = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        return Err(match gone && status != StatusCode::REQUEST_TIMEOUT {
            true => RefreshError::Gone(answer),
            false => RefreshError::Trouble(answer),
        });
    }
    let given: Given = serde_json::from_slice(body).map_err(|_| RefreshError::Unusable)?;
    let bearer = |t: &String| t.eq_ignore_ascii_case("bearer");
    if given.token_type.as_ref().is_some_and(|t| !bearer(t)) {
        return Err(RefreshError::Unusable);
    }
    let token = |text: String| {
        let fits =
            (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
        fits.then_some(Secret::new(text))
            .ok_or(RefreshError::Unusable)
    };
    // Some send it as a string.
    let seconds = given.expires_in.as_ref().and_then(|v| match v {
        serde_json::Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    });
    Ok(Refreshed {
        access_token: token(given.access_token)?,
        refresh_token: given.refresh_token.map(token).transpose()?,
        expires_in: seconds.map(|s: u64| s.min(MAX_LIFE)),
    })
}
