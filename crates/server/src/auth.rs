//! Who calls: the credential of a request, looked up by its hash, and how far it reaches (contract
//! 50 §1).
//!
//! A handler says whom it serves by what it takes: [`Caller`] is a workspace's API key, [`Admin`]
//! one that may administer, [`Principal`] any credential, [`AtItem`] any credential, also the token
//! of a work item that has stopped, [`TunnelManager`] whoever may manage tunnels. A key with a scope
//! passes only the extractor of its scope.

mod cache;
mod presented;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use freehold_base::{ApiKeyId, EnvironmentId, EnvironmentKeyId, SessionId, WorkId, WorkspaceId};
use freehold_store::{CredentialKind, KeyScope, SessionRow};
use freehold_wire::{ApiError, ErrorKind};
use http::HeaderMap;
use http::request::Parts;

pub(crate) use self::cache::KeyCache;
use self::presented::presented;
use crate::app::App;
use crate::credential;
use crate::http::{Fail, path_id};

/// SHA-256 of a credential. Shows nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct CredentialHash([u8; 32]);

impl std::fmt::Debug for CredentialHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialHash(…)")
    }
}

impl CredentialHash {
    /// The hash itself, to be stored.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// Whoever sends an authenticated request.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// Everything it can reach is in this workspace.
    pub(crate) workspace: WorkspaceId,
    /// How far it reaches in there.
    pub(crate) reach: Reach,
    /// What it is looked up by.
    pub(crate) credential: CredentialHash,
    /// It is the token of a work item that has stopped.
    stopped: bool,
    /// It is a key that opens this API only, and so passes no extractor but that one's.
    scope: Option<KeyScope>,
}

/// How far a credential reaches in its workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// An API key: all of the workspace.
    Workspace {
        /// The key's row.
        key: ApiKeyId,
        /// Whether the key may administer.
        admin: bool,
    },
    /// An environment key: the environment's work queue, its sessions, and what those need.
    Environment {
        /// The environment.
        environment: EnvironmentId,
        /// The key's row.
        key: EnvironmentKeyId,
    },
    /// The token of a work item: the item, its session, and what that needs.
    Session {
        /// The session.
        session: SessionId,
        /// The session's environment.
        environment: EnvironmentId,
        /// The item.
        work: WorkId,
    },
}

impl Principal {
    /// Whether it reaches this session of its workspace.
    pub(crate) fn reaches(&self, row: &SessionRow) -> bool {
        match &self.reach {
            Reach::Workspace { .. } => true,
            Reach::Environment { environment, .. } => row.environment_id == *environment,
            Reach::Session { session, .. } => row.id == *session,
        }
    }

    /// The session a path names, if it is within reach.
    ///
    /// # Errors
    /// 404 for one that does not exist or is out of reach: they cannot be told apart.
    pub(crate) async fn session(&self, app: &App, id: &str) -> Result<SessionRow, Fail> {
        let parsed = path_id("Session", id)?;
        let row = app.store.session(&self.workspace, &parsed).await?;
        row.filter(|row| self.reaches(row))
            .ok_or_else(|| ApiError::not_found("Session", id).into())
    }

    /// Whether a workspace's API key asks, rather than a worker.
    pub(crate) fn is_workspace(&self) -> bool {
        matches!(self.reach, Reach::Workspace { .. })
    }
}

/// A workspace's API key; 403 for any other credential.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The workspace the key belongs to; everything it can see is in there.
    pub(crate) workspace: WorkspaceId,
    /// The key's row.
    pub(crate) key: ApiKeyId,
    /// Whether the key may administer.
    pub(crate) admin: bool,
    /// What the key is looked up by.
    pub(crate) credential: CredentialHash,
}

/// A caller whose key may administer; 403 for any other.
pub(crate) struct Admin(pub(crate) Caller);

/// Whoever may manage the tunnels of a workspace: an admin key, or a key with the scope `tunnels`
/// (contract 60 §1 asks for a scope of identity federation, which would be let in here). 403 for any
/// other.
#[derive(Debug, Clone)]
pub(crate) struct TunnelManager {
    /// The workspace whose tunnels.
    pub(crate) workspace: WorkspaceId,
    /// The key's row, for the log.
    pub(crate) key: ApiKeyId,
}

/// Any credential, also the token of a work item that has stopped: for the few endpoints at which a
/// worker learns just that.
pub(crate) struct AtItem(pub(crate) Principal);

/// Who sends the request, whatever that may do.
fn sent_with(parts: &Parts) -> Result<Principal, Fail> {
    // The outer layer puts it there for every route but the health checks.
    let principal = parts.extensions.get::<Principal>().cloned();
    principal.ok_or_else(|| unauthenticated().into())
}

