//! What is noted of each request: who asked whom for what, how much, how long, and how it ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use freehold_base::hex;
use hyper::body::{Body, Frame, SizeHint};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Sleep;

/// Bytes of a request that are looked at for the method and the tool.
const LOOKED_AT: usize = 256 << 10;
/// Characters of a name that came from outside.
const MAX_NAME: usize = 128;

/// Bytes that passed.
#[derive(Default)]
pub(super) struct Passed {
    bytes: u64,
    beginning: Vec<u8>,
    failed: bool,
}

type Shared = Arc<Mutex<Passed>>;

/// A body on its way: counted, and bounded in size and in silence.
pub(super) struct Watched<B> {
    inner: B,
    passed: Shared,
    keep: usize,
    left: u64,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
    /// Runs when the body has ended, however.
    done: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// Why a body was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    #[error("the body is too large")]
    TooLarge,
    #[error("nothing came for too long")]
    Silent,
    #[error("the connection failed")]
    Broken,
}

impl<B> Watched<B> {
    pub(super) fn new(inner: B, passed: Shared, max: u64, silence: Duration) -> Self {
        Self {
            inner,
            passed,
            keep: 0,
            left: max,
            silence,
            timer: Box::pin(tokio::time::sleep(silence)),
            done: None,
        }
    }

    pub(super) fn looked_at(mut self) -> Self {
        self.keep = LOOKED_AT;
        self
    }

    pub(super) fn at_end(mut self, done: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.done = Some(Box::new(done));
        self
    }

    fn cut(&self, why: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        lock(&self.passed).failed = true;
        Poll::Ready(Some(Err(why)))
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
            None => Poll::Ready(None),
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
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn lock(passed: &Shared) -> std::sync::MutexGuard<'_, Passed> {
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request.
pub(super) struct Record {
    pub(super) request_id: String,
    pub(super) host: String,
    pub(super) method: String,
    pub(super) sent: Shared,
    pub(super) received: Shared,
    pub(super) begun: Instant,
    pub(super) arguments: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    method: String,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl Record {
    /// Writes the record. `status` is what was answered; `why` what went wrong here.
    pub(super) fn write(&self, status: u16, why: Option<&str>) {
        let sent = lock(&self.sent);
        let received = lock(&self.received);
        let message = serde_json::from_slice::<Message<'_>>(&sent.beginning).ok();
        let short = |text: &str| -> String {
            text.chars()
                .filter(|c| !c.is_control())
                .take(MAX_NAME)
                .collect()
        };
        let mcp_method = message
            .as_ref()
            .map(|m| short(&m.method))
            .unwrap_or_default();
        let params = message.as_ref().and_then(|m| m.params.as_ref());
        let tool = params
            .and_then(|p| p.name.as_deref())
            .map(short)
            .unwrap_or_default();
        let arguments = params.and_then(|p| p.arguments).map(RawValue::get);
        let hash = arguments.map(|a| hex::encode(Sha256::digest(a)));
        let outcome = match (why, status) {
            (Some(why), _) => why,
            _ if received.failed || sent.failed => "cut",
            (None, 200..300) => "ok",
            (None, _) => "refused",
        };
        let shown = arguments.filter(|_| self.arguments);
        tracing::info!(
            target: "freehold_audit",
            request_id = self.request_id,
            host = self.host,
            http_method = self.method,
            mcp_method,
            tool,
            arguments_sha256 = hash,
            arguments = shown,
            sent = sent.bytes,
            received = received.bytes,
            millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            status,
            outcome,
            "request"
        );
    }
}
