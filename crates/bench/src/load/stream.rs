//! A session's event stream, with the moment each frame arrived.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use freehold_base::{Clock as _, SystemClock, Timestamp};
use freehold_wire::sse::Decoder;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::timeout;

use super::connection::{Connection, Target};
use crate::plan::PATIENCE;

/// An open stream. Dropping it closes the connection.
pub(crate) struct Stream {
    body: Incoming,
    decoder: Decoder,
    ready: VecDeque<Seen>,
    /// Milliseconds from the request to the head of its answer.
    pub(crate) opened_in: f64,
    /// Kept because the connection ends with it.
    _connection: Connection,
}

/// A frame that arrived.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When, on the clock that durations are measured with.
    pub(crate) at: Instant,
    /// When, on the clock that the server stamps events with.
    pub(crate) clock: Timestamp,
    /// What.
    pub(crate) event: Event,
}

/// What the measurements look at in a frame.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) r#type: String,
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) processed_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) tool_use_id: Option<String>,
    #[serde(default)]
    pub(crate) is_error: Option<bool>,
    #[serde(default)]
    pub(crate) stop_reason: Option<StopReason>,
    #[serde(default)]
    pub(crate) error: Option<Problem>,
}

/// Why a session went idle.
#[derive(Debug, Deserialize)]
pub(crate) struct StopReason {
    pub(crate) r#type: String,
    #[serde(default)]
    pub(crate) event_ids: Vec<String>,
}

/// Of a `session.error`.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) message: String,
}

impl Stream {
    /// Opens the stream of a session, with text previews if asked.
    pub(crate) async fn open(target: &Target, session: &str, previews: bool) -> Result<Self> {
        let query = if previews {
            "?event_deltas[]=agent.message"
        } else {
            ""
        };
        let path = format!("/v1/sessions/{session}/events/stream{query}");
        let mut connection = Connection::open(target).await?;
        let opening = connection.send(Method::GET, &path, Bytes::new());
        let (response, sent) = timeout(PATIENCE, opening)
            .await
            .context("no stream in time")??;
        let opened_in = sent.elapsed().as_secs_f64() * 1e3;
        if !response.status().is_success() {
            bail!("GET {path}: status {}", response.status());
        }
        Ok(Self {
            body: response.into_body(),
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            opened_in,
            _connection: connection,
        })
    }

    /// The next frame that is no ping.
    pub(crate) async fn next(&mut self) -> Result<Seen> {
        loop {
            if let Some(seen) = self.ready.pop_front() {
                return Ok(seen);
            }
            let piece = timeout(PATIENCE, self.body.frame())
                .await
                .context("no event in time")?;
            let piece = piece.context("the stream ended")??;
            let (at, clock) = (Instant::now(), SystemClock.now());
            let Ok(data) = piece.into_data() else {
                continue;
            };
            self.decoder.push(&data)?;
            while let Some(frame) = self.decoder.next_frame() {
                match frame.event.as_str() {
                    "ping" => {}
                    "error" => bail!("the stream reports {}", frame.data),
                    _ => {
                        let event = serde_json::from_str(&frame.data).context("a strange event")?;
                        self.ready.push_back(Seen { at, clock, event });
                    }
                }
            }
        }
    }

    /// Reads to the end of the turn; what ended it.
    pub(crate) async fn rest(&mut self) -> Result<StopReason> {
        loop {
            let mut event = self.next().await?.event;
            if event.rested()?.is_some()
                && let Some(reason) = event.stop_reason.take()
            {
                return Ok(reason);
            }
        }
    }
}

impl Event {
    /// Why the session rests, if this event says so. A failure of the session is ours too: what is
    /// measured after it would be something else.
    pub(crate) fn rested(&self) -> Result<Option<&StopReason>> {
        match self.r#type.as_str() {
            "session.error" | "session.status_terminated" => {
                let message = self.error.as_ref().map_or("", |e| e.message.as_str());
                bail!("the session failed: {} {message}", self.r#type)
            }
            "session.status_idle" => Ok(self.stop_reason.as_ref()),
            _ => Ok(None),
        }
    }
}
