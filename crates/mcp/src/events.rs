//! Server-sent events within limits.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sse_stream::{Sse, SseStream};

use crate::http::HttpError;

/// The events of a body, none of which is larger than `max_event` bytes, nor all together than
/// `max_stream`.
pub(crate) fn events(
    body: Incoming,
    max_event: usize,
    max_stream: usize,
) -> BoxStream<'static, Result<Sse, sse_stream::Error>> {
    let bytes = body
        .into_data_stream()
        .map_err(|e| HttpError::Broken(e.to_string()));
    let mut meter = Meter {
        event: 0,
        total: 0,
        max_event,
        max_stream,
        blank: true,
    };
    let metered = bytes.scan(false, move |failed, chunk| {
        // After a failure nothing more is read.
        if std::mem::replace(failed, true) {
            return std::future::ready(None);
        }
        let chunk = chunk.and_then(|chunk: Bytes| meter.take(&chunk).map(|()| chunk));
        *failed = chunk.is_err();
        std::future::ready(Some(chunk))
    });
    SseStream::from_bytes_stream(metered.boxed()).boxed()
}

struct Meter {
    event: usize,
    total: usize,
    max_event: usize,
    max_stream: usize,
    /// Nothing is on the current line yet.
    blank: bool,
}

impl Meter {
    fn take(&mut self, chunk: &[u8]) -> Result<(), HttpError> {
        self.total = self.total.saturating_add(chunk.len());
        if self.total > self.max_stream {
            return Err(HttpError::TooLarge(self.max_stream));
        }
        for byte in chunk {
            self.event += 1;
            match byte {
                // An empty line ends an event.
                b'\n' if self.blank => self.event = 0,
                b'\n' => self.blank = true,
                b'\r' => {}
                _ => self.blank = false,
            }
            if self.event > self.max_event {
                return Err(HttpError::TooLarge(self.max_event));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter {
            event: 0,
            total: 0,
            max_event: 10,
            max_stream: 40,
            blank: true,
        }
    }

    #[test]
    fn each_event_and_all_together_are_measured() {
        assert_eq!(meter().take(b"data: abcdef"), Err(HttpError::TooLarge(10)));
        let mut many = meter();
        for _ in 0..4 {
            assert_eq!(many.take(b"data: a\r\n\n"), Ok(()));
        }
        assert_eq!(many.take(b":"), Err(HttpError::TooLarge(40)));
    }
}
