//! The context a model is shown, in the Messages API's form.

use std::collections::HashMap;
use std::sync::Arc;

use freehold_wire::content::{ContentBlock, DocumentBlock, ImageBlock, Source};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use serde_json::value::RawValue;

use crate::call::Call;

/// One entry of the context.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A user's message.
    User(Vec<ContentBlock>),
    /// A system-role message in mid-conversation.
    System(Vec<ContentBlock>),
    /// The model's answer, byte for byte.
    Assistant(Vec<Box<RawValue>>),
    /// The results of one round of calls, in the order of the calls.
    Results(Vec<Call>),
    /// What a compaction left of everything before it.
    Summary(String),
}

/// The context, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    // Shared, so that a state can be copied before it is folded on approval.
    entries: Vec<Arc<Entry>>,
    /// Characters added since the model last reported the size of the context.
    added_chars: usize,
}

/// Characters that count as one token when a size must be guessed.
const CHARS_PER_TOKEN: usize = 4;

impl Conversation {
    /// The entries.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }
    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        self.added_chars += match &entry {
            Entry::User(blocks) | Entry::System(blocks) => blocks.iter().map(size).sum(),
            Entry::Results(calls) => calls
                .iter()
                .filter_map(|c| c.result.as_ref())
                .flat_map(|r| r.content.iter().map(size))
                .sum(),
            Entry::Summary(text) => text.len(),
            // Counted by the model in the size it reports with the answer.
            Entry::Assistant(_) => 0,
        };
        self.entries.push(Arc::new(entry));
    }
    /// The model reported the size of the context: guesses start anew.
    pub fn measured(&mut self) {
        self.added_chars = 0;
    }
    /// Ids of the files it names.
    pub fn files(&self) -> Vec<&str> {
        let blocks = self.entries.iter().flat_map(|entry| match &**entry {
            Entry::User(blocks) | Entry::System(blocks) => blocks.iter().collect::<Vec<_>>(),
            Entry::Results(calls) => calls
                .iter()
                .filter_map(|c| c.result.as_ref())
                .flat_map(|r| &r.content)
                .collect(),
            Entry::Assistant(_) | Entry::Summary(_) => Vec::new(),
        });
        blocks.filter_map(file_id).collect()
    }
    /// Guessed tokens added since the last report.
    pub fn added_tokens(&self) -> u64 {
        (self.added_chars / CHARS_PER_TOKEN) as u64
    }
    /// Replaces everything but the user messages at the end that no answer followed yet.
    pub fn compact(&mut self, summary: String) {
        let answered = self
            .entries
            .iter()
            .rposition(|e| !matches!(**e, Entry::User(_) | Entry::System(_)));
        let kept = self.entries.split_off(answered.map_or(0, |i| i + 1));
        self.entries.clear();
        self.added_chars = 0;
        self.push(Entry::Summary(summary));
        for entry in kept {
            self.push(Arc::unwrap_or_clone(entry));
        }
    }
}

fn size(block: &ContentBlock) -> usize {
    // Images and documents are guessed at 1,500 tokens: their base 64 says nothing of their cost.
    const MEDIA_CHARS: usize = 6_000;
    match block {
        ContentBlock::Text(t) => t.text.len(),
        ContentBlock::SearchResult(r) => {
            r.title.len()
                + r.content
                    .iter()
                    .map(|freehold_wire::content::TypedText::Text(t)| t.text.len())
                    .sum::<usize>()
        }
        ContentBlock::Image(_) | ContentBlock::Document(_) => MEDIA_CHARS,
        ContentBlock::Redacted(_) => 0,
    }
}

/// A message of a Messages request.
#[derive(Serialize)]
pub(crate) struct Message<'a> {
    role: &'static str,
    content: Parts<'a>,
}

/// Content assembled from several entries: the API wants one user message between two answers.
pub(crate) struct Parts<'a>(Vec<Part<'a>>);

#[derive(Serialize)]
#[serde(untagged)] // Serialised only: each part knows its own form.
pub(crate) enum Part<'a> {
    Block(&'a ContentBlock),
    Owned(ContentBlock),
    Raw(&'a RawValue),
    Result(ResultPart<'a>),
    Text(TextPart<'a>),
}

#[derive(Serialize)]
pub(crate) struct ResultPart<'a> {
    r#type: &'static str,
    tool_use_id: &'a str,
    content: Vec<ContentBlock>,
    is_error: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
pub(crate) struct TextPart<'a> {
    r#type: &'static str,
    text: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

/// `{"type":"ephemeral"}`.
#[derive(Serialize, Clone, Copy)]
pub(crate) struct CacheControl {
    r#type: &'static str,
}

pub(crate) const EPHEMERAL: CacheControl = CacheControl {
    r#type: "ephemeral",
};

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(self.0.len()))?;
        for part in &self.0 {
            seq.serialize_element(part)?;
        }
        seq.end()
    }
}

/// How the context is written out.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'a> {
    /// What the files named in it hold.
    pub media: &'a Media,
    /// The model takes system-role messages; otherwise they become user text, marked as such.
    pub system_role: bool,
    /// Characters of one tool result that are kept; for compaction requests.
    pub result_chars: usize,
}

