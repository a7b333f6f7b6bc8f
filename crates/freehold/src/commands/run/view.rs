//! A session's frames as lines for people. Everything in them is hostile text.

use std::io::Write;

use freehold_client::{Event, Frame};
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{EventBody, RetryStatus, SessionError, StopReason};
use serde_json::value::RawValue;

use super::spinner::Spinner;
use crate::exit::Failure;
use crate::terminal::{Cleaner, Style, Styles, clean, clean_line};

/// Characters of a tool's input that are shown.
const INPUT_CHARS: usize = 160;
/// Lines of a tool's result that are shown, and characters of each.
const RESULT_LINES: usize = 8;
const LINE_CHARS: usize = 160;

/// Shows frames one after the other.
pub(crate) struct View {
    styles: Styles,
    spinner: Spinner,
    prompts: bool,
    preview: Option<Preview>,
    out: std::io::Stdout,
}

/// A message that is being written.
struct Preview {
    id: String,
    /// What came so far, uncleaned: the committed text begins with it, or replaces it.
    text: String,
    cleaner: Cleaner,
}

impl View {
    /// With a spinner if `live`.
    pub(crate) fn new(live: bool) -> Self {
        Self {
            styles: Styles::stdout(),
            spinner: Spinner::new(live),
            prompts: true,
            preview: None,
            out: std::io::stdout(),
        }
    }

    /// Does not show what the user said: they just did.
    pub(crate) fn without_prompts(mut self) -> Self {
        self.prompts = false;
        self
    }

    /// Shows a frame.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        match frame {
            Frame::Start { id, kind } if kind == "agent.message" => {
                self.end_preview()?;
                self.preview = Some(Preview {
                    id: id.clone(),
                    text: String::new(),
                    cleaner: Cleaner::default(),
                });
            }
            Frame::Start { .. } => self.spinner.spin("thinking"),
            Frame::Delta { id, text, .. } => {
                if let Some(preview) = self.preview.as_mut().filter(|p| p.id == *id) {
                    preview.text.push_str(text);
                    let shown = preview.cleaner.push(text);
                    self.text(&shown)?;
                }
            }
            Frame::Event(event) => self.event(event)?,
        }
        Ok(())
    }

    /// Says something of our own.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.line(Style::Dim, text)
    }

    /// Ends what is half shown.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.spinner.stop();
        self.end_preview()
    }

    fn event(&mut self, event: &Event) -> Result<(), Failure> {
        let Some(body) = event.body() else {
            return Ok(());
        };
        match body {
            EventBody::UserMessage(m) if self.prompts => {
                self.line(Style::Bold, &format!("> {}", clean(&texts(&m.content))))
            }
            EventBody::AgentMessage(m) => self.message(&event.id, &texts(&m.content)),
            EventBody::AgentToolUse(call) => self.call(&call.name, &call.input),
            EventBody::AgentMcpToolUse(call) => {
                let name = format!("{}: {}", call.mcp_server_name, call.name);
                self.call(&name, &call.input)
            }
            EventBody::AgentMcpToolResult(r) => self.result(&r.content, r.is_error == Some(true)),
            EventBody::AgentCustomToolUse(call) => self.call(&call.name, &call.input),
            EventBody::AgentToolResult(r) | EventBody::UserToolResult(r) => {
                self.result(&r.content, r.is_error == Some(true))
            }
            EventBody::UserCustomToolResult(r) => self.result(&r.content, r.is_error == Some(true)),
            EventBody::Error(e) => self.error(&e.error),
            EventBody::ContextCompacted(_) => self.line(Style::Dim, "(the context was summarised)"),
            EventBody::StatusTerminated(_) => self.line(Style::Bad, "the session is over"),
            EventBody::StatusIdle(idle) => {
                self.finish()?;
                match idle.stop_reason {
                    StopReason::RequiresAction { .. } if self.prompts => {
                        self.line(Style::Warn, "the session waits for an answer")
                    }
                    _ => Ok(()),
                }
            }
            EventBody::StatusRunning(_) => {
                self.spinner.spin("working");
                Ok(())
            }
            EventBody::ModelRequestStart(_) => {
                self.spinner.spin("thinking");
                Ok(())
            }
            EventBody::ModelRequestEnd(end) if end.is_error == Some(true) => self.end_preview(),
            _ => Ok(()),
        }
    }

    fn message(&mut self, id: &str, text: &str) -> Result<(), Failure> {
        match self.preview.take() {
            Some(mut preview) if preview.id == id && text.starts_with(&preview.text) => {
                let rest = preview.cleaner.push(&text[preview.text.len()..]);
                self.text(&rest)?;
                self.text("\n")
            }
            Some(preview) => {
                self.preview = Some(preview);
                self.end_preview()?;
                self.text(&format!("{}\n", clean(text)))
            }
            None => self.text(&format!("{}\n", clean(text))),
        }
    }

    fn call(&mut self, name: &str, input: &RawValue) -> Result<(), Failure> {
        self.end_preview()?;
        self.spinner.stop();
        let (name, input) = (
            clean_line(name, 64),
            clean_line(&summary(input), INPUT_CHARS),
        );
        let head = self.styles.paint(Style::Bold, &format!("● {name}"));
        writeln!(self.out, "{head} {input}")?;
        self.spinner.spin("running tools");
        Ok(())
    }

    fn result(&mut self, content: &[ContentBlock], failed: bool) -> Result<(), Failure> {
        self.spinner.stop();
        let style = if failed { Style::Bad } else { Style::Dim };
        let text = clean(&texts(content));
        let lines: Vec<&str> = text.trim_end().lines().collect();
        for line in lines.iter().take(RESULT_LINES) {
            let line = format!("  {}", cut(line));
            writeln!(self.out, "{}", self.styles.paint(style, &line))?;
        }
        if lines.len() > RESULT_LINES {
            let more = format!("  … {} more lines", lines.len() - RESULT_LINES);
            writeln!(self.out, "{}", self.styles.paint(Style::Dim, &more))?;
        }
        self.spinner.spin("working");
        Ok(())
    }

    fn error(&mut self, error: &SessionError) -> Result<(), Failure> {
        let what = clean_line(&error.message, 500);
        match error.retry_status {
            // The session goes on without it.
            RetryStatus::Retrying if error.credential_id.is_some() => {
                self.line(Style::Warn, &what)?
            }
            RetryStatus::Retrying => self.line(Style::Warn, &format!("{what}; trying again"))?,
            RetryStatus::Exhausted | RetryStatus::Terminal => self.line(Style::Bad, &what)?,
        }
        Ok(())
    }

    fn line(&mut self, style: Style, text: &str) -> Result<(), Failure> {
        self.end_preview()?;
        self.text(&format!("{}\n", self.styles.paint(style, text)))
    }

    /// Ends a preview whose message will not come.
    fn end_preview(&mut self) -> Result<(), Failure> {
        match self.preview.take() {
            Some(preview) if !preview.text.is_empty() => self.text("\n"),
            _ => Ok(()),
        }
    }

    /// Clean text, at once.
    fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.spinner.stop();
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

