//! A session's events without gaps: the stored log joined with the live stream, reconnecting.
//!
//! The recipe of contract 40: open the stream first, then list the log, then go on with the stream
//! and skip what the list had. Processing times of one session strictly increase, so "had" is a
//! comparison of two times; nothing grows with the length of the session.

use freehold_base::Timestamp;

use crate::client::Client;
use crate::error::ClientError;
use crate::event::Event;
use crate::page::Pages;
use crate::retry::backoff;
use crate::stream::{EventStream, Frame, Previews};

/// Failures in a row after which the caller is told.
const MAX_FAILURES: u32 = 8;

/// Where the events begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the first event of the session.
    Start,
    /// After the event processed at this time.
    After(Timestamp),
}

/// A gapless run of a session's events.
pub struct History {
    client: Client,
    session: String,
    previews: Previews,
    /// Processing time of the last event given.
    last: Option<Timestamp>,
    state: State,
    failures: u32,
}

enum State {
    /// No connection.
    Closed,
    /// Reading the log; the stream waits.
    Listing(Box<EventStream>, Pages<Box<serde_json::value::RawValue>>),
    /// Reading the stream.
    Live(Box<EventStream>),
    /// Nothing can follow.
    Ended,
}

impl History {
    pub(crate) fn new(client: &Client, session: &str, previews: Previews, from: Since) -> Self {
        Self {
            client: client.clone(),
            session: session.to_owned(),
            previews,
            last: match from {
                Since::Start => None,
                Since::After(time) => Some(time),
            },
            state: State::Closed,
            failures: 0,
        }
    }

    /// Opens the stream now, so that nothing that happens after this call has returned can be
    /// previewed without being seen. Otherwise it is opened when the first event is asked for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(&mut self) -> Result<(), ClientError> {
        if matches!(self.state, State::Closed) {
            self.connect().await?;
        }
        Ok(())
    }

    /// Processing time of the last event given.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Whether everything in the log at the time of connecting has been given, so that what comes
    /// now is live.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_) | State::Ended)
    }

    /// The next frame, in order of processing, each event once; previews only while live. `None`
    /// after the session's last event. Safe to drop while waiting.
    ///
    /// # Errors
    /// A permanent error at once; a transient one after eight attempts in a row. Calling again
    /// tries again, without a gap.
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            match self.step().await {
                Ok(Step::Give(frame)) => return Ok(Some(frame)),
                Ok(Step::Again) => {}
                Ok(Step::End) => return Ok(None),
                Err(error) => {
                    self.state = State::Closed;
                    self.failures += 1;
                    if !error.is_transient() || self.failures >= MAX_FAILURES {
                        self.failures = 0;
                        return Err(error);
                    }
                    tokio::time::sleep(backoff(self.failures, self.client.entropy())).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step, ClientError> {
        match &mut self.state {
            State::Ended => Ok(Step::End),
            State::Closed => {
                self.connect().await?;
                Ok(Step::Again)
            }
            State::Listing(_, pages) => {
                if let Some(raw) = pages.next().await? {
                    self.failures = 0;
                    return self.take(Event::read(raw)?);
                }
                if let State::Listing(stream, _) = std::mem::replace(&mut self.state, State::Closed)
                {
                    self.state = State::Live(stream);
                }
                Ok(Step::Again)
            }
            State::Live(stream) => match stream.next().await? {
                None => {
                    // A clean end is a server that stops, or a proxy's patience: connect again,
                    // but not in a tight loop.
                    self.state = State::Closed;
                    self.failures += 1;
                    tokio::time::sleep(backoff(1, self.client.entropy())).await;
                    Ok(Step::Again)
                }
                Some(Frame::Event(event)) => {
                    self.failures = 0;
                    self.take(event)
                }
                Some(preview) => Ok(Step::Give(preview)),
            },
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let stream = EventStream::open(&self.client, &self.session, self.previews).await?;
        let after = self.last.map(|t| t.to_string());
        let mut query = vec![("limit", "1000"), ("order", "asc")];
        query.extend(after.as_deref().map(|t| ("created_at[gt]", t)));
        let pages = Pages::new(
            &self.client,
            &["v1", "sessions", &self.session, "events"],
            &query,
        );
        self.state = State::Listing(Box::new(stream), pages);
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<Step, ClientError> {
        // An input that waits is given when it has been processed, which is when it has its place.
        let Some(at) = &event.processed_at else {
            return Ok(Step::Again);
        };
        let at: Timestamp = at
            .parse()
            .map_err(|_| ClientError::Protocol("an event's time cannot be read".to_owned()))?;
        if event.is_last() {
            self.state = State::Ended;
        }
        if self.last.is_some_and(|last| at <= last) {
            return Ok(Step::Again);
        }
        self.last = Some(at);
        Ok(Step::Give(Frame::Event(event)))
    }
}

enum Step {
    Give(Frame),
    Again,
    End,
}
