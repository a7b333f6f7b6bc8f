//! A stream that ends when what it was opened for ends, and leaves a record of what passed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use freehold_base::{SharedClock, Timestamp, TunnelId, WorkspaceId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::link::Link;
use super::pace::{Direction, Share, TURN};
use super::registry::Place;
use crate::transport::streams::Bidirectional;

/// A stream over a gateway's connection.
pub struct Guarded {
    stream: Bidirectional,
    /// What ends it, once for each direction: they may be polled by different tasks, and only the last
    /// that polled is woken.
    over: [Over; 2],
    record: Record,
    /// Its share of what its tunnel may pass, if that is limited, and the handshake is done: those who
    /// shake hands have little to say, and little time.
    share: Option<Share>,
    /// Counts it for as long as it lives.
    place: Place,
    link: Arc<Link>,
    clock: SharedClock,
}

type Over = Pin<Box<WaitForCancellationFutureOwned>>;

/// Whose stream it is, and what passed.
pub(super) struct Record {
    tunnel: TunnelId,
    workspace: WorkspaceId,
    host: String,
    begun: Instant,
    sent: u64,
    received: u64,
    outcome: &'static str,
}

impl Record {
    pub(super) fn new(tunnel: TunnelId, workspace: WorkspaceId, host: &str) -> Self {
        Self {
            tunnel,
            workspace,
            host: host.to_owned(),
            begun: Instant::now(),
            sent: 0,
            received: 0,
            outcome: "no handshake",
        }
    }
}

impl Guarded {
    pub(super) fn new(
        stream: Bidirectional,
        record: Record,
        place: Place,
        link: Arc<Link>,
        clock: SharedClock,
    ) -> Self {
        Self {
            stream,
            over: [(); 2].map(|()| Box::pin(place.over().cancelled_owned())),
            record,
            share: None,
            place,
            link,
            clock,
        }
    }

    /// The handshake is done: this authority vouches for the gateway, until then. Whether that still
    /// holds: not if the tunnel was changed `since` it was looked up.
    pub(super) fn rely_on(&mut self, authority: &str, until: Timestamp, since: u64) -> bool {
        let holds = self.place.rely_on(authority, until, since);
        if holds {
            self.record.outcome = "closed";
            self.share = self.place.pace().map(Share::new);
        }
        holds
    }

    fn check(&mut self, direction: Direction, cx: &mut Context<'_>) -> io::Result<()> {
        match self.over[direction as usize].as_mut().poll(cx) {
            Poll::Ready(()) => {
                let (outcome, why) = match self.place.has_expired(self.clock.now()) {
                    true => ("expired", "the gateway's certificate has expired"),
                    false => ("changed", "the tunnel was changed"),
                };
                self.record.outcome = outcome;
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
            }
            Poll::Pending => Ok(()),
        }
    }

    /// Waits for its turn.
    fn poll_turn(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        let share = self.share.as_mut();
        share.map_or(Poll::Ready(()), |share| share.poll_turn(direction, cx))
    }

    /// So many bytes passed.
    fn passed(&mut self, direction: Direction, bytes: usize) {
        match direction {
            Direction::Read => self.record.received += bytes as u64,
            Direction::Write => self.record.sent += bytes as u64,
        }
        if let Some(share) = &mut self.share {
            share.passed(direction, bytes);
        }
    }

    /// Notes a failure of what is below.
    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() && self.record.outcome == "closed" {
            self.record.outcome = "broken";
        }
        done
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let (record, link) = (&self.record, &self.link);
        tracing::info!(
            target: "freehold_audit",
            tunnel = %record.tunnel,
            workspace = %record.workspace,
            host = record.host,
            connection = link.id,
            gateway = link.gateway,
            sent = record.sent,
            received = record.received,
            millis = u64::try_from(record.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome = record.outcome,
            "stream"
        );
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(Direction::Read, cx)?;
        ready!(self.poll_turn(Direction::Read, cx));
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.passed(Direction::Read, buf.filled().len() - before);
        Poll::Ready(self.note(read))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(Direction::Write, cx)?;
        ready!(self.poll_turn(Direction::Write, cx));
        let buf = match self.share {
            Some(_) => &buf[..buf.len().min(TURN)],
            None => buf,
        };
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.passed(Direction::Write, *written.as_ref().unwrap_or(&0));
        Poll::Ready(self.note(written))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(Direction::Write, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
