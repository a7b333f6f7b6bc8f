//! What a request's body asks for, for the record. A record that says something else than what the
//! server reads is worse than none: what two readers could read differently is not read at all.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One message of JSON-RPC.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Empty for an answer.
    pub(super) method: String,
    /// The tool or prompt, or the resource's address.
    pub(super) name: Option<String>,
    /// The arguments' text.
    pub(super) arguments: Option<String>,
}

/// What a body says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    One(Call),
    Batch(Vec<Call>),
    /// It was not read, and why.
    Unparsed(&'static str),
}

/// How the headers that repeat the body go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Headers {
    None,
    Match,
    Mismatch,
    /// The body was not read.
    Unchecked,
}

/// Reads a whole body.
pub(super) fn read(body: &[u8]) -> Said {
    if body.is_empty() {
        return Said::Nothing;
    }
    match parse(body) {
        Ok(said) => said,
        Err(why) => Said::Unparsed(why),
    }
}

/// The id of a body's message as it is written there; `null` if it has none, or is not one message.
pub(super) fn id(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let message = serde_json::from_slice::<Message<'_>>(body);
    let id = message.ok().and_then(|message| message.id);
    // Text or a number: nothing else is an id.
    let id = id.filter(|id| !id.get().starts_with(['{', '[', 't', 'f']));
    id.map_or("null", RawValue::get).to_owned()
}

fn parse(body: &[u8]) -> Result<Said, &'static str> {
    const NO_JSON: &str = "it is not JSON";
    let text = std::str::from_utf8(body).map_err(|_| NO_JSON)?;
    let message: &RawValue = serde_json::from_str(text).map_err(|_| NO_JSON)?;
    if !message.get().starts_with('[') {
        return call(message).map(Said::One);
    }
    let messages: Vec<&RawValue> = serde_json::from_str(message.get()).map_err(|_| NO_JSON)?;
    messages
        .into_iter()
        .map(call)
        .collect::<Result<_, _>>()
        .map(Said::Batch)
}

fn call(message: &RawValue) -> Result<Call, &'static str> {
    let message = object(message)?;
    let params = match message.get("params")? {
        Some(params) if params.get().starts_with('{') => object(params)?,
        Some(params) if params.get().starts_with(['[', 'n']) => Fields::default(),
        Some(_) => return Err("the parameters are no object"),
        None => Fields::default(),
    };
    let method = text(message.get("method")?)?.unwrap_or_default();
    let name = params.get("name")?;
    let name = match method.starts_with("resources/") {
        true => params.get("uri")?,
        false => name,
    };
    Ok(Call {
        name: text(name)?,
        arguments: params.get("arguments")?.map(|a| a.get().to_owned()),
        method,
    })
}

fn text(value: Option<&RawValue>) -> Result<Option<String>, &'static str> {
    let read = |v: &RawValue| serde_json::from_str(v.get());
    value.map(read).transpose().map_err(|_| "a name is no text")
}

fn object(value: &RawValue) -> Result<Fields<'_>, &'static str> {
    if !value.get().starts_with('{') {
        return Err("a message is no object");
    }
    let fields: Fields<'_> = serde_json::from_str(value.get()).map_err(|_| "a key is no text")?;
    let mut seen = HashSet::new();
    for (key, _) in &fields.0 {
        // Readers that do not tell cases apart may fold more than ASCII.
        if !key.is_ascii() {
            return Err("a key is not ASCII");
        }
        if !seen.insert(key.to_ascii_lowercase()) {
            return Err("a key is there twice");
        }
    }
    Ok(fields)
}

/// The fields of an object, each as it is written.
#[derive(Default)]
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Result<Option<&'a RawValue>, &'static str> {
        let found = self
            .0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        match found {
            Some((key, _)) if key != name => Err("a key is written in another case"),
            found => Ok(found.map(|(_, value)| *value)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    all.push((key, map.next_value()?));
                }
                Ok(Fields(all))
            }
        }
        from.deserialize_map(All)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Compares `Mcp-Method` and `Mcp-Name` with the body that was sent with them.
pub(super) fn compare(headers: &HeaderMap, said: &Said) -> Headers {
    let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
    let (methods, names) = (all("mcp-method"), all("mcp-name"));
    let call = match said {
        _ if methods.is_empty() && names.is_empty() => return Headers::None,
        Said::Unparsed(_) => return Headers::Unchecked,
        Said::One(call) => call,
        Said::Nothing | Said::Batch(_) => return Headers::Mismatch,
    };
    let is = |values: &[&http::HeaderValue], text: &str| {
        let plain = |v: &&http::HeaderValue| v.to_str().ok().and_then(decode);
        values.len() <= 1 && values.iter().all(|v| plain(v).as_deref() == Some(text))
    };
    // Of other methods nobody has said which name theirs is.
    let named = matches!(
        call.method.as_str(),
        "tools/call" | "prompts/get" | "resources/read"
    );
    let name = call.name.as_deref().unwrap_or_default();
    match is(&methods, &call.method) && (!named && names.len() <= 1 || is(&names, name)) {
        true => Headers::Match,
        false => Headers::Mismatch,
    }
}

