//! Who calls: the API key of a request, looked up by its hash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::FromRequestParts;
use freehold_base::{ApiKeyId, Timestamp, WorkspaceId};
use freehold_wire::{ApiError, ErrorKind};
use http::HeaderMap;
use http::request::Parts;
use tokio::sync::watch;

use crate::app::App;
use crate::credential;
use crate::http::Fail;

/// Keys remembered; a lookup beyond that costs a read.
const CACHED_KEYS: usize = 4096;

/// The caller of an authenticated request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The workspace its key belongs to; everything it can see is in there.
    pub(crate) workspace: WorkspaceId,
    /// The key's row.
    pub(crate) key: ApiKeyId,
    /// Whether the key may administer.
    pub(crate) admin: bool,
    /// What the key is looked up by.
    hash: [u8; 32],
    /// The state of all keys it was looked up in.
    generation: u64,
}

/// A caller whose key may administer; 403 for any other.
pub(crate) struct Admin(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fail> {
        // The outer layer puts it there for every route but the health checks.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| unauthenticated().into())
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

/// Callers by the hash of their key. Nothing expires: a revoked key is taken out by
/// [`KeyCache::clear`], which every change to keys or workspaces calls after its commit. One
/// process owns the store, so no key changes behind its back.
#[derive(Default)]
pub(crate) struct KeyCache {
    inner: Mutex<Cached>,
    /// The generation, for those who outlive the request that was let in.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Cached {
    /// Counts changes, so that a lookup that began before a change is not remembered after it.
    generation: u64,
    callers: HashMap<[u8; 32], Caller>,
    /// When keys were used since this was last written down.
    used: HashMap<ApiKeyId, Timestamp>,
}

impl KeyCache {
    fn lock(&self) -> MutexGuard<'_, Cached> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.callers.clear();
        self.changes.send_replace(inner.generation);
    }

    /// Notes a use of a key.
    fn used(&self, key: &ApiKeyId, at: Timestamp) {
        let mut inner = self.lock();
        if inner.used.len() < CACHED_KEYS || inner.used.contains_key(key) {
            inner.used.insert(key.clone(), at);
        }
    }

    /// Takes the noted uses.
    pub(crate) fn take_used(&self) -> Vec<(ApiKeyId, Timestamp)> {
        self.lock().used.drain().collect()
    }

    fn get(&self, hash: &[u8; 32]) -> (u64, Option<Caller>) {
        let inner = self.lock();
        (inner.generation, inner.callers.get(hash).cloned())
    }

    fn put(&self, generation: u64, hash: [u8; 32], caller: Caller) {
        let mut inner = self.lock();
        if inner.generation == generation {
            if inner.callers.len() >= CACHED_KEYS {
                inner.callers.clear();
            }
            inner.callers.insert(hash, caller);
        }
    }
}

/// Finds the caller of a request.
///
/// # Errors
/// 401 without a good key, 403 if `anthropic-workspace-id` names another workspace.
pub(crate) async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Caller, Fail> {
    let key = presented(headers)?;
    let hash = credential::hash(key);
    let (generation, known) = app.keys.get(&hash);
    let caller = match known {
        Some(caller) => caller,
        None => {
            let caller = look_up(app, &hash, generation).await?;
            app.keys.put(generation, hash, caller.clone());
            caller
        }
    };
    match headers.get("anthropic-workspace-id") {
        Some(wanted) if wanted.as_bytes() != caller.workspace.as_str().as_bytes() => {
            Err(ApiError::new(
                ErrorKind::Permission,
                "the API key does not belong to the workspace in `anthropic-workspace-id`",
            )
            .into())
        }
        _ => {
            app.keys.used(&caller.key, app.now());
            Ok(caller)
        }
    }
}

async fn look_up(app: &App, hash: &[u8; 32], generation: u64) -> Result<Caller, Fail> {
    // Found by the SHA-256 of the whole key: how far a wrong hash agrees with a stored one says
    // nothing about any key, so the look-up needs no constant time.
    let row = app
        .store
        .key_by_hash(hash)
        .await?
        .ok_or_else(unauthenticated)?;
    Ok(Caller {
        workspace: row.workspace_id,
        key: row.id,
        admin: row.admin,
        hash: *hash,
        generation,
    })
}

/// Ends when the caller's key stops working, for responses that go on after their request was let
/// in. A key that cannot be looked up counts as revoked: the client comes back and is asked again.
pub(crate) async fn revoked(app: Arc<App>, caller: Caller) {
    let mut changes = app.keys.changes.subscribe();
    let mut seen = caller.generation;
    loop {
        // The sender is in `app`, which we hold.
        match changes.wait_for(|now| *now != seen).await {
            Ok(now) => seen = *now,
            Err(_) => return,
        }
        if look_up(&app, &caller.hash, seen).await.is_err() {
            return;
        }
    }
}

/// The key as sent: `x-api-key`, or `Authorization: Bearer`. Both are accepted together only if
/// they agree, so that no request runs under a key its sender did not mean.
fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    let api_key = headers.get("x-api-key").map(|v| v.to_str().map(str::trim));
    let bearer = headers
        .get(http::header::AUTHORIZATION)
        .map(|v| v.to_str().map(bearer));
    let key = match (api_key, bearer) {
        (None, None) => {
            return Err(ApiError::new(
                ErrorKind::Authentication,
                "missing API key: send `authorization: Bearer <key>` or `x-api-key: <key>`",
            ));
        }
        (Some(Ok(a)), None) => Some(a),
        (None, Some(Ok(b))) => b,
        (Some(Ok(a)), Some(Ok(Some(b)))) if a == b => Some(a),
        (Some(_), Some(_)) => {
            return Err(ApiError::new(
                ErrorKind::Authentication,
                "`x-api-key` and `authorization` hold different credentials; send one",
            ));
        }
        _ => None,
    };
    key.filter(|k| (1..=credential::MAX_KEY).contains(&k.len()))
        .ok_or_else(unauthenticated)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn unauthenticated() -> ApiError {
    ApiError::new(ErrorKind::Authentication, "invalid API key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
            .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn both_forms_of_a_key() {
        for pairs in [
            &[("x-api-key", "k1")][..],
            &[("authorization", "Bearer k1")],
            &[("authorization", "bearer  k1 ")],
            &[("x-api-key", "k1"), ("authorization", "Bearer k1")],
        ] {
            assert_eq!(presented(&headers(pairs)).unwrap(), "k1", "{pairs:?}");
        }
        for pairs in [
            &[][..],
            &[("x-api-key", "")],
            &[("authorization", "Basic azE=")],
            &[("authorization", "k1")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "k1"), ("authorization", "Bearer k2")],
            &[("x-api-key", "k1"), ("authorization", "Basic k1")],
        ] {
            let error = presented(&headers(pairs)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Authentication, "{pairs:?}");
        }
    }

    #[test]
    fn a_lookup_that_began_before_a_revocation_is_not_remembered() {
        let cache = KeyCache::default();
        let caller = Caller {
            workspace: "wrkspc_1".parse().unwrap(),
            key: "apikey_1".parse().unwrap(),
            admin: false,
            hash: [1; 32],
            generation: 0,
        };
        let (generation, _) = cache.get(&[1; 32]);
        cache.clear();
        cache.put(generation, [1; 32], caller.clone());
        assert!(cache.get(&[1; 32]).1.is_none());
        let (generation, _) = cache.get(&[1; 32]);
        cache.put(generation, [1; 32], caller);
        assert!(cache.get(&[1; 32]).1.is_some());
    }
}
