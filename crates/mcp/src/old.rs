//! The HTTP+SSE transport of 2024-11-05, for servers that know nothing newer: one long stream of
//! events, the first of which says where messages are posted.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use sse_stream::Sse;

use crate::events::events;
use crate::http::{HttpError, content_type, failed};
use crate::transport::Transport;

/// A connection of that transport.
pub(crate) struct OldTransport {
    inner: Arc<Inner>,
    stream: BoxStream<'static, Result<Sse, sse_stream::Error>>,
}

struct Inner {
    transport: Transport,
    bearer: Option<HeaderValue>,
    endpoint: Uri,
}

impl OldTransport {
    /// Opens the stream and waits for the endpoint, which must have the URL's own origin.
    pub(crate) async fn open(
        transport: Transport,
        url: &Uri,
        bearer: Option<HeaderValue>,
    ) -> Result<Self, HttpError> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.extend(bearer.clone().map(|b| (AUTHORIZATION, b)));
        let Transport {
            http,
            workspace,
            options,
        } = &transport;
        let response = http.send(workspace, request, options.call).await?;
        if !response.status().is_success() {
            return Err(failed(response).await);
        }
        if content_type(&response).as_deref() != Some("text/event-stream") {
            return Err(HttpError::Unusable(
                "the server does not speak MCP".to_owned(),
            ));
        }
        let mut stream = events(response.into_body(), options.max_event, options.max_stream);
        let first = tokio::time::timeout(options.call, stream.next()).await;
        let endpoint = match first {
            Ok(Some(Ok(event))) if event.event.as_deref() == Some("endpoint") => event.data,
            Err(_) => return Err(HttpError::Slow(options.call)),
            _ => None,
        };
        let endpoint = endpoint
            .and_then(|path| same_origin(url, &path))
            .ok_or_else(|| {
                HttpError::Unusable("the server names no endpoint of its own origin".to_owned())
            })?;
        let inner = Arc::new(Inner {
            transport,
            bearer,
            endpoint,
        });
        Ok(Self { inner, stream })
    }
}

/// `path` seen from `url`, if that does not lead elsewhere.
fn same_origin(url: &Uri, path: &str) -> Option<Uri> {
    let base = url::Url::parse(&url.to_string()).ok()?;
    let joined = base.join(path.trim()).ok()?;
    let plain = joined.username().is_empty() && joined.password().is_none();
    let same = joined.origin() == base.origin() && plain;
    same.then(|| joined.as_str().parse().ok()).flatten()
}

impl rmcp::transport::Transport<RoleClient> for OldTransport {
    type Error = HttpError;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), HttpError>> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        async move {
            let body = serde_json::to_vec(&message)
                .map_err(|e| HttpError::Unusable(format!("the message cannot be sent: {e}")))?;
            let mut request = Request::new(Full::new(body.into()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = inner.endpoint.clone();
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.extend(inner.bearer.clone().map(|b| (AUTHORIZATION, b)));
            let Transport {
                http,
                workspace,
                options,
            } = &inner.transport;
            let response = http.send(workspace, request, options.call).await?;
            match response.status().is_success() {
                true => Ok(()),
                false => Err(failed(response).await),
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let event = self.stream.next().await?.ok()?;
            // What is no message is nobody's answer.
            if let Some(Ok(message)) = event.data.as_deref().map(serde_json::from_str) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), HttpError> {
        self.stream = futures_util::stream::empty().boxed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_elsewhere_is_none() {
        let url: Uri = "https://a.example/sse".parse().unwrap();
        let at = |path| same_origin(&url, path).map(|u| u.to_string());
        assert_eq!(at("/m?id=1").as_deref(), Some("https://a.example/m?id=1"));
        assert_eq!(
            at("https://a.example/m").as_deref(),
            Some("https://a.example/m")
        );
        for bad in [
            "https://b.example/m",
            "//b.example/m",
            "http://a.example/m",
            "https://u@a.example/",
            "javascript:1",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
