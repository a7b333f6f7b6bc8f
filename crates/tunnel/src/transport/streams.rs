//! HTTP/2 on a connection that stands: a CONNECT stream for each connection that one side wants and the
//! other makes. Which of them dialled does not matter here.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Connection, SendRequest};
use hyper::rt::bounds::Http2ClientConnExec;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::head::invalid;
use super::settings;

/// Bytes from and to what a stream was opened for.
pub type Bidirectional = TokioIo<Upgraded>;

/// The side that opens streams. Cheap to clone.
#[derive(Clone)]
pub struct Opener(SendRequest<Empty<Bytes>>);

/// How opening a stream went.
pub enum Opened {
    /// It is open.
    Stream(Bidirectional),
    /// The other side does not make this connection.
    Refused(StatusCode),
    /// The stream was reset, and the connection is there still.
    Reset,
    /// The connection is not there any more.
    Gone,
}

/// Begins to open streams. The connection is to be polled until it ends; a connection that does not
/// answer a ping within `ping` ends.
///
/// # Errors
/// The other side does not speak HTTP/2.
pub async fn open<S, E>(
    stream: S,
    executor: E,
    ping: Duration,
) -> hyper::Result<(Opener, Connection<TokioIo<S>, Empty<Bytes>, E>)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    E: Http2ClientConnExec<Empty<Bytes>, TokioIo<S>> + Unpin + Clone,
{
    let mut builder = hyper::client::conn::http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings::STREAM_WINDOW)
        .initial_connection_window_size(settings::CONNECTION_WINDOW)
        .max_concurrent_streams(settings::MAX_STREAMS)
        .max_frame_size(settings::FRAME)
        .max_send_buf_size(settings::SEND_BUFFER)
        .max_header_list_size(settings::HEADERS)
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping)
        .keep_alive_while_idle(true);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    Ok((Opener(sender), connection))
}

impl Opener {
    /// Opens a stream to `host`, whose port is always 443.
    pub async fn open(&self, host: &str) -> Opened {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        let Ok(uri) = format!("{host}:443").parse() else {
            return Opened::Refused(StatusCode::BAD_REQUEST);
        };
        *request.uri_mut() = uri;
        let mut sender = self.0.clone();
        let response = async {
            sender.ready().await.ok()?;
            sender.send_request(request).await.ok()
        };
        let Some(response) = response.await else {
            return match self.is_closed() {
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

    /// Whether no stream can be opened any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Takes streams until the connection ends. After `drain` no new one is taken, and it ends with the
/// last. `answer` is asked with the `host:port` of each stream, and says with which status it is
/// refused, or what is done with it.
///
/// # Errors
/// The connection broke.
pub async fn take<S, A, F, H>(stream: S, drain: CancellationToken, answer: A) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<H, StatusCode>> + Send,
    H: FnOnce(Bidirectional) + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let authority = request.uri().authority().map(|a| a.as_str().to_owned());
            let authority = authority.filter(|_| request.method() == Method::CONNECT);
            let taken = match authority {
                Some(authority) => answer(authority).await,
                None => Err(StatusCode::BAD_REQUEST),
            };
            let mut response = Response::new(Empty::<Bytes>::new());
            match taken {
                Err(status) => *response.status_mut() = status,
                Ok(handle) => drop(tokio::spawn(async move {
                    if let Ok(stream) = hyper::upgrade::on(&mut request).await {
                        handle(TokioIo::new(stream));
                    }
                })),
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings::STREAM_WINDOW)
        .initial_connection_window_size(settings::CONNECTION_WINDOW)
        .max_concurrent_streams(settings::MAX_STREAMS)
        .max_frame_size(settings::FRAME)
        .max_send_buf_size(settings::SEND_BUFFER)
        .max_header_list_size(settings::HEADERS)
        .keep_alive_interval(settings::PING)
        .keep_alive_timeout(settings::PING);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    served.map_err(|e| invalid(&e.to_string()))
}
