//! What in a definition an operator should look at twice. Hints for people, no verdicts: they hold
//! nothing back by themselves.

use serde::Serialize;
use serde_json::Value;

use crate::ToolDefinition;

/// Something suspicious.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flag {
    /// `invisible_characters`, `bidirectional_text`, `control_characters`, `mentions_tool`,
    /// `mixed_scripts`, `similar_name`, `instructions` or `contradiction`.
    pub kind: &'static str,
    /// Where: `name`, `description`, `input_schema`, …
    pub field: &'static str,
    /// What, in printable characters.
    pub detail: String,
}

/// Phrases that speak to the model rather than describe a tool.
const INSTRUCTIONS: [&str; 9] = [
    "ignore previous",
    "ignore all previous",
    "ignore the previous",
    "do not tell the user",
    "don't tell the user",
    "do not mention",
    "<important>",
    "system prompt",
    "before using this tool",
];

/// Shortest name that is looked for in other tools' texts: shorter ones are ordinary words.
const MIN_MENTION: usize = 5;

/// What is suspicious in `definition`; `others` are the names of the server's other tools.
pub fn flags(definition: &ToolDefinition, others: &[&str]) -> Vec<Flag> {
    let mut found = Vec::new();
    let texts = texts(definition);
    for (field, text) in &texts {
        characters(field, text, &mut found);
    }
    for (field, text) in texts.iter().filter(|(field, _)| *field != "name") {
        let lower = text.to_lowercase();
        for phrase in INSTRUCTIONS.iter().filter(|p| lower.contains(**p)) {
            found.push(flag("instructions", field, phrase));
        }
        for other in others.iter().filter(|o| mentions(text, o)) {
            found.push(flag("mentions_tool", field, other));
        }
    }
    name(&definition.name, others, &mut found);
    let says = |hint: &str| {
        let annotations = definition.annotations.as_ref();
        annotations.and_then(|a| a.get(hint)) == Some(&Value::Bool(true))
    };
    if says("readOnlyHint") && says("destructiveHint") {
        let both = "it claims both to change nothing and to destroy";
        found.push(flag("contradiction", "annotations", both));
    }
    found.dedup();
    found
}

fn flag(kind: &'static str, field: &'static str, detail: &str) -> Flag {
    let detail = detail.chars().take(200).flat_map(char::escape_default);
    Flag {
        kind,
        field,
        detail: detail.collect(),
    }
}

/// Every text of a definition with its field; of a schema all strings and keys as one.
fn texts(definition: &ToolDefinition) -> Vec<(&'static str, String)> {
    let mut texts = vec![("name", definition.name.clone())];
    let simple = [
        ("title", &definition.title),
        ("description", &definition.description),
    ];
    for (field, text) in simple {
        texts.extend(text.iter().map(|t| (field, t.clone())));
    }
    let input = Value::Object(definition.input_schema.clone());
    let values = [
        ("input_schema", Some(&input)),
        ("output_schema", definition.output_schema.as_ref()),
        ("annotations", definition.annotations.as_ref()),
    ];
    for (field, value) in values {
        let mut all = String::new();
        value.into_iter().for_each(|v| strings(v, &mut all));
        texts.push((field, all));
    }
    texts
}

fn strings(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => {
            out.push_str(text);
            out.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            out.push_str(key);
            out.push('\n');
            strings(item, out);
        }),
        _ => {}
    }
}

fn characters(field: &'static str, text: &str, found: &mut Vec<Flag>) {
    for kind in [
        "invisible_characters",
        "bidirectional_text",
        "control_characters",
    ] {
        let of_kind = || text.chars().filter(|c| hidden(*c) == Some(kind));
        if let Some(first) = of_kind().next() {
            let (n_found, code) = (of_kind().count(), u32::from(first));
            found.push(flag(kind, field, &format!("{n_found}, first U+{code:04X}")));
        }
    }
}

/// The text with everything that does not show spelled out, such as `\\u{200b}`: for people.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            Some(_) => shown.extend(c.escape_unicode()),
            None => shown.push(c),
        }
    }
    shown
}

/// The kind of a character that does not show.
fn hidden(c: char) -> Option<&'static str> {
    if is_invisible(c) {
        Some("invisible_characters")
    } else if is_bidi(c) {
        Some("bidirectional_text")
    } else if c.is_control() && !matches!(c, '\n' | '\r' | '\t') {
        Some("control_characters")
    } else {
        None
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}'
        | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn mentions(text: &str, tool: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    MIN_MENTION <= tool.len()
        && text.match_indices(tool).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + tool.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
}

fn name(name: &str, others: &[&str], found: &mut Vec<Flag>) {
    let foreign = |c: char| c.is_alphabetic() && !c.is_ascii();
    if name.chars().any(foreign) && name.chars().any(|c| c.is_ascii_alphabetic()) {
        found.push(flag("mixed_scripts", "name", name));
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
    let alike = |other: &&&str| **other != name && plain(other) == plain(name);
    if let Some(other) = others.iter().find(alike) {
        found.push(flag("similar_name", "name", other));
    }
}