impl Conversation {
    /// The `messages` array; the last user content carries a prompt-cache marker.
    pub(crate) fn messages(&self, writing: Writing<'_>, closing: Option<&str>) -> Vec<Message<'_>> {
        let mut out: Vec<Message<'_>> = Vec::new();
        for entry in &self.entries {
            let (role, parts): (_, Vec<Part<'_>>) = match &**entry {
                Entry::User(blocks) => (
                    "user",
                    blocks.iter().map(|b| block(b, writing.media)).collect(),
                ),
                Entry::System(blocks) if writing.system_role => (
                    "system",
                    blocks.iter().map(|b| block(b, writing.media)).collect(),
                ),
                Entry::System(blocks) => (
                    "user",
                    blocks
                        .iter()
                        .map(|b| as_user_text(b, writing.media))
                        .collect(),
                ),
                Entry::Assistant(blocks) => {
                    ("assistant", blocks.iter().map(|b| Part::Raw(b)).collect())
                }
                Entry::Results(calls) => {
                    ("user", calls.iter().map(|c| result(c, writing)).collect())
                }
                Entry::Summary(summary) => (
                    "user",
                    vec![text(format!(
                        "The earlier conversation was summarised to save space. Summary:\n\n{summary}"
                    ))],
                ),
            };
            if parts.is_empty() {
                continue;
            }
            match out.last_mut() {
                Some(last) if last.role == role && role == "user" => last.content.0.extend(parts),
                _ => out.push(Message {
                    role,
                    content: Parts(parts),
                }),
            }
        }
        if let Some(closing) = closing {
            let part = text(closing.to_owned());
            match out.last_mut() {
                Some(last) if last.role == "user" => last.content.0.push(part),
                _ => out.push(Message {
                    role: "user",
                    content: Parts(vec![part]),
                }),
            }
        }
        mark_cache(&mut out);
        out
    }
}

/// What the files named in a conversation hold, by file id: `base64` or `text` sources.
pub type Media = HashMap<String, Source>;

/// The file a block names instead of holding its bytes.
fn file_id(block: &ContentBlock) -> Option<&str> {
    match block {
        ContentBlock::Image(ImageBlock {
            source: Source::File(f),
        })
        | ContentBlock::Document(DocumentBlock {
            source: Source::File(f),
            ..
        }) => Some(&f.file_id),
        _ => None,
    }
}

/// A block that holds its bytes; a file that is gone becomes a note.
fn resolved(block: &ContentBlock, media: &Media) -> ContentBlock {
    let Some(id) = file_id(block) else {
        return block.clone();
    };
    match (block, media.get(id).cloned()) {
        (ContentBlock::Image(_), Some(source)) => ContentBlock::Image(ImageBlock { source }),
        (ContentBlock::Document(d), Some(source)) => ContentBlock::Document(DocumentBlock {
            source,
            ..d.clone()
        }),
        _ => ContentBlock::text(format!("[file {id} is no longer available]")),
    }
}

fn block<'a>(b: &'a ContentBlock, media: &Media) -> Part<'a> {
    match b {
        file if file_id(file).is_some() => Part::Owned(resolved(file, media)),
        ContentBlock::Text(t) => Part::Text(TextPart {
            r#type: "text",
            text: t.text.as_str().into(),
            cache_control: None,
        }),
        other => Part::Block(other),
    }
}

fn text<'a>(text: String) -> Part<'a> {
    Part::Text(TextPart {
        r#type: "text",
        text: text.into(),
        cache_control: None,
    })
}

fn as_user_text<'a>(b: &'a ContentBlock, media: &Media) -> Part<'a> {
    match b {
        ContentBlock::Text(t) => text(format!("<system>{}</system>", t.text)),
        other => block(other, media),
    }
}

fn result<'a>(call: &'a Call, writing: Writing<'_>) -> Part<'a> {
    let (content, is_error) = call
        .result
        .as_ref()
        .map_or((Vec::new(), true), |r| (r.content.clone(), r.is_error));
    let content = content
        .into_iter()
        .map(|b| match b {
            ContentBlock::Text(t) if t.text.chars().count() > writing.result_chars => {
                let kept: String = t.text.chars().take(writing.result_chars).collect();
                ContentBlock::text(format!("{kept}\n[cut]"))
            }
            other => resolved(&other, writing.media),
        })
        .collect();
    Part::Result(ResultPart {
        r#type: "tool_result",
        tool_use_id: &call.model_id,
        content,
        is_error,
        cache_control: None,
    })
}

/// Marks the end of the last user message, so that the next request finds this one's prefix cached.
fn mark_cache(messages: &mut [Message<'_>]) {
    let last = messages.iter_mut().rev().find(|m| m.role == "user");
    match last.and_then(|m| m.content.0.last_mut()) {
        Some(Part::Text(t)) => t.cache_control = Some(EPHEMERAL),
        Some(Part::Result(r)) => r.cache_control = Some(EPHEMERAL),
        _ => {}
    }
}
