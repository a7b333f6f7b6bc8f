//! The grammar of scripts; `docs/rehearsal.md` is its documentation.

use serde_json::{Map, Value, json};

use super::MAX_WAIT_MS;
use crate::error::ModelErrorKind;

/// Steps of one script.
pub(super) const MAX_STEPS: usize = 1_000;
/// Calls of one `parallel:` group.
pub(super) const MAX_PARALLEL: usize = 64;

/// One tool call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) input: Map<String, Value>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Say(String),
    Think(String),
    Wait(u64),
    /// Fails the first `times` attempts.
    Error {
        kind: ModelErrorKind,
        times: u32,
    },
    /// Ends the answer, and the script, as a refusal.
    Refuse(String),
    /// One call, or several made at once; ends the model's turn.
    Calls(Vec<Call>),
}

/// Why a script cannot be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Line of the message, from 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

const WORDS: &[&str] = &[
    "say", "think", "bash", "read", "write", "glob", "grep", "fetch", "search", "tool", "parallel",
    "end", "wait", "error", "refuse",
];

/// The steps in `text`; empty when no line is a directive.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    let mut group: Option<Vec<Call>> = None;
    for (line, word, argument) in directives(text) {
        let problem = |reason: String| Problem { line, reason };
        let step = match word {
            "parallel" => {
                steps.extend(close(&mut group));
                group = Some(Vec::new());
                continue;
            }
            "end" => {
                steps.extend(close(&mut group));
                continue;
            }
            _ => step(word, &argument).map_err(problem)?,
        };
        match (&mut group, step) {
            (Some(calls), Step::Calls(call)) => {
                calls.extend(call);
                if MAX_PARALLEL < calls.len() {
                    return Err(problem(format!("more than {MAX_PARALLEL} parallel calls")));
                }
            }
            (_, step) => {
                steps.extend(close(&mut group));
                steps.push(step);
            }
        }
        if MAX_STEPS < steps.len() {
            return Err(problem(format!("more than {MAX_STEPS} steps")));
        }
    }
    steps.extend(close(&mut group));
    Ok(steps)
}

fn close(group: &mut Option<Vec<Call>>) -> Option<Step> {
    group
        .take()
        .filter(|calls| !calls.is_empty())
        .map(Step::Calls)
}

/// Line number, word and argument of every directive; a line that begins with `|` continues the
/// argument of the one before it.
fn directives(text: &str) -> Vec<(usize, &'static str, String)> {
    let mut found: Vec<(usize, &'static str, String)> = Vec::new();
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if let (Some(more), true) = (line.strip_prefix('|'), open) {
            if let Some((_, _, argument)) = found.last_mut() {
                argument.push('\n');
                argument.push_str(more.strip_prefix(' ').unwrap_or(more));
            }
            continue;
        }
        let directive = line.split_once(':').and_then(|(word, argument)| {
            let word = WORDS.iter().find(|w| **w == word)?;
            Some((i + 1, *word, argument.trim().to_owned()))
        });
        open = directive.is_some();
        found.extend(directive);
    }
    found
}

fn step(word: &str, argument: &str) -> Result<Step, String> {
    let needed = || {
        if argument.is_empty() {
            Err(format!("`{word}:` needs something after the colon"))
        } else {
            Ok(argument.to_owned())
        }
    };
    let call = |name: &str, input: Value| {
        let input = match input {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Step::Calls(vec![Call {
            name: name.to_owned(),
            input,
        }])
    };
    Ok(match word {
        "say" => Step::Say(needed()?),
        "think" => Step::Think(needed()?),
        "bash" => call("bash", json!({"command": needed()?})),
        "read" => call("read", json!({"file_path": needed()?})),
        "write" => {
            let (path, content) = argument
                .split_once("<<<")
                .ok_or("`write:` is written `write: PATH <<< CONTENT`")?;
            let path = path.trim();
            if path.is_empty() {
                return Err("`write:` needs a path before `<<<`".into());
            }
            let content = content.strip_prefix(' ').unwrap_or(content);
            let content = content.strip_prefix('\n').unwrap_or(content);
            call("write", json!({"file_path": path, "content": content}))
        }
        "glob" => call("glob", json!({"pattern": needed()?})),
        "grep" => call("grep", json!({"pattern": needed()?})),
        "fetch" => call("web_fetch", json!({"url": needed()?})),
        "search" => call("web_search", json!({"query": needed()?})),
        "tool" => {
            let argument = needed()?;
            let (name, input) = argument
                .split_once(char::is_whitespace)
                .unwrap_or((&argument, "{}"));
            match serde_json::from_str(input.trim()) {
                Ok(input @ Value::Object(_)) => call(name, input),
                _ => return Err("`tool:` is written `tool: NAME {JSON object}`".into()),
            }
        }
        "wait" => Step::Wait(
            argument
                .parse()
                .ok()
                .filter(|ms| *ms <= MAX_WAIT_MS)
                .ok_or_else(|| format!("`wait:` takes milliseconds up to {MAX_WAIT_MS}"))?,
        ),
        "error" => error_step(argument)?,
        "refuse" => Step::Refuse(needed()?),
        // `directives` gives no other words, and `parse` has handled the grouping ones.
        other => return Err(format!("`{other}:` cannot stand here")),
    })
}

fn error_step(argument: &str) -> Result<Step, String> {
    use ModelErrorKind as K;
    let mut words = argument.split_whitespace();
    let kind = match words.next().unwrap_or("") {
        "overloaded" => K::Overloaded,
        "rate_limited" => K::RateLimited,
        "billing" => K::Billing,
        "authentication" => K::Authentication,
        "invalid_request" => K::InvalidRequest,
        "context_exceeded" => K::ContextExceeded,
        "timeout" => K::Timeout,
        "network" => K::Network,
        "protocol" => K::Protocol,
        "other" => K::Other,
        _ => {
            return Err("`error:` takes one of overloaded, rate_limited, billing, \
                        authentication, invalid_request, context_exceeded, timeout, network, \
                        protocol, other"
                .into());
        }
    };
    let times = match words.next() {
        None => 1,
        Some("always") => u32::MAX,
        Some(n) => n
            .parse()
            .map_err(|_| "`error:` takes a number of times, or `always`".to_owned())?,
    };
    match words.next() {
        None => Ok(Step::Error { kind, times }),
        Some(_) => Err("`error:` takes a kind and a number of times, no more".into()),
    }
}

#[cfg(test)]
mod tests;
