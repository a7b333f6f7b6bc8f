//! Update of credentials (contract 64 §3): secrets are replaced one by one, the rest of `auth` as
//! far as it is not fixed at creation.

use freehold_base::{Secret, Timestamp};
use serde_json::Value;

use super::auth::{
    check_future, check_location, injection_location, networking, secret, timestamp, token,
};
use super::request::{CredentialData, MAX_OAUTH_TEXT, NewSecret};
use super::{
    Credential, CredentialAuth, CredentialNetworking, EnvironmentVariable, McpOauth, SecretField,
    TokenEndpointAuth,
};
use crate::ApiError;
use crate::decode::{At, Decode, Object, text};
use crate::metadata::{self, MetadataPatch};
use crate::request::Request;
use crate::vault::MAX_DISPLAY_NAME;

/// `POST /v1/vaults/{id}/credentials/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateCredential {
    display_name: Option<String>,
    metadata: Option<MetadataPatch>,
    auth: Option<AuthPatch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AuthPatch {
    McpOauth {
        access_token: Option<Secret<String>>,
        expires_at: Option<Timestamp>,
        refresh: Option<RefreshPatch>,
    },
    StaticBearer {
        token: Option<Secret<String>>,
    },
    EnvironmentVariable {
        secret_value: Option<Secret<String>>,
        networking: Option<CredentialNetworking>,
        location: Option<(Option<bool>, Option<bool>)>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RefreshPatch {
    refresh_token: Option<Secret<String>>,
    /// Empty clears it.
    scope: Option<String>,
    /// Present if `token_endpoint_auth` was, with the secret if that was in it.
    client_secret: Option<Option<Secret<String>>>,
}

impl Request for UpdateCredential {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            display_name: o.optional("display_name", text(1, MAX_DISPLAY_NAME))?,
            metadata: o.optional("metadata", metadata::patch)?,
            auth: o.present("auth", auth)?,
        };
        o.finish()?;
        Ok(request)
    }
}

fn auth(value: Value, at: &At<'_>) -> Decode<AuthPatch> {
    let mut o = Object::new(value, at)?;
    let patch = match o.tag(&["mcp_oauth", "static_bearer", "environment_variable"])? {
        "mcp_oauth" => {
            locked(&mut o, "mcp_server_url")?;
            AuthPatch::McpOauth {
                access_token: o.optional("access_token", token)?,
                expires_at: o.optional("expires_at", timestamp)?,
                refresh: o.optional("refresh", refresh)?,
            }
        }
        "static_bearer" => {
            locked(&mut o, "mcp_server_url")?;
            AuthPatch::StaticBearer {
                token: o.optional("token", token)?,
            }
        }
        _ => {
            locked(&mut o, "secret_name")?;
            AuthPatch::EnvironmentVariable {
                secret_value: o.optional("secret_value", secret)?,
                networking: o.optional("networking", networking)?,
                location: o.present("injection_location", injection_location)?,
            }
        }
    };
    o.finish()?;
    Ok(patch)
}

fn refresh(value: Value, at: &At<'_>) -> Decode<RefreshPatch> {
    let mut o = Object::new(value, at)?;
    for key in ["token_endpoint", "client_id", "resource"] {
        locked(&mut o, key)?;
    }
    let patch = RefreshPatch {
        refresh_token: o.optional("refresh_token", secret)?,
        scope: o.optional("scope", text(0, MAX_OAUTH_TEXT))?,
        client_secret: o.optional("token_endpoint_auth", client_secret)?,
    };
    o.finish()?;
    Ok(patch)
}

fn client_secret(value: Value, at: &At<'_>) -> Decode<Option<Secret<String>>> {
    let mut o = Object::new(value, at)?;
    o.tag(&["client_secret_basic", "client_secret_post"])?;
    let client_secret = o.optional("client_secret", secret)?;
    o.finish()?;
    Ok(client_secret)
}

/// Refuses a field that is fixed at creation, whatever it holds.
fn locked(o: &mut Object<'_>, key: &'static str) -> Decode<()> {
    o.present(key, |_, at| -> Decode<()> {
        Err(at.error("The field cannot be changed; create a new credential instead"))
    })
    .map(drop)
}

