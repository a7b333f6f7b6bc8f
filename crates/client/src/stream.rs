//! A session's live event stream (contract 40, "SSE").

use std::collections::VecDeque;

use freehold_wire::sse::{self, Decoder};
use reqwest::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::error::{ApiFailure, ClientError};
use crate::event::Event;

/// Which previews a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Previews {
    /// None.
    #[default]
    Off,
    /// Text of `agent.message` as it is written, and the start of `agent.thinking`.
    On,
}

/// One frame of a stream.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A committed event.
    Event(Event),
    /// A preview begins.
    Start {
        /// The id the committed event will have.
        id: String,
        /// `agent.message` or `agent.thinking`.
        kind: String,
    },
    /// A piece of a preview's text.
    Delta {
        /// The id of the preview.
        id: String,
        /// Which content block.
        index: u64,
        /// The piece.
        text: String,
    },
}

/// An open stream: what happens after it was opened. Dropping it closes the connection.
pub struct EventStream {
    client: Client,
    response: Response,
    decoder: Decoder,
    ready: VecDeque<Frame>,
    end: Option<ClientError>,
}

#[derive(Deserialize)]
struct StartFrame {
    event: Started,
}
#[derive(Deserialize)]
struct Started {
    id: String,
    r#type: String,
}
#[derive(Deserialize)]
struct DeltaFrame {
    event_id: String,
    delta: DeltaBody,
}
#[derive(Deserialize)]
struct DeltaBody {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    content: Option<DeltaContent>,
}
#[derive(Deserialize)]
struct DeltaContent {
    #[serde(default)]
    text: Option<String>,
}
#[derive(Deserialize)]
struct Tag {
    r#type: String,
}

impl EventStream {
    pub(crate) async fn open(
        client: &Client,
        session: &str,
        previews: Previews,
    ) -> Result<Self, ClientError> {
        let query: &[(&str, &str)] = match previews {
            Previews::Off => &[],
            Previews::On => &[
                ("event_deltas[]", "agent.message"),
                ("event_deltas[]", "agent.thinking"),
            ],
        };
        let path = ["v1", "sessions", session, "events", "stream"];
        let response = client.open(&path, query).await?;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE);
        let is_stream = kind
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.trim_start().starts_with("text/event-stream"));
        if !is_stream {
            return Err(ClientError::Protocol(
                "it is not an event stream".to_owned(),
            ));
        }
        Ok(Self {
            client: client.clone(),
            response,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            end: None,
        })
    }

    /// The next frame; `None` when the server closed the stream. Safe to drop while waiting.
    ///
    /// # Errors
    /// See [`ClientError`]; the stream is then over. The server sends a ping every few seconds,
    /// so silence longer than the client's read timeout is an error, not patience.
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            if let Some(error) = self.end.take() {
                return Err(error);
            }
            let Some(chunk) = self.client.chunk(&mut self.response).await? else {
                return Ok(None);
            };
            if let Err(error) = self.decoder.push(&chunk) {
                self.end = Some(ClientError::Protocol(error.to_string()));
            }
            while let Some(frame) = self.decoder.next_frame() {
                match read(&frame) {
                    Ok(frame) => self.ready.extend(frame),
                    Err(error) => {
                        self.end = Some(error);
                        break;
                    }
                }
            }
        }
    }
}

/// One frame; `None` for what carries nothing.
fn read(frame: &sse::Frame) -> Result<Option<Frame>, ClientError> {
    match frame.event.as_str() {
        "ping" => return Ok(None),
        "error" => return Err(ApiFailure::read(200, frame.data.as_bytes()).into()),
        _ => {}
    }
    let tag: Tag = parse(&frame.data)?;
    Ok(match tag.r#type.as_str() {
        "event_start" => {
            let StartFrame { event } = parse(&frame.data)?;
            Some(Frame::Start {
                id: event.id,
                kind: event.r#type,
            })
        }
        "event_delta" => {
            let DeltaFrame { event_id, delta } = parse(&frame.data)?;
            let text = delta.content.and_then(|c| c.text);
            text.map(|text| Frame::Delta {
                id: event_id,
                index: delta.index,
                text,
            })
        }
        _ => {
            let raw = RawValue::from_string(frame.data.clone())
                .map_err(|e| ClientError::Protocol(e.to_string()))?;
            Some(Frame::Event(Event::read(raw)?))
        }
    })
}

fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, ClientError> {
    serde_json::from_str(data)
        .map_err(|e| ClientError::Protocol(format!("a frame of the stream cannot be read: {e}")))
}