/// The text of blocks; others by their kind.
fn texts(content: &[ContentBlock]) -> String {
    let each = content.iter().map(|block| match block {
        ContentBlock::Text(t) => t.text.as_str(),
        ContentBlock::Image(_) => "[image]",
        ContentBlock::Document(_) => "[document]",
        ContentBlock::SearchResult(r) => r.title.as_str(),
        ContentBlock::Redacted(_) => "[redacted]",
    });
    each.collect::<Vec<_>>().join("")
}

/// The part of a tool's input that tells most: a lone string as it is, else the JSON.
fn summary(input: &RawValue) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(input.get()).unwrap_or_default();
    let telling = ["command", "file_path", "pattern", "url", "query"];
    let found = telling.iter().find_map(|key| map.get(*key)?.as_str());
    found.map_or_else(|| input.get().to_owned(), str::to_owned)
}

fn cut(line: &str) -> String {
    if line.chars().count() <= LINE_CHARS {
        return line.to_owned();
    }
    line.chars().take(LINE_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_part_of_an_input() {
        for (input, shown) in [
            (r#"{"command":"ls -la","timeout":3}"#, "ls -la"),
            (
                r#"{"file_path":"/workspace/a","content":"x"}"#,
                "/workspace/a",
            ),
            (r#"{"city":"Oslo"}"#, r#"{"city":"Oslo"}"#),
        ] {
            let raw = RawValue::from_string(input.to_owned()).unwrap();
            assert_eq!(summary(&raw), shown);
        }
    }
}
