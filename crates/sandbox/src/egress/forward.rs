//! Sending a request on to its host and bringing back what it says.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::Shared;
use super::accept::HEAD_LIMIT;
use super::inject::{Swap, Swapped};
use super::meter::Metered;
use super::refusal::Refusal;
use super::target::Target;

/// How long a host may take to answer a request.
const ANSWER_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Bodies up to this size are swapped whole and keep a length; longer ones go out in chunks.
const WHOLE_BODY: u64 = 1024 * 1024;

pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// A connection to one host, opened at need and again when it has ended.
pub(super) struct Upstream<'a> {
    shared: &'a Arc<Shared>,
    target: &'a Target,
    /// Whether it is to be TLS, with secrets put in.
    secure: bool,
    /// One that has been opened already.
    first: Option<Metered>,
    sender: Option<SendRequest<Body>>,
}

impl<'a> Upstream<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, target: &'a Target, secure: bool) -> Self {
        Self {
            shared,
            target,
            secure,
            first: None,
            sender: None,
        }
    }

    /// With a connection that has been opened already.
    pub(super) fn over(mut self, origin: Metered) -> Self {
        self.first = Some(origin);
        self
    }

    /// Sends a request whose target has been checked. Its upgrade, if it asks for one and the host
    /// agrees, is the second value.
    pub(super) async fn send(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<(Response<Body>, Option<OnUpgrade>), Refusal> {
        let request = self.prepare(request).await?;
        let sender = self.connected().await?;
        let sent = tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await;
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => {
                self.sender = None;
                self.shared.note(self.target, Refusal::Unreachable);
                return Err(Refusal::Unreachable);
            }
            Err(_) => {
                self.sender = None;
                return Ok((
                    say(
                        StatusCode::GATEWAY_TIMEOUT,
                        "the host did not answer in time",
                    ),
                    None,
                ));
            }
        };
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = switches.then(|| hyper::upgrade::on(&mut response));
        strip_hop_by_hop(response.headers_mut());
        Ok((response.map(BodyExt::boxed), upgrade))
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Body>, Refusal> {
        let ready = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            let sender = self.open().await.inspect_err(|refusal| {
                if !matches!(refusal, Refusal::NotAllowed) {
                    tracing::debug!(sandbox = %self.shared.id, target = %self.target, %refusal, "not connected");
                }
            })?;
            return Ok(self.sender.insert(sender));
        }
        self.sender.as_mut().ok_or(Refusal::Unreachable)
    }

    async fn open(&mut self) -> Result<SendRequest<Body>, Refusal> {
        let origin = match self.first.take() {
            Some(origin) => origin,
            None => self.shared.dial(self.target).await?,
        };
        if !self.secure {
            return speak(origin).await;
        }
        let connected = async {
            let name = ServerName::try_from(self.target.host.text()).ok()?;
            let connector = TlsConnector::from(self.shared.config.roots.client().await);
            tokio::time::timeout(HEAD_LIMIT, connector.connect(name, origin))
                .await
                .ok()?
                .ok()
        };
        match connected.await {
            Some(stream) => speak(stream).await,
            None => {
                self.shared.note(self.target, Refusal::Untrusted);
                Err(Refusal::Untrusted)
            }
        }
    }

    /// Origin form, without what concerns one connection only, secrets in their places.
    async fn prepare(&self, request: Request<Incoming>) -> Result<Request<Body>, Refusal> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        head.version = Version::HTTP_11;
        strip_hop_by_hop(&mut head.headers);
        if !head.headers.contains_key(HOST) {
            let default = if self.secure { 443 } else { 80 };
            head.headers
                .insert(HOST, host_header(self.target, default)?);
        }
        if !self.secure {
            return Ok(Request::from_parts(head, body.boxed()));
        }
        let swaps = self.shared.swaps(self.target);
        if swaps.headers.in_headers(&mut head.headers).is_err() {
            self.shared.note(self.target, Refusal::Unfit);
            return Err(Refusal::Unfit);
        }
        let body = swap_body(swaps.body, body, &mut head.headers).await?;
        Ok(Request::from_parts(head, body))
    }
}

async fn swap_body(swap: Swap, body: Incoming, headers: &mut HeaderMap) -> Result<Body, Refusal> {
    let length = body.size_hint().exact();
    if swap.is_empty() || length == Some(0) {
        return Ok(body.boxed());
    }
    if length.is_none_or(|length| length > WHOLE_BODY) {
        headers.remove(CONTENT_LENGTH);
        return Ok(Swapped::new(body, swap).boxed());
    }
    let bytes = body
        .collect()
        .await
        .map_err(|_| Refusal::Unclear)?
        .to_bytes();
    let bytes = swap.whole(&bytes).map_or(bytes, Bytes::from);
    headers.insert(CONTENT_LENGTH, bytes.len().into());
    Ok(whole(bytes))
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Body>, Refusal> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Refusal::Unreachable)?;
    // Ends by itself once sender and response body are gone, which stopping the proxy brings about.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn host_header(target: &Target, default_port: u16) -> Result<HeaderValue, Refusal> {
    let text = target.to_string();
    let default = format!(":{default_port}");
    let text = text.strip_suffix(&default).unwrap_or(&text);
    HeaderValue::from_str(text).map_err(|_| Refusal::Unclear)
}

/// Removes what concerns one connection only (RFC 9110 §7.6.1), but for the wish to change the
/// protocol, which is this connection's and the next one's. `Transfer-Encoding` is hyper's.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| {
            *name != http::header::TRANSFER_ENCODING && *name != CONTENT_LENGTH && *name != HOST
        })
        .collect();
    let upgrade = named
        .contains(&UPGRADE)
        .then(|| headers.get(UPGRADE).cloned())
        .flatten()
        .filter(has_no_hosts);
    let fixed = [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        UPGRADE,
    ];
    let odd = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.iter().chain(&fixed).chain(&odd) {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Whether what a connection would change to has no host names in its requests: in what follows a
/// change nobody looks for them any more. A host may go on without the change (RFC 9110 §7.8).
fn has_no_hosts(protocols: &HeaderValue) -> bool {
    let named = protocols.to_str().unwrap_or("h2c");
    named.split(',').all(|protocol| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        !["h2c", "h2", "http", "tls"]
            .iter()
            .any(|hosts| name.eq_ignore_ascii_case(hosts))
    })
}

/// An answer of the proxy's own.
pub(super) fn say(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(whole(format!("{text}\n").into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// A refusal as an answer.
pub(super) fn refuse(refusal: Refusal) -> Response<Body> {
    let status = if refusal.is_policy() {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::BAD_GATEWAY
    };
    say(status, &refusal.to_string())
}

pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
