//! Credentials of a vault (contract 64 §2 and §3). What is here is what is shown: secrets exist
//! only in requests, as [`Secret`](freehold_base::Secret), and never in these types.

use std::fmt;

use freehold_base::{CredentialId, Timestamp, VaultId};
use serde::{Deserialize, Serialize};

use crate::agent::Metadata;

mod auth;
pub mod request;
mod update;
mod url;
pub mod validation;

pub use request::{CreateCredential, CredentialData, NewSecret};
pub use update::UpdateCredential;
pub use url::normalise;

/// The constant `vault_credential`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialTag {
    /// `vault_credential`.
    #[default]
    VaultCredential,
}

/// A credential as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// `vcrd_…`.
    pub id: CredentialId,
    /// Always `vault_credential`.
    pub r#type: CredentialTag,
    /// Its vault.
    pub vault_id: VaultId,
    /// At most 255 characters.
    pub display_name: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// What it authenticates, without its secrets.
    pub auth: CredentialAuth,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived; its secrets are gone since then.
    pub archived_at: Option<Timestamp>,
}

/// What a credential authenticates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialAuth {
    /// OAuth tokens for an MCP server.
    McpOauth(McpOauth),
    /// A fixed token for an MCP server.
    StaticBearer(StaticBearer),
    /// A value that requests out of a sandbox carry.
    EnvironmentVariable(EnvironmentVariable),
}

impl CredentialAuth {
    /// The wire value of `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::McpOauth(_) => "mcp_oauth",
            Self::StaticBearer(_) => "static_bearer",
            Self::EnvironmentVariable(_) => ENVIRONMENT_VARIABLE,
        }
    }
    /// What only one active credential of a vault may be for: the server's normalised URL, or the
    /// variable's name. No name is a URL.
    pub fn target(&self) -> String {
        match self {
            Self::McpOauth(McpOauth { mcp_server_url, .. })
            | Self::StaticBearer(StaticBearer { mcp_server_url }) => normalise(mcp_server_url),
            Self::EnvironmentVariable(variable) => variable.secret_name.clone(),
        }
    }
}

/// `environment_variable`.
pub const ENVIRONMENT_VARIABLE: &str = "environment_variable";

/// `mcp_oauth`, without its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpOauth {
    /// The MCP server.
    pub mcp_server_url: String,
    /// When the access token expires, if that is known.
    pub expires_at: Option<Timestamp>,
    /// How a new access token is got, if one can be.
    pub refresh: Option<OauthRefresh>,
}

/// How an access token is refreshed, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthRefresh {
    /// The token endpoint.
    pub token_endpoint: String,
    /// The client.
    pub client_id: String,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// The resource indicator.
    pub resource: Option<String>,
    /// How the client proves itself.
    pub token_endpoint_auth: TokenEndpointAuth,
}

/// How an OAuth client proves itself at a token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TokenEndpointAuth {
    /// Not at all.
    None,
    /// By its secret in the `Authorization` header.
    ClientSecretBasic,
    /// By its secret in the body.
    ClientSecretPost,
}

/// `static_bearer`, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticBearer {
    /// The MCP server.
    pub mcp_server_url: String,
}

/// `environment_variable`, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentVariable {
    /// Name of the variable.
    pub secret_name: String,
    /// Where the value may go.
    pub networking: CredentialNetworking,
    /// In which parts of a request it may stand.
    pub injection_location: InjectionLocation,
}

/// Hosts whose requests get the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialNetworking {
    /// Every host the environment lets the sandbox reach.
    Unrestricted,
    /// Named hosts only.
    Limited(CredentialHosts),
}

/// Named hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialHosts {
    /// Host names, IPv4 addresses and `*.example.com` patterns.
    pub allowed_hosts: Vec<String>,
}

/// Parts of a request; at least one is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectionLocation {
    /// Values of headers.
    pub header: bool,
    /// The body.
    pub body: bool,
}

/// Which of a credential's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretField {
    /// `mcp_oauth`.
    AccessToken,
    /// `mcp_oauth`.
    RefreshToken,
    /// `mcp_oauth`.
    ClientSecret,
    /// `static_bearer`.
    Token,
    /// `environment_variable`.
    SecretValue,
}

impl SecretField {
    /// The name of the field on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::ClientSecret => "client_secret",
            Self::Token => "token",
            Self::SecretValue => "secret_value",
        }
    }
}

impl fmt::Display for SecretField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