impl UpdateCredential {
    /// The stored credential with this change and the secrets to replace, or `None` when nothing
    /// would change.
    ///
    /// # Errors
    /// It is archived, of another type, or the result breaks a rule.
    pub fn resolve(
        self,
        stored: &Credential,
        now: Timestamp,
    ) -> Decode<Option<(CredentialData, Vec<NewSecret>)>> {
        if stored.archived_at.is_some() {
            return Err(ApiError::invalid(format!(
                "Credential `{}` is archived and cannot be changed.",
                stored.id
            ))
            .with_code("credential_archived"));
        }
        let before = CredentialData {
            display_name: stored.display_name.clone(),
            metadata: stored.metadata.clone(),
            auth: stored.auth.clone(),
        };
        let mut after = before.clone();
        if self.display_name.is_some() {
            after.display_name = self.display_name;
        }
        if let Some(patch) = self.metadata {
            after.metadata = patch.apply(&stored.metadata)?;
        }
        let secrets = match self.auth {
            Some(patch) => patch.apply(&mut after.auth, now)?,
            None => Vec::new(),
        };
        Ok((after != before || !secrets.is_empty()).then_some((after, secrets)))
    }
}

impl AuthPatch {
    fn apply(self, stored: &mut CredentialAuth, now: Timestamp) -> Decode<Vec<NewSecret>> {
        match (self, stored) {
            (
                Self::McpOauth {
                    access_token,
                    expires_at,
                    refresh,
                },
                CredentialAuth::McpOauth(oauth),
            ) => {
                check_future(expires_at, now)?;
                oauth.expires_at = expires_at.or(oauth.expires_at);
                let mut secrets = named(SecretField::AccessToken, access_token);
                if let Some(patch) = refresh {
                    secrets.extend(patch.apply(oauth)?);
                }
                Ok(secrets)
            }
            (Self::StaticBearer { token }, CredentialAuth::StaticBearer(_)) => {
                Ok(named(SecretField::Token, token))
            }
            (
                Self::EnvironmentVariable {
                    secret_value,
                    networking,
                    location,
                },
                CredentialAuth::EnvironmentVariable(variable),
            ) => {
                change_variable(variable, networking, location)?;
                Ok(named(SecretField::SecretValue, secret_value))
            }
            (_, stored) => Err(At::ROOT.key("auth").key("type").error(format_args!(
                "The type of a credential cannot be changed; it is '{}'",
                stored.kind()
            ))),
        }
    }
}

fn change_variable(
    variable: &mut EnvironmentVariable,
    networking: Option<CredentialNetworking>,
    location: Option<(Option<bool>, Option<bool>)>,
) -> Decode<()> {
    if let Some(networking) = networking {
        variable.networking = networking;
    }
    let stored = &mut variable.injection_location;
    if let Some((header, body)) = location {
        stored.header = header.unwrap_or(stored.header);
        stored.body = body.unwrap_or(stored.body);
    }
    check_location(*stored)
}

impl RefreshPatch {
    fn apply(self, oauth: &mut McpOauth) -> Decode<Vec<NewSecret>> {
        let at = At::ROOT.key("auth");
        let at = at.key("refresh");
        let Some(stored) = &mut oauth.refresh else {
            return Err(at.error(
                "The credential has no refresh configuration; create a new credential instead",
            ));
        };
        if self.client_secret.is_some() && stored.token_endpoint_auth == TokenEndpointAuth::None {
            return Err(at
                .key("token_endpoint_auth")
                .error("The credential's client has no secret; create a new credential instead"));
        }
        if let Some(scope) = self.scope {
            stored.scope = Some(scope).filter(|s| !s.is_empty());
        }
        let mut secrets = named(SecretField::RefreshToken, self.refresh_token);
        secrets.extend(named(
            SecretField::ClientSecret,
            self.client_secret.flatten(),
        ));
        Ok(secrets)
    }
}

fn named(field: SecretField, secret: Option<Secret<String>>) -> Vec<NewSecret> {
    secret.map(|s| (field, s)).into_iter().collect()
}
