//! Live fan-out: what the store has committed, and the previews of a running model request, to
//! every open event stream of a session.
//!
//! A subscriber of committed events sees a gapless run of `seq`, or finds that it fell behind, and
//! re-reads the log. What another replica committed it is only told of.
//! Frames are encoded once and shared.

mod relay;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use freehold_base::{EnvironmentId, EventId, IdSource, SessionId, limits};
use freehold_store::{CommitListener, StoredEvent};
use freehold_wire::event;
use tokio::sync::{Notify, broadcast, watch};

pub use self::relay::{Interest, Interests, Relay};

use self::relay::{Relays, Told, Watchers};
use crate::bells::Bells;
use crate::queue::WorkBells;

/// One frame of a session's live stream.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A committed event.
    Event {
        /// Its place in the log.
        seq: i64,
        /// Its type.
        kind: Arc<str>,
        /// Its id.
        id: EventId,
        /// The event as clients see it.
        data: Arc<str>,
    },
    /// A committed event too large to be held for subscribers that are slow, or committed by another
    /// replica: it is in the log.
    Large {
        /// Its place in the log.
        seq: i64,
    },
    /// A preview begins (`event_start`); for connections that asked for `kind`.
    Start {
        /// The id the committed event will have.
        id: EventId,
        /// `agent.message` or `agent.thinking`.
        kind: &'static str,
        /// The frame's JSON.
        data: Arc<str>,
    },
    /// A fragment of a preview (`event_delta`).
    Delta {
        /// The id of the preview.
        id: EventId,
        /// The frame's JSON.
        data: Arc<str>,
    },
    /// Fragments of previews may have been lost: those that were begun are over.
    Broken,
    /// The session was deleted; the last frame.
    Deleted {
        /// The `session.deleted` event.
        data: Arc<str>,
    },
}

/// Why a subscription has no next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Frames were dropped for this subscriber; re-read the log after the last `seq` seen.
    Lagged,
    /// The session is gone.
    Closed,
}

/// A live subscription. Dropping it ends it.
pub struct Subscription {
    receiver: broadcast::Receiver<Frame>,
    session: SessionId,
    hub: Hub,
    announced: Option<Told>,
}

