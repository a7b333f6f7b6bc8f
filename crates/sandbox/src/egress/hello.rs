//! The name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), read strictly: what two parsers
//! could understand differently is refused.

use crate::network::normalize_host;

/// Longest ClientHello, bytes. Real ones stay below 4 KiB, post-quantum key shares included.
const MAX_HELLO: usize = 16 * 1024;
/// Record and handshake types.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Extensions.
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Older drafts of it; no client sends these any more but to hide something.
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// What a ClientHello says of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    /// The host asked for, in its normal form.
    pub name: Option<String>,
    /// Whether another name may be hidden in it.
    pub encrypted: bool,
}

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The beginning of a ClientHello.
    Part,
    /// A whole one.
    Whole(Hello),
    /// None, or none that is understood.
    Broken,
}

/// Looks at the first bytes a client sent, which begin with the byte of a handshake record.
pub(super) fn read(bytes: &[u8]) -> Seen {
    let mut hello = Vec::new();
    let mut records = Reader(bytes);
    loop {
        if let Some(whole) = whole_message(&hello) {
            return match whole.and_then(client_hello) {
                Some(hello) => Seen::Whole(hello),
                None => Seen::Broken,
            };
        }
        let Some(kind) = records.u8() else {
            return Seen::Part;
        };
        if kind != HANDSHAKE || hello.len() > MAX_HELLO {
            return Seen::Broken;
        }
        let Some(version) = records.take(2) else {
            return Seen::Part;
        };
        let Some(length) = records.u16() else {
            return Seen::Part;
        };
        // Every version of TLS; an empty or too long record is nobody's.
        if version[0] != 3 || !(1..=1 << 14).contains(&length) {
            return Seen::Broken;
        }
        let Some(fragment) = records.take(length.into()) else {
            return Seen::Part;
        };
        hello.extend_from_slice(fragment);
    }
}

/// The body of the handshake message that `bytes` begin with, once it is whole. `Some(None)` if it
/// is not to be had: of another kind, too long, or followed by something else.
fn whole_message(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let header = bytes.get(..4)?;
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if header[0] != CLIENT_HELLO || length > MAX_HELLO || bytes.len() > 4 + length {
        return Some(None);
    }
    bytes.get(4..4 + length).map(Some)
}

fn client_hello(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    let _version_and_random = body.take(2 + 32)?;
    let _session = body.vector8()?;
    let _suites = body.vector16()?;
    let _compressions = body.vector8()?;
    let mut hello = Hello {
        name: None,
        encrypted: false,
    };
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vector16()?);
    if !body.0.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.name = Some(server_name(data)?),
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => hello.encrypted = true,
            _ => {}
        }
    }
    Some(hello)
}

/// The only entry of the list, which must be a host name.
fn server_name(data: &[u8]) -> Option<String> {
    let mut data = Reader(data);
    let mut list = Reader(data.vector16()?);
    let kind = list.u8()?;
    let name = list.vector16()?;
    if kind != 0 || !list.0.is_empty() || !data.0.is_empty() {
        return None;
    }
    normalize_host(std::str::from_utf8(name).ok()?)
}

/// Takes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }
    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;

    /// What rustls sends.
    fn sent(name: &str) -> Vec<u8> {
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of `size` bytes.
    fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
        let cut = |fragment: &[u8]| {
            let length = (fragment.len() as u16).to_be_bytes();
            [&[22, 3, 1, length[0], length[1]], fragment].concat()
        };
        bytes[5..].chunks(size).flat_map(cut).collect()
    }

    /// A hello with these extensions.
    fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, data) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend((data.len() as u16).to_be_bytes());
            list.extend(data);
        }
        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        let mut message = vec![0; 5];
        message.push(1);
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        let length = message.len() - 5;
        in_records(&message, length)
    }

    fn sni(name: &str) -> Vec<u8> {
        let length = name.len() as u16;
        let mut data = (length + 3).to_be_bytes().to_vec();
        data.push(0);
        data.extend(length.to_be_bytes());
        data.extend(name.as_bytes());
        data
    }

    fn whole(name: Option<&str>, encrypted: bool) -> Seen {
        Seen::Whole(Hello {
            name: name.map(str::to_owned),
            encrypted,
        })
    }

    #[test]
    fn a_real_hello_in_any_cut() {
        let bytes = sent("Api.Example.com");
        assert_eq!(read(&bytes), whole(Some("api.example.com"), false));
        for size in [1, 3, 100] {
            assert_eq!(
                read(&in_records(&bytes, size)),
                whole(Some("api.example.com"), false)
            );
        }
        for cut in 1..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Seen::Part, "{cut}");
        }
        assert_eq!(read(&sent("127.0.0.1")), whole(None, false));
    }

    #[test]
    fn what_hides_a_name_is_seen() {
        let both = [(0, sni("a.test")), (0xfe0d, vec![0; 40])];
        assert_eq!(read(&made(&both)), whole(Some("a.test"), true));
        assert_eq!(read(&made(&[])), whole(None, false));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let twice = [(0, sni("a.test")), (0, sni("b.test"))];
        let mut two_names = sni("a.test");
        two_names.extend(&sni("b.test")[2..]);
        let length = (two_names.len() - 2) as u16;
        two_names[..2].copy_from_slice(&length.to_be_bytes());
        let mut trailing = sni("a.test");
        trailing.push(0);
        for bad in [
            made(&twice),
            made(&[(0, two_names)]),
            made(&[(0, trailing)]),
            made(&[(0, sni("a test"))]),
            made(&[(0, vec![])]),
            vec![22, 3, 1, 0, 0],
            vec![22, 2, 0, 0, 5],
            vec![22, 3, 1, 0, 4, 2, 0, 0, 0],
            vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            [made(&[]).as_slice(), &[]].concat()[..0].to_vec(),
        ] {
            let seen = read(&bad);
            assert!(seen == Seen::Broken || bad.is_empty(), "{bad:?}: {seen:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
            read(&[&[22, 3, 1], bytes.as_slice()].concat());
        }
    }
}
