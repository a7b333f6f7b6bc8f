//! What a client begins a connection with: TLS, HTTP, or something with no host name in it.
//!
//! Only the first two can ask one server for another host's content, so only they are looked into.
//! The question is what a server might take the bytes for, so HTTP is recognised generously here
//! and then parsed strictly.

use super::hello::{self, Hello, Seen};

/// Bytes looked at before it must be clear.
pub(super) const MAX_OPENING: usize = 64 * 1024;

/// Longest method of a request, bytes; no server knows one half as long.
const MAX_METHOD: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opening {
    /// More bytes are needed.
    Unfinished,
    Tls(Hello),
    Http,
    /// A protocol without virtual hosts: ssh, databases, mail.
    Other,
    /// Looks like TLS or HTTP and is neither.
    Broken,
}

/// Judges the first bytes.
pub(super) fn judge(bytes: &[u8]) -> Opening {
    if bytes.first() == Some(&22) {
        return match hello::read(bytes) {
            Seen::Whole(hello) => Opening::Tls(hello),
            Seen::Part if bytes.len() < MAX_OPENING => Opening::Unfinished,
            Seen::Part | Seen::Broken => Opening::Broken,
        };
    }
    // Servers skip blank lines before a request.
    let start = bytes
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n' | b' ' | b'\t'));
    let Some(line) = start.map(|at| &bytes[at..]) else {
        return unfinished(bytes);
    };
    let method = line.iter().take_while(|b| is_token(**b)).count();
    match line.get(method) {
        Some(b' ' | b'\t') if method > 0 => {}
        None if method <= MAX_METHOD => return unfinished(bytes),
        None | Some(_) => return Opening::Other,
    }
    let rest = &line[method..];
    let end = rest.iter().position(|b| *b == b'\n');
    let text = &rest[..end.unwrap_or(rest.len())];
    if text
        .iter()
        .any(|b| *b < b' ' && !matches!(b, b'\t' | b'\r'))
    {
        return Opening::Other;
    }
    match end {
        None => unfinished(bytes),
        Some(_) if names_http(text) => Opening::Http,
        Some(_) => Opening::Other,
    }
}

fn unfinished(bytes: &[u8]) -> Opening {
    if bytes.len() < MAX_OPENING {
        Opening::Unfinished
    } else {
        Opening::Broken
    }
}

fn names_http(text: &[u8]) -> bool {
    text.windows(5).any(|w| w.eq_ignore_ascii_case(b"HTTP/"))
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn http_however_dressed() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "\r\n\r\n GET / HTTP/1.1\n",
            "get\t/\thttp/1.0\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "G-E_T /\u{e4} HTTP/9.9 x\r\n",
        ] {
            assert_eq!(judge(text.as_bytes()), Opening::Http, "{text}");
        }
    }

    #[test]
    fn other_protocols_are_recognised_at_once() {
        for bytes in [
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n".as_slice(),
            b"SSH-2.0-Go\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"*1\r\n$4\r\nPING\r\n",
            b"EHLO sandbox\r\n",
            b"get key\r\n",
            b"0035git-upload-pack /x\0host=a\0",
            b"AMQP\0\0\x09\x01",
            b"\x80",
            &[b'x'; 65],
        ] {
            assert_eq!(judge(bytes), Opening::Other, "{bytes:?}");
        }
    }

    #[test]
    fn a_beginning_is_waited_on_but_not_for_ever() {
        for text in [
            "",
            "G",
            "GET",
            "GET /",
            "\r\n",
            "SSH-2.0-x",
            "\x16",
            "\x16\x03\x01",
        ] {
            assert_eq!(judge(text.as_bytes()), Opening::Unfinished, "{text}");
        }
        let long = format!("GET /{}", "a".repeat(MAX_OPENING));
        assert_eq!(judge(long.as_bytes()), Opening::Broken);
        assert_eq!(judge(&vec![b'\n'; MAX_OPENING]), Opening::Broken);
        assert_eq!(judge(b"\x16\x03\x01\x00\x00"), Opening::Broken);
    }

    proptest! {
        #[test]
        fn what_has_a_request_line_is_never_other(
            blank in "[\r\n ]{0,4}", method in "[A-Z]{1,9}", path in "/[!-~]{0,30}", rest in any::<Vec<u8>>(),
        ) {
            let mut bytes = format!("{blank}{method} {path} HTTP/1.1\r\n").into_bytes();
            bytes.extend(rest);
            prop_assert_eq!(judge(&bytes), Opening::Http);
        }
        #[test]
        fn no_bytes_upset_it(bytes in any::<Vec<u8>>()) {
            judge(&bytes);
        }
    }
}
