//! How kept connections to the servers are opened: the pool's keys are numbers of routes, so that
//! nothing a caller says decides where a connection goes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;

use crate::gateway::config::Route;
use crate::gateway::upstream::{Stream, UpstreamError, Upstreams};

/// Opens the connections of the routes.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) targets: Arc<[Route]>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Wire;
    type Error = UpstreamError;
    type Future = BoxFuture<'static, Result<Wire, UpstreamError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let number = uri
            .host()
            .and_then(|h| h.strip_suffix(".route")?.parse::<usize>().ok());
        let (upstreams, targets) = (Arc::clone(&self.upstreams), Arc::clone(&self.targets));
        Box::pin(async move {
            let route = number.and_then(|n| targets.get(n));
            let route = route.ok_or_else(|| UpstreamError::Dns("the route".to_owned()))?;
            upstreams
                .connect(route)
                .await
                .map(|io| Wire(TokioIo::new(io)))
        })
    }
}

pub(super) struct Wire(TokioIo<Box<dyn Stream>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
