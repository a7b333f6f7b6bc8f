//! Server-sent events: frames and the response that carries them.

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderValue, header};

/// The keep-alive. Both SDKs skip events of this name; a comment would do as well, but some
/// proxies count only events.
pub(crate) const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Names the oldest supported SDK (Python 0.97) takes; it drops frames of any other name but
/// `message`. Newer SDKs take every name.
const NAMED: [&str; 20] = [
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.tool_result",
    "agent.mcp_tool_use",
    "agent.mcp_tool_result",
    "agent.custom_tool_use",
    "agent.thread_context_compacted",
    "session.status_running",
    "session.status_idle",
    "session.status_rescheduled",
    "session.status_terminated",
    "session.error",
    "session.deleted",
    "span.model_request_start",
    "span.model_request_end",
];

/// The name a session event's frame gets: its type where every client takes that, else `message`
/// (contract 40, "SSE").
pub(crate) fn event_name(kind: &str) -> &str {
    if NAMED.contains(&kind) {
        kind
    } else {
        "message"
    }
}

/// One frame. `data` is JSON; a line break in it can only be white space between tokens, since
/// JSON escapes those in strings, and becomes a space so that the frame stays one `data` line.
pub(crate) fn frame(name: &str, data: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(name.len() + data.len() + 18);
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    if data.bytes().any(|b| b == b'\n' || b == b'\r') {
        out.extend(
            data.bytes()
                .map(|b| if b == b'\n' || b == b'\r' { b' ' } else { b }),
        );
    } else {
        out.put_slice(data.as_bytes());
    }
    out.put_slice(b"\n\n");
    out.freeze()
}

/// 200 with an event stream. The headers go out at once, before the first frame.
pub(crate) fn response<S>(frames: S) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    use futures_util::StreamExt;
    let body = Body::from_stream(frames.map(Ok::<_, std::convert::Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    // Asks reverse proxies not to buffer.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_data_line_whatever_the_layout() {
        let bytes = frame("message", "{\n  \"a\": \"b\\n\"\r\n}");
        assert_eq!(bytes, "event: message\ndata: {   \"a\": \"b\\n\"  }\n\n");
    }

    #[test]
    fn names_old_clients_drop_become_message() {
        assert_eq!(event_name("agent.message"), "agent.message");
        assert_eq!(
            event_name("span.model_request_end"),
            "span.model_request_end"
        );
        for newer in [
            "session.usage",
            "session.updated",
            "user.tool_result",
            "event_start",
        ] {
            assert_eq!(event_name(newer), "message");
        }
    }
}
