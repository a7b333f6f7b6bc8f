//! Windows and limits of the HTTP/2 connection. A stream whose reader stops holds up to its own
//! window; all of them together must not hold the connection's, or they stop everybody's.

use std::time::Duration;

/// Bytes one stream may have under way.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// Streams at a time.
pub(crate) const MAX_STREAMS: u32 = 256;
/// Bytes all streams may have under way.
pub(crate) const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// Bytes kept for one stream that cannot be sent yet.
pub(crate) const SEND_BUFFER: usize = 256 << 10;
/// Largest frame.
pub(crate) const FRAME: u32 = 16 << 10;
/// Largest head of a stream.
pub(crate) const HEADERS: u32 = 16 << 10;
/// Between two pings, and the longest wait for the answer to one.
pub(crate) const PING: Duration = Duration::from_secs(10);

const _: () = assert!(STREAM_WINDOW as u64 * MAX_STREAMS as u64 <= CONNECTION_WINDOW as u64);
