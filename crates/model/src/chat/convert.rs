//! From a Messages request to a Chat Completions request.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::outgoing::{
    CalledFunction, ChatMessage, ChatTool, ChatToolCall, Function, ImageUrl, Outgoing, Part,
    StreamOptions, UserContent,
};
use crate::config::MidSystem;
use crate::raw::RawObject;

/// Why a request cannot be put to a Chat Completions endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CannotConvert {
    #[error("{field}: missing or of the wrong shape")]
    Shape { field: String },
    #[error("tools: tools of type `{kind}` are not available with this model")]
    ServerTool { kind: String },
}

fn shape(field: impl Into<String>) -> CannotConvert {
    CannotConvert::Shape {
        field: field.into(),
    }
}

#[derive(Deserialize)]
struct InMessage {
    role: String,
    content: Content,
}

/// A string or blocks.
struct Content(Vec<Block>);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        let text = raw.get();
        let blocks = if text.starts_with('"') {
            serde_json::from_str(text).map(|text: String| vec![Block::text(text)])
        } else {
            serde_json::from_str(text)
        };
        blocks.map(Self).map_err(serde::de::Error::custom)
    }
}

/// The fields of the block types that can be translated.
#[derive(Default, Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
    tool_use_id: Option<String>,
    content: Option<Box<RawValue>>,
    is_error: Option<bool>,
    source: Option<Box<RawValue>>,
    title: Option<String>,
}

impl Block {
    fn text(text: String) -> Self {
        Self {
            kind: "text".into(),
            text: Some(text),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
}

/// Translates a body; `model` is upstream's name of the model.
pub(super) fn request(
    body: &RawObject,
    model: String,
    mid_system: MidSystem,
) -> Result<Outgoing, CannotConvert> {
    let mut messages = Vec::new();
    if let Some(system) = body.get("system").filter(|raw| raw.get() != "null") {
        let system: Content = serde_json::from_str(system.get()).map_err(|_| shape("system"))?;
        let content = plain(system.0);
        if !content.is_empty() {
            messages.push(ChatMessage::System { content });
        }
    }
    let raw = body.get("messages").ok_or_else(|| shape("messages"))?;
    let given: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| shape("messages"))?;
    if given.is_empty() {
        return Err(shape("messages"));
    }
    for (i, raw) in given.into_iter().enumerate() {
        let at = || shape(format!("messages.{i}"));
        let message: InMessage = serde_json::from_str(raw.get()).map_err(|_| at())?;
        match message.role.as_str() {
            "user" => user(message.content.0, &mut messages).map_err(|()| at())?,
            "assistant" => assistant(message.content.0, &mut messages).map_err(|()| at())?,
            "system" => messages.push(system_between(plain(message.content.0), mid_system)),
            _ => return Err(at()),
        }
    }
    let (tool_choice, parallel_tool_calls) = tool_choice(body)?;
    Ok(Outgoing {
        model,
        messages,
        tools: tools(body)?,
        tool_choice,
        parallel_tool_calls,
        max_tokens: body.read("max_tokens"),
        stop: body.read("stop_sequences"),
        temperature: body.read("temperature"),
        top_p: body.read("top_p"),
        top_k: body.read("top_k"),
        response_format: response_format(body),
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
    })
}

fn system_between(content: String, mid_system: MidSystem) -> ChatMessage {
    match mid_system {
        MidSystem::System => ChatMessage::System { content },
        MidSystem::User => ChatMessage::User {
            content: UserContent::Text(format!("[system message]\n{content}")),
        },
    }
}

/// The text of blocks, in paragraphs.
fn plain(blocks: Vec<Block>) -> String {
    let texts: Vec<String> = blocks.into_iter().filter_map(|b| b.text).collect();
    texts.join("\n\n")
}

/// Tool results become messages of their own, before whatever else the user said: they must
/// follow the calls directly. Pictures in results follow as user content, because tool messages
/// hold only text.
fn user(blocks: Vec<Block>, out: &mut Vec<ChatMessage>) -> Result<(), ()> {
    let mut parts = Vec::new();
    let mut said = Vec::new();
    for block in blocks {
        if block.kind == "tool_result" {
            let id = block.tool_use_id.ok_or(())?;
            let (text, pictures) = result_content(block.content.as_deref())?;
            let text = match (block.is_error == Some(true), text.is_empty()) {
                (true, true) => "Error".to_owned(),
                (true, false) => format!("Error: {text}"),
                (false, _) => text,
            };
            out.push(ChatMessage::Tool {
                tool_call_id: id,
                content: text,
            });
            if !pictures.is_empty() {
                parts.push(Part::Text {
                    text: "[pictures returned by the tool]".to_owned(),
                });
                parts.extend(pictures);
            }
        } else {
            said.push(part(block)?);
        }
    }
    parts.extend(said);
    if parts.is_empty() {
        return Ok(());
    }
    let only_text = parts.iter().all(|p| matches!(p, Part::Text { .. }));
    let content = if only_text {
        let texts = parts.into_iter().filter_map(|p| match p {
            Part::Text { text } => Some(text),
            Part::ImageUrl { .. } => None,
        });
        UserContent::Text(texts.collect::<Vec<_>>().join("\n\n"))
    } else {
        UserContent::Parts(parts)
    };
    out.push(ChatMessage::User { content });
    Ok(())
}

/// Text and pictures of a tool result.
fn result_content(raw: Option<&RawValue>) -> Result<(String, Vec<Part>), ()> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Ok((String::new(), Vec::new()));
    };
    let content: Content = serde_json::from_str(raw.get()).map_err(|_| ())?;
    let mut texts = Vec::new();
    let mut pictures = Vec::new();
    for block in content.0 {
        match part(block)? {
            Part::Text { text } => texts.push(text),
            picture @ Part::ImageUrl { .. } => pictures.push(picture),
        }
    }
    Ok((texts.join("\n"), pictures))
}

