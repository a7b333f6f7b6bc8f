//! What MCP servers are shown: the tokens of a session's vaults, refreshed when they expire
//! (contract 64 §6). One refresh at a time for each credential, and what it gave is stored before it
//! is used, so that a grant that is used up by its use is never lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_base::{
    CredentialId, Secret, SessionId, SharedClock, Timestamp, VaultId, WorkspaceId,
};
use freehold_mcp::oauth::{self, ClientAuth, Refresh, RefreshError, Refreshed};
use freehold_mcp::{Connector, Endpoint, HttpError, McpError, Probe};
use freehold_store::{CredentialChange, McpCredential, Store, StoreError, UpdateCredentialError};
use freehold_wire::credential::{
    Credential, CredentialAuth, McpOauth, OauthRefresh, SecretField, TokenEndpointAuth,
};

/// A token is refreshed this long before it expires, milliseconds.
const MARGIN_MS: i64 = 60_000;
/// Times a refresh begins anew because somebody changed the credential meanwhile.
const TRIES: usize = 3;
/// What a server answers to a token it does not take.
const UNAUTHORIZED: u16 = 401;
/// Credentials remembered as refused.
const MAX_GONE: usize = 10_000;

/// Why there is no token to show.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The token cannot be refreshed.
    #[error("{0}")]
    Refresh(String),
    /// The secret cannot be read: its master key is not configured.
    #[error("the credential cannot be read")]
    Unreadable,
}

impl From<CredentialError> for McpError {
    fn from(error: CredentialError) -> Self {
        if let CredentialError::Store(error) = &error {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "credential not looked up"
            );
        }
        Self::Authentication(error.to_string())
    }
}

/// Tokens for MCP servers.
pub struct McpCredentials {
    store: Store,
    connector: Connector,
    clock: SharedClock,
    /// Held while a credential is refreshed.
    flights: Mutex<HashMap<CredentialId, Arc<tokio::sync::Mutex<()>>>>,
    /// Credentials whose grant was refused, as they were then.
    gone: Mutex<HashMap<CredentialId, Timestamp>>,
}

/// A credential of type `mcp_oauth`, with its secrets.
struct Oauth {
    stored: McpCredential,
    shown: Credential,
    auth: McpOauth,
    access: Secret<String>,
}

/// What a validation found (contract 64 §4).
#[derive(Debug)]
pub struct Validation {
    /// Whether the server took the token.
    pub probe: Probe,
    /// How the refresh ended, if there was one.
    pub refresh: Option<Result<(), RefreshError>>,
    /// Whether there is a refresh token.
    pub has_refresh_token: bool,
    /// Everything that must not be shown.
    pub secrets: Vec<Secret<String>>,
}

impl McpCredentials {
    /// Looks nothing up yet.
    pub fn new(store: Store, connector: Connector, clock: SharedClock) -> Self {
        Self {
            store,
            connector,
            clock,
            flights: Mutex::default(),
            gone: Mutex::default(),
        }
    }

    /// The token of the first of the session's vaults that has one for the server; `None` if none
    /// has. `rejected` is one the server did not take: another is got if that is possible.
    ///
    /// # Errors
    /// There is a credential, and it cannot be used.
    pub(crate) async fn bearer(
        self: &Arc<Self>,
        session: &SessionId,
        url: &str,
        rejected: Option<&Secret<String>>,
    ) -> Result<Option<Secret<String>>, CredentialError> {
        let Some(stored) = self.store.session_mcp_credential(session, url).await? else {
            return Ok(None);
        };
        let shown = shown(&stored)?;
        let CredentialAuth::McpOauth(_) = shown.auth else {
            return secret(&stored, SecretField::Token);
        };
        let oauth = Oauth::of(stored, shown)?;
        if !self.is_stale(&oauth, rejected) {
            return Ok(Some(oauth.access));
        }
        let this = Arc::clone(self);
        let (id, session) = (oauth.stored.row.id, session.clone());
        let (url, rejected) = (url.to_owned(), rejected.cloned());
        whole(async move { this.renewed(&id, &session, &url, rejected.as_ref()).await }).await
    }

    /// The same of a credential whose token is stale, or was when the caller looked.
    async fn renewed(
        &self,
        id: &CredentialId,
        session: &SessionId,
        url: &str,
        rejected: Option<&Secret<String>>,
    ) -> Result<Option<Secret<String>>, CredentialError> {
        let look = async || self.store.session_mcp_credential(session, url).await;
        let flight = self.flight(id);
        let _alone = flight.lock().await;
        for _ in 0..TRIES {
            // Whoever was first may have refreshed it, or somebody changed it.
            let Some(stored) = look().await? else {
                return Ok(None);
            };
            let shown = self::shown(&stored)?;
            let oauth = Oauth::of(stored, shown)?;
            if !self.is_stale(&oauth, rejected) || oauth.auth.refresh.is_none() {
                return Ok(Some(oauth.access));
            }
            match self.refresh(&oauth).await {
                Ok(Some(fresh)) => return Ok(Some(fresh)),
                Ok(None) => {}
                // Another replica may have used up the grant, and stored what it got for it.
                Err(RefreshError::Gone(_)) if self.has_changed(&oauth).await => {}
                Err(error) => return Err(CredentialError::Refresh(error.to_string())),
            }
        }
        Err(CredentialError::Refresh(
            "the credential is being changed by others".to_owned(),
        ))
    }

