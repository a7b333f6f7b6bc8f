//! A gateway's connection, and how a stream is opened over it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use freehold_base::{Timestamp, TunnelTokenId};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

/// A gateway's connection, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Names it in both sides' logs.
    pub id: String,
    /// The gateway's own name.
    pub gateway: String,
    /// Where it comes from.
    pub source: SocketAddr,
    /// The token it showed.
    pub token: TunnelTokenId,
    /// Since when.
    pub since: Timestamp,
    /// Streams that are open.
    pub streams: usize,
    /// Whether its last stream worked: if not, it is used when there is no other.
    pub healthy: bool,
}

/// A gateway's connection.
pub(super) struct Link {
    pub(super) id: String,
    pub(super) gateway: String,
    pub(super) source: SocketAddr,
    pub(super) token: TunnelTokenId,
    pub(super) since: Timestamp,
    pub(super) sender: SendRequest<Empty<Bytes>>,
    /// Ends it.
    pub(super) over: CancellationToken,
    /// Its last stream came to nothing.
    failed: AtomicBool,
}

/// How opening a stream went.
pub(super) enum Opened {
    Stream(TokioIo<Upgraded>),
    Refused(StatusCode),
    /// The stream was reset, and the connection is there still.
    Reset,
    Gone,
}

impl Link {
    pub(super) fn new(
        id: String,
        gateway: String,
        source: SocketAddr,
        token: TunnelTokenId,
        since: Timestamp,
        sender: SendRequest<Empty<Bytes>>,
    ) -> Self {
        Self {
            id,
            gateway,
            source,
            token,
            since,
            sender,
            over: CancellationToken::new(),
            failed: AtomicBool::new(false),
        }
    }

    pub(super) async fn open(&self, host: &str) -> Opened {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        let Ok(uri) = format!("{host}:443").parse() else {
            return Opened::Refused(StatusCode::BAD_REQUEST);
        };
        *request.uri_mut() = uri;
        let mut sender = self.sender.clone();
        let response = async {
            sender.ready().await.ok()?;
            sender.send_request(request).await.ok()
        };
        let response = response.await;
        let Some(response) = response else {
            return match self.sender.is_closed() {
                true => Opened::Gone,
                false => Opened::Reset,
            };
        };
        if response.status() != StatusCode::OK {
            return Opened::Refused(response.status());
        }
        match hyper::upgrade::on(response).await {
            Ok(stream) => Opened::Stream(TokioIo::new(stream)),
            Err(_) => Opened::Gone,
        }
    }

    pub(super) fn succeeded(&self) {
        self.failed.store(false, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_healthy(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }
}
