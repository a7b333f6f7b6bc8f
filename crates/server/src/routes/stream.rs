//! `GET /v1/sessions/{id}/events/stream` and the primary thread's `/stream`: the live half of
//! contract 40.
//!
//! The subscription is active before the headers go out. From then on the connection gets every
//! committed event once and in order: a frame that does not follow the last one seen, or a lag,
//! is mended by reading the log. Previews are best effort: they start before their first fragment
//! or not at all, and a preview broken by a lag is not taken up again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_base::{EventId, SessionId};
use freehold_runtime::{Frame, Missed, Subscription};
use freehold_store::{Store, StoreError};
use freehold_wire::event::params::Deltas;
use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::{self, CredentialHash};
use crate::http::sse;

/// Events read from the log at a time when a connection is caught up.
const CATCH_UP: usize = 200;
/// Bytes of events after which such a read ends early.
const CATCH_UP_BYTES: usize = 1024 * 1024;
/// Previews open at once on a connection; the model writes one at a time.
const MAX_PREVIEWS: usize = 64;
/// The event after which nothing more comes.
const LAST: &str = "session.status_terminated";

/// One open connection.
struct Connection {
    live: Subscription,
    store: Store,
    session: SessionId,
    previews: Deltas,
    /// Sequence number of the last event sent, or that was in history before the stream opened.
    last: i64,
    /// Previews that were started here.
    started: HashSet<EventId>,
    /// The last events sent of which there are previews: one that comes later from another replica is
    /// left out.
    done: VecDeque<EventId>,
    /// Frames to send before looking for more.
    ready: VecDeque<Bytes>,
    /// The log holds events that were not delivered live.
    behind: bool,
    over: bool,
    ping: Duration,
    next_ping: Instant,
    stopping: CancellationToken,
    /// Ends when the caller's credential stops working.
    revoked: BoxFuture<'static, ()>,
}

/// The frames of a session from `last`, the head of its log at some time after `live` was
/// subscribed.
pub(crate) async fn frames(
    app: &Arc<App>,
    credential: CredentialHash,
    mut live: Subscription,
    session: SessionId,
    last: i64,
    previews: Deltas,
    over: bool,
) -> impl Stream<Item = Bytes> + Send + use<> {
    if previews != Deltas::default() {
        live.announced().await;
    }
    let connection = Connection {
        live,
        store: app.store.clone(),
        session,
        previews,
        last,
        started: HashSet::new(),
        done: VecDeque::new(),
        ready: VecDeque::new(),
        behind: false,
        over,
        ping: app.ping,
        next_ping: Instant::now() + app.ping,
        stopping: app.stopping.clone(),
        revoked: Box::pin(auth::revoked(Arc::clone(app), credential)),
    };
    connection.frames()
}

impl Connection {
    fn frames(self) -> impl Stream<Item = Bytes> + Send + use<> {
        stream::unfold(self, |mut connection| async move {
            let frame = connection.next().await?;
            Some((frame, connection))
        })
    }

    /// The next frame to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            if self.behind {
                if let Err(error) = self.catch_up().await {
                    // The client reconnects and lists; it loses nothing.
                    tracing::error!(
                        session = %self.session,
                        error = &error as &dyn std::error::Error,
                        "event stream ended: the log cannot be read"
                    );
                    return None;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                () = &mut self.revoked => return None,
                frame = self.live.next() => self.take(frame),
                () = tokio::time::sleep_until(self.next_ping) => {
                    self.next_ping = Instant::now() + self.ping;
                    return Some(Bytes::from_static(sse::PING.as_bytes()));
                }
            }
        }
    }

    fn take(&mut self, frame: Result<Frame, Missed>) {
        match frame {
            Ok(Frame::Event {
                seq,
                kind,
                id,
                data,
            }) => {
                if seq > self.last + 1 {
                    self.fall_behind();
                } else if seq == self.last + 1 {
                    self.send_event(seq, &kind, &id, &data);
                }
            }
            // Not a loss: previews go on.
            Ok(Frame::Large { seq }) => self.behind |= seq > self.last,
            Ok(Frame::Start { id, kind, data }) => {
                if wants(self.previews, kind)
                    && self.started.len() < MAX_PREVIEWS
                    && !self.done.contains(&id)
                    && self.started.insert(id)
                {
                    self.ready
                        .push_back(sse::frame(sse::event_name("event_start"), &data));
                }
            }
            Ok(Frame::Delta { id, data }) => {
                if self.started.contains(&id) {
                    self.ready
                        .push_back(sse::frame(sse::event_name("event_delta"), &data));
                }
            }
            Ok(Frame::Broken) => self.started.clear(),
            Ok(Frame::Deleted { data }) => {
                self.ready
                    .push_back(sse::frame(sse::event_name("session.deleted"), &data));
                self.over = true;
            }
            Err(Missed::Lagged) => self.fall_behind(),
            Err(Missed::Closed) => self.over = true,
        }
    }

    fn fall_behind(&mut self) {
        self.behind = true;
        // Fragments may be among what was dropped, and a preview has no gaps.
        self.started.clear();
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let missed = self
            .store
            .tail_within(&self.session, self.last, CATCH_UP, CATCH_UP_BYTES)
            .await?;
        self.behind = !missed.is_empty();
        for event in missed {
            self.send_event(event.seq, &event.kind, &event.id, &event.wire());
        }
        Ok(())
    }

    fn send_event(&mut self, seq: i64, kind: &str, id: &EventId, data: &str) {
        self.last = seq;
        // The committed event is the last frame of its preview.
        self.started.remove(id);
        if wants(self.previews, kind) {
            if self.done.len() == MAX_PREVIEWS {
                self.done.pop_front();
            }
            self.done.push_back(id.clone());
        }
        self.ready
            .push_back(sse::frame(sse::event_name(kind), data));
        self.next_ping = Instant::now() + self.ping;
        if kind == LAST {
            self.over = true;
        }
    }
}

/// Whether the connection asked for previews of this kind of event.
fn wants(asked: Deltas, kind: &str) -> bool {
    match kind {
        "agent.message" => asked.message,
        "agent.thinking" => asked.thinking,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
