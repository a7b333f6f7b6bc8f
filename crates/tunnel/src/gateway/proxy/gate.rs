//! The heads of requests, read strictly before anybody else reads them. What two readers could take
//! for different requests ends here: the HTTP library mends some of it silently, and what it has
//! mended cannot be seen any more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Largest head, bytes.
pub(super) const MAX_HEAD: usize = 32 << 10;
/// Bytes read at a time.
const CHUNK: usize = 16 << 10;
/// What the HTTP library is given in place of a refused head: it is none, and is answered with 400.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// Why a head was refused, once one was.
pub(super) type Reason = Arc<OnceLock<&'static str>>;

/// A stream on which only heads pass that can be read in one way.
pub(super) struct Gate<S> {
    inner: S,
    /// Read and not handed on.
    bytes: BytesMut,
    /// Of those and of what follows, what may pass; after that a head begins.
    open: u64,
    /// Of `bytes`, what is known to hold no end of a head.
    looked: usize,
    /// Nothing more is read.
    over: bool,
    reason: Reason,
}

impl<S> Gate<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            bytes: BytesMut::new(),
            open: 0,
            looked: 0,
            over: false,
            reason: Arc::default(),
        }
    }

    pub(super) fn reason(&self) -> Reason {
        Arc::clone(&self.reason)
    }

    /// Looks for a head at the beginning of what was read.
    fn look(&mut self) {
        let head = match end(&self.bytes, self.looked) {
            Ok(None) if self.bytes.len() >= MAX_HEAD => {
                // As it is: the HTTP library has the answer for it.
                (self.over, self.open) = (true, u64::MAX);
                return;
            }
            Ok(None) => {
                self.looked = self.bytes.len();
                return;
            }
            Ok(Some(end)) => body(&self.bytes[..end]).map(|body| (end, body)),
            Err(why) => Err(why),
        };
        self.looked = 0;
        match head {
            Ok((end, body)) => self.open = body.saturating_add(end as u64),
            Err(why) => {
                let _ = self.reason.set(why);
                self.bytes = BytesMut::from(NO_HEAD);
                (self.over, self.open) = (true, u64::MAX);
            }
        }
    }
}

/// Where the head that `bytes` begin with ends, if it does. The first `looked` were seen before.
fn end(bytes: &[u8], looked: usize) -> Result<Option<usize>, &'static str> {
    for i in looked..bytes.len() {
        let after_cr = i > 0 && bytes[i - 1] == b'\r';
        match bytes[i] {
            b'\n' if !after_cr => return Err("a line ends without CR"),
            b'\n' if i == 1 => return Err("the request line is empty"),
            b'\n' if i >= 3 && bytes[i - 2] == b'\n' => return Ok(Some(i + 1)),
            b'\n' => {}
            _ if after_cr => return Err("a CR within a line"),
            b'\r' | b'\t' => {}
            0..=31 | 127 => return Err("a control character in the head"),
            _ => {}
        }
    }
    Ok(None)
}