    /// Whether the server takes a credential's token, refreshing it if it does not. `None` if it is
    /// not of type `mcp_oauth`.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn validate(
        self: &Arc<Self>,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<Validation>, CredentialError> {
        let this = Arc::clone(self);
        let (workspace, vault, id) = (workspace.clone(), vault.clone(), id.clone());
        whole(async move { this.validated(&workspace, &vault, &id).await }).await
    }

    async fn validated(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<Validation>, CredentialError> {
        let look = async || -> Result<Option<Oauth>, CredentialError> {
            let Some(stored) = self.store.mcp_credential(workspace, vault, id).await? else {
                return Ok(None);
            };
            let shown = shown(&stored)?;
            match shown.auth {
                CredentialAuth::McpOauth(_) => Oauth::of(stored, shown).map(Some),
                _ => Ok(None),
            }
        };
        let flight = self.flight(id);
        let _alone = flight.lock().await;
        let Some(oauth) = look().await? else {
            return Ok(None);
        };
        let probe = |access: Secret<String>| {
            let to = Endpoint {
                workspace: workspace.clone(),
                owner: id.to_string(),
                url: oauth.auth.mcp_server_url.clone(),
                bearer: Some(access),
            };
            let connector = self.connector.clone();
            async move { connector.probe(&to).await }
        };
        let mut found = Validation {
            probe: probe(oauth.access.clone()).await,
            refresh: None,
            has_refresh_token: secret(&oauth.stored, SecretField::RefreshToken)?.is_some(),
            secrets: oauth.secrets(),
        };
        let refused = matches!(&found.probe, Probe::Failed { response: Some(r), .. }
            if r.status_code == UNAUTHORIZED);
        if refused && found.has_refresh_token {
            let fresh = match self.refresh(&oauth).await {
                // As for sessions: another replica may have been first.
                Err(RefreshError::Gone(_)) if self.has_changed(&oauth).await => Ok(None),
                done => done,
            };
            match fresh {
                Ok(fresh) => {
                    found.refresh = Some(Ok(()));
                    let fresh = match fresh {
                        Some(fresh) => Some(fresh),
                        None => self.now(&oauth).await.map(|now| now.access),
                    };
                    if let Some(fresh) = fresh {
                        found.secrets.push(fresh.clone());
                        found.probe = probe(fresh).await;
                    }
                }
                Err(error) => found.refresh = Some(Err(error)),
            }
        }
        Ok(Some(found))
    }

    fn is_stale(&self, oauth: &Oauth, rejected: Option<&Secret<String>>) -> bool {
        let soon = self.clock.now().plus_millis(MARGIN_MS);
        let expired = oauth.auth.expires_at.is_some_and(|at| at <= soon);
        let renewable = oauth.auth.refresh.is_some();
        (expired && renewable) || rejected == Some(&oauth.access)
    }

    /// Gets and stores a new token; `None` if the credential was changed meanwhile.
    async fn refresh(&self, oauth: &Oauth) -> Result<Option<Secret<String>>, RefreshError> {
        let row = &oauth.stored.row;
        let unusable = |_| RefreshError::Unusable;
        let (Some(how), Ok(Some(grant))) = (
            &oauth.auth.refresh,
            oauth.stored.secret(SecretField::RefreshToken),
        ) else {
            return Err(RefreshError::Unusable);
        };
        if lock(&self.gone).get(&row.id) == Some(&row.updated_at) {
            return Err(RefreshError::Unreachable(HttpError::Connect(
                "its refresh token was refused before; the credential must be authorized again"
                    .to_owned(),
            )));
        }
        let client_secret = oauth
            .stored
            .secret(SecretField::ClientSecret)
            .map_err(unusable)?;
        let asked = Refresh {
            workspace: &oauth.stored.workspace,
            token_endpoint: &how.token_endpoint,
            client_id: &how.client_id,
            auth: client_auth(how, client_secret)?,
            refresh_token: &grant,
            scope: how.scope.as_deref(),
            resource: how.resource.as_deref(),
        };
        match oauth::refresh(self.connector.http(), &asked).await {
            Ok(fresh) => self.keep(oauth, &grant, fresh).await,
            Err(error) => {
                if let RefreshError::Gone(_) = &error {
                    let mut gone = lock(&self.gone);
                    if gone.len() >= MAX_GONE {
                        gone.clear();
                    }
                    gone.insert(row.id.clone(), row.updated_at);
                }
                tracing::warn!(credential = %row.id, %error, "access token not refreshed");
                Err(error)
            }
        }
    }

    /// Stores what was got for `grant`; `None` if the credential has another one meanwhile.
    async fn keep(
        &self,
        oauth: &Oauth,
        grant: &Secret<String>,
        fresh: Refreshed,
    ) -> Result<Option<Secret<String>>, RefreshError> {
        let mut newer = None;
        for _ in 0..TRIES {
            match self.put(newer.as_ref().unwrap_or(oauth), &fresh).await {
                Ok(()) => return Ok(Some(fresh.access_token)),
                // A new name is no new grant: this one is used up, and what it gave must not be lost.
                Err(UpdateCredentialError::Conflict) => match self.now(oauth).await {
                    Some(now) if now.grant().as_ref() == Some(grant) => newer = Some(now),
                    // Whoever changed it has the last word.
                    _ => return Ok(None),
                },
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    let credential = &oauth.stored.row.id;
                    tracing::error!(%credential, error, "a refreshed token was not stored");
                    break;
                }
            }
        }
        // It may be the only one that works, so it is used as long as we have it.
        Ok(Some(fresh.access_token))
    }