/// A header's text, which may be written in base 64.
fn decode(value: &str) -> Option<String> {
    let inner = value
        .strip_prefix("=?base64?")
        .and_then(|v| v.strip_suffix("?="));
    match inner {
        None => Some(value.to_owned()),
        Some(inner) => String::from_utf8(STANDARD.decode(inner).ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(method: &str, name: Option<&str>, arguments: Option<&str>) -> Call {
        Call {
            method: method.to_owned(),
            name: name.map(str::to_owned),
            arguments: arguments.map(str::to_owned),
        }
    }

    #[test]
    fn calls_are_read() {
        let calling = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm","arguments":{"a": [1,{"a":1,"a":2}]}}}"#;
        let rm = || {
            one(
                "tools/call",
                Some("rm"),
                Some(r#"{"a": [1,{"a":1,"a":2}]}"#),
            )
        };
        assert_eq!(read(calling.as_bytes()), Said::One(rm()));
        let reading =
            r#" {"m\u0065thod":"resources/read","params":{"uri":"file:\/\/x","name":"n"}} "#;
        assert_eq!(
            read(reading.as_bytes()),
            Said::One(one("resources/read", Some("file://x"), None))
        );
        let batch =
            format!(r#"[{calling},{{"id":1,"result":{{}}}},{{"method":"ping","params":null}}]"#);
        assert_eq!(
            read(batch.as_bytes()),
            Said::Batch(vec![rm(), one("", None, None), one("ping", None, None)])
        );
        assert_eq!(read(b""), Said::Nothing);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for (body, why) in [
            (r#"{"method":"a","method":"b"}"#, "twice"),
            (r#"{"method":"a","m\u0065thod":"b"}"#, "twice"),
            (r#"{"method":"a","Method":"b"}"#, "twice"),
            (r#"{"METHOD":"b"}"#, "another case"),
            (r#"{"method":"a","paramſ":{"name":"b"}}"#, "not ASCII"),
            (
                r#"{"method":"a","params":{"name":"a","name":"b"}}"#,
                "twice",
            ),
            (r#"{"method":"a","params":{"Name":"b"}}"#, "another case"),
            (r#"{"method":"a","params":{"name":1}}"#, "no text"),
            (r#"{"method":"a","params":"b"}"#, "no object"),
            (r#"[{"method":"a"},{"method":"a","method":"b"}]"#, "twice"),
            (r#"[[{"method":"a"}]]"#, "no object"),
            (r#"{"method":"\ud800"}"#, "no text"),
            (r#"{"method":"a"}{"method":"b"}"#, "not JSON"),
            (r#"{"method":"a"} // "#, "not JSON"),
            ("\u{feff}{\"method\":\"a\"}", "not JSON"),
            (r#"{"method":"a""#, "not JSON"),
            ("a", "not JSON"),
            ("1", "no object"),
        ] {
            match read(body.as_bytes()) {
                Said::Unparsed(said) => assert!(said.contains(why), "{body}: {said}"),
                said => panic!("{body}: {said:?}"),
            }
        }
        assert!(matches!(read(b"{\"method\":\"\xff\"}"), Said::Unparsed(_)));
    }

    #[test]
    fn an_id_is_said_back_as_it_came() {
        for (body, is) in [
            (r#"{"id": 1,"method":"a"}"#, "1"),
            (r#"{"id":"\u0061\"b"}"#, r#""\u0061\"b""#),
            (r#"{"id":-1.50}"#, "-1.50"),
            (r#"{"method":"a"}"#, "null"),
            (r#"{"id":null}"#, "null"),
            (r#"{"id":{"a":1}}"#, "null"),
            (r#"{"id":1,"id":2}"#, "null"),
            (r#"[{"id":1}]"#, "null"),
            ("", "null"),
        ] {
            assert_eq!(id(body.as_bytes()), is, "{body}");
        }
    }

    #[test]
    fn headers_are_compared_with_the_body() {
        let body = |method: &str, name: &str| Said::One(one(method, Some(name), None));
        let tool = || body("tools/call", "rm");
        for (headers, said, is) in [
            (&[][..], tool(), Headers::None),
            (
                &[("mcp-method", "tools/call"), ("mcp-name", "rm")],
                tool(),
                Headers::Match,
            ),
            (
                &[
                    ("mcp-method", "tools/call"),
                    ("mcp-name", "=?base64?cm0=?="),
                ],
                tool(),
                Headers::Match,
            ),
            (
                &[("mcp-method", "tools/call"), ("mcp-name", "ls")],
                tool(),
                Headers::Mismatch,
            ),
            (&[("mcp-name", "ls")], tool(), Headers::Mismatch),
            (&[("mcp-method", "tools/list")], tool(), Headers::Mismatch),
            (
                &[("mcp-name", "rm"), ("mcp-name", "rm")],
                tool(),
                Headers::Mismatch,
            ),
            (&[("mcp-name", "=?base64?!?=")], tool(), Headers::Mismatch),
            (
                &[("mcp-method", "tasks/get"), ("mcp-name", "t1")],
                body("tasks/get", ""),
                Headers::Match,
            ),
            (
                &[("mcp-method", "tools/call")],
                Said::Batch(Vec::new()),
                Headers::Mismatch,
            ),
            (
                &[("mcp-method", "tools/call")],
                Said::Nothing,
                Headers::Mismatch,
            ),
            (
                &[("mcp-method", "tools/call")],
                Said::Unparsed(""),
                Headers::Unchecked,
            ),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            assert_eq!(compare(&map, &said), is, "{headers:?} {said:?}");
        }
    }
}
