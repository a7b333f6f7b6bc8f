//! What a validation found (contract 64 §4).

use freehold_base::{CredentialId, Timestamp, VaultId};
use serde::Serialize;

/// `vault_credential_validation`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CredentialValidation {
    /// Always `vault_credential_validation`.
    pub r#type: &'static str,
    /// The credential.
    pub credential_id: CredentialId,
    /// Its vault.
    pub vault_id: VaultId,
    /// When.
    pub validated_at: Timestamp,
    /// Whether a new access token can be asked for.
    pub has_refresh_token: bool,
    /// What follows.
    pub status: ValidationStatus,
    /// What failed at the server; null if nothing did.
    pub mcp_probe: Option<McpProbe>,
    /// How a refresh ended; null if none was tried.
    pub refresh: Option<RefreshAttempt>,
}

/// What a validation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationStatus {
    /// The credential works.
    Valid,
    /// It must be authorized again.
    Invalid,
    /// It may work; try later.
    Unknown,
}

/// A request to the server that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct McpProbe {
    /// The method.
    pub method: String,
    /// The answer, if there was one.
    pub http_response: Option<HttpResponse>,
}

/// A refresh that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefreshAttempt {
    /// How it ended.
    pub status: RefreshStatus,
    /// The answer, of a failed one.
    pub http_response: Option<HttpResponse>,
}

/// How a refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshStatus {
    /// There is a new token, and it is stored.
    Succeeded,
    /// The endpoint refused.
    Failed,
    /// The endpoint could not be reached, or gave no answer.
    ConnectError,
    /// There is nothing to refresh with.
    NoRefreshToken,
}

/// An answer, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpResponse {
    /// Its status.
    pub status_code: u16,
    /// Its type; empty if it names none.
    pub content_type: String,
    /// The beginning of its body.
    pub body: String,
    /// Whether there was more.
    pub body_truncated: bool,
}
