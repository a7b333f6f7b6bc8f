//! What is known of servers: their era, their tools, and the older protocol's sessions with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_base::WorkspaceId;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::definition::Listing;
use crate::endpoint::Endpoint;
use crate::era::{Era, Session};
use crate::target::Target;

/// Most entries of each kind; the oldest make room.
const MAX_ENTRIES: usize = 4096;

/// A server as one workspace sees it, and how it is seen with one credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    server: (WorkspaceId, String),
    credential: Option<[u8; 32]>,
    owner: String,
}

impl Key {
    pub(crate) fn of(endpoint: &Endpoint, target: &Target) -> Self {
        let hash = |bearer: &freehold_base::Secret<String>| Sha256::digest(bearer.expose()).into();
        Self {
            server: (endpoint.workspace.clone(), target.url()),
            credential: endpoint.bearer.as_ref().map(hash),
            owner: endpoint.owner.clone(),
        }
    }

    /// Tools of a stateless server are the same for every owner; a session may change its own.
    fn listing(&self, era: Option<Era>) -> Self {
        match era {
            Some(Era::Modern) => Self {
                owner: String::new(),
                ..self.clone()
            },
            _ => self.clone(),
        }
    }
}

/// A session, and how to end it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) current: Option<Session>,
    endpoint: Endpoint,
}

type Sessions = HashMap<Key, (Arc<tokio::sync::Mutex<Slot>>, Instant)>;

#[derive(Default)]
pub(crate) struct Known {
    eras: Mutex<HashMap<(WorkspaceId, String), (Era, Instant)>>,
    listings: Mutex<HashMap<Key, (Arc<Listing>, Instant)>>,
    sessions: Mutex<Sessions>,
}

impl Known {
    pub(crate) fn era(&self, key: &Key) -> Option<Era> {
        lock(&self.eras).get(&key.server).map(|(era, _)| *era)
    }

    pub(crate) fn set_era(&self, key: &Key, era: Era) {
        let mut eras = lock(&self.eras);
        make_room(&mut eras, |(_, since)| *since);
        eras.insert(key.server.clone(), (era, Instant::now()));
    }

    pub(crate) fn forget_era(&self, key: &Key) {
        lock(&self.eras).remove(&key.server);
    }

    pub(crate) fn listing(&self, key: &Key) -> Option<Arc<Listing>> {
        let key = key.listing(self.era(key));
        let listings = lock(&self.listings);
        let (listing, until) = listings.get(&key)?;
        (Instant::now() < *until).then(|| listing.clone())
    }

    pub(crate) fn set_listing(&self, key: &Key, listing: Arc<Listing>, ttl: Duration) {
        let key = key.listing(self.era(key));
        let mut listings = lock(&self.listings);
        make_room(&mut listings, |(_, until)| *until);
        listings.insert(key, (listing, Instant::now() + ttl));
    }

    pub(crate) fn forget_listing(&self, key: &Key) {
        let key = key.listing(self.era(key));
        lock(&self.listings).remove(&key);
    }

    /// The place of an owner's session with a server.
    pub(crate) fn session(
        &self,
        endpoint: &Endpoint,
        target: &Target,
    ) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut sessions = lock(&self.sessions);
        make_room(&mut sessions, |(_, used)| *used);
        let (slot, used) = sessions
            .entry(Key::of(endpoint, target))
            .or_insert_with(|| {
                let slot = Slot {
                    current: None,
                    endpoint: endpoint.clone(),
                };
                (Arc::new(tokio::sync::Mutex::new(slot)), Instant::now())
            });
        *used = Instant::now();
        slot.clone()
    }

    /// The server no longer knows `session`; unless another call has begun a new one, the next will.
    pub(crate) async fn lost(&self, endpoint: &Endpoint, target: &Target, session: &Session) {
        let slot = self.session(endpoint, target);
        let mut slot = slot.lock().await;
        if slot
            .current
            .as_ref()
            .is_some_and(|now| now.id == session.id)
        {
            slot.current = None;
        }
    }

    /// Takes away what belongs to `owner`, and gives its sessions.
    pub(crate) async fn take_sessions(&self, owner: &str) -> Vec<(Endpoint, Session)> {
        lock(&self.listings).retain(|key, _| key.owner != owner);
        let slots: Vec<_> = {
            let mut sessions = lock(&self.sessions);
            sessions
                .extract_if(|key, _| key.owner == owner)
                .map(|(_, (slot, _))| slot)
                .collect()
        };
        let mut taken = Vec::new();
        for slot in slots {
            let mut slot = slot.lock().await;
            if let Some(session) = slot.current.take() {
                taken.push((slot.endpoint.clone(), session));
            }
        }
        taken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that one more fits.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    map: &mut HashMap<K, V>,
    age: impl Fn(&V) -> Instant,
) {
    if map.len() < MAX_ENTRIES {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| age(value));
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        map.remove(&key);
    }
}
