//! The head of an HTTP/1.1 message at the beginning of a connection, read by nobody but the two ends
//! of this transport: small, strict, and not a byte further than its end.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest head, bytes.
const MAX: usize = 8 << 10;

/// A head: the first line and the fields, names in lower case.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// The only field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(n, _)| n == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }
}

/// Reads one. Byte by byte from a stream that is buffered below: what follows the head belongs to
/// another protocol.
///
/// # Errors
/// It is no head, it is too large, or the stream ended.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Head> {
    let mut bytes = Vec::with_capacity(512);
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() == MAX {
            return Err(invalid("the head is too large"));
        }
        bytes.push(stream.read_u8().await?);
    }
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("the head is not text"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let token = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        let plain = !value.bytes().any(|c| c.is_ascii_control());
        (!name.is_empty() && name.bytes().all(token) && plain)
            .then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let fields = lines.map(field).collect::<Option<_>>();
    let fields = fields.ok_or_else(|| invalid("the head has a line that is no field"))?;
    Ok(Head { first, fields })
}

pub(crate) fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_read_to_its_end_and_no_further() {
        let mut stream = &b"POST / HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\nPRI"[..];
        let head = read(&mut stream).await.unwrap();
        assert_eq!(
            (head.first.as_str(), head.field("x-y")),
            ("POST / HTTP/1.1", Some("z"))
        );
        assert_eq!(stream, b"PRI");
        for bad in [
            &b"GET / HTTP/1.1\r\n folded\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nA b: c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\nc\r\n\r\n",
            b"GET / HTTP/1.1\r\n",
            b"\xff\r\n\r\n",
        ] {
            assert!(read(&mut &*bad).await.is_err(), "{bad:?}");
        }
        let endless = vec![b'a'; 2 * MAX];
        assert!(read(&mut &endless[..]).await.is_err());
        let twice = read(&mut &b"A\r\nx: 1\r\nx: 2\r\n\r\n"[..]).await.unwrap();
        assert_eq!(twice.field("x"), None);
    }
}
