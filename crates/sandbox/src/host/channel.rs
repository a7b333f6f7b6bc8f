//! Asks and answers over one stream of bytes each way. The agent is hostile: an answer to nothing, a body larger
//! than its ask allows, or anything unreadable ends the sandbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::SandboxError;
use crate::protocol::{
    Answer, Ask, FrameError, FromAgent, MAX_IN_FLIGHT, Prefix, ToAgent, encode, pieces,
};

/// Frames waiting to be written.
const QUEUE: usize = 16;

/// An answer with its body.
pub(crate) type Answered = (Answer, Bytes);

/// The connection to an agent.
pub(crate) struct Channel {
    frames: mpsc::Sender<(Vec<u8>, Bytes)>,
    pending: Mutex<Pending>,
    lost: OnceLock<String>,
    /// Fires when the connection is of no more use.
    pub(crate) closed: CancellationToken,
}

#[derive(Default)]
struct Pending {
    next: u64,
    asks: HashMap<u64, Slot>,
}

struct Slot {
    max_body: usize,
    /// `None` once nobody waits any more; the answer is still due.
    waiter: Option<oneshot::Sender<Answered>>,
}

/// An ask under way. Dropping it stops the wait, not the work.
pub(crate) struct Asked {
    pub(crate) id: u64,
    channel: Arc<Channel>,
    answer: oneshot::Receiver<Answered>,
}

impl Channel {
    /// Takes over a connection on which the agent has said that it is ready.
    pub(crate) fn open(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Arc<Self> {
        let (frames, queue) = mpsc::channel(QUEUE);
        let channel = Arc::new(Self {
            frames,
            pending: Mutex::default(),
            lost: OnceLock::new(),
            closed: CancellationToken::new(),
        });
        tokio::spawn(read_all(channel.clone(), BufReader::new(reader)));
        tokio::spawn(write_all(channel.clone(), writer, queue));
        channel
    }

    /// Sends an ask whose answer may have a body of at most `max_body` bytes.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        ask: Ask,
        body: Bytes,
        max_body: usize,
    ) -> Result<Asked, SandboxError> {
        // First, so that whoever does not wait for it leaves nothing behind.
        let room = tokio::select! {
            room = self.frames.reserve() => room.map_err(|_| self.lost_error())?,
            () = self.closed.cancelled() => return Err(self.lost_error()),
        };
        let (waiter, answer) = oneshot::channel();
        let id = {
            let mut pending = self.pending();
            if pending.asks.len() >= MAX_IN_FLIGHT {
                return Err(SandboxError::Busy("too many calls at a time".to_owned()));
            }
            pending.next += 1;
            let id = pending.next;
            let waiter = Some(waiter);
            pending.asks.insert(id, Slot { max_body, waiter });
            id
        };
        let asked = Asked {
            id,
            channel: self.clone(),
            answer,
        };
        // Checked after the entry is made: `fail` closes first and then clears, so one of the two
        // sees the other.
        if self.closed.is_cancelled() {
            self.pending().asks.remove(&id);
            return Err(self.lost_error());
        }
        let header = encode(&ToAgent { id, ask }, body.len());
        match header {
            Ok(header) => room.send((header, body)),
            Err(e) => {
                self.pending().asks.remove(&id);
                return Err(too_large(&e));
            }
        }
        Ok(asked)
    }

    /// Asks the agent to kill a call or a program; in vain if it has ended.
    pub(crate) fn cancel(&self, call: u64) {
        let ask = ToAgent {
            id: 0,
            ask: Ask::Cancel { call },
        };
        if let Ok(frame) = encode(&ask, 0) {
            let sent = self.frames.try_send((frame, Bytes::new()));
            if let Err(mpsc::error::TrySendError::Full(frame)) = sent {
                let frames = self.frames.clone();
                tokio::spawn(async move { frames.send(frame).await });
            }
        }
    }

    /// Ends the connection; the first reason given stays.
    pub(crate) fn fail(&self, reason: impl Into<String>) {
        let _ = self.lost.set(reason.into());
        self.closed.cancel();
        self.pending().asks.clear();
    }

    /// The error of a lost connection.
    pub(crate) fn lost_error(&self) -> SandboxError {
        SandboxError::lost(self.lost.get().map_or("it has ended", String::as_str))
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large the body for `id` may be; `None` if nothing was asked.
    fn max_body(&self, id: u64) -> Option<usize> {
        self.pending().asks.get(&id).map(|slot| slot.max_body)
    }

    fn deliver(&self, id: u64, answered: Answered) {
        let slot = self.pending().asks.remove(&id);
        if let Some(waiter) = slot.and_then(|s| s.waiter) {
            // The waiter may have left this moment.
            let _ = waiter.send(answered);
        }
    }
}

impl Asked {
    /// Waits for the answer.
    pub(crate) async fn answered(&mut self) -> Result<Answered, SandboxError> {
        (&mut self.answer)
            .await
            .map_err(|_| self.channel.lost_error())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(slot) = self.channel.pending().asks.get_mut(&self.id) {
            slot.waiter = None;
        }
    }
}

async fn read_all(channel: Arc<Channel>, mut reader: impl AsyncRead + Unpin) {
    let reason = tokio::select! {
        ended = read_answers(&channel, &mut reader) => match ended {
            Ok(()) => "its agent ended".to_owned(),
            Err(FrameError::Io(_)) => "its control socket failed".to_owned(),
            Err(e) => format!("its agent broke the protocol: {e}"),
        },
        () = channel.closed.cancelled() => return,
    };
    channel.fail(reason);
}

async fn read_answers(
    channel: &Channel,
    from: &mut (impl AsyncRead + Unpin),
) -> Result<(), FrameError> {
    loop {
        let mut prefix = [0; Prefix::LEN];
        match from.read_exact(&mut prefix).await {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        // The header says what the body may be.
        let prefix = Prefix::parse(prefix, u32::MAX as usize)?;
        let header = take(from, prefix.header).await?;
        let FromAgent { id, answer } = Prefix::header(&header)?;
        let max_body = channel.max_body(id).ok_or(FrameError::Garbage)?;
        if prefix.body > max_body {
            return Err(FrameError::TooLarge(prefix.body));
        }
        let body = take(from, prefix.body).await?;
        channel.deliver(id, (answer, body.into()));
    }
}

async fn take(from: &mut (impl AsyncRead + Unpin), len: usize) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::with_capacity(len.min(64 * 1024));
    from.take(len as u64).read_to_end(&mut out).await?;
    if out.len() != len {
        return Err(FrameError::Truncated);
    }
    Ok(out)
}

async fn write_all(
    channel: Arc<Channel>,
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<(Vec<u8>, Bytes)>,
) {
    let writing = async {
        while let Some((header, body)) = queue.recv().await {
            let (first, second) = pieces(header, &body);
            writer.write_all(&first).await?;
            writer.write_all(second).await?;
        }
        std::io::Result::Ok(())
    };
    let failed = tokio::select! {
        result = writing => result.is_err(),
        () = channel.closed.cancelled() => false,
    };
    if failed {
        channel.fail("its control socket failed");
    }
}

fn too_large(error: &FrameError) -> SandboxError {
    match error {
        FrameError::TooLarge(len) => SandboxError::RequestTooLarge {
            len: *len,
            max: crate::protocol::MAX_HEADER,
        },
        other => SandboxError::lost(other.to_string()),
    }
}