impl Subscription {
    /// Waits until the other replicas know of it, so that what they are asked to do from now on is
    /// previewed here; half a second at most.
    pub async fn announced(&mut self) {
        if let Some(announced) = self.announced.take() {
            announced.known().await;
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// See [`Missed`].
    pub async fn next(&mut self) -> Result<Frame, Missed> {
        match self.receiver.recv().await {
            Ok(frame) => Ok(frame),
            Err(broadcast::error::RecvError::Lagged(_)) => Err(Missed::Lagged),
            Err(broadcast::error::RecvError::Closed) => Err(Missed::Closed),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listening = self.hub.listening();
        // Ours is still counted; the last one out removes the channel.
        if listening
            .channels
            .get(&self.session)
            .is_some_and(|c| c.receiver_count() <= 1)
        {
            listening.remove(&self.session);
        }
    }
}

/// Who listens here.
#[derive(Default)]
struct Listening {
    /// One for each session that has a listener.
    channels: HashMap<SessionId, broadcast::Sender<Frame>>,
    watchers: Watchers,
}

impl Listening {
    fn remove(&mut self, session: &SessionId) -> Option<broadcast::Sender<Frame>> {
        let removed = self.channels.remove(session)?;
        self.watchers.tell(&Interest::Leave(session.clone()));
        Some(removed)
    }
}

/// The live channels, and who is to be told what. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    listening: Arc<Mutex<Listening>>,
    relays: Relays,
    work: WorkBells,
    drivers: Bells,
    wanted: Arc<Notify>,
    gone: Arc<Mutex<Vec<SessionId>>>,
    access: Arc<watch::Sender<u64>>,
    ids: IdSource,
}

impl Hub {
    /// A hub without listeners.
    pub fn new(ids: IdSource) -> Self {
        Self {
            listening: Arc::default(),
            relays: Relays::default(),
            work: WorkBells::default(),
            drivers: Bells::default(),
            wanted: Arc::default(),
            gone: Arc::default(),
            access: Arc::default(),
            ids,
        }
    }

    /// Subscribes to a session. Every event committed after this call is delivered.
    pub fn subscribe(&self, session: &SessionId) -> Subscription {
        let mut listening = self.listening();
        let receiver = match listening.channels.get(session) {
            Some(channel) => channel.subscribe(),
            None => {
                let (channel, receiver) = broadcast::channel(limits::HUB_BACKLOG);
                listening.channels.insert(session.clone(), channel);
                listening.watchers.tell(&Interest::Listen(session.clone()));
                receiver
            }
        };
        let announced = Some(listening.watchers.announced());
        drop(listening);
        Subscription {
            announced,
            receiver,
            session: session.clone(),
            hub: self.clone(),
        }
    }

    /// The bells of work queues.
    pub fn work(&self) -> &WorkBells {
        &self.work
    }

    /// Changes whenever a key, a tunnel's token or certificate, or a workspace stopped or began to
    /// count, in this replica or in another.
    pub fn access(&self) -> watch::Receiver<u64> {
        self.access.subscribe()
    }

    /// Rings when another replica took input for a session that is not driven here, and when sessions
    /// are gone.
    pub(crate) fn wanted(&self) -> &Notify {
        &self.wanted
    }

    /// Sessions deleted since this was last asked, here or by another replica.
    pub(crate) fn take_gone(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.gone.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// The bells of the sessions driven here.
    pub(crate) fn drivers(&self) -> &Bells {
        &self.drivers
    }

    /// Whether anybody listens to the session, here or at another replica.
    pub fn has_listeners(&self, session: &SessionId) -> bool {
        self.listening().channels.contains_key(session) || self.relays.wants(session)
    }

    /// Sends a preview frame to whoever listens, also at other replicas; nobody is fine.
    pub fn preview(&self, session: &SessionId, frame: Frame) {
        self.relays.send(session, &frame);
        self.deliver(session, frame);
    }

    /// Sends a frame to whoever listens here.
    fn deliver(&self, session: &SessionId, frame: Frame) {
        if let Some(channel) = self.listening().channels.get(session) {
            let _ = channel.send(frame);
        }
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.listening.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl CommitListener for Hub {
    fn committed(&self, session: &SessionId, events: &[Arc<StoredEvent>]) {
        let Some(channel) = self.listening().channels.get(session).cloned() else {
            return;
        };
        for event in events {
            let seq = event.seq;
            let _ = channel.send(if event.payload.len() > limits::HUB_FRAME {
                Frame::Large { seq }
            } else {
                Frame::Event {
                    seq,
                    kind: event.kind.as_str().into(),
                    id: event.id.clone(),
                    data: event.wire().into(),
                }
            });
        }
    }

    fn deleted(&self, session: &SessionId) {
        if let Some(channel) = self.listening().remove(session) {
            let data = event::session_deleted(&self.ids.next(), self.ids.clock().now());
            let _ = channel.send(Frame::Deleted { data: data.into() });
        }
        let mut gone = self.gone.lock().unwrap_or_else(|e| e.into_inner());
        gone.push(session.clone());
        self.wanted.notify_one();
    }

    fn queued(&self, environment: &EnvironmentId) {
        self.work.ring(environment);
    }

    fn work_ended(&self) {
        self.work.ended();
    }

    fn access_changed(&self) {
        self.access.send_modify(|n| *n += 1);
    }

    fn moved(&self, session: &SessionId, head: i64) {
        self.deliver(session, Frame::Large { seq: head });
        if !self.drivers.ring(session) && head == 0 {
            // Input that another replica took, perhaps for a session that only we can drive.
            self.wanted.notify_one();
        }
    }

    fn watched(&self) -> Vec<SessionId> {
        let listened: Vec<_> = self.listening().channels.keys().cloned().collect();
        let driven: Vec<_> = self.drivers.lock().keys().cloned().collect();
        let both: BTreeSet<_> = listened.into_iter().chain(driven).collect();
        both.into_iter().collect()
    }
}
