//! Requests on a connection that was meant for one host: each must name that host and no other.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{HOST, HeaderMap};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Mutex, mpsc};

use super::Shared;
use super::accept::HEAD_LIMIT;
use super::flow::Client;
use super::forward::{Body, Upstream, refuse, say};
use super::meter::Metered;
use super::refusal::Refusal;
use super::relay::relay;
use super::target::{Host, Target};
use crate::NetworkPolicy;

/// Bytes of a request's head, and number of its fields.
const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;

/// How requests are read: hyper parses, strictly, and what goes out is written anew.
pub(super) fn reader() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // A client may be done sending before it is answered.
        .half_close(true)
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS);
    builder
}

/// Serves `client`, over `origin` as long as that lasts. `secure` if TLS ended here: then it begins
/// again towards the host, and secrets are put in.
pub(super) async fn serve(
    client: impl Client,
    origin: Metered,
    target: &Target,
    secure: bool,
    shared: &Arc<Shared>,
) {
    let upstream = Mutex::new(Upstream::new(shared, target, secure).over(origin));
    // Both ends of a connection that changes its protocol, taken over when hyper is done with it.
    let (hand_over, mut changed) = mpsc::channel::<(OnUpgrade, OnUpgrade)>(1);
    let service = service_fn(|request| {
        let (upstream, hand_over) = (&upstream, &hand_over);
        async move {
            let answer = answer(request, upstream, target, shared, hand_over).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let served = reader()
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades()
        .await;
    // A client that breaks off or breaks the rules of HTTP harms only itself.
    if served.is_err() {
        return;
    }
    if let Ok((client, origin)) = changed.try_recv()
        && let (Ok(client), Ok(origin)) = (client.await, origin.await)
    {
        relay(TokioIo::new(client), TokioIo::new(origin)).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    upstream: &Mutex<Upstream<'_>>,
    target: &Target,
    shared: &Arc<Shared>,
    hand_over: &mpsc::Sender<(OnUpgrade, OnUpgrade)>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return say(StatusCode::BAD_REQUEST, "this is no proxy");
    }
    let any_host = matches!(shared.network().policy, NetworkPolicy::Public);
    if !names_only(&request, target, any_host) {
        shared.note(target, Refusal::OtherName);
        return refuse(Refusal::OtherName);
    }
    if !shared.allows(target) {
        shared.note(target, Refusal::NotAllowed);
        return refuse(Refusal::NotAllowed);
    }
    let client = hyper::upgrade::on(&mut request);
    match upstream.lock().await.send(request).await {
        Ok((response, None)) => response,
        Ok((response, Some(origin))) => match hand_over.try_send((client, origin)) {
            Ok(()) => response,
            Err(_) => say(
                StatusCode::BAD_GATEWAY,
                "one change of protocol for each connection",
            ),
        },
        Err(refusal) => refuse(refusal),
    }
}

/// Whether target line and `Host` name `target` and nothing else. A missing port is the target's.
fn names_only(request: &Request<Incoming>, target: &Target, any_host: bool) -> bool {
    let same = |authority: &Authority| {
        let named = Target::of_authority(authority, Some(target.port));
        named.as_ref() == Some(target)
    };
    request.uri().authority().is_none_or(same)
        && host_names_only(request.headers(), target, any_host)
}

fn host_names_only(headers: &HeaderMap, target: &Target, any_host: bool) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    // Without one, the right one is put in.
    let Some(host) = host else {
        return true;
    };
    // Reached by its address, a host may be called by any name if any may be reached.
    let whoever = any_host && matches!(target.host, Host::Address(_));
    let parsed = host.to_str().ok().and_then(|h| h.parse::<Authority>().ok());
    let named = parsed.and_then(|a| Target::of_authority(&a, Some(target.port)));
    more.is_none() && (whoever || named.as_ref() == Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_must_be_the_target_and_single() {
        let target = Target {
            host: Host::Name("a.test".to_owned()),
            port: 8080,
        };
        let check = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            host_names_only(&headers, &target, false)
        };
        assert!(check(&[]) && check(&["a.test"]) && check(&["A.Test.:8080"]));
        for bad in [
            &["b.test"][..],
            &["a.test:80"],
            &["a.test", "a.test"],
            &["a.test", "b.test"],
            &["x@a.test"],
            &["a.test,b.test"],
            &["a.test b.test"],
            &[""],
        ] {
            assert!(!check(bad), "{bad:?}");
        }
    }
}
