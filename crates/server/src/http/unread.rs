//! Whether a request's body was read to its end. An answer that comes before that leaves bytes on
//! the connection that nobody will read: it must say that the connection closes, or the client's
//! next request on it fails.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Tells whether a body has been read to its end.
pub(super) struct Reading(Arc<AtomicBool>);

impl Reading {
    /// Watches the body of a request.
    pub(super) fn watch(request: Request) -> (Self, Request) {
        let (parts, body) = request.into_parts();
        let done = Arc::new(AtomicBool::new(body.is_end_stream()));
        let watched = Watched {
            body,
            done: Arc::clone(&done),
        };
        (Self(done), Request::from_parts(parts, Body::new(watched)))
    }
    /// Whether there is nothing left to read.
    pub(super) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Watched {
    body: Body,
    done: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.done.store(true, Ordering::Release);
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
