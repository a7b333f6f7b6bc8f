//! A decoder for server-sent events, fed in chunks of any size.
//!
//! Follows the WHATWG rules: lines end with LF, CRLF or CR; one leading byte order mark is
//! skipped; an event ends at a blank line; an event without data, or one the stream ends inside,
//! is dropped. Beyond them: bounded sizes, and invalid UTF-8 is an error instead of a replacement
//! character, because content must pass byte-exactly.

use std::collections::VecDeque;

/// Default bound of one event's data, and of one line: 16 MiB.
pub const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The `event:` field; empty when there was none.
    pub event: String,
    /// The `data:` lines, joined with LF.
    pub data: String,
}

/// The stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line or an event above the decoder's bound.
    #[error("an event above {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// A line was not UTF-8.
    #[error("an event that is not UTF-8")]
    NotUtf8,
}

/// The decoder. After an error it gives no more events.
#[derive(Debug)]
pub struct Decoder {
    max: usize,
    line: Vec<u8>,
    event: String,
    data: String,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    first_line: bool,
    failed: Option<SseError>,
    ready: VecDeque<Frame>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_EVENT_BYTES)
    }
}

impl Decoder {
    /// A decoder that accepts lines and events up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            event: String::new(),
            data: String::new(),
            has_data: false,
            after_cr: false,
            first_line: true,
            failed: None,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the stream. Events complete before an error can still be read
    /// with [`Decoder::next_frame`]; they number at most half the bytes of one chunk.
    ///
    /// # Errors
    /// [`SseError`]; the same one again at every later call.
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<(), SseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = loop {
            if chunk.is_empty() {
                return Ok(());
            }
            if std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.max < self.line.len() + part.len() {
                break Err(SseError::TooLarge { max: self.max });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else {
                return Ok(());
            };
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            let line = std::mem::take(&mut self.line);
            if let Err(error) = self.take_line(&line) {
                break Err(error);
            }
        };
        self.failed = result.err();
        result
    }

    /// The next complete event.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), SseError> {
        let mut line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.max < self.data.len() + value.len() + 1 {
                    return Err(SseError::TooLarge { max: self.max });
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments (an empty field name), `id`, `retry` and unknown fields.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) && !data.is_empty() {
            self.ready.push_back(Frame { event, data });
        }
    }
}

#[cfg(test)]
mod tests;
