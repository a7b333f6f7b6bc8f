//! A connection that was meant for one host, and the watch over it that it names no other.
//!
//! What the host says first is passed on at once (ssh, mail); what the client says first is held
//! until it is clear what it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::accept::HEAD_LIMIT;
use super::hello::Hello;
use super::inject::Swaps;
use super::meter::Metered;
use super::opening::{Opening, judge};
use super::refusal::Refusal;
use super::relay::{IDLE_LIMIT, relay};
use super::rewind::Rewind;
use super::target::{Host, Target};
use super::{Shared, http};
use crate::NetworkPolicy;

/// How long a client that is told no may take to hear it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// What a client can be to us.
pub(super) trait Client: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Client for T {}

/// A connection to an address that a program inside dialled itself.
pub(super) async fn transparent(mut stream: TcpStream, dialled: Target, shared: &Arc<Shared>) {
    let named = shared.named(dialled.clone());
    let reached = match named {
        Ok(target) => shared.dial(&target).await.map(|origin| (target, origin)),
        Err(refusal) => {
            shared.note(&dialled, refusal);
            Err(refusal)
        }
    };
    match reached {
        Ok((target, origin)) => carry(stream, origin, &target, shared).await,
        Err(refusal) => {
            let opening = tokio::time::timeout(HEAD_LIMIT, opening_of(&mut stream)).await;
            say_no(&mut stream, opening.ok().as_ref(), refusal).await;
        }
    }
}

/// Carries a connection to its end, or until `target` is not allowed any more.
pub(super) async fn carry(
    client: impl Client,
    origin: Metered,
    target: &Target,
    shared: &Arc<Shared>,
) {
    tokio::select! {
        () = watch_over(client, origin, target, shared) => {}
        () = shared.revoked(target) => {}
    }
}

async fn watch_over(
    mut client: impl Client,
    mut origin: Metered,
    target: &Target,
    shared: &Arc<Shared>,
) {
    let Some(begun) = begin(&mut client, &mut origin).await else {
        return;
    };
    let refusal = match &begun.opening {
        Opening::Tls(hello) => check(hello, target, &shared.network().policy).err(),
        Opening::Http | Opening::Other => None,
        Opening::Broken | Opening::Unfinished => Some(Refusal::Unclear),
    };
    // Where requests are to be understood, the host has nothing to say before the first of them.
    let ends_here = match &begun.opening {
        Opening::Tls(_) => shared.ends_tls(target),
        Opening::Http => true,
        _ => false,
    };
    let refusal = refusal.or((ends_here && begun.host_spoke).then_some(Refusal::Unclear));
    if let Some(refusal) = refusal {
        shared.note(target, refusal);
        return say_no(&mut client, Some(&begun.opening), refusal).await;
    }
    let client = Rewind::new(begun.bytes, client);
    match begun.opening {
        Opening::Tls(_) if ends_here => end_tls(client, origin, target, shared).await,
        Opening::Http => http::serve(client, origin, target, false, shared).await,
        _ => relay(client, origin).await,
    }
}

/// How a connection began.
struct Begun {
    bytes: Vec<u8>,
    opening: Opening,
    host_spoke: bool,
}

/// Passes on what the host says until it is clear what the client says; `None` if either went.
async fn begin(client: &mut impl Client, origin: &mut Metered) -> Option<Begun> {
    let (mut bytes, mut host_spoke) = (Vec::new(), false);
    let mut buffer = vec![0; READ];
    let mut said = vec![0; READ];
    loop {
        let opening = judge(&bytes);
        if opening != Opening::Unfinished {
            return Some(Begun {
                bytes,
                opening,
                host_spoke,
            });
        }
        let limit = if bytes.is_empty() {
            IDLE_LIMIT
        } else {
            HEAD_LIMIT
        };
        tokio::select! {
            read = client.read(&mut buffer) => match read {
                // A client that only listens, or one that broke off.
                Ok(0) if bytes.is_empty() => {
                    let opening = Opening::Other;
                    return Some(Begun { bytes, opening, host_spoke });
                }
                Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
                _ => return None,
            },
            read = origin.read(&mut said) => {
                let n = read.ok().filter(|n| *n > 0)?;
                client.write_all(&said[..n]).await.ok()?;
                host_spoke = true;
            }
            () = tokio::time::sleep(limit) => return None,
        }
    }
}

/// What a client that is not connected to anything begins with.
async fn opening_of(client: &mut impl Client) -> Opening {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; READ]);
    loop {
        match judge(&bytes) {
            Opening::Unfinished => {}
            clear => return clear,
        }
        match client.read(&mut buffer).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return Opening::Broken,
        }
    }
}

