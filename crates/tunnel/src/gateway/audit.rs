//! What is noted of each request: who asked whom for what, how much, how long, and how it ended.

mod calls;
mod watched;

use std::sync::Arc;
use std::time::Instant;

use freehold_base::hex;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use sha2::{Digest, Sha256};

use super::status::Board;
use calls::{Call, Headers, Said};
pub(super) use watched::{Cut, Shared, Watched};
use watched::{Passed, lock};

/// Characters of a name that came from outside.
const MAX_NAME: usize = 128;
/// Calls of a batch that have a record of their own.
const MAX_CALLS: usize = 64;

/// How a request ended that the gateway itself refused or could not forward.
const NOT_FORWARDED: &str = "not_forwarded";

/// One request.
pub(super) struct Record {
    pub(super) request_id: String,
    pub(super) host: String,
    pub(super) method: String,
    /// What was said besides the body.
    pub(super) headers: HeaderMap,
    pub(super) sent: Shared,
    pub(super) received: Shared,
    pub(super) begun: Instant,
    /// Whether arguments are shown; otherwise their hash alone.
    pub(super) arguments: bool,
    /// Where requests are counted.
    pub(super) board: Arc<Board>,
}

/// The headers that a record is made of.
pub(super) fn noted(headers: &HeaderMap) -> HeaderMap {
    let kept = ["mcp-method", "mcp-name", CONTENT_ENCODING.as_str()];
    let kept = kept.iter().flat_map(|name| {
        let name = http::HeaderName::from_static(name);
        let values = headers.get_all(&name).iter();
        values.map(move |value| (name.clone(), value.clone()))
    });
    kept.fold(HeaderMap::new(), |mut all, (name, value)| {
        all.append(name, value);
        all
    })
}

/// Notes a request that was not clear enough to be read.
pub(super) fn unclear(board: &Board, host: &str, why: &str) {
    let outcome = "refused";
    board.ended(NOT_FORWARDED);
    tracing::info!(target: "freehold_audit", host, unparsed = why, status = 400, outcome, "request");
}

impl Record {
    /// Whether the headers contradict the body, as far as it was read; then the id of the body's message,
    /// as JSON.
    pub(super) fn contradicts(&self) -> Option<String> {
        let sent = lock(&self.sent);
        match calls::compare(&self.headers, &self.said(&sent)) {
            Headers::Mismatch => Some(calls::id(&sent.beginning)),
            Headers::None | Headers::Match | Headers::Unchecked => None,
        }
    }

    /// Writes the record. `status` is what was answered; `why` what went wrong here.
    pub(super) fn write(&self, status: u16, why: Option<&str>) {
        let sent = lock(&self.sent);
        let received = lock(&self.received);
        let said = self.said(&sent);
        let (method, call, calls, unparsed) = match &said {
            Said::Nothing => ("", None, 0, None),
            Said::One(call) => (call.method.as_str(), Some(call), 1, None),
            Said::Batch(all) => ("batch", None, all.len(), None),
            Said::Unparsed(why) => ("", None, 0, Some(*why)),
        };
        let outcome = match (why, status) {
            (Some(why), _) => why,
            _ if received.failed || sent.failed => "cut",
            (None, 200..300) if unparsed.is_some() => "unparsed",
            (None, 200..300) => "ok",
            (None, _) => "refused",
        };
        self.board.ended(why.map_or(outcome, |_| NOT_FORWARDED));
        let headers = match calls::compare(&self.headers, &said) {
            Headers::None => None,
            Headers::Match => Some("match"),
            Headers::Mismatch => Some("mismatch"),
            Headers::Unchecked => Some("unchecked"),
        };
        tracing::info!(
            target: "freehold_audit",
            request_id = self.request_id,
            host = self.host,
            http_method = self.method,
            mcp_method = short(method),
            tool = call.map(tool),
            arguments_sha256 = call.and_then(hash),
            arguments = call.and_then(|call| self.shown(call)),
            calls,
            unparsed,
            mcp_headers = headers,
            sent = sent.bytes,
            received = received.bytes,
            millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            status,
            outcome,
            "request"
        );
        let Said::Batch(all) = &said else { return };
        for (index, call) in all.iter().take(MAX_CALLS).enumerate() {
            tracing::info!(
                target: "freehold_audit",
                request_id = self.request_id,
                host = self.host,
                mcp_method = short(&call.method),
                tool = tool(call),
                arguments_sha256 = hash(call),
                arguments = self.shown(call),
                index,
                calls,
                "call"
            );
        }
    }

    fn said(&self, sent: &Passed) -> Said {
        if self.headers.contains_key(CONTENT_ENCODING) {
            Said::Unparsed("it is encoded")
        } else if sent.bytes > sent.beginning.len() as u64 {
            Said::Unparsed("it is too large")
        } else if !sent.whole {
            Said::Unparsed("it is not whole")
        } else {
            calls::read(&sent.beginning)
        }
    }

    fn shown<'a>(&self, call: &'a Call) -> Option<&'a str> {
        call.arguments.as_deref().filter(|_| self.arguments)
    }
}

/// A name as it is, or visibly not as it is.
fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().map(plain).take(MAX_NAME).collect();
    if text.chars().nth(MAX_NAME).is_some() {
        short.push('…');
    }
    short
}

fn tool(call: &Call) -> String {
    short(call.name.as_deref().unwrap_or_default())
}

fn hash(call: &Call) -> Option<String> {
    let arguments = call.arguments.as_deref();
    arguments.map(|a| hex::encode(Sha256::digest(a)))
}
