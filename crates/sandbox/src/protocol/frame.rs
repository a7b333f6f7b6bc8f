//! Frames: two big-endian 32-bit lengths, a JSON header, a raw body. Lengths are checked before
//! anything is allocated, and memory grows only with what really arrives.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_HEADER;

/// Bytes before the header.
pub(crate) const PREFIX: usize = 8;

/// A frame that cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the control socket failed")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("a frame ends early")]
    Truncated,
    #[error("a frame's header is not understood")]
    Garbage,
}

/// The checked lengths of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub header: usize,
    pub body: usize,
}

impl Prefix {
    pub(crate) const LEN: usize = PREFIX;

    /// Refuses a header above [`MAX_HEADER`] and a body above `max_body`.
    pub(crate) fn parse(bytes: [u8; PREFIX], max_body: usize) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let header = u32::from_be_bytes([a, b, c, d]) as usize;
        let body = u32::from_be_bytes([e, f, g, h]) as usize;
        if header > MAX_HEADER {
            return Err(FrameError::TooLarge(header));
        }
        if body > max_body {
            return Err(FrameError::TooLarge(body));
        }
        Ok(Self { header, body })
    }

    pub(crate) fn header<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
        serde_json::from_slice(bytes).map_err(|_| FrameError::Garbage)
    }
}

/// Prefix and header of a frame whose body is `body_len` bytes.
///
/// # Errors
/// [`FrameError::TooLarge`] for a header above [`MAX_HEADER`] or a body no length can name.
pub(crate) fn encode<T: Serialize>(header: &T, body_len: usize) -> Result<Vec<u8>, FrameError> {
    let header = serde_json::to_vec(header).map_err(|_| FrameError::Garbage)?;
    if header.len() > MAX_HEADER {
        return Err(FrameError::TooLarge(header.len()));
    }
    let body = u32::try_from(body_len).map_err(|_| FrameError::TooLarge(body_len))?;
    let mut out = Vec::with_capacity(PREFIX + header.len());
    out.extend_from_slice(&(header.len() as u32).to_be_bytes());
    out.extend_from_slice(&body.to_be_bytes());
    out.extend_from_slice(&header);
    Ok(out)
}

/// Bodies up to this many bytes go out in one piece with what comes before them.
const SMALL: usize = 16 * 1024;

/// What to write for a frame, in order: one piece if it is small, so that the other side wakes once.
pub(crate) fn pieces(mut head: Vec<u8>, body: &[u8]) -> (Vec<u8>, &[u8]) {
    if body.len() > SMALL {
        return (head, body);
    }
    head.extend_from_slice(body);
    (head, &[])
}

/// Writes a frame of which `head` is what [`encode`] made.
pub(crate) fn write_frame(mut to: impl Write, head: Vec<u8>, body: &[u8]) -> io::Result<()> {
    let (first, second) = pieces(head, body);
    to.write_all(&first)?;
    to.write_all(second)
}

/// Reads one frame; `None` when the stream ends between frames.
pub(crate) fn read_frame<T: DeserializeOwned>(
    mut from: impl Read,
    max_body: usize,
) -> Result<Option<(T, Vec<u8>)>, FrameError> {
    let mut prefix = [0u8; PREFIX];
    let mut have = 0;
    while have < PREFIX {
        match from.read(&mut prefix[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let prefix = Prefix::parse(prefix, max_body)?;
    let header = take(&mut from, prefix.header)?;
    let body = take(&mut from, prefix.body)?;
    Ok(Some((Prefix::header(&header)?, body)))
}

fn take(from: &mut impl Read, len: usize) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::with_capacity(len.min(64 * 1024));
    from.take(len as u64).read_to_end(&mut out)?;
    if out.len() != len {
        return Err(FrameError::Truncated);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Answer, FromAgent};
    use proptest::prelude::*;

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let answer = FromAgent {
            id: 7,
            answer: Answer::Chunk { last: true },
        };
        let mut bytes = encode(&answer, 3).unwrap();
        bytes.extend_from_slice(b"abc");
        let (back, body): (FromAgent, _) = read_frame(&bytes[..], 3).unwrap().unwrap();
        assert_eq!((back.id, body.as_slice()), (7, &b"abc"[..]));
        assert!(matches!(back.answer, Answer::Chunk { last: true }));
        assert!(read_frame::<FromAgent>(&b""[..], 3).unwrap().is_none());
        assert!(matches!(
            read_frame::<FromAgent>(&bytes[..], 2),
            Err(FrameError::TooLarge(3))
        ));
        let cut = &bytes[..bytes.len() - 1];
        assert!(matches!(
            read_frame::<FromAgent>(cut, 3),
            Err(FrameError::Truncated)
        ));
    }

    #[test]
    fn a_length_that_is_a_lie_costs_no_memory() {
        let mut bytes = (MAX_HEADER as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(
            read_frame::<FromAgent>(&bytes[..], 1 << 20),
            Err(FrameError::TooLarge(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_frame::<FromAgent>(&bytes[..], 64);
        }
        #[test]
        fn any_header_is_understood_or_refused(header in ".{0,80}", body in 0usize..20) {
            let mut bytes = (header.len() as u32).to_be_bytes().to_vec();
            bytes.extend_from_slice(&(body as u32).to_be_bytes());
            bytes.extend_from_slice(header.as_bytes());
            bytes.resize(bytes.len() + body, 0);
            let _ = read_frame::<FromAgent>(&bytes[..], 64);
        }
    }
}