/// The name in the handshake must be the one that was asked for. Where any public host may be
/// reached, nothing is gained by hiding another name, and browsers do it as a habit.
fn check(hello: &Hello, target: &Target, policy: &NetworkPolicy) -> Result<(), Refusal> {
    let any_host = matches!(policy, NetworkPolicy::Public);
    if hello.encrypted && !any_host {
        return Err(Refusal::HiddenName);
    }
    match (&target.host, &hello.name) {
        (Host::Name(name), Some(said)) if name == said => Ok(()),
        (Host::Name(_), Some(_)) => Err(Refusal::OtherName),
        (Host::Name(_), None) => Err(Refusal::HiddenName),
        (Host::Address(_), Some(_)) if !any_host => Err(Refusal::OtherName),
        (Host::Address(_), _) => Ok(()),
    }
}

impl Shared {
    /// Whether TLS to `target` ends at the proxy: only where there is a secret to put in.
    fn ends_tls(&self, target: &Target) -> bool {
        let concerns = |host: &str| {
            let network = self.network();
            network
                .injections
                .iter()
                .any(|i| i.concerns(host, target.port))
        };
        self.authority.is_some() && concerns(&target.host.text())
    }

    /// The secrets for `target` as they are now.
    pub(super) fn swaps(&self, target: &Target) -> Swaps {
        Swaps::of(&self.network(), &target.host.text(), target.port)
    }
}

async fn end_tls(
    client: Rewind<impl Client>,
    origin: Metered,
    target: &Target,
    shared: &Arc<Shared>,
) {
    let Some(authority) = &shared.authority else {
        return;
    };
    let config = match authority.server(&target.host.text()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(sandbox = %shared.id, error = &error as &dyn std::error::Error, "no certificate made");
            return;
        }
    };
    let accepted = TlsAcceptor::from(config).accept(client);
    // A client that does not trust the authority breaks off here, and says why to its user.
    if let Ok(Ok(client)) = tokio::time::timeout(HEAD_LIMIT, accepted).await {
        http::serve(client, origin, target, true, shared).await;
    }
}

/// Says no in the client's own protocol, as far as it has shown one.
async fn say_no(client: &mut impl Client, opening: Option<&Opening>, refusal: Refusal) {
    let text = match opening {
        Some(Opening::Http) => {
            let status = if refusal.is_policy() {
                "403 Forbidden"
            } else {
                "502 Bad Gateway"
            };
            let text = format!("{refusal}\n");
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            )
            .into_bytes()
        }
        Some(Opening::Tls(_)) => {
            /// A fatal alert: `access_denied`, or `internal_error` for an accident.
            const ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
            let why = if refusal.is_policy() { 49 } else { 80 };
            [ALERT.as_slice(), &[why]].concat()
        }
        _ => return,
    };
    let farewell = async {
        // The client may be gone already. Its rest is read, or the reset would overtake the answer.
        if client.write_all(&text).await.is_ok() && client.shutdown().await.is_ok() {
            let mut rest = vec![0; READ];
            while matches!(client.read(&mut rest).await, Ok(n) if n > 0) {}
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_must_name_the_host_that_was_asked_for() {
        let name = Target {
            host: Host::Name("a.test".to_owned()),
            port: 443,
        };
        let address = Target {
            host: Host::of("192.0.2.1").unwrap(),
            port: 443,
        };
        let hello = |name: Option<&str>, encrypted| Hello {
            name: name.map(str::to_owned),
            encrypted,
        };
        let some = NetworkPolicy::Hosts { allowed: vec![] };
        let public = NetworkPolicy::Public;
        for (said, encrypted, target, policy, want) in [
            (Some("a.test"), false, &name, &some, Ok(())),
            (Some("b.test"), false, &name, &some, Err(Refusal::OtherName)),
            (
                Some("b.test"),
                false,
                &name,
                &public,
                Err(Refusal::OtherName),
            ),
            (None, false, &name, &some, Err(Refusal::HiddenName)),
            (Some("a.test"), true, &name, &some, Err(Refusal::HiddenName)),
            (Some("a.test"), true, &name, &public, Ok(())),
            (
                Some("a.test"),
                false,
                &address,
                &some,
                Err(Refusal::OtherName),
            ),
            (None, false, &address, &some, Ok(())),
            (Some("a.test"), false, &address, &public, Ok(())),
        ] {
            let got = check(&hello(said, encrypted), target, policy);
            assert_eq!(got, want, "{said:?} {encrypted} {target}");
        }
    }
}
