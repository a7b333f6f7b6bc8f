//! Previews for the listeners of other replicas. Each replica tells every other which sessions are
//! listened to at it, and whoever drives one sends its previews there. Committed events are not sent:
//! all replicas read them in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use freehold_base::SessionId;
use tokio::sync::{mpsc, watch};

use super::{Frame, Hub};

/// Frames that wait for one replica, and changes of what is listened to. One that is so far behind is
/// let go; it comes back.
const BACKLOG: usize = 4_096;
/// How long one replica waits for another at most: a listener until the others know of it, and an answer
/// until its previews are there. Without that, an answer that comes at once may be seen without previews.
const PATIENCE: Duration = Duration::from_millis(500);

/// A change of what is listened to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Somebody listens now.
    Listen(SessionId),
    /// Nobody does any more.
    Leave(SessionId),
}

/// What is listened to here, for another replica.
pub struct Interests {
    /// Now.
    pub there: Vec<SessionId>,
    /// From then on. They end if nobody takes them for too long.
    pub changes: mpsc::Receiver<Interest>,
    /// To be counted up with each that the other replica has taken note of, those of now included.
    pub noted: watch::Sender<u64>,
}

/// Those who want to know what is listened to here.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

struct Watcher {
    to: mpsc::Sender<Interest>,
    told: u64,
    noted: watch::Receiver<u64>,
}

/// What others have been told, and do not know until they have taken note of so much.
pub(super) struct Told(Vec<(u64, watch::Receiver<u64>)>);

impl Watchers {
    pub(super) fn tell(&mut self, interest: &Interest) {
        self.0.retain_mut(|watcher| {
            watcher.told += 1;
            watcher.to.try_send(interest.clone()).is_ok()
        });
    }

    pub(super) fn announced(&self) -> Told {
        let each = self.0.iter().map(|w| (w.told, w.noted.clone()));
        Told(each.collect())
    }

    fn add(&mut self, there: Vec<SessionId>) -> Interests {
        let (to, changes) = mpsc::channel(BACKLOG);
        let (noting, noted) = watch::channel(0);
        self.0.push(Watcher {
            to,
            told: there.len() as u64,
            noted,
        });
        Interests {
            there,
            changes,
            noted: noting,
        }
    }
}

