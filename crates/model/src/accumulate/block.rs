//! One content block while its deltas arrive.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::AccumulateError;
use crate::message::{BlockKind, Delta};
use crate::raw::{RawObject, to_raw};

/// A block that has started and not stopped. Strings that grow by deltas are kept apart and put
/// back in their place at the end; all other fields stay the bytes they came as.
#[derive(Debug)]
pub(super) struct OpenBlock {
    fields: RawObject,
    kind: String,
    /// `text` or `thinking`, grown by deltas; `None` until the first one.
    grown: Option<(&'static str, String)>,
    /// `input` as text, grown by deltas.
    input: String,
    citations: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct To {
    model: String,
}

impl OpenBlock {
    /// Reads a `content_block`; `None` when it is no object with a type.
    pub(super) fn start(raw: &RawValue) -> Option<Self> {
        let fields = RawObject::parse(raw.get().as_bytes()).ok()?;
        let kind = fields.read("type")?;
        Some(Self {
            fields,
            kind,
            grown: None,
            input: String::new(),
            citations: Vec::new(),
        })
    }

    pub(super) fn is_tool_use(&self) -> bool {
        matches!(self.kind.as_str(), "tool_use" | "mcp_tool_use")
    }

    pub(super) fn kind(&self) -> BlockKind {
        match self.kind.as_str() {
            "text" => BlockKind::Text,
            "thinking" | "redacted_thinking" => BlockKind::Thinking,
            "tool_use" => BlockKind::ToolUse {
                id: self.text_of("id"),
                name: self.text_of("name"),
            },
            other => BlockKind::Other(other.to_owned()),
        }
    }

    /// The model that took over, when this is a `fallback` block.
    pub(super) fn fallback_model(&self) -> Option<String> {
        (self.kind == "fallback")
            .then(|| self.fields.read::<To>("to"))
            .flatten()
            .map(|to| to.model)
    }

    fn text_of(&self, key: &str) -> String {
        self.fields.read(key).unwrap_or_default()
    }

    /// Applies one `delta`. Deltas of unknown types replace the fields they carry.
    pub(super) fn add(&mut self, index: usize, raw: &RawValue) -> Result<Option<Delta>, ()> {
        let delta = RawObject::parse(raw.get().as_bytes()).map_err(|_| ())?;
        let kind: String = delta.read("type").ok_or(())?;
        match kind.as_str() {
            "text_delta" => {
                let text: String = delta.read("text").ok_or(())?;
                self.grow("text", &text);
                Ok((!text.is_empty()).then_some(Delta::Text { index, text }))
            }
            "thinking_delta" => {
                let text: String = delta.read("thinking").ok_or(())?;
                self.grow("thinking", &text);
                Ok((!text.is_empty()).then_some(Delta::Thinking { index, text }))
            }
            "input_json_delta" => {
                let partial_json: String = delta.read("partial_json").ok_or(())?;
                self.input.push_str(&partial_json);
                Ok((!partial_json.is_empty()).then_some(Delta::ToolInput {
                    index,
                    partial_json,
                }))
            }
            "citations_delta" => {
                let citation = delta.get("citation").ok_or(())?;
                self.citations.push(citation.to_owned());
                Ok(None)
            }
            // `signature_delta` carries the whole signature, `compaction_delta` the whole
            // compaction; the official clients replace too.
            _ => {
                for (key, value) in delta.iter().filter(|(key, _)| *key != "type") {
                    self.fields.set_raw(key, value.to_owned());
                }
                Ok(None)
            }
        }
    }

    fn grow(&mut self, key: &'static str, text: &str) {
        match &mut self.grown {
            Some((k, grown)) if *k == key => grown.push_str(text),
            slot => {
                // A block grows one field in practice; were it to grow another, the first is
                // settled before the second begins.
                if let Some((k, grown)) = slot.take() {
                    self.fields.set(k, grown);
                }
                let mut grown: String = self.fields.read(key).unwrap_or_default();
                grown.push_str(text);
                *slot = Some((key, grown));
            }
        }
    }

    /// The whole block, and whether its tool input can be read.
    pub(super) fn finish(mut self, index: usize) -> (Box<RawValue>, Result<(), AccumulateError>) {
        if let Some((key, grown)) = self.grown.take() {
            self.fields.set(key, grown);
        }
        if !self.citations.is_empty() {
            let mut all: Vec<Box<RawValue>> = self.fields.read("citations").unwrap_or_default();
            all.append(&mut self.citations);
            self.fields.set_raw("citations", to_raw(&all));
        }
        let mut readable = Ok(());
        if !self.input.trim().is_empty() {
            match RawObject::parse(self.input.as_bytes())
                .ok()
                .and_then(|_| RawValue::from_string(std::mem::take(&mut self.input)).ok())
            {
                Some(input) => self.fields.set_raw("input", input),
                None => {
                    readable = Err(AccumulateError::ToolInput {
                        index,
                        id: self.text_of("id"),
                        name: self.text_of("name"),
                    });
                }
            }
        } else if self.is_tool_use() && self.fields.read::<RawObject>("input").is_none() {
            self.fields
                .set("input", serde_json::Value::Object(serde_json::Map::new()));
        }
        (self.fields.to_raw(), readable)
    }
}
