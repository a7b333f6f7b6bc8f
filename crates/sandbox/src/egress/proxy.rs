//! For programs that know a proxy: CONNECT, and requests with an `http://` target.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::forward::{Body, Upstream, refuse, say, whole};
use super::meter::Metered;
use super::refusal::Refusal;
use super::target::Target;
use super::{Shared, flow, http as requests};

/// What CONNECT opened, taken over when hyper is done with the connection, so that it is counted
/// and stopped with it.
type Tunnel = (Target, Metered, OnUpgrade);

pub(super) async fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    let (hand_over, mut tunnel) = mpsc::channel::<Tunnel>(1);
    let service = service_fn(|request| {
        let hand_over = &hand_over;
        async move { Ok::<_, Infallible>(answer(request, shared, hand_over).await) }
    });
    let served = requests::reader()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    // A client that breaks off or breaks the rules of HTTP harms only itself.
    if served.is_err() {
        return;
    }
    if let Ok((target, origin, upgrade)) = tunnel.try_recv()
        && let Ok(client) = upgrade.await
    {
        flow::carry(TokioIo::new(client), origin, &target, shared).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: &Arc<Shared>,
    hand_over: &mpsc::Sender<Tunnel>,
) -> Response<Body> {
    let connect = request.method() == Method::CONNECT;
    let plain_http = request.uri().scheme_str() == Some("http");
    if !connect && !plain_http {
        return say(
            StatusCode::BAD_REQUEST,
            "this is a proxy: send CONNECT or an http:// target",
        );
    }
    let Some(asked) = Target::of(request.uri(), plain_http.then_some(80)) else {
        return say(
            StatusCode::BAD_REQUEST,
            "the target is not a host and a port",
        );
    };
    let target = match shared.named(asked.clone()) {
        Ok(target) => target,
        Err(refusal) => {
            shared.note(&asked, refusal);
            return refuse(refusal);
        }
    };
    if !connect {
        return forward(request, &target, shared).await;
    }
    let origin = match shared.dial(&target).await {
        Ok(origin) => origin,
        Err(refusal) => return refuse(refusal),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    match hand_over.try_send((target, origin, upgrade)) {
        Ok(()) => Response::new(whole(Bytes::new())),
        Err(_) => say(StatusCode::BAD_REQUEST, "one tunnel for each connection"),
    }
}

/// One request over a connection of its own. `Host` is set from the target that was checked, never
/// from what the client claims.
async fn forward(
    mut request: Request<Incoming>,
    target: &Target,
    shared: &Arc<Shared>,
) -> Response<Body> {
    request.headers_mut().remove(HOST);
    match Upstream::new(shared, target, false).send(request).await {
        Ok((response, None)) => response,
        // Through a proxy, protocols are changed inside CONNECT.
        Ok((_, Some(_))) => refuse(Refusal::Unclear),
        Err(refusal) => refuse(refusal),
    }
}