impl<S: Sync> FromRequestParts<S> for TunnelManager {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fail> {
        let principal = sent_with(parts)?;
        match (principal.reach, principal.scope) {
            (Reach::Workspace { key, .. }, Some(KeyScope::Tunnels))
            | (Reach::Workspace { key, admin: true }, None) => Ok(Self {
                workspace: principal.workspace,
                key,
            }),
            _ => Err(ApiError::new(
                ErrorKind::Permission,
                "tunnels are managed with an admin key, or with a key that \
                 `freehold keys create --scope tunnels` makes",
            )
            .into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for AtItem {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fail> {
        let principal = sent_with(parts)?;
        match principal.scope {
            None => Ok(Self(principal)),
            Some(scope) => Err(ApiError::new(
                ErrorKind::Permission,
                format!(
                    "a key with the scope `{}` opens that API only; this endpoint needs another key",
                    scope.as_str()
                ),
            )
            .into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fail> {
        let AtItem(principal) = AtItem::from_request_parts(parts, state).await?;
        if principal.stopped {
            return Err(ApiError::new(
                ErrorKind::Authentication,
                "the work item of this session token has stopped, and the token with it",
            )
            .into());
        }
        Ok(principal)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fail> {
        let principal = Principal::from_request_parts(parts, state).await?;
        let what = match principal.reach {
            Reach::Workspace { key, admin } => {
                return Ok(Self {
                    workspace: principal.workspace,
                    key,
                    admin,
                    credential: principal.credential,
                });
            }
            Reach::Environment { .. } => {
                "an environment key opens its environment's work queue and sessions only"
            }
            Reach::Session { .. } => "a session token opens its session and work item only",
        };
        let message = format!("{what}; this endpoint needs an API key");
        Err(ApiError::new(ErrorKind::Permission, message).into())
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fail> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.admin {
            return Ok(Self(caller));
        }
        Err(ApiError::new(
            ErrorKind::Permission,
            "this endpoint needs an admin key; create one with `freehold keys create --admin`",
        )
        .into())
    }
}

/// Finds who sends a request.
///
/// # Errors
/// 401 without a good credential, 403 if `anthropic-workspace-id` names another workspace.
pub(crate) async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Principal, Fail> {
    let hash = CredentialHash(credential::hash(presented(headers)?));
    let (generation, known) = app.keys.get(&hash);
    let principal = match known {
        Some(principal) => principal,
        None => {
            let principal = look_up(app, hash).await?;
            app.keys.put(generation, &principal);
            principal
        }
    };
    match headers.get("anthropic-workspace-id") {
        Some(wanted) if wanted.as_bytes() != principal.workspace.as_str().as_bytes() => {
            Err(ApiError::new(
                ErrorKind::Permission,
                "the credential does not belong to the workspace in `anthropic-workspace-id`",
            )
            .into())
        }
        _ => {
            app.keys.used(&principal.reach, app.now());
            Ok(principal)
        }
    }
}

async fn look_up(app: &App, credential: CredentialHash) -> Result<Principal, Fail> {
    // Found by the SHA-256 of the whole credential: how far a wrong hash agrees with a stored one
    // says nothing about any credential, so the look-up needs no constant time.
    let row = app.store.credential_by_hash(&credential.0).await?;
    let row = row.ok_or_else(unauthenticated)?;
    let (mut stopped, mut scope) = (false, None);
    let reach = match row.kind {
        CredentialKind::ApiKey { id, admin } => Reach::Workspace { key: id, admin },
        CredentialKind::TunnelKey { id } => {
            scope = Some(KeyScope::Tunnels);
            Reach::Workspace {
                key: id,
                admin: false,
            }
        }
        CredentialKind::EnvironmentKey { id, environment } => Reach::Environment {
            environment,
            key: id,
        },
        CredentialKind::WorkToken {
            work,
            session,
            environment,
            stopped: over,
        } => {
            stopped = over;
            Reach::Session {
                session,
                environment,
                work,
            }
        }
    };
    Ok(Principal {
        workspace: row.workspace_id,
        reach,
        credential,
        stopped,
        scope,
    })
}

/// Ends when a credential stops working, for responses that go on after their request was let in.
/// One that cannot be looked up counts as revoked: the client comes back and is asked again.
pub(crate) async fn revoked(app: Arc<App>, credential: CredentialHash) {
    let mut keys = app.keys.changes.subscribe();
    let mut ends = app.runtime.hub().work().ends();
    loop {
        // After the subscription, so that no change lies between the two.
        let Ok(principal) = look_up(&app, credential.clone()).await else {
            return;
        };
        if principal.stopped {
            return;
        }
        let of_work = matches!(principal.reach, Reach::Session { .. });
        // Both senders are in `app`, which we hold.
        let changed = tokio::select! {
            changed = keys.changed() => changed,
            changed = ends.changed(), if of_work => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn unauthenticated() -> ApiError {
    ApiError::new(ErrorKind::Authentication, "invalid API key")
}