/// A block as user content. What cannot be shown is named, so the model knows of it.
fn part(block: Block) -> Result<Part, ()> {
    let source = || -> Option<Source> { serde_json::from_str(block.source.as_ref()?.get()).ok() };
    let text = match block.kind.as_str() {
        "text" => block.text.ok_or(())?,
        "image" => {
            let source = source().ok_or(())?;
            let url = match (source.kind.as_str(), source.media_type, source.data) {
                ("base64", Some(media_type), Some(data)) => {
                    Some(format!("data:{media_type};base64,{data}"))
                }
                ("url", _, _) => source.url,
                _ => None,
            };
            match url {
                Some(url) => {
                    return Ok(Part::ImageUrl {
                        image_url: ImageUrl { url },
                    });
                }
                None => "[a picture that cannot be shown to this model]".to_owned(),
            }
        }
        "document" => {
            let source = source().ok_or(())?;
            let title = block.title.unwrap_or_else(|| "untitled".to_owned());
            match (source.kind.as_str(), source.data) {
                ("text", Some(data)) => format!("[document: {title}]\n{data}"),
                _ => format!("[document: {title}; this model cannot read its format]"),
            }
        }
        "search_result" => {
            let (text, _) = result_content(block.content.as_deref())?;
            let title = block.title.unwrap_or_default();
            format!("[search result: {title}]\n{text}")
        }
        other => format!("[content of type {other}, which this model cannot be shown]"),
    };
    Ok(Part::Text { text })
}

/// Thinking is dropped; so are blocks of tools this protocol does not have.
fn assistant(blocks: Vec<Block>, out: &mut Vec<ChatMessage>) -> Result<(), ()> {
    let mut texts = Vec::new();
    let mut tool_calls = Vec::new();
    for block in blocks {
        match block.kind.as_str() {
            "text" => texts.push(block.text.ok_or(())?),
            "tool_use" => tool_calls.push(ChatToolCall {
                id: block.id.ok_or(())?,
                kind: "function",
                function: CalledFunction {
                    name: block.name.ok_or(())?,
                    arguments: block.input.ok_or(())?.get().to_owned(),
                },
            }),
            _ => {}
        }
    }
    let text = texts.concat();
    if text.is_empty() && tool_calls.is_empty() {
        return Ok(());
    }
    out.push(ChatMessage::Assistant {
        content: (!text.is_empty()).then_some(text),
        tool_calls,
    });
    Ok(())
}

fn tools(body: &RawObject) -> Result<Vec<ChatTool>, CannotConvert> {
    #[derive(Deserialize)]
    struct Tool {
        #[serde(rename = "type")]
        kind: Option<String>,
        name: Option<String>,
        description: Option<String>,
        input_schema: Option<Box<RawValue>>,
        strict: Option<bool>,
    }
    let Some(raw) = body.get("tools").filter(|raw| raw.get() != "null") else {
        return Ok(Vec::new());
    };
    let tools: Vec<Tool> = serde_json::from_str(raw.get()).map_err(|_| shape("tools"))?;
    tools
        .into_iter()
        .enumerate()
        .map(|(i, tool)| {
            if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
                return Err(CannotConvert::ServerTool { kind });
            }
            let missing = |field: &str| shape(format!("tools.{i}.{field}"));
            Ok(ChatTool {
                kind: "function",
                function: Function {
                    name: tool.name.ok_or_else(|| missing("name"))?,
                    description: tool.description,
                    parameters: tool.input_schema.ok_or_else(|| missing("input_schema"))?,
                    strict: tool.strict,
                },
            })
        })
        .collect()
}

type Choice = (Option<Value>, Option<bool>);

fn tool_choice(body: &RawObject) -> Result<Choice, CannotConvert> {
    #[derive(Deserialize)]
    struct Given {
        #[serde(rename = "type")]
        kind: String,
        name: Option<String>,
        disable_parallel_tool_use: Option<bool>,
    }
    let Some(raw) = body.get("tool_choice").filter(|raw| raw.get() != "null") else {
        return Ok((None, None));
    };
    let given: Given = serde_json::from_str(raw.get()).map_err(|_| shape("tool_choice"))?;
    let choice = match (given.kind.as_str(), given.name) {
        ("auto", _) => json!("auto"),
        ("any", _) => json!("required"),
        ("none", _) => json!("none"),
        ("tool", Some(name)) => json!({"type": "function", "function": {"name": name}}),
        _ => return Err(shape("tool_choice")),
    };
    let one_at_a_time = given.disable_parallel_tool_use == Some(true);
    Ok((Some(choice), one_at_a_time.then_some(false)))
}

fn response_format(body: &RawObject) -> Option<Value> {
    let config: Value = body.read("output_config")?;
    let format = config.get("format")?;
    (format.get("type")? == "json_schema").then(|| {
        json!({"type": "json_schema", "json_schema": {
            "name": "answer", "strict": true, "schema": format.get("schema"),
        }})
    })
}
