//! Plays one turn of a script as the events of a Messages stream.

use std::collections::VecDeque;

use freehold_base::IdSource;
use freehold_base::id::kind;
use serde_json::Value;

use super::INTRODUCTION;
use super::conversation::{CHARS_PER_TOKEN, Conversation};
use super::failures::Failures;
use super::script::{self, Call, Problem, Step};
use crate::emit::{self, Counts};
use crate::error::{ModelError, ModelErrorKind};
use crate::provider::StreamEvent;

/// Characters of a message or tool result that are echoed.
const ECHO_CHARS: usize = 300;
/// Characters of a tool result that `{result}` stands for.
const RESULT_CHARS: usize = 2_000;
/// Least characters of a delta, so that text comes in several.
const DELTA_CHARS: usize = 12;

/// What the stream does next.
#[derive(Debug)]
pub(super) enum Act {
    Wait(u64),
    Event(StreamEvent),
    Fail(ModelError),
}

/// The acts of the answer that is due.
pub(super) fn play(
    conversation: &Conversation,
    ids: &IdSource,
    failures: &Failures,
) -> VecDeque<Act> {
    let mut answer = Answer::new(conversation, ids);
    match script::parse(&conversation.prompt) {
        Err(problem) => answer.say(&complaint(&problem)),
        Ok(steps) if steps.is_empty() => answer.say(&help(conversation)),
        Ok(steps) => {
            if !answer.follow(&due(steps, conversation.turns_played), failures) {
                return answer.acts;
            }
        }
    }
    failures.forget(conversation.fingerprint);
    answer.end()
}

/// The steps of turn `turn`, with their places in the script: a turn ends with its calls.
fn due(steps: Vec<Step>, turn: usize) -> Vec<(usize, Step)> {
    let mut at = 0;
    let mut due = Vec::new();
    for (i, step) in steps.into_iter().enumerate() {
        let ends = matches!(step, Step::Calls(_));
        if at == turn {
            due.push((i, step));
        }
        at += usize::from(ends);
    }
    due
}

struct Answer<'a> {
    conversation: &'a Conversation,
    ids: &'a IdSource,
    acts: VecDeque<Act>,
    /// Whether `message_start` is among the acts.
    started: bool,
    /// Whether the introduction is still to be said.
    introduce: bool,
    index: usize,
    chars_left: u64,
    chars: u64,
    stop_reason: &'static str,
    explanation: Option<String>,
}

impl<'a> Answer<'a> {
    fn new(conversation: &'a Conversation, ids: &'a IdSource) -> Self {
        Self {
            conversation,
            ids,
            acts: VecDeque::new(),
            started: false,
            introduce: conversation.is_first_answer,
            index: 0,
            chars_left: conversation.max_tokens.saturating_mul(CHARS_PER_TOKEN),
            chars: 0,
            stop_reason: "end_turn",
            explanation: None,
        }
    }

    /// Plays steps; false when one of them fails the request.
    fn follow(&mut self, steps: &[(usize, Step)], failures: &Failures) -> bool {
        for (place, step) in steps {
            match step {
                Step::Say(text) => {
                    let result = self.conversation.last_result.as_ref();
                    let result = result.map_or("", |(text, _)| text.as_str());
                    self.say(&text.replace("{result}", &head(result, RESULT_CHARS)));
                }
                Step::Think(text) => self.think(text),
                Step::Wait(ms) => self.acts.push_back(Act::Wait(*ms)),
                Step::Error { kind, times } => {
                    if failures.fails_again(self.conversation.fingerprint, *place, *times) {
                        self.acts.push_back(Act::Fail(rehearsed(*kind)));
                        return false;
                    }
                }
                Step::Refuse(explanation) => {
                    self.introduction();
                    self.stop_reason = "refusal";
                    self.explanation = Some(explanation.clone());
                    return true;
                }
                Step::Calls(calls) => {
                    self.introduction();
                    for call in calls {
                        self.call(call);
                    }
                    if self.stop_reason == "end_turn" {
                        self.stop_reason = "tool_use";
                    }
                }
            }
            if self.stop_reason == "max_tokens" {
                return true;
            }
        }
        if self.stop_reason == "end_turn" && (self.index == 0 || self.introduce) {
            self.say(&closing(self.conversation));
        }
        true
    }

    /// The introduction as a block of its own, where no text follows to take it.
    fn introduction(&mut self) {
        if self.introduce {
            self.say("");
        }
    }

    fn say(&mut self, text: &str) {
        let text = match (std::mem::take(&mut self.introduce), text) {
            (false, text) => text.to_owned(),
            (true, "") => INTRODUCTION.to_owned(),
            (true, text) => format!("{INTRODUCTION}\n\n{text}"),
        };
        self.start();
        self.event(emit::text_start(self.index));
        self.parts(&text, emit::text_delta);
        self.stop_block();
    }

