//! Just enough of DNS messages (RFC 1035) to answer one question without asking anybody. Written
//! out because the only thing read is the question, and it is read strictly.

use std::net::Ipv4Addr;

use crate::network::normalize_host;

/// Longest query over UDP or TCP that is looked at, bytes; real ones are a tenth of it.
pub(super) const MAX_QUERY: usize = 1_232;
/// How long an answer may be kept, seconds.
const TTL: u32 = 60;
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// A query that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    id: [u8; 2],
    recursion_desired: bool,
    /// The question as it came, to be given back.
    section: &'a [u8],
    /// The name in its normal form; `None` if no host can have it.
    pub name: Option<String>,
    /// Whether an IPv4 address is asked for.
    pub wants_address: bool,
}

/// What a query is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoQuestion {
    /// Nothing to be answered at all.
    Garbage,
    /// To be answered with this code and nothing else.
    Refused { id: [u8; 2], code: u8 },
}

/// What a question comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name has this address.
    Address(Ipv4Addr),
    /// The name exists, but not with what was asked for.
    Nothing,
    /// There is no such name.
    NoName,
}

const FORMAT_ERROR: u8 = 1;
const NO_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

impl<'a> Question<'a> {
    /// Reads a query: one question, whose name is whole (a question's name has nothing to point
    /// back to, so compression is refused). What follows the question is not looked at.
    pub(super) fn read(query: &'a [u8]) -> Result<Self, NoQuestion> {
        let (Some(header), true) = (query.get(..HEADER), query.len() <= MAX_QUERY) else {
            return Err(NoQuestion::Garbage);
        };
        let id = [header[0], header[1]];
        let refused = |code| Err(NoQuestion::Refused { id, code });
        if header[2] & 0x80 != 0 {
            // A response: answering could start a loop.
            return Err(NoQuestion::Garbage);
        }
        if header[2] & 0x78 != 0 {
            return refused(NOT_IMPLEMENTED);
        }
        if header[4..6] != [0, 1] {
            return refused(FORMAT_ERROR);
        }
        let Some((text, end)) = read_name(query) else {
            return refused(FORMAT_ERROR);
        };
        let Some(&[t0, t1, c0, c1]) = query.get(end..end + 4) else {
            return refused(FORMAT_ERROR);
        };
        Ok(Self {
            id,
            recursion_desired: header[2] & 1 != 0,
            section: &query[HEADER..end + 4],
            name: text.and_then(|text| normalize_host(&text)),
            wants_address: u16::from_be_bytes([t0, t1]) == TYPE_A
                && u16::from_be_bytes([c0, c1]) == CLASS_IN,
        })
    }

    /// The response that says `answer`.
    pub(super) fn respond(&self, answer: Answer) -> Vec<u8> {
        let code = if answer == Answer::NoName { NO_NAME } else { 0 };
        let mut response = header(self.id, code, self.recursion_desired);
        response[5] = 1;
        response.extend(self.section);
        if let Answer::Address(address) = answer {
            response[7] = 1;
            // The name: a pointer to the question's.
            response.extend([0xc0, HEADER as u8]);
            response.extend(TYPE_A.to_be_bytes());
            response.extend(CLASS_IN.to_be_bytes());
            response.extend(TTL.to_be_bytes());
            response.extend([0, 4]);
            response.extend(address.octets());
        }
        response
    }
}

impl NoQuestion {
    /// The response, if there is to be one.
    pub(super) fn respond(&self) -> Option<Vec<u8>> {
        match self {
            Self::Garbage => None,
            Self::Refused { id, code } => Some(header(*id, *code, false)),
        }
    }
}

fn header(id: [u8; 2], code: u8, recursion_desired: bool) -> Vec<u8> {
    const RESPONSE: u8 = 0x80;
    const RECURSION_AVAILABLE: u8 = 0x80;
    let flags = [
        RESPONSE | u8::from(recursion_desired),
        RECURSION_AVAILABLE | code,
    ];
    let mut header = vec![id[0], id[1], flags[0], flags[1]];
    header.resize(HEADER, 0);
    header
}

/// The name, if it is text, and where it ends; `None` if there is no whole name.
fn read_name(query: &[u8]) -> Option<(Option<String>, usize)> {
    let mut name = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // Also refuses compression, whose two top bits are set.
        if length > 63 || name.len() + length > 254 {
            return None;
        }
        let label = query.get(at..at + length)?;
        if !name.is_empty() {
            name.push(b'.');
        }
        // A dot inside a label is no separator, and no host name.
        name.extend(label.iter().map(|b| if *b == b'.' { b'?' } else { *b }));
        at += length;
    }
    Some((String::from_utf8(name).ok(), at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(labels: &[&[u8]], kind: u16) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            query.push(label.len() as u8);
            query.extend(*label);
        }
        query.push(0);
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    #[test]
    fn an_address_is_answered_with_the_question() {
        let asked = query(&[b"API", b"example", b"com"], 1);
        let question = Question::read(&asked).unwrap();
        assert_eq!(question.name.as_deref(), Some("api.example.com"));
        assert!(question.wants_address);
        let said = question.respond(Answer::Address(Ipv4Addr::new(198, 18, 0, 2)));
        assert_eq!(said[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(said[12..asked.len()], asked[12..], "the case is kept");
        assert_eq!(
            said[asked.len()..],
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 0, 2]
        );
        assert_eq!(question.respond(Answer::NoName)[3], 0x83);
        assert_eq!(question.respond(Answer::Nothing)[3], 0x80);
    }

    #[test]
    fn other_types_want_no_address() {
        for kind in [2, 5, 15, 16, 28, 33, 65, 255] {
            let asked = query(&[b"a", b"test"], kind);
            assert!(!Question::read(&asked).unwrap().wants_address, "{kind}");
        }
    }

    #[test]
    fn what_is_no_host_name_has_none() {
        for labels in [
            &[b"a.b".as_slice()][..],
            &[b"a b"],
            &[b"\xff"],
            &[b"-a"],
            &[],
        ] {
            let asked = query(labels, 1);
            assert_eq!(Question::read(&asked).unwrap().name, None, "{labels:?}");
        }
    }

    #[test]
    fn the_hostile_is_refused_or_ignored() {
        let refused = |q: &[u8], code| {
            let no = Question::read(q).unwrap_err();
            assert_eq!(no, NoQuestion::Refused { id: [7, 9], code }, "{q:?}");
            assert_eq!(no.respond().unwrap()[3] & 0x0f, code);
        };
        let good = query(&[b"a"], 1);
        for cut in 12..good.len() {
            refused(&good[..cut], FORMAT_ERROR);
        }
        let mut two = good.clone();
        two[5] = 2;
        refused(&two, FORMAT_ERROR);
        let mut update = good.clone();
        update[2] = 0x28;
        refused(&update, NOT_IMPLEMENTED);
        // A name that points at itself.
        let mut looped = good[..12].to_vec();
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        refused(&looped, FORMAT_ERROR);
        let long = [b'a'; 63];
        refused(
            &query(&[&long, &long, &long, &long, &long], 1),
            FORMAT_ERROR,
        );
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(Question::read(&response), Err(NoQuestion::Garbage));
        assert_eq!(Question::read(&[0; 4_000]), Err(NoQuestion::Garbage));
        assert_eq!(Question::read(&[]), Err(NoQuestion::Garbage));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(question) = Question::read(&bytes) {
                let said = question.respond(Answer::Nothing);
                prop_assert!(said.len() <= bytes.len());
            }
        }
    }
}
