//! A stream that ends when what it was opened for ends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::registry::{Link, Place};

/// A stream over a gateway's connection.
pub struct Guarded {
    stream: TokioIo<Upgraded>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Counts it for as long as it lives.
    _place: Place,
    _link: Arc<Link>,
}

impl Guarded {
    pub(super) fn new(stream: TokioIo<Upgraded>, place: Place, link: Arc<Link>) -> Self {
        Self {
            stream,
            over: Box::pin(place.over().cancelled_owned()),
            _place: place,
            _link: link,
        }
    }

    /// From now on this is what ends it.
    pub(super) fn rely_on(&mut self, over: CancellationToken) {
        self.over = Box::pin(over.cancelled_owned());
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the tunnel was changed",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
