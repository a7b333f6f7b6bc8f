//! Credentials that were looked up before.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use freehold_base::Timestamp;
use freehold_store::KeyId;
use tokio::sync::watch;

use super::{CredentialHash, Principal, Reach};

/// Keys remembered; a lookup beyond that costs a read.
const CACHED_KEYS: usize = 4096;

/// Who comes with a key, by the key's hash. Nothing expires: a revoked key is taken out by
/// [`KeyCache::clear`], which every change to keys or workspaces calls after its commit. Nothing is
/// remembered where another process may change keys: a key is revoked for its next request, wherever
/// that arrives. Nor are session tokens: they come and go with the work items, which the store ends
/// by itself.
pub(crate) struct KeyCache {
    remembers: bool,
    inner: Mutex<Cached>,
    /// The generation, for those who outlive the request that was let in.
    pub(super) changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Cached {
    /// Counts changes, so that a lookup that began before a change is not remembered after it.
    generation: u64,
    principals: HashMap<CredentialHash, Principal>,
    /// When keys were used since this was last written down.
    used: HashMap<KeyId, Timestamp>,
}

impl KeyCache {
    /// An empty one; `alone`: no other process uses the store.
    pub(crate) fn new(alone: bool) -> Self {
        Self {
            remembers: alone,
            inner: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.principals.clear();
        self.changes.send_replace(inner.generation);
    }

    /// Notes a use of a key.
    pub(super) fn used(&self, reach: &Reach, at: Timestamp) {
        let key = match reach {
            Reach::Workspace { key, .. } => KeyId::Api(key.clone()),
            Reach::Environment { key, .. } => KeyId::Environment(key.clone()),
            Reach::Session { .. } => return,
        };
        let mut inner = self.lock();
        if inner.used.len() < CACHED_KEYS || inner.used.contains_key(&key) {
            inner.used.insert(key, at);
        }
    }

    /// Takes the noted uses.
    pub(crate) fn take_used(&self) -> Vec<(KeyId, Timestamp)> {
        self.lock().used.drain().collect()
    }

    pub(super) fn get(&self, hash: &CredentialHash) -> (u64, Option<Principal>) {
        let inner = self.lock();
        (inner.generation, inner.principals.get(hash).cloned())
    }

    pub(super) fn put(&self, generation: u64, principal: &Principal) {
        if !self.remembers || matches!(principal.reach, Reach::Session { .. }) {
            return;
        }
        let mut inner = self.lock();
        if inner.generation == generation {
            if inner.principals.len() >= CACHED_KEYS {
                inner.principals.clear();
            }
            let hash = principal.credential.clone();
            inner.principals.insert(hash, principal.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(reach: Reach) -> Principal {
        Principal {
            workspace: "wrkspc_1".parse().unwrap(),
            reach,
            credential: CredentialHash([1; 32]),
            stopped: false,
            scope: None,
        }
    }

    #[test]
    fn a_lookup_that_began_before_a_revocation_is_not_remembered() {
        let cache = KeyCache::new(true);
        let hash = CredentialHash([1; 32]);
        let caller = principal(Reach::Workspace {
            key: "apikey_1".parse().unwrap(),
            admin: false,
        });
        let (generation, _) = cache.get(&hash);
        cache.clear();
        cache.put(generation, &caller);
        assert!(cache.get(&hash).1.is_none());
        let (generation, _) = cache.get(&hash);
        cache.put(generation, &caller);
        assert!(cache.get(&hash).1.is_some());
    }

    #[test]
    fn a_session_token_is_not_remembered() {
        let cache = KeyCache::new(true);
        let token = principal(Reach::Session {
            session: "sesn_1".parse().unwrap(),
            environment: "env_1".parse().unwrap(),
            work: "work_1".parse().unwrap(),
        });
        let (generation, _) = cache.get(&token.credential);
        cache.put(generation, &token);
        assert!(cache.get(&token.credential).1.is_none());
    }
}
