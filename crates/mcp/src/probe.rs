//! Whether a server can be used with a credential: for `mcp_oauth_validate` (contract 64 §4).

use crate::failure::{Failure, Status};
use crate::mask;

/// Longest body that is reported, in characters.
const MAX_BODY: usize = 1000;

/// What a probe came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The server was greeted and listed its tools.
    Works,
    /// It was not, or did not.
    Failed {
        /// The request that failed: `server/discover`, `initialize` or `tools/list`.
        method: String,
        /// What the server answered; `None` if it did not.
        response: Option<HttpResponse>,
        /// Why, for clients.
        message: String,
        /// `WWW-Authenticate`, without the credential: says how to become authorized.
        challenge: Option<String>,
    },
}

/// An answer of HTTP, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status.
    pub status_code: u16,
    /// `Content-Type`; empty if there was none.
    pub content_type: String,
    /// At most 1000 characters, without the credential and without control characters.
    pub body: String,
    /// There was more.
    pub body_truncated: bool,
}

impl HttpResponse {
    /// Cuts and cleans what a server answered; every one of `secrets` is masked.
    pub fn new(
        status_code: u16,
        content_type: &str,
        body: &str,
        truncated: bool,
        secrets: &[&str],
    ) -> Self {
        let masked = |text: &str| {
            let secrets = secrets.iter();
            secrets.fold(text.to_owned(), |text, secret| {
                mask::mask(text, Some(secret))
            })
        };
        // Once more, for what is put together by what is left out.
        let shown = |text: &str, limit: usize| masked(&mask::clean(&masked(text), limit));
        Self {
            status_code,
            content_type: shown(content_type, 200),
            body_truncated: truncated || masked(body).chars().count() > MAX_BODY,
            body: shown(body, MAX_BODY),
        }
    }
}

impl Probe {
    pub(crate) fn failed(method: &str, failure: Failure, bearer: Option<&str>) -> Self {
        let (response, challenge) = match &failure {
            Failure::Status(status) => {
                let Status {
                    code,
                    content_type,
                    body,
                    truncated,
                    challenge,
                } = &**status;
                let secrets = bearer.as_slice();
                let response =
                    HttpResponse::new(code.as_u16(), content_type, body, *truncated, secrets);
                let challenge = challenge.clone().map(|text| mask::mask(text, bearer));
                (Some(response), challenge)
            }
            _ => (None, None),
        };
        Self::Failed {
            method: method.to_owned(),
            response,
            message: failure.into_error(bearer).to_string(),
            challenge,
        }
    }
}
