//! Previews on their way from the replica that drives a session to one at which somebody listens: lines
//! of JSON, both ways.

use std::io;

use freehold_base::{EventId, SessionId};
use freehold_runtime::{Frame, Hub, Interest, Interests};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

/// What a stream of previews is opened to.
pub const HOST: &str = "previews";
/// Longest line, bytes. A fragment is a piece of a model's answer, and mostly a few words.
const MAX_LINE: usize = 8 << 20;

/// What the listening replica says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Listen(SessionId),
    Leave(SessionId),
    /// So many previews were passed on to listeners.
    Shown(u64),
}

/// What the driving replica says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// One more line of the other's was heeded.
    Noted,
    Preview {
        session: SessionId,
        what: What,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum What {
    Start {
        id: EventId,
        kind: Kind,
        data: String,
    },
    Delta {
        id: EventId,
        data: String,
    },
    Broken,
}

/// The kinds of event there are previews of.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "agent.message")]
    Message,
    #[serde(rename = "agent.thinking")]
    Thinking,
}

impl From<Interest> for Asked {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Listen(session) => Self::Listen(session),
            Interest::Leave(session) => Self::Leave(session),
        }
    }
}

impl What {
    fn of(frame: Frame) -> Self {
        match frame {
            Frame::Start { id, kind, data } => Self::Start {
                id,
                kind: match kind {
                    "agent.message" => Kind::Message,
                    "agent.thinking" => Kind::Thinking,
                    _ => return Self::Broken,
                },
                data: data.to_string(),
            },
            Frame::Delta { id, data } => Self::Delta {
                id,
                data: data.to_string(),
            },
            // The others are no previews, and are not sent.
            Frame::Broken | Frame::Event { .. } | Frame::Large { .. } | Frame::Deleted { .. } => {
                Self::Broken
            }
        }
    }

    fn frame(self) -> Frame {
        match self {
            Self::Start { id, kind, data } => Frame::Start {
                id,
                kind: match kind {
                    Kind::Message => "agent.message",
                    Kind::Thinking => "agent.thinking",
                },
                data: data.into(),
            },
            Self::Delta { id, data } => Frame::Delta {
                id,
                data: data.into(),
            },
            Self::Broken => Frame::Broken,
        }
    }
}

/// Sends another replica the previews it asks for, until it goes or does not keep up.
pub(crate) async fn send(hub: &Hub, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let mut asked = FramedRead::new(read, lines());
    let mut out = FramedWrite::new(write, lines());
    let (relay, mut frames) = hub.relay();
    let (noting, mut noted) = mpsc::channel(1);
    let listening = async {
        while let Some(line) = asked.next().await {
            match parse(&line.map_err(broken)?)? {
                Asked::Listen(session) => relay.note(Interest::Listen(session)),
                Asked::Leave(session) => relay.note(Interest::Leave(session)),
                Asked::Shown(count) => {
                    relay.shown(count);
                    continue;
                }
            }
            let _ = noting.send(()).await; // Its receiver is in this function.
        }
        Ok(())
    };
    let sending = async {
        loop {
            let line = tokio::select! {
                Some(()) = noted.recv() => serde_json::to_string(&Said::Noted)?,
                frame = frames.recv() => match frame {
                    Some((session, frame)) => preview(session, What::of(frame))?,
                    None => return Err(io::Error::other("it does not keep up with previews")),
                },
            };
            out.send(line).await.map_err(broken)?;
        }
    };
    tokio::select! {
        ended = listening => ended,
        ended = sending => ended,
    }
}

fn preview(session: SessionId, what: What) -> io::Result<String> {
    let line = serde_json::to_string(&Said::Preview {
        session: session.clone(),
        what,
    })?;
    if line.len() <= MAX_LINE {
        return Ok(line);
    }
    let what = What::Broken;
    Ok(serde_json::to_string(&Said::Preview { session, what })?)
}

/// Asks another replica for the previews of all sessions that are listened to here, and passes them on,
/// until it goes. Listeners learn that some may be missing then.
pub(crate) async fn receive(hub: &Hub, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let mut sent = FramedRead::new(read, lines());
    let mut out = FramedWrite::new(write, lines());
    let Interests {
        there,
        mut changes,
        noted,
    } = hub.interests();
    let (showing, mut shown) = watch::channel(0);
    let asking = async {
        for session in there {
            let line = serde_json::to_string(&Asked::Listen(session))?;
            out.feed(line).await.map_err(broken)?;
        }
        SinkExt::<String>::flush(&mut out).await.map_err(broken)?;
        loop {
            let said = tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => Asked::from(change),
                    None => return Err(io::Error::other("it does not take what is asked of it")),
                },
                Ok(()) = shown.changed() => Asked::Shown(*shown.borrow_and_update()),
            };
            out.send(serde_json::to_string(&said)?)
                .await
                .map_err(broken)?;
        }
    };
    let receiving = async {
        while let Some(line) = sent.next().await {
            match parse(&line.map_err(broken)?)? {
                Said::Noted => noted.send_modify(|n| *n += 1),
                Said::Preview { session, what } => {
                    hub.relayed(&session, what.frame());
                    showing.send_modify(|n| *n += 1);
                }
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = asking => ended,
        ended = receiving => ended,
    };
    hub.relay_broke();
    ended
}

fn lines() -> LinesCodec {
    LinesCodec::new_with_max_length(MAX_LINE)
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> io::Result<T> {
    serde_json::from_str(line).map_err(io::Error::from)
}

fn broken(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        error @ LinesCodecError::MaxLineLengthExceeded => io::Error::other(error),
    }
}
