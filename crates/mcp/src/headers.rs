//! What a modern request repeats of its body in headers, so that gateways need not read bodies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

const MARK: &str = "x-mcp-header";
const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// `text` as a header's value; what could not travel as it is goes as base 64, so that nothing in it
/// can end the header.
pub(crate) fn value(text: &str) -> HeaderValue {
    let odd = |byte: u8| !(0x20..0x7f).contains(&byte);
    let encode = text.bytes().any(odd)
        || text.trim_matches(' ') != text
        || (text.starts_with(PREFIX) && text.ends_with(SUFFIX));
    let encoded = match encode {
        true => format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(text)),
        false => text.to_owned(),
    };
    HeaderValue::from_str(&encoded).expect("visible ASCII is a valid header value")
}

/// The `Mcp-Param-*` headers that `schema` asks for with these arguments. The schema has passed
/// [`check`].
pub(crate) fn params(schema: &Map<String, Value>, arguments: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found);
    for (path, _, name) in found {
        let argument = path.iter().try_fold(arguments, |at, key| at.get(key));
        let text = match argument {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            _ => continue,
        };
        let name = name.as_str().unwrap_or_default();
        if let Ok(name) = HeaderName::from_bytes(format!("mcp-param-{name}").as_bytes()) {
            headers.insert(name, value(&text));
        }
    }
    headers
}

/// Checks the annotations of a tool's schema: each is a token, unlike all others, on a string,
/// integer or boolean that is reached through `properties` alone.
pub(crate) fn check(schema: &Map<String, Value>) -> Result<(), &'static str> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found);
    if count(schema, true) != found.len() {
        return Err("x-mcp-header where it may not be");
    }
    let mut seen = std::collections::HashSet::new();
    for (_, property, name) in found {
        let token = |name: &&str| !name.is_empty() && name.bytes().all(is_token);
        let Some(name) = name.as_str().filter(token) else {
            return Err("x-mcp-header is no name of a header");
        };
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err("x-mcp-header is there twice");
        }
        if !matches!(
            property.get("type").and_then(Value::as_str),
            Some("string" | "integer" | "boolean")
        ) {
            return Err("x-mcp-header on what is no string, integer or boolean");
        }
    }
    Ok(())
}

type Found<'a> = (Vec<&'a str>, &'a Map<String, Value>, &'a Value);

fn collect<'a>(
    schema: &'a Map<String, Value>,
    path: &mut Vec<&'a str>,
    found: &mut Vec<Found<'a>>,
) {
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return;
    };
    for (name, property) in properties {
        let Value::Object(property) = property else {
            continue;
        };
        path.push(name);
        if let Some(header) = property.get(MARK) {
            found.push((path.clone(), property, header));
        }
        collect(property, path, found);
        path.pop();
    }
}

/// All annotations of a schema, wherever they are; instances and names of properties are none.
fn count(schema: &Map<String, Value>, subschema: bool) -> usize {
    schema
        .iter()
        .map(|(key, value)| match (key.as_str(), value) {
            (MARK, _) if subschema => 1,
            ("default" | "const" | "enum" | "examples" | "dependentRequired", _) if subschema => 0,
            (
                "properties" | "$defs" | "definitions" | "dependencies" | "dependentSchemas"
                | "patternProperties",
                Value::Object(map),
            ) if subschema => count(map, false),
            (_, Value::Object(map)) => count(map, true),
            (_, Value::Array(items)) => items
                .iter()
                .filter_map(Value::as_object)
                .map(|item| count(item, true))
                .sum(),
            _ => 0,
        })
        .sum()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn annotated_arguments_become_headers() {
        let schema = of(json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "x-mcp-header": {"type": "string"},
        }}));
        assert_eq!(check(&schema), Ok(()));
        let headers = params(
            &schema,
            &json!({"region": "a\r\nAuthorization: x", "deep": {"n": 3}}),
        );
        assert_eq!(headers["mcp-param-n"], "3");
        assert_eq!(
            headers["mcp-param-region"],
            "=?base64?YQ0KQXV0aG9yaXphdGlvbjogeA==?="
        );
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn bad_annotations_are_refused() {
        for property in [
            json!({"type": "string", "x-mcp-header": ""}),
            json!({"type": "string", "x-mcp-header": "a b"}),
            json!({"type": "string", "x-mcp-header": "a\r\nb"}),
            json!({"type": "string", "x-mcp-header": 7}),
            json!({"type": "number", "x-mcp-header": "A"}),
            json!({"type": "object", "x-mcp-header": "A"}),
            json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}),
            json!({"anyOf": [{"type": "string", "x-mcp-header": "A"}]}),
        ] {
            let schema = of(json!({"properties": {"p": property}}));
            assert!(check(&schema).is_err(), "{schema:?}");
        }
        let twice = json!({"properties": {
            "a": {"type": "string", "x-mcp-header": "Same"},
            "b": {"type": "string", "x-mcp-header": "same"},
        }});
        assert!(check(&of(twice)).is_err());
        assert!(check(&of(json!({"x-mcp-header": "A"}))).is_err());
    }

    #[test]
    fn no_annotation_makes_a_header_of_another_kind() {
        let names = [
            "Authorization",
            "Host",
            "Content-Length",
            "Mcp-Param-X",
            "Mcp-Name",
        ];
        let properties = names.map(|name| {
            let property = json!({"type": "string", "x-mcp-header": name});
            (name.to_owned(), property)
        });
        let properties = Map::from_iter(properties);
        let schema = of(json!({ "properties": properties }));
        assert_eq!(check(&schema), Ok(()));
        let arguments = names.map(|name| (name.to_owned(), json!("evil")));
        let headers = params(&schema, &Value::Object(Map::from_iter(arguments)));
        assert_eq!(headers.len(), names.len());
        for name in names {
            let header = format!("mcp-param-{}", name.to_ascii_lowercase());
            assert_eq!(headers[&header], "evil");
        }
    }

    #[test]
    fn a_mark_of_encoding_is_itself_encoded() {
        assert_eq!(value("=?base64?eA==?="), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
        assert_eq!(value("plain text"), "plain text");
        assert_eq!(value(" x"), "=?base64?IHg=?=");
    }

    proptest! {
        #[test]
        fn every_text_can_travel(text in any::<String>()) {
            prop_assert!(value(&text).to_str().is_ok());
        }
    }
}
