//! Create of credentials (contract 64 §3).

use freehold_base::{CredentialId, Secret, Timestamp, VaultId};
use serde_json::Value;

use super::auth::{
    check_future, check_location, injection_location, networking, secret, secret_name, timestamp,
    token,
};
use super::{
    Credential, CredentialAuth, CredentialTag, EnvironmentVariable, InjectionLocation, McpOauth,
    OauthRefresh, SecretField, StaticBearer, TokenEndpointAuth,
};
use crate::agent::Metadata;
use crate::decode::{At, Decode, Object, http_url, text};
use crate::metadata;
use crate::request::Request;
use crate::vault::MAX_DISPLAY_NAME;

/// Characters of a URL, as for MCP servers of agents (contract 10).
pub(super) const MAX_URL: usize = 2048;
/// Characters of a client id, scope or resource; our own bound.
pub(super) const MAX_OAUTH_TEXT: usize = 2048;

/// A secret of a request, on its way to the vault.
pub type NewSecret = (SecretField, Secret<String>);

/// Everything of a credential that a request can set and that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialData {
    /// The name.
    pub display_name: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// What it authenticates.
    pub auth: CredentialAuth,
}

impl CredentialData {
    /// The credential with its identity and times.
    pub fn into_credential(
        self,
        id: CredentialId,
        vault_id: VaultId,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> Credential {
        Credential {
            id,
            r#type: CredentialTag::VaultCredential,
            vault_id,
            display_name: self.display_name,
            metadata: self.metadata,
            auth: self.auth,
            created_at,
            updated_at,
            archived_at: None,
        }
    }
}

/// `POST /v1/vaults/{id}/credentials`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateCredential {
    data: CredentialData,
    secrets: Vec<NewSecret>,
}

impl Request for CreateCredential {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let (auth, secrets) = o.required("auth", auth)?;
        let data = CredentialData {
            display_name: o.optional("display_name", text(0, MAX_DISPLAY_NAME))?,
            metadata: o.present("metadata", metadata::bag)?.unwrap_or_default(),
            auth,
        };
        o.finish()?;
        Ok(Self { data, secrets })
    }
}

impl CreateCredential {
    /// The credential asked for, and its secrets.
    ///
    /// # Errors
    /// `expires_at` is not in the future.
    pub fn resolve(self, now: Timestamp) -> Decode<(CredentialData, Vec<NewSecret>)> {
        if let CredentialAuth::McpOauth(oauth) = &self.data.auth {
            check_future(oauth.expires_at, now)?;
        }
        Ok((self.data, self.secrets))
    }
}

type Auth = (CredentialAuth, Vec<NewSecret>);

fn auth(value: Value, at: &At<'_>) -> Decode<Auth> {
    let mut o = Object::new(value, at)?;
    let auth = match o.tag(&["mcp_oauth", "static_bearer", "environment_variable"])? {
        "mcp_oauth" => mcp_oauth(&mut o)?,
        "static_bearer" => {
            let bearer = StaticBearer {
                mcp_server_url: o.required("mcp_server_url", http_url(MAX_URL))?,
            };
            let secret = (SecretField::Token, o.required("token", token)?);
            (CredentialAuth::StaticBearer(bearer), vec![secret])
        }
        _ => environment_variable(&mut o)?,
    };
    o.finish()?;
    Ok(auth)
}

fn mcp_oauth(o: &mut Object<'_>) -> Decode<Auth> {
    let mcp_server_url = o.required("mcp_server_url", http_url(MAX_URL))?;
    let mut secrets = vec![(SecretField::AccessToken, o.required("access_token", token)?)];
    let expires_at = o.optional("expires_at", timestamp)?;
    let refresh = o.optional("refresh", refresh)?.map(|(refresh, more)| {
        secrets.extend(more);
        refresh
    });
    let oauth = McpOauth {
        mcp_server_url,
        expires_at,
        refresh,
    };
    Ok((CredentialAuth::McpOauth(oauth), secrets))
}

fn refresh(value: Value, at: &At<'_>) -> Decode<(OauthRefresh, Vec<NewSecret>)> {
    let mut o = Object::new(value, at)?;
    let token_endpoint = o.required("token_endpoint", http_url(MAX_URL))?;
    let client_id = o.required("client_id", text(1, MAX_OAUTH_TEXT))?;
    let mut secrets = vec![(
        SecretField::RefreshToken,
        o.required("refresh_token", secret)?,
    )];
    let (token_endpoint_auth, client_secret) = o.required("token_endpoint_auth", endpoint_auth)?;
    secrets.extend(client_secret.map(|s| (SecretField::ClientSecret, s)));
    let refresh = OauthRefresh {
        token_endpoint,
        client_id,
        scope: o
            .optional("scope", text(0, MAX_OAUTH_TEXT))?
            .filter(|s| !s.is_empty()),
        resource: o.optional("resource", text(1, MAX_OAUTH_TEXT))?,
        token_endpoint_auth,
    };
    o.finish()?;
    Ok((refresh, secrets))
}

fn endpoint_auth(value: Value, at: &At<'_>) -> Decode<(TokenEndpointAuth, Option<Secret<String>>)> {
    let mut o = Object::new(value, at)?;
    let auth = match o.tag(&["none", "client_secret_basic", "client_secret_post"])? {
        "none" => (TokenEndpointAuth::None, None),
        "client_secret_basic" => (
            TokenEndpointAuth::ClientSecretBasic,
            Some(o.required("client_secret", secret)?),
        ),
        _ => (
            TokenEndpointAuth::ClientSecretPost,
            Some(o.required("client_secret", secret)?),
        ),
    };
    o.finish()?;
    Ok(auth)
}

fn environment_variable(o: &mut Object<'_>) -> Decode<Auth> {
    let secret_name = o.required("secret_name", secret_name)?;
    let secret = (
        SecretField::SecretValue,
        o.required("secret_value", secret)?,
    );
    let networking = o.required("networking", networking)?;
    let location = match o.present("injection_location", injection_location)? {
        None => InjectionLocation {
            header: true,
            body: true,
        },
        Some((header, body)) => InjectionLocation {
            header: header.unwrap_or(false),
            body: body.unwrap_or(false),
        },
    };
    check_location(location)?;
    let variable = EnvironmentVariable {
        secret_name,
        networking,
        injection_location: location,
    };
    Ok((CredentialAuth::EnvironmentVariable(variable), vec![secret]))
}
