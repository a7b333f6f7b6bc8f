//! The server behind the tunnels, inside this process: small answers at once, large ones as fast as
//! they are taken.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Path of a small answer.
pub(crate) const SMALL: &str = "/small";
/// The length of one, as of a short tool result.
const SMALL_BYTES: usize = 220;
/// Pieces that large answers are made of.
const PIECE: u64 = 64 << 10;

/// Path of an answer of so many bytes.
pub(crate) fn bulk(bytes: u64) -> String {
    format!("/bulk/{bytes}")
}

/// Serves until it is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Service {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Only makes it slower if it fails.
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let service = service_fn(async |request| answer(&request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // Clients go when they like.
                    drop(connection.await);
                });
            }
        });
        Ok(Self {
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

type Body =
    Either<Full<Bytes>, StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

fn answer(request: &Request<Incoming>) -> Result<Response<Body>, hyper::http::Error> {
    let large = request.uri().path().strip_prefix("/bulk/");
    let Some(bytes) = large.and_then(|b| b.parse::<u64>().ok()) else {
        let small = Full::new(Bytes::from_static(&[b'x'; SMALL_BYTES]));
        return Ok(Response::new(Either::Left(small)));
    };
    let piece = Bytes::from_static(&[b'x'; PIECE as usize]);
    let pieces = stream::unfold(bytes, move |left| {
        let piece = piece.slice(..left.min(PIECE) as usize);
        let next = (0 < left).then(|| (Ok(Frame::data(piece)), left.saturating_sub(PIECE)));
        std::future::ready(next)
    });
    Response::builder()
        .header(CONTENT_LENGTH, bytes)
        .body(Either::Right(StreamBody::new(pieces.boxed())))
}
