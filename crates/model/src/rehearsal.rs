//! The built-in rehearsal model: deterministic, needs nothing, follows a script in the user's
//! message. Its grammar is documented in `docs/rehearsal.md`.
//!
//! It keeps no place in a script: the step to play is derived from the conversation alone, so a
//! crash, another replica or a repeated request gives the same answer.

mod conversation;
mod failures;
mod script;
mod turn;

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{IdSource, Timestamp};
use futures_util::stream;

use crate::config::RehearsalConfig;
use crate::error::{ModelError, ModelErrorKind};
use crate::provider::{EventStream, Provider, ProviderInfo, StreamEvent};
use crate::request::ModelRequest;
use conversation::Conversation;
use failures::Failures;
use turn::Act;

/// Its id.
pub const MODEL_ID: &str = "rehearsal";
/// How it is listed.
pub const DISPLAY_NAME: &str = "Rehearsal (built in, not a language model)";
/// Its date in the model list: 2026-01-01T00:00:00Z.
pub const CREATED_AT: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Longest `wait:` and start delay: ten minutes.
pub const MAX_WAIT_MS: u64 = 600_000;
/// The first words of the first answer of a conversation.
pub const INTRODUCTION: &str = "This is the built-in rehearsal model, not a language model.";

/// The model.
pub struct Rehearsal {
    config: RehearsalConfig,
    ids: IdSource,
    failures: Failures,
}

impl Rehearsal {
    /// A model that waits `config.delay_ms` before each answer.
    pub fn new(config: RehearsalConfig, ids: IdSource) -> Self {
        Self {
            config,
            ids,
            failures: Failures::default(),
        }
    }

    fn fits(&self, input_tokens: u64) -> Result<(), ModelError> {
        let window = self.config.context_window;
        if input_tokens <= window {
            return Ok(());
        }
        Err(ModelError::new(
            ModelErrorKind::ContextExceeded,
            format!("prompt is too long: {input_tokens} tokens > {window} maximum"),
        )
        .with_status(400))
    }
}

#[async_trait]
impl Provider for Rehearsal {
    async fn stream(&self, req: ModelRequest) -> Result<EventStream, ModelError> {
        let conversation = Conversation::read(&req.body)?;
        pause(self.config.delay_ms).await;
        self.fits(conversation.input_tokens)?;
        let mut acts = turn::play(&conversation, &self.ids, &self.failures);
        // What comes before the first event is part of the request, as with a real upstream.
        loop {
            match acts.front() {
                Some(Act::Wait(ms)) => {
                    pause(*ms).await;
                    acts.pop_front();
                }
                Some(Act::Fail(_)) => {
                    if let Some(Act::Fail(error)) = acts.pop_front() {
                        return Err(error);
                    }
                }
                Some(Act::Event(_)) | None => break,
            }
        }
        Ok(Box::pin(stream::unfold(acts, next_event)))
    }

    async fn count_tokens(&self, req: ModelRequest) -> Result<u64, ModelError> {
        Ok(Conversation::read(&req.body)?.input_tokens)
    }

    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            name: MODEL_ID.to_owned(),
            kind: "rehearsal",
            endpoint: None,
        }
    }
}

async fn next_event(
    mut acts: VecDeque<Act>,
) -> Option<(Result<StreamEvent, ModelError>, VecDeque<Act>)> {
    loop {
        match acts.pop_front()? {
            Act::Wait(ms) => pause(ms).await,
            Act::Event(event) => return Some((Ok(event), acts)),
            Act::Fail(error) => return Some((Err(error), VecDeque::new())),
        }
    }
}

async fn pause(ms: u64) {
    if 0 < ms {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

#[cfg(test)]
mod tests;
