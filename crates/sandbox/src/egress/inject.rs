//! Putting secrets in place of placeholders.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use freehold_base::Secret;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use hyper::body::{Body, Frame, SizeHint};

use crate::{Injection, Network};

/// Placeholders and values that concern one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Swap(Vec<(Bytes, Secret<String>)>);

/// The value has bytes that no header may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit;

/// What is to be swapped in a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Swaps {
    pub headers: Swap,
    pub body: Swap,
}

impl Swaps {
    /// What concerns requests to `port` of `host`.
    pub(super) fn of(network: &Network, host: &str, port: u16) -> Self {
        let pick = |place: fn(&Injection) -> bool| {
            let fit = network
                .injections
                .iter()
                .filter(|i| i.concerns(host, port) && place(i));
            Swap(
                fit.map(|i| (i.placeholder.clone().into(), i.value.clone()))
                    .collect(),
            )
        };
        Self {
            headers: pick(|i| i.header),
            body: pick(|i| i.body),
        }
    }
}

impl Swap {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Swaps in header values. `Host` stays: it was compared with the host the secret is for.
    pub(super) fn in_headers(&self, headers: &mut HeaderMap) -> Result<(), Unfit> {
        if self.is_empty() {
            return Ok(());
        }
        for (name, value) in headers.iter_mut().filter(|(name, _)| *name != HOST) {
            let in_basic = (name == AUTHORIZATION || name == PROXY_AUTHORIZATION)
                .then(|| self.in_basic(value.as_bytes()))
                .flatten();
            if let Some(swapped) = in_basic.or_else(|| self.whole(value.as_bytes())) {
                *value = HeaderValue::from_bytes(&swapped).map_err(|_| Unfit)?;
                value.set_sensitive(true);
            }
        }
        Ok(())
    }

    /// User and password of the `Basic` scheme.
    fn in_basic(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (scheme, coded) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let plain = STANDARD.decode(coded.trim_ascii()).ok()?;
        let swapped = self.whole(&plain)?;
        Some([b"Basic ".as_slice(), STANDARD.encode(swapped).as_bytes()].concat())
    }

    /// Swaps in all of `bytes`; `None` if there is nothing to swap.
    pub(super) fn whole(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let scan = self.scan(bytes, true);
        scan.found.then_some(scan.out)
    }

    /// Goes through `bytes` once from the left. Unless they are the last, it stops where a
    /// placeholder may have begun.
    fn scan(&self, bytes: &[u8], last: bool) -> Scan {
        let mut out = Vec::with_capacity(bytes.len());
        let (mut found, mut copied, mut at) = (false, 0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Some((placeholder, value)) = self.0.iter().find(|(p, _)| rest.starts_with(p)) {
                out.extend_from_slice(&bytes[copied..at]);
                out.extend_from_slice(value.expose().as_bytes());
                found = true;
                at += placeholder.len();
                copied = at;
            } else if !last && self.0.iter().any(|(p, _)| p.starts_with(rest)) {
                break;
            } else {
                at += 1;
            }
        }
        out.extend_from_slice(&bytes[copied..at]);
        Scan {
            out,
            found,
            read: at,
        }
    }
}

struct Scan {
    out: Vec<u8>,
    found: bool,
    /// Bytes gone through.
    read: usize,
}

/// A body with its placeholders swapped as it passes. Its length is not known beforehand.
pub(super) struct Swapped<B> {
    inner: B,
    swap: Swap,
    /// What may be the beginning of a placeholder.
    held: BytesMut,
    ended: bool,
}

impl<B> Swapped<B> {
    pub(super) fn new(inner: B, swap: Swap) -> Self {
        Self {
            inner,
            swap,
            held: BytesMut::new(),
            ended: false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Swapped<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        while !this.ended {
            let data = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Trailers come last and are dropped: they are headers nobody has looked at.
                Some(Ok(frame)) => frame.into_data().ok(),
                None => None,
            };
            match data {
                Some(data) => this.held.extend_from_slice(&data),
                None => this.ended = true,
            }
            let scan = this.swap.scan(&this.held, this.ended);
            this.held.advance(scan.read);
            if !scan.out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(scan.out.into()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.held.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    fn swap() -> Swap {
        let pair = |p: &str, v: &str| (Bytes::from(p.to_owned()), Secret::new(v.to_owned()));
        Swap(vec![
            pair("fhsec_aaa1", "S3CRET"),
            pair("fhsec_bbb2", "other"),
            pair("xyzxyzxyx", "-"),
        ])
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn header_values_and_basic_credentials() {
        for (name, sent, goes) in [
            ("authorization", "Bearer fhsec_aaa1", "Bearer S3CRET"),
            ("x-key", "fhsec_aaa1fhsec_bbb2", "S3CRETother"),
            ("x-key", "fhsec_aaa", "fhsec_aaa"),
            // "u:fhsec_aaa1", then "u:S3CRET".
            (
                "authorization",
                "Basic dTpmaHNlY19hYWEx",
                "Basic dTpTM0NSRVQ=",
            ),
            ("authorization", "basic !!", "basic !!"),
            ("host", "fhsec_aaa1", "fhsec_aaa1"),
        ] {
            let mut headers = headers(name, sent);
            swap().in_headers(&mut headers).unwrap();
            assert_eq!(headers[name].to_str().unwrap(), goes);
        }
    }

    #[test]
    fn a_value_that_would_break_the_header_is_refused() {
        let bad = Swap(vec![(
            "fhsec_aaa1".into(),
            Secret::new("a\r\nX: 1".to_owned()),
        )]);
        assert_eq!(bad.in_headers(&mut headers("x", "fhsec_aaa1")), Err(Unfit));
    }

    proptest! {
        /// However a body is cut, the same goes out.
        #[test]
        fn cuts_do_not_matter(
            parts in proptest::collection::vec("(fhsec_aaa1|fhsec_bbb2|xyzxyzxyx|xyz|fhsec_|a|b){0,3}", 0..6),
            cuts in proptest::collection::vec(1usize..8, 0..40),
        ) {
            let text = parts.concat();
            let mut chunks = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (chunk, more) = rest.split_at(cut.min(rest.len()));
                chunks.push(Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(chunk))));
                rest = more;
            }
            chunks.push(Ok(Frame::data(Bytes::copy_from_slice(rest))));
            let body = StreamBody::new(futures(chunks));
            let got = tokio::runtime::Builder::new_current_thread().build().unwrap()
                .block_on(Swapped::new(body, swap()).collect()).unwrap().to_bytes();
            let want = text.replace("fhsec_aaa1", "S3CRET").replace("fhsec_bbb2", "other").replace("xyzxyzxyx", "-");
            prop_assert_eq!(got, want.as_bytes());
        }
    }

    fn futures<T: Unpin>(items: Vec<T>) -> impl futures_util::Stream<Item = T> + Unpin {
        futures_util::stream::iter(items)
    }
}