    async fn put(&self, oauth: &Oauth, fresh: &Refreshed) -> Result<(), UpdateCredentialError> {
        let now = self.clock.now();
        let expires_at = fresh.expires_in.map(|seconds| {
            let millis = i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000);
            now.plus_millis(millis)
        });
        let shown = Credential {
            auth: CredentialAuth::McpOauth(McpOauth {
                expires_at,
                ..oauth.auth.clone()
            }),
            ..oauth.shown.clone()
        };
        let refresh_token = fresh.refresh_token.clone();
        let mut secrets = vec![(
            SecretField::AccessToken.as_str(),
            fresh.access_token.clone(),
        )];
        // Without a new one the old is good for the next time.
        secrets.extend(refresh_token.map(|t| (SecretField::RefreshToken.as_str(), t)));
        let row = &oauth.stored.row;
        let change = CredentialChange {
            expected: row.updated_at,
            body: serde_json::to_string(&shown).expect("a credential is valid JSON"),
            secrets,
        };
        let workspace = &oauth.stored.workspace;
        let put = self
            .store
            .update_credential(workspace, &row.vault_id, &row.id, change);
        put.await.map(drop)
    }

    /// The credential as it is now, if it is there and can be read.
    async fn now(&self, oauth: &Oauth) -> Option<Oauth> {
        let (workspace, row) = (&oauth.stored.workspace, &oauth.stored.row);
        let found = self
            .store
            .mcp_credential(workspace, &row.vault_id, &row.id)
            .await;
        let stored = found.ok()??;
        let shown = shown(&stored).ok()?;
        Oauth::of(stored, shown).ok()
    }

    async fn has_changed(&self, oauth: &Oauth) -> bool {
        let changed = |now: Oauth| now.stored.row.updated_at != oauth.stored.row.updated_at;
        self.now(oauth).await.is_some_and(changed)
    }

    fn flight(&self, id: &CredentialId) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = lock(&self.flights);
        flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        Arc::clone(flights.entry(id.clone()).or_default())
    }
}

impl Oauth {
    fn of(stored: McpCredential, shown: Credential) -> Result<Self, CredentialError> {
        let CredentialAuth::McpOauth(auth) = shown.auth.clone() else {
            return Err(CredentialError::Unreadable);
        };
        let access = secret(&stored, SecretField::AccessToken)?;
        Ok(Self {
            access: access.ok_or(CredentialError::Unreadable)?,
            stored,
            shown,
            auth,
        })
    }

    fn grant(&self) -> Option<Secret<String>> {
        secret(&self.stored, SecretField::RefreshToken).ok()?
    }

    fn secrets(&self) -> Vec<Secret<String>> {
        let all = self.stored.secrets.iter();
        all.filter_map(|(_, secret)| secret.clone().ok()).collect()
    }
}

/// Does `work` to its end even if whoever waits for it goes away: a grant that is used up by its use is
/// lost if what it gave is not stored.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, CredentialError>> + Send + 'static,
) -> Result<T, CredentialError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|_| {
        Err(CredentialError::Refresh(
            "the refresh was given up".to_owned(),
        ))
    })
}

fn shown(stored: &McpCredential) -> Result<Credential, CredentialError> {
    serde_json::from_str(&stored.row.body).map_err(|_| CredentialError::Unreadable)
}

fn secret(
    stored: &McpCredential,
    field: SecretField,
) -> Result<Option<Secret<String>>, CredentialError> {
    stored.secret(field).map_err(|error| {
        tracing::error!(credential = %stored.row.id, %error, "credential left out");
        CredentialError::Unreadable
    })
}

fn client_auth(
    how: &OauthRefresh,
    secret: Option<Secret<String>>,
) -> Result<ClientAuth, RefreshError> {
    Ok(match (how.token_endpoint_auth, secret) {
        (TokenEndpointAuth::None, _) => ClientAuth::None,
        (TokenEndpointAuth::ClientSecretBasic, Some(secret)) => ClientAuth::Basic(secret),
        (TokenEndpointAuth::ClientSecretPost, Some(secret)) => ClientAuth::Post(secret),
        (_, None) => return Err(RefreshError::Unusable),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
