//! What a server wrote, made fit for clients, logs and the model.

use serde_json::{Map, Value};

/// Shortest credential that is looked for: a shorter one would be found by chance.
const SHORTEST: usize = 8;

/// Whether `text` holds the credential.
pub(crate) fn holds(text: &str, bearer: Option<&str>) -> bool {
    bearer.is_some_and(|bearer| bearer.len() >= SHORTEST && text.contains(bearer))
}

/// `text` without the credential.
pub(crate) fn mask(text: String, bearer: Option<&str>) -> String {
    match bearer {
        Some(bearer) if holds(&text, Some(bearer)) => text.replace(bearer, "[redacted]"),
        _ => text,
    }
}

/// `value` with no string or key that holds the credential.
pub(crate) fn mask_value(value: Value, bearer: Option<&str>) -> Value {
    match value {
        Value::String(text) => Value::String(mask(text, bearer)),
        Value::Array(items) => items
            .into_iter()
            .map(|item| mask_value(item, bearer))
            .collect(),
        Value::Object(map) => Value::Object(mask_map(map, bearer)),
        other => other,
    }
}

/// The same for an object.
pub(crate) fn mask_map(map: Map<String, Value>, bearer: Option<&str>) -> Map<String, Value> {
    let entries = map.into_iter();
    entries
        .map(|(key, item)| (mask(key, bearer), mask_value(item, bearer)))
        .collect()
}

/// Whether JSON holds the credential, however its strings are escaped.
pub(crate) fn json_holds(json: &str, bearer: Option<&str>) -> bool {
    fn within(value: &Value, bearer: Option<&str>) -> bool {
        match value {
            Value::String(text) => holds(text, bearer),
            Value::Array(items) => items.iter().any(|item| within(item, bearer)),
            Value::Object(map) => map
                .iter()
                .any(|(key, item)| holds(key, bearer) || within(item, bearer)),
            _ => false,
        }
    }
    let escaped = || {
        let value: Option<Value> = serde_json::from_str(json).ok();
        value.is_some_and(|value| within(&value, bearer))
    };
    bearer.is_some() && (holds(json, bearer) || (json.contains('\\') && escaped()))
}

/// One line of at most `limit` characters without the credential: neither as it was sent, nor cut off
/// by the limit, nor put together by what is left out.
pub(crate) fn quote(text: &str, limit: usize, bearer: Option<&str>) -> String {
    mask(clean(&mask(text.to_owned(), bearer), limit), bearer)
}

/// One line of at most `limit` characters: no control characters, nothing that changes how text
/// around it is shown.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut chars = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !unseen(*c));
    let mut cleaned: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        cleaned.push('…');
    }
    cleaned
}
