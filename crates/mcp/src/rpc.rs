//! JSON-RPC messages: writing ours, reading theirs.

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Parameters of a request, in the order they are set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(&'static str, Box<RawValue>)>);

impl Params {
    /// With `value` as `name`.
    pub(crate) fn with(mut self, name: &'static str, value: &impl Serialize) -> Self {
        let raw = serde_json::value::to_raw_value(value).expect("our parameters are valid JSON");
        self.0.push((name, raw));
        self
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Ours<'a> {
    jsonrpc: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a Params>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl Ours<'_> {
    const EMPTY: Self = Self {
        jsonrpc: "2.0",
        id: None,
        method: None,
        params: None,
        result: None,
        error: None,
    };

    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("our messages are valid JSON")
            .into()
    }
}

pub(crate) fn request(id: u64, method: &str, params: &Params) -> Bytes {
    Ours {
        id: Some(&id.into()),
        method: Some(method),
        params: Some(params),
        ..Ours::EMPTY
    }
    .bytes()
}

pub(crate) fn notification(method: &str, params: Option<&Params>) -> Bytes {
    Ours {
        method: Some(method),
        params,
        ..Ours::EMPTY
    }
    .bytes()
}

pub(crate) fn response(id: &Value, answer: Result<Value, (i64, &str)>) -> Bytes {
    let (result, error) = match answer {
        Ok(result) => (Some(result), None),
        Err((code, message)) => {
            let error = serde_json::json!({"code": code, "message": message});
            (None, Some(error))
        }
    };
    Ours {
        id: Some(id),
        result,
        error,
        ..Ours::EMPTY
    }
    .bytes()
}

/// A JSON-RPC error.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) data: Option<Value>,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Result(Box<RawValue>),
    Error(RpcError),
}

/// What a server sent.
#[derive(Debug)]
pub(crate) enum Message {
    Reply(Reply),
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// An answer to something that was not asked, or not here.
    Unrelated,
}

#[derive(Deserialize)]
struct Theirs<'a> {
    jsonrpc: Option<String>,
    id: Option<Value>,
    method: Option<String>,
    params: Option<Value>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

/// What was sent is no JSON-RPC message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads one message. `any_id` takes an error whatever its id: a server that refuses a request by
/// status may not have read it.
pub(crate) fn read(text: &[u8], id: u64, any_id: bool) -> Result<Message, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let theirs: Theirs = serde_json::from_str(text).map_err(|_| Malformed)?;
    if theirs.jsonrpc.as_deref() != Some("2.0") {
        return Err(Malformed);
    }
    let ours = match &theirs.id {
        Some(Value::Number(number)) => number.as_u64() == Some(id),
        Some(Value::String(text)) => *text == id.to_string(),
        _ => false,
    };
    match (theirs.method, theirs.result, theirs.error) {
        (Some(method), None, None) => {
            let params = theirs.params.unwrap_or_default();
            Ok(match theirs.id {
                Some(id @ (Value::Number(_) | Value::String(_))) => {
                    Message::Request { id, method, params }
                }
                Some(_) => return Err(Malformed),
                None => Message::Notification { method, params },
            })
        }
        (None, Some(result), None) if ours => Ok(Message::Reply(Reply::Result(result.to_owned()))),
        (None, None, Some(error)) if ours || any_id || theirs.id.is_none() => {
            Ok(Message::Reply(Reply::Error(error)))
        }
        (None, Some(_), None) | (None, None, Some(_)) => Ok(Message::Unrelated),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#,
            r#"{"id":1,"result":{}}"#,
            r#"{"jsonrpc":"1.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}} trailing"#,
        ] {
            assert_eq!(
                read(text.as_bytes(), 1, false).unwrap_err(),
                Malformed,
                "{text}"
            );
        }
        assert!(
            read(
                b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xff\"}",
                1,
                false
            )
            .is_err()
        );
    }

    #[test]
    fn only_our_id_is_an_answer() {
        for (id, ours) in [
            ("1", true),
            ("\"1\"", true),
            ("2", false),
            ("1.5", false),
            ("-1", false),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            let message = read(text.as_bytes(), 1, false).unwrap();
            assert_eq!(matches!(message, Message::Reply(_)), ours, "{id}");
        }
        let refusal =
            br#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no"}}"#;
        assert!(matches!(
            read(refusal, 1, true),
            Ok(Message::Reply(Reply::Error(_)))
        ));
        assert!(matches!(read(refusal, 1, false), Ok(Message::Unrelated)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[\{\}\[\]",:a-z0-9."]{0,60}"#) {
            let _ = read(text.as_bytes(), 1, true);
        }
    }
}
