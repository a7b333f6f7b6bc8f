//! Open connections that wait for their next request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::HttpError;
use crate::dial::{Destination, Dial};

/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(5);
/// Most connections that wait, for one destination and over all.
const IDLE_EACH: usize = 4;
const IDLE_ALL: usize = 256;
/// Longest head of an answer.
const MAX_HEAD: usize = 64 << 10;

type Sender = SendRequest<Full<Bytes>>;

pub(super) struct Pool {
    dial: Arc<dyn Dial>,
    connect: Duration,
    idle: Arc<Mutex<Idle>>,
}

type Idle = HashMap<Destination, Vec<(Sender, Instant)>>;

/// A connection in use. Dropped, it is closed with the answer that is not read to its end.
pub(super) struct Lease {
    sender: Sender,
    to: Destination,
    idle: Arc<Mutex<Idle>>,
}

impl Pool {
    pub(super) fn new(dial: Arc<dyn Dial>, connect: Duration) -> Self {
        Self {
            dial,
            connect,
            idle: Arc::default(),
        }
    }

    /// Sends over a connection that waits, or a new one. A request is sent twice only if the first
    /// connection was closed before any of it went out.
    pub(super) async fn send(
        &self,
        to: Destination,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Lease), HttpError> {
        while let Some(mut sender) = self.take(&to) {
            // It may still be ending its last answer; one that cannot soon is of no use.
            if !matches!(
                timeout(Duration::from_millis(50), sender.ready()).await,
                Ok(Ok(()))
            ) {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, self.lease(sender, to))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(HttpError::Broken),
                },
            }
        }
        let mut sender = self.open(&to).await?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|_| HttpError::Broken)?;
        Ok((response, self.lease(sender, to)))
    }

    async fn open(&self, to: &Destination) -> Result<Sender, HttpError> {
        let open = async {
            let stream = self
                .dial
                .dial(to)
                .await
                .map_err(|error| HttpError::Connect(error.0))?;
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_HEAD)
                .max_headers(128)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|_| HttpError::Broken)?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection to an MCP server ended");
                }
            });
            Ok(sender)
        };
        timeout(self.connect, open).await.unwrap_or_else(|_| {
            Err(HttpError::Connect(
                "the connection was not established in time".into(),
            ))
        })
    }

    fn take(&self, to: &Destination) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(to)?;
        while let Some((sender, since)) = waiting.pop() {
            if since.elapsed() < IDLE && !sender.is_closed() {
                return Some(sender);
            }
        }
        idle.remove(to);
        None
    }

    fn lease(&self, sender: Sender, to: Destination) -> Lease {
        Lease {
            sender,
            to,
            idle: self.idle.clone(),
        }
    }
}

impl Lease {
    /// The answer was read to its end: the connection can serve another request.
    pub(super) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.values().map(Vec::len).sum::<usize>() >= IDLE_ALL {
            idle.retain(|_, waiting| {
                waiting.retain(|(sender, since)| since.elapsed() < IDLE && !sender.is_closed());
                !waiting.is_empty()
            });
        }
        let all: usize = idle.values().map(Vec::len).sum();
        let waiting = idle.entry(self.to).or_default();
        if all < IDLE_ALL && waiting.len() < IDLE_EACH {
            waiting.push((self.sender, Instant::now()));
        }
    }
}
