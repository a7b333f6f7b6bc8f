//! What a definition is, in one line: two are the same if their fingerprints are.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::definition::ToolDefinition;

/// SHA-256, in hexadecimal, of a definition's canonical JSON: name, title, description, both schemas
/// and annotations.
pub fn fingerprint(tool: &ToolDefinition) -> String {
    // Serialising our own type, whose keys are strings, cannot fail.
    sha256(&canonical(&serde_json::to_value(tool).unwrap_or_default()))
}

/// SHA-256 of a text, in hexadecimal.
pub fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// JSON in one form: without blanks, keys in the order of their UTF-16 code units, as RFC 8785 has
/// it. Numbers stay as they were read, so that no two different ones become the same.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => write_object(map, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn write_object(map: &Map<String, Value>, out: &mut String) {
    let mut keys: Vec<_> = map.keys().collect();
    keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (i, key) in keys.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&Value::String(key.clone()).to_string());
        out.push(':');
        write(&map[key], out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_of_keys_is_no_difference_and_all_else_is() {
        let a: Value = serde_json::from_str(r#"{"b":[1,{"y":2,"x":"é"}],"a":null}"#).unwrap();
        assert_eq!(canonical(&a), r#"{"a":null,"b":[1,{"x":"é","y":2}]}"#);
        // UTF-16 order differs from UTF-8 order beyond the basic plane.
        assert_eq!(
            canonical(&json!({"\u{fb33}": 1, "\u{1f600}": 2})),
            "{\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
        let tool = |description: &str| ToolDefinition {
            name: "t".into(),
            title: None,
            description: Some(description.into()),
            input_schema: Map::new(),
            output_schema: None,
            annotations: None,
        };
        assert_eq!(fingerprint(&tool("a")), fingerprint(&tool("a")));
        assert_ne!(fingerprint(&tool("a")), fingerprint(&tool("a ")));
    }
}
