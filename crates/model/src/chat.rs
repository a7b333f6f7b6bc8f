//! Providers that speak Chat Completions: llama.cpp's server, vLLM, Ollama and others. Requests
//! and streams are translated from and to Messages.
//!
//! What the translation leaves out, by necessity: thinking in both directions, cache markers,
//! `output_config.effort`, PDF documents (a note tells the model of them). Server tools are
//! refused. `count_tokens` is an estimate, because Chat Completions has no counter.

mod answer;
mod convert;
mod outgoing;
mod tool_calls;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::{IdSource, Secret};
use futures_util::stream;

use crate::classify;
use crate::config::{ConfigError, MidSystem, Timeouts};
use crate::error::{ModelError, ModelErrorKind};
use crate::http::{Frames, Upstream};
use crate::provider::{EventStream, Provider, ProviderInfo, StreamEvent};
use crate::request::ModelRequest;
use answer::Answer;
use outgoing::Outgoing;

/// A Chat Completions endpoint at some base URL.
pub struct ChatProvider {
    upstream: Arc<Upstream>,
    /// Our id to upstream's, where they differ.
    names: BTreeMap<String, String>,
    mid_system: MidSystem,
    ids: IdSource,
}

impl ChatProvider {
    /// A provider at `base_url`, the part before `/chat/completions`; a base without a path gets
    /// `/v1`. `names` maps our model ids to upstream's; others go as they are.
    ///
    /// # Errors
    /// [`ConfigError`] when the URL cannot be used or the client cannot be made.
    pub fn new(
        name: &str,
        base_url: &str,
        key: Option<Secret<String>>,
        timeouts: Timeouts,
        names: BTreeMap<String, String>,
        mid_system: MidSystem,
        ids: IdSource,
    ) -> Result<Self, ConfigError> {
        let upstream = Arc::new(Upstream::new(name, base_url, key, timeouts)?);
        Ok(Self {
            upstream,
            names,
            mid_system,
            ids,
        })
    }

    fn outgoing(&self, req: &ModelRequest) -> Result<Outgoing, ModelError> {
        let id = req.model().unwrap_or_default();
        let name = self.names.get(&id).cloned().unwrap_or(id);
        convert::request(&req.body, name, self.mid_system).map_err(|wrong| {
            ModelError::new(ModelErrorKind::InvalidRequest, wrong.to_string()).with_status(400)
        })
    }
}

#[async_trait]
impl Provider for ChatProvider {
    async fn stream(&self, req: ModelRequest) -> Result<EventStream, ModelError> {
        let outgoing = self.outgoing(&req)?;
        let input_estimate = outgoing.estimate_tokens();
        let mut segments = vec!["chat", "completions"];
        if self.upstream.base().path() == "/" {
            segments.insert(0, "v1");
        }
        let mut request = self
            .upstream
            .post(self.upstream.at(&segments), outgoing.to_bytes())
            .header("accept", "text/event-stream");
        if let Some(key) = self.upstream.key_header("Bearer ") {
            request = request.header("authorization", key);
        }
        let response = self.upstream.accepted(request).await?;
        let frames = self.upstream.frames(response)?;
        let known: HashSet<String> = outgoing.tool_call_ids().map(str::to_owned).collect();
        let answer = Answer::new(
            req.model().unwrap_or_default(),
            input_estimate,
            known,
            self.ids.clone(),
        );
        let state = Running {
            frames,
            answer,
            ready: VecDeque::new(),
            over: false,
        };
        Ok(Box::pin(stream::unfold(state, Running::step)))
    }

    async fn count_tokens(&self, req: ModelRequest) -> Result<u64, ModelError> {
        Ok(self.outgoing(&req)?.estimate_tokens())
    }

    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            name: self.upstream.name().to_owned(),
            kind: "chat",
            endpoint: Some(self.upstream.base().to_string()),
        }
    }
}

/// A running answer.
struct Running {
    frames: Frames,
    answer: Answer,
    ready: VecDeque<StreamEvent>,
    over: bool,
}

impl Running {
    async fn step(mut self) -> Option<(Result<StreamEvent, ModelError>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            let taken = match self.frames.next().await {
                Some(Ok(frame)) if frame.data.trim() == "[DONE]" => {
                    self.over = true;
                    self.answer.end(true)
                }
                Some(Ok(frame)) if frame.event == "error" => {
                    Err(classify::stream_error(&frame.data))
                }
                Some(Ok(frame)) => self.answer.chunk(&frame.data),
                Some(Err(error)) => Err(error),
                None => {
                    self.over = true;
                    self.answer.end(false)
                }
            };
            match taken {
                Ok(events) => self.ready.extend(events),
                Err(error) => {
                    self.over = true;
                    let error = self.frames.scrub(error);
                    return Some((Err(error), self));
                }
            }
        }
    }
}
