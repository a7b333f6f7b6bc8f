//! A stream that ends when what it was opened for ends, and leaves a record of what passed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use freehold_base::{SharedClock, Timestamp, TunnelId, WorkspaceId};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::link::Link;
use super::registry::Place;

/// A stream over a gateway's connection.
pub struct Guarded {
    stream: TokioIo<Upgraded>,
    /// What ends it, once for each direction: they may be polled by different tasks, and only the last
    /// that polled is woken.
    over: [Over; 2],
    record: Record,
    /// Counts it for as long as it lives.
    place: Place,
    link: Arc<Link>,
    clock: SharedClock,
}

type Over = Pin<Box<WaitForCancellationFutureOwned>>;

const READ: usize = 0;
const WRITE: usize = 1;

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
        stream: TokioIo<Upgraded>,
        record: Record,
        place: Place,
        link: Arc<Link>,
        clock: SharedClock,
    ) -> Self {
        Self {
            stream,
            over: [(); 2].map(|()| Box::pin(place.over().cancelled_owned())),
            record,
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
        }
        holds
    }

    fn check(&mut self, direction: usize, cx: &mut Context<'_>) -> io::Result<()> {
        match self.over[direction].as_mut().poll(cx) {
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
        self.check(READ, cx)?;
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.record.received += (buf.filled().len() - before) as u64;
        Poll::Ready(self.note(read))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(WRITE, cx)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.record.sent += *written.as_ref().unwrap_or(&0) as u64;
        Poll::Ready(self.note(written))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(WRITE, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
