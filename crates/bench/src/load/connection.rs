//! One keep-alive HTTP/1.1 connection. Less work for a request than a pooling client, because the
//! generator shares the machine with the server.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::plan::PATIENCE;

/// Greatest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Whom to talk to, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// An API key made for this run only.
    pub(crate) key: String,
}

/// An answer, and when it was asked for and complete.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("an answer that is not JSON")
    }

    /// Milliseconds from the request to the end of its answer.
    pub(crate) fn millis(&self) -> f64 {
        (self.received - self.sent).as_secs_f64() * 1e3
    }
}

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    bearer: String,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let socket = timeout(PATIENCE, TcpStream::connect(target.address))
            .await
            .context("no connection in time")??;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        // Ends with the connection; what went wrong shows in the request that met it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            sender,
            host: target.address.to_string(),
            bearer: format!("Bearer {}", target.key),
        })
    }

    /// `count` connections.
    pub(crate) async fn several(target: &Target, count: usize) -> Result<Vec<Self>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Self::open(target).await?);
        }
        Ok(all)
    }

    /// `GET path`.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// `POST path`.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<Answer> {
        self.call(Method::POST, path, body).await
    }

    /// `DELETE path`.
    pub(crate) async fn delete(&mut self, path: &str) -> Result<Answer> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }

    async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer> {
        let what = format!("{method} {path}");
        let request = async {
            let (response, sent) = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            let body = body.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
            let received = Instant::now();
            if !status.is_success() {
                let text: String = String::from_utf8_lossy(&body).chars().take(400).collect();
                bail!("status {status}: {text}");
            }
            Ok(Answer {
                body,
                sent,
                received,
            })
        };
        timeout(PATIENCE, request)
            .await
            .context("no answer in time")
            .flatten()
            .context(what)
    }

    /// Sends a request for an answer that is read piece by piece, and says when.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Instant)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.bearer)
            .header("anthropic-version", "2026-10-21")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let sent = Instant::now();
        Ok((self.sender.send_request(request).await?, sent))
    }
}
