//! A body on its way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// Bytes of a request that are looked at for the method and the tool.
const LOOKED_AT: usize = 256 << 10;

/// Bytes that passed.
#[derive(Default)]
pub(in crate::gateway) struct Passed {
    pub(in crate::gateway) bytes: u64,
    /// The first of them, if they are to be looked at.
    pub(in crate::gateway) beginning: Vec<u8>,
    /// They ended as the sender meant them to.
    pub(in crate::gateway) whole: bool,
    pub(in crate::gateway) failed: bool,
}

pub(in crate::gateway) type Shared = Arc<Mutex<Passed>>;

/// A body on its way: counted, and bounded in size and in silence.
pub(in crate::gateway) struct Watched<B> {
    inner: B,
    /// Read and not handed on.
    ahead: VecDeque<Frame<Bytes>>,
    passed: Shared,
    keep: usize,
    left: u64,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
    /// Once this is over, so is the body.
    until: Option<BoxFuture<'static, ()>>,
    /// Runs when the body has ended, however.
    done: Option<Box<dyn FnOnce() + Send>>,
}

/// Why a body was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Cut {
    #[error("the body is too large")]
    TooLarge,
    #[error("nothing came for too long")]
    Silent,
    #[error("the connection failed")]
    Broken,
    #[error("the route is gone")]
    Gone,
}

impl<B: Body> Watched<B> {
    pub(in crate::gateway) fn new(inner: B, passed: Shared, max: u64, silence: Duration) -> Self {
        lock(&passed).whole = inner.is_end_stream();
        Self {
            inner,
            ahead: VecDeque::new(),
            passed,
            keep: 0,
            left: max,
            silence,
            timer: Box::pin(tokio::time::sleep(silence)),
            until: None,
            done: None,
        }
    }

    pub(in crate::gateway) fn looked_at(mut self) -> Self {
        self.keep = LOOKED_AT;
        self
    }

    pub(in crate::gateway) fn until(
        mut self,
        over: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.until = Some(Box::pin(over));
        self
    }

    pub(in crate::gateway) fn at_end(mut self, done: impl FnOnce() + Send + 'static) -> Self {
        self.done = Some(Box::new(done));
        self
    }

    fn cut(&self, why: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        lock(&self.passed).failed = true;
        Poll::Ready(Some(Err(why)))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Watched<B> {
    /// Reads all that is looked at, and hands it on only then.
    pub(in crate::gateway) async fn read_ahead(mut self) -> Result<Self, Cut> {
        let mut ahead = VecDeque::new();
        while lock(&self.passed).bytes <= self.keep as u64 {
            match self.frame().await {
                Some(frame) => ahead.push_back(frame?),
                None => break,
            }
        }
        self.ahead = ahead;
        Ok(self)
    }

    /// Bytes that were read and not handed on.
    fn held(&self) -> u64 {
        let data = self.ahead.iter().filter_map(Frame::data_ref);
        data.map(|data| data.remaining() as u64).sum()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done();
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            self.until = None;
            return self.cut(Cut::Gone);
        }
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() {
            ready!(self.timer.as_mut().poll(cx));
            return self.cut(Cut::Silent);
        }
        let silence = self.silence;
        self.timer
            .as_mut()
            .reset(tokio::time::Instant::now() + silence);
        match ready!(polled) {
            None => {
                lock(&self.passed).whole = true;
                Poll::Ready(None)
            }
            Some(Err(_)) => self.cut(Cut::Broken),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let size = data.remaining() as u64;
                    if size > self.left {
                        return self.cut(Cut::TooLarge);
                    }
                    self.left -= size;
                    let keep = self.keep;
                    let mut passed = lock(&self.passed);
                    passed.bytes += size;
                    let room = keep.saturating_sub(passed.beginning.len());
                    passed
                        .beginning
                        .extend_from_slice(&data[..data.len().min(room)]);
                    // Nobody need ask again for what is known to be the end.
                    passed.whole = self.inner.is_end_stream();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, held) = (self.inner.size_hint(), self.held());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

pub(super) fn lock(passed: &Shared) -> std::sync::MutexGuard<'_, Passed> {
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}
