//! Gathers the tool calls of a Chat Completions stream.
//!
//! Servers differ: some send a call's name and arguments in many pieces under one index, some a
//! whole call at once, some the same index for every call, some neither index nor id.

use serde::Deserialize;
use serde_json::Value;

/// Calls of one answer.
pub(super) const MAX_CALLS: usize = 256;
/// Bytes of the arguments of all calls of one answer.
pub(super) const MAX_ARGUMENTS: usize = 16 * 1024 * 1024;

/// A piece of a call, as sent.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Piece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<PieceOfFunction>,
}

#[derive(Debug, Default, Deserialize)]
struct PieceOfFunction {
    name: Option<String>,
    /// A string by the book; an object from some servers.
    arguments: Option<Value>,
}

/// A call while its pieces arrive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    index: Option<u64>,
    /// Upstream's id; empty when it gave none.
    pub(super) id: String,
    pub(super) name: String,
    arguments: String,
}

/// More calls or arguments than the bounds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

/// The calls so far.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    calls: Vec<Call>,
    bytes: usize,
}

impl ToolCalls {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Calls in the order they began.
    pub(super) fn into_calls(self) -> Vec<Call> {
        self.calls
    }

    /// Takes a piece.
    pub(super) fn add(&mut self, piece: Piece) -> Result<(), TooMuch> {
        let function = piece.function.unwrap_or_default();
        let id = piece.id.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let arguments = match function.arguments {
            Some(Value::String(text)) => text,
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        self.bytes += arguments.len() + name.len() + id.len();
        let place = self.continued(piece.index, &id, &name);
        if MAX_ARGUMENTS < self.bytes || (place.is_none() && MAX_CALLS == self.calls.len()) {
            return Err(TooMuch);
        }
        match place {
            None => self.calls.push(Call {
                index: piece.index,
                id,
                name,
                arguments,
            }),
            Some(place) => {
                let call = &mut self.calls[place];
                if call.id.is_empty() {
                    call.id = id;
                }
                // Names come whole; a repeated one adds nothing.
                if call.name.is_empty() {
                    call.name = name;
                }
                call.arguments.push_str(&arguments);
            }
        }
        Ok(())
    }

    /// The call a piece belongs to: the newest of its index, or the newest of all where there is
    /// no index, unless the piece begins another call. It does when it brings another id, or,
    /// having no id, a name after arguments that are already complete.
    fn continued(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let place = self
            .calls
            .iter()
            .rposition(|call| index.is_none() || call.index == index)?;
        let call = &self.calls[place];
        let other_id = !id.is_empty() && !call.id.is_empty() && id != call.id;
        let named_again = id.is_empty() && !name.is_empty() && call.is_complete();
        (!other_id && !named_again).then_some(place)
    }
}

impl Call {
    fn is_complete(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    /// The arguments as the text of a JSON object, where they can be read as one: nothing means
    /// none, and an object that was encoded twice is taken out of its string. Anything else stays
    /// as it is and will be refused by whoever reads the call.
    pub(super) fn input(&self) -> String {
        let text = self.arguments.trim();
        if text.is_empty() || text == "null" {
            return "{}".to_owned();
        }
        if let Ok(inner) = serde_json::from_str::<String>(text)
            && inner.trim_start().starts_with('{')
        {
            return inner;
        }
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gather(pieces: Value) -> Vec<(String, String, String)> {
        let pieces: Vec<Piece> = serde_json::from_value(pieces).unwrap();
        let mut calls = ToolCalls::default();
        for piece in pieces {
            calls.add(piece).unwrap();
        }
        let row = |c: Call| (c.id.clone(), c.name.clone(), c.input());
        calls.into_calls().into_iter().map(row).collect()
    }

    fn row(id: &str, name: &str, input: &str) -> (String, String, String) {
        (id.into(), name.into(), input.into())
    }

    #[test]
    fn by_the_book_and_interleaved() {
        let got = gather(json!([
            {"index":0,"id":"a","type":"function","function":{"name":"bash","arguments":""}},
            {"index":0,"function":{"arguments":"{\"x\":"}},
            {"index":1,"id":"b","function":{"name":"read","arguments":"{"}},
            {"index":0,"function":{"arguments":"1}"}},
            {"index":1,"function":{"arguments":"}"}},
        ]));
        assert_eq!(got, [row("a", "bash", "{\"x\":1}"), row("b", "read", "{}")]);
    }

    #[test]
    fn whole_calls_under_one_index() {
        let got = gather(json!([
            {"index":0,"id":"a","function":{"name":"bash","arguments":"{\"x\":1}"}},
            {"index":0,"id":"b","function":{"name":"bash","arguments":"{\"x\":2}"}},
        ]));
        assert_eq!(
            got,
            [row("a", "bash", "{\"x\":1}"), row("b", "bash", "{\"x\":2}")]
        );
    }

    #[test]
    fn neither_index_nor_id() {
        let got = gather(json!([
            {"function":{"name":"bash","arguments":{"x":1}}},
            {"function":{"name":"bash","arguments":"{\"x\":"}},
            {"function":{"arguments":"2}"}},
            {"function":{"name":"now"}},
        ]));
        assert_eq!(
            got,
            [
                row("", "bash", "{\"x\":1}"),
                row("", "bash", "{\"x\":2}"),
                row("", "now", "{}")
            ]
        );
    }

    #[test]
    fn a_name_and_id_repeated_in_every_piece() {
        let got = gather(json!([
            {"index":0,"id":"a","function":{"name":"bash","arguments":"{\"x\""}},
            {"index":0,"id":"a","function":{"name":"bash","arguments":":1}"}},
        ]));
        assert_eq!(got, [row("a", "bash", "{\"x\":1}")]);
    }

    #[test]
    fn arguments_encoded_twice() {
        let got =
            gather(json!([{"index":0,"function":{"name":"t","arguments":"\"{\\\"x\\\":1}\""}}]));
        assert_eq!(got, [row("", "t", "{\"x\":1}")]);
    }

    #[test]
    fn bounded() {
        let mut calls = ToolCalls::default();
        let piece = |i: u64| Piece {
            index: Some(i),
            ..Piece::default()
        };
        for i in 0..MAX_CALLS as u64 {
            assert_eq!(calls.add(piece(i)), Ok(()));
        }
        assert_eq!(calls.add(piece(9_999)), Err(TooMuch));
    }
}