    fn think(&mut self, text: &str) {
        self.start();
        self.event(emit::thinking_start(self.index));
        self.parts(text, emit::thinking_delta);
        // Looks like one and is opaque like one; nothing checks it.
        let signature = format!("cmVoZWFyc2Fs{:016x}", self.conversation.fingerprint);
        self.event(emit::signature_delta(self.index, &signature));
        self.stop_block();
    }

    fn call(&mut self, call: &Call) {
        if self.stop_reason == "max_tokens" {
            return;
        }
        let id = self.ids.next::<kind::ToolUse>().to_string();
        self.start();
        self.event(emit::tool_use_start(self.index, &id, &call.name));
        let input = Value::Object(call.input.clone()).to_string();
        self.parts(&input, emit::input_delta);
        self.stop_block();
    }

    /// Text in deltas, as far as `max_tokens` allows.
    fn parts(&mut self, text: &str, delta: impl Fn(usize, &str) -> StreamEvent) {
        let total = text.chars().count() as u64;
        let kept = total.min(self.chars_left);
        self.chars_left -= kept;
        self.chars += kept;
        let kept = head_exact(text, kept);
        for part in split(kept) {
            self.event(delta(self.index, part));
        }
        if kept.len() < text.len() {
            self.stop_reason = "max_tokens";
        }
    }

    fn stop_block(&mut self) {
        self.event(emit::block_stop(self.index));
        self.index += 1;
    }

    fn start(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = self.ids.next::<kind::Message>().to_string();
        let conversation = self.conversation;
        self.event(emit::message_start(
            &id,
            &conversation.model,
            conversation.input_tokens,
        ));
    }

    fn end(mut self) -> VecDeque<Act> {
        self.start();
        let counts = Counts {
            input: self.conversation.input_tokens,
            cache_read: 0,
            output: self.chars.div_ceil(CHARS_PER_TOKEN).max(1),
        };
        let end = emit::message_end(self.stop_reason, self.explanation.as_deref(), counts);
        self.acts.extend(end.map(Act::Event));
        self.acts
    }

    fn event(&mut self, event: StreamEvent) {
        self.acts.push_back(Act::Event(event));
    }
}

/// Pieces of at least [`DELTA_CHARS`] characters that end at word ends where there are any.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .char_indices()
            .skip(DELTA_CHARS)
            .find(|(i, c)| c.is_whitespace() || 2 * DELTA_CHARS < rest[..*i].chars().count())
            .map_or(rest.len(), |(i, _)| i);
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

fn head_exact(text: &str, chars: u64) -> &str {
    let nth = usize::try_from(chars).unwrap_or(usize::MAX);
    text.char_indices()
        .nth(nth)
        .map_or(text, |(end, _)| &text[..end])
}

fn head(text: &str, chars: usize) -> String {
    crate::error::cut_chars(text.to_owned(), chars)
}

fn rehearsed(kind: ModelErrorKind) -> ModelError {
    use ModelErrorKind as K;
    let status = match kind {
        K::Overloaded => Some(529),
        K::RateLimited => Some(429),
        K::Billing => Some(402),
        K::Authentication => Some(401),
        K::InvalidRequest | K::ContextExceeded => Some(400),
        K::Other => Some(500),
        K::Timeout | K::Network | K::Protocol => None,
    };
    let mut error = ModelError::new(
        kind,
        "rehearsed error: the script in the message asks for it",
    );
    error.status = status;
    error
}

/// What is said when the script is at its end and has not said anything itself.
fn closing(conversation: &Conversation) -> String {
    match &conversation.last_result {
        None => "The script is at its end.".to_owned(),
        Some((text, failed)) => {
            let what = if *failed { "error" } else { "result" };
            let text = head(text, ECHO_CHARS);
            format!("The script is at its end. The last tool {what} was:\n{text}")
        }
    }
}

fn complaint(problem: &Problem) -> String {
    format!(
        "I cannot follow line {} of the script, so I did nothing: {}.",
        problem.line, problem.reason
    )
}

/// The examples are list items, so that a text that quotes this one is not taken for a script.
fn help(conversation: &Conversation) -> String {
    let prompt = &conversation.prompt;
    let tools = if conversation.tools.is_empty() {
        "none".to_owned()
    } else {
        head(&conversation.tools.join(", "), ECHO_CHARS)
    };
    format!(
        "I do not understand language; I follow scripts. Your message has {} characters and no \
         line I know as a directive. It begins: \"{}\"\nTools on offer: {tools}.\n\n\
         Send lines like these, without the dashes, and I play them in order:\n\
         - say: Hello there.\n\
         - bash: uname -a\n\
         - write: notes.txt <<< some text\n\
         - read: notes.txt\n\
         - tool: NAME {{\"key\": \"value\"}}\n\
         - say: The tool said {{result}}\n\
         Also: think, glob, grep, fetch, search, parallel, wait, error, refuse. \
         See docs/rehearsal.md.",
        prompt.chars().count(),
        head(prompt, ECHO_CHARS),
    )
}