impl Told {
    /// Waits until the others know, or are gone; not for long.
    pub(super) async fn known(self) {
        let all = async {
            for (told, mut noted) in self.0 {
                let _ = noted.wait_for(|noted| *noted >= told).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}

/// Which replicas want the previews of which sessions. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Relays(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    replicas: HashMap<u64, Replica>,
    sessions: HashMap<SessionId, Vec<u64>>,
}

struct Replica {
    to: mpsc::Sender<(SessionId, Frame)>,
    sent: u64,
    shown: watch::Receiver<u64>,
}

impl Relays {
    pub(super) fn wants(&self, session: &SessionId) -> bool {
        self.lock().sessions.contains_key(session)
    }

    pub(super) fn send(&self, session: &SessionId, frame: &Frame) {
        let mut state = self.lock();
        let State {
            replicas, sessions, ..
        } = &mut *state;
        for id in sessions.get(session).into_iter().flatten() {
            let Some(replica) = replicas.get_mut(id) else {
                continue;
            };
            replica.sent += 1;
            let sent = replica.to.try_send((session.clone(), frame.clone()));
            if sent.is_err() {
                replicas.remove(id); // Its relay ends with this.
            }
        }
    }

    /// What was sent to those who want this session's previews.
    fn told(&self, session: &SessionId) -> Told {
        let state = self.lock();
        let ids = state.sessions.get(session).into_iter().flatten();
        let each = ids.filter_map(|id| state.replicas.get(id));
        Told(each.map(|r| (r.sent, r.shown.clone())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The maps are whole between any two statements, so a poisoned lock is still usable.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// One replica that gets previews, until this is dropped.
pub struct Relay {
    relays: Relays,
    id: u64,
    shown: watch::Sender<u64>,
}

impl Relay {
    /// So many of the previews have been passed on to its listeners.
    pub fn shown(&self, count: u64) {
        self.shown.send_replace(count);
    }

    /// It wants those of this session, or not any more.
    pub fn note(&self, interest: Interest) {
        let mut state = self.relays.lock();
        match interest {
            Interest::Listen(session) => {
                let wanted_by = state.sessions.entry(session).or_default();
                if !wanted_by.contains(&self.id) {
                    wanted_by.push(self.id);
                }
            }
            Interest::Leave(session) => {
                if let Some(wanted_by) = state.sessions.get_mut(&session) {
                    wanted_by.retain(|id| *id != self.id);
                    if wanted_by.is_empty() {
                        state.sessions.remove(&session);
                    }
                }
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = self.relays.lock();
        state.replicas.remove(&self.id);
        state.sessions.retain(|_, wanted_by| {
            wanted_by.retain(|id| *id != self.id);
            !wanted_by.is_empty()
        });
    }
}

impl Hub {
    /// Which sessions are listened to here, and how that changes from then on.
    pub fn interests(&self) -> Interests {
        let mut listening = self.listening();
        let there = listening.channels.keys().cloned().collect();
        listening.watchers.add(there)
    }

    /// What another replica is sent: the previews of the sessions it names. They end if it does not
    /// take them for too long.
    pub fn relay(&self) -> (Relay, mpsc::Receiver<(SessionId, Frame)>) {
        let (to, receiver) = mpsc::channel(BACKLOG);
        let (showing, shown) = watch::channel(0);
        let mut state = self.relays.lock();
        state.next += 1;
        let id = state.next;
        let replica = Replica { to, sent: 0, shown };
        state.replicas.insert(id, replica);
        drop(state);
        let relay = Relay {
            relays: self.relays.clone(),
            id,
            shown: showing,
        };
        (relay, receiver)
    }

    /// Waits until the previews of a session are with those who listen elsewhere, or these are gone; not
    /// for long. Its next event comes after them then.
    pub(crate) async fn previewed(&self, session: &SessionId) {
        self.relays.told(session).known().await;
    }

    /// Another replica sent a preview, for whoever listens here.
    pub fn relayed(&self, session: &SessionId, frame: Frame) {
        self.deliver(session, frame);
    }

    /// Some that another replica sent may not have arrived.
    pub fn relay_broke(&self) {
        for channel in self.listening().channels.values() {
            let _ = channel.send(Frame::Broken);
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_base::IdSource;
    use freehold_store::CommitListener;

    use super::*;

    fn delta(n: usize) -> Frame {
        Frame::Delta {
            id: "sevt_1".parse().unwrap(),
            data: n.to_string().into(),
        }
    }

    #[tokio::test]
    async fn a_replica_gets_previews_of_what_it_listens_to_and_of_nothing_else() {
        let hub = Hub::new(IdSource::system());
        let (a, b): (SessionId, SessionId) = ("sesn_a".parse().unwrap(), "sesn_b".parse().unwrap());
        let (relay, mut frames) = hub.relay();
        relay.note(Interest::Listen(a.clone()));
        assert!(hub.has_listeners(&a) && !hub.has_listeners(&b));
        hub.preview(&b, delta(1));
        hub.moved(&a, 7); // It hears of that from the store.
        hub.relayed(&a, delta(2)); // What came from a replica goes to no other.
        hub.preview(&a, delta(3));
        let (session, frame) = frames.recv().await.unwrap();
        assert!(session == a && matches!(frame, Frame::Delta { data, .. } if &*data == "3"));
        let mut previewed = std::pin::pin!(hub.previewed(&a));
        assert!(futures_util::poll!(previewed.as_mut()).is_pending());
        relay.shown(1);
        previewed.await;
        relay.note(Interest::Leave(a.clone()));
        assert!(!hub.has_listeners(&a));
        hub.preview(&a, delta(4));
        drop(relay);
        assert!(frames.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_replica_that_does_not_keep_up_is_let_go() {
        let hub = Hub::new(IdSource::system());
        let session: SessionId = "sesn_a".parse().unwrap();
        let (relay, mut frames) = hub.relay();
        relay.note(Interest::Listen(session.clone()));
        (0..=BACKLOG).for_each(|n| hub.preview(&session, delta(n)));
        for _ in 0..BACKLOG {
            assert!(frames.recv().await.is_some());
        }
        assert!(frames.recv().await.is_none());
    }

    #[tokio::test]
    async fn who_asks_is_told_which_sessions_are_listened_to() {
        let hub = Hub::new(IdSource::system());
        let (a, b): (SessionId, SessionId) = ("sesn_a".parse().unwrap(), "sesn_b".parse().unwrap());
        let first = hub.subscribe(&a);
        let Interests {
            there,
            mut changes,
            noted,
        } = hub.interests();
        assert_eq!(there, std::slice::from_ref(&a));
        let mut again = hub.subscribe(&a);
        let announced = again.announced.take().unwrap();
        let mut known = std::pin::pin!(announced.known());
        assert!(futures_util::poll!(known.as_mut()).is_pending());
        noted.send_modify(|n| *n += 1);
        known.await;
        let _other = hub.subscribe(&b);
        drop(first);
        drop(again);
        hub.deleted(&b);
        for change in [
            Interest::Listen(b.clone()),
            Interest::Leave(a.clone()),
            Interest::Leave(b.clone()),
        ] {
            assert_eq!(changes.recv().await, Some(change));
        }
        assert!(changes.try_recv().is_err());
    }
}
