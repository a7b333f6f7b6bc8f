//! Previews for the listeners of other replicas. Each replica tells every other which sessions are
//! listened to at it, and whoever drives one sends its previews there. Committed events are not sent:
//! all replicas read them in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use freehold_base::SessionId;
use tokio::sync::mpsc;

use super::{Frame, Hub};

/// Frames that wait for one replica, and changes of what is listened to. One that is so far behind is
/// let go; it comes back.
const BACKLOG: usize = 4_096;

/// A change of what is listened to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Somebody listens now.
    Listen(SessionId),
    /// Nobody does any more.
    Leave(SessionId),
}

/// Those who want to know what is listened to here.
#[derive(Default)]
pub(super) struct Watchers(Vec<mpsc::Sender<Interest>>);

impl Watchers {
    pub(super) fn tell(&mut self, interest: &Interest) {
        self.0.retain(|to| to.try_send(interest.clone()).is_ok());
    }

    pub(super) fn add(&mut self) -> mpsc::Receiver<Interest> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.0.push(sender);
        receiver
    }
}

/// Which replicas want the previews of which sessions. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Relays(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    replicas: HashMap<u64, mpsc::Sender<(SessionId, Frame)>>,
    sessions: HashMap<SessionId, Vec<u64>>,
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
            let Some(to) = replicas.get(id) else { continue };
            if to.try_send((session.clone(), frame.clone())).is_err() {
                replicas.remove(id); // Its relay ends with this.
            }
        }
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
}

impl Relay {
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
    /// Which sessions are listened to here, and how that changes from then on. The changes end if
    /// nobody takes them for too long.
    pub fn interests(&self) -> (Vec<SessionId>, mpsc::Receiver<Interest>) {
        let mut listening = self.listening();
        let changes = listening.watchers.add();
        (listening.channels.keys().cloned().collect(), changes)
    }

    /// What another replica is sent: the previews of the sessions it names. They end if it does not
    /// take them for too long.
    pub fn relay(&self) -> (Relay, mpsc::Receiver<(SessionId, Frame)>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut state = self.relays.lock();
        state.next += 1;
        let id = state.next;
        state.replicas.insert(id, sender);
        let relays = self.relays.clone();
        (Relay { relays, id }, receiver)
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
        let (there, mut changes) = hub.interests();
        assert_eq!(there, [a.clone()]);
        let again = hub.subscribe(&a);
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