/// The length of the body that follows a head; `u64::MAX` if only the body itself tells.
fn body(head: &[u8]) -> Result<u64, &'static str> {
    let mut lines = head.split(|c| *c == b'\n').map(|l| l.trim_ascii_end());
    let mut request = lines.next().unwrap_or_default().split(|c| *c == b' ');
    let words = [request.next(), request.next(), request.next()];
    let [Some(_), Some([_, ..]), Some(b"HTTP/1.1")] = words else {
        return Err("the request line is not that of HTTP/1.1");
    };
    if request.next().is_some() {
        return Err("the request line has too many words");
    }
    let (mut length, mut chunked) = (None, false);
    for line in lines.filter(|l| !l.is_empty()) {
        let colon = line.iter().position(|c| *c == b':');
        let (name, value) = line.split_at(colon.ok_or("a line that is no field")?);
        let token = |c: &u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c);
        // A line that begins with a space would go on with the one before.
        if name.is_empty() || !name.iter().all(token) {
            return Err("a field without a name");
        }
        let value = value[1..].trim_ascii();
        // To some servers both are the same.
        let name = name.to_ascii_lowercase();
        match &*name {
            b"content-length" if length.is_some() => return Err("two lengths of the body"),
            b"content-length" => length = Some(number(value).ok_or("the length is no number")?),
            b"transfer-encoding" if chunked => return Err("two encodings of the body"),
            b"transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => chunked = true,
            b"transfer-encoding" => return Err("an encoding of the body that is not chunked"),
            b"content_length" | b"transfer_encoding" => return Err("a field that hides another"),
            _ => {}
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err("Content-Length and Transfer-Encoding"),
        (None, true) => Ok(u64::MAX),
        (length, false) => Ok(length.unwrap_or(0)),
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = (1..19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok()
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = &mut *self;
        loop {
            if gate.open == 0 && !gate.bytes.is_empty() {
                gate.look();
            }
            let open = usize::try_from(gate.open).unwrap_or(usize::MAX);
            let n = open.min(gate.bytes.len()).min(buf.remaining());
            if n > 0 || gate.over {
                buf.put_slice(&gate.bytes[..n]);
                gate.bytes.advance(n);
                // A body without a known length is the connection's last.
                if gate.open != u64::MAX {
                    gate.open -= n as u64;
                }
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut gate.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            gate.bytes.extend_from_slice(read.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn passed(bytes: &[u8]) -> (Vec<u8>, Option<&'static str>) {
        let mut gate = Gate::new(bytes);
        let reason = gate.reason();
        let mut out = Vec::new();
        gate.read_to_end(&mut out).await.unwrap();
        (out, reason.get().copied())
    }

    #[tokio::test]
    async fn requests_that_can_be_read_in_one_way_pass_one_after_another() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:  3 \r\n\r\nabcGET /2 HTTP/1.1\r\nA:\tb\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\0GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\n\0\r\n0\r\n\r\n",
        ] {
            assert_eq!(passed(text.as_bytes()).await, (text.into(), None));
        }
    }

    #[tokio::test]
    async fn whatever_can_be_read_in_two_ways_does_not_pass() {
        for (fields, why) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", "and"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1", "and"),
            ("Content-Length: 1\r\ncontent-length: 1", "two lengths"),
            ("Content-Length: +1", "no number"),
            ("Content-Length: 1, 1", "no number"),
            ("Content-Length: ", "no number"),
            ("Content-Length: 99999999999999999999", "no number"),
            ("Content-Length : 1", "without a name"),
            ("Content_Length: 1", "hides"),
            ("Transfer-Encoding: gzip, chunked", "not chunked"),
            ("Transfer-Encoding: identity", "not chunked"),
            ("Transfer-Encoding: xchunked", "not chunked"),
            ("Transfer-Encoding: \x0bchunked", "control"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "two enc",
            ),
            (" X: y", "without a name"),
            ("A: b\r\n c", "no field"),
            ("A: b\r\n\tc: d", "without a name"),
            ("A: b\nC: d", "without CR"),
            ("A: b\rC: d", "within a line"),
            ("A: b\r\r\nC: d", "within a line"),
            ("A: b\0c", "control"),
            ("no field", "no field"),
        ] {
            let first = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
            let text = format!("{first}POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            let (out, reason) = passed(text.as_bytes()).await;
            assert_eq!(out, [first.as_bytes(), NO_HEAD].concat(), "{fields}");
            assert!(
                reason.unwrap_or_default().contains(why),
                "{fields}: {reason:?}"
            );
        }
        for line in [
            "\r\nGET / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET /",
            "GET  HTTP/1.1",
            "GET / a HTTP/1.1",
        ] {
            let (out, _) = passed(format!("{line}\r\n\r\n").as_bytes()).await;
            assert_eq!(out, NO_HEAD, "{line}");
        }
    }
}
