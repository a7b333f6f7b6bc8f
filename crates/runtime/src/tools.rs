//! A round of tool calls that the server runs: all at once, each with its own end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{EventId, limits};
use freehold_engine::{Call, CallKind, Draft};
use freehold_wire::agent::SessionAgent;
use freehold_wire::content::{ContentBlock, TextBlock};
use freehold_wire::tool::{BuiltinTool, BuiltinToolConfig, Tool};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::executor::{Place, ToolCall, ToolReply};
use crate::load::is_self_hosted;
use crate::mcp::dispatch;
use crate::runtime::Shared;

/// How long a cancelled call may take to end before it is abandoned.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// The calls that are running.
#[derive(Default)]
pub(crate) struct Running {
    tasks: JoinSet<ToolReply>,
    calls: HashMap<task::Id, (Call, CancellationToken)>,
}

impl Running {
    /// Ids of the running calls.
    pub(crate) fn ids(&self) -> HashSet<EventId> {
        self.calls
            .values()
            .map(|(call, _)| call.use_id.clone())
            .collect()
    }

    /// Whether none runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Starts a call.
    pub(crate) fn start(
        &mut self,
        shared: &Arc<Shared>,
        place: &Arc<Place>,
        call: &Call,
        agent: &Arc<SessionAgent>,
    ) {
        let cancel = CancellationToken::new();
        let key = (call.clone(), cancel.clone());
        let (shared, place) = (Arc::clone(shared), Arc::clone(place));
        if call.kind == CallKind::Mcp {
            let (call, agent) = (call.clone(), Arc::clone(agent));
            let task = self.tasks.spawn(async move {
                freehold_base::crash_point!("tool.call.before");
                let reply = dispatch::call(&shared, &place.session, &agent, &call, cancel).await;
                freehold_base::crash_point!("tool.call.after");
                spill(&shared, &place, &call.use_id, reply).await
            });
            self.calls.insert(task.id(), key);
            return;
        }
        let CallKind::Server(tool) = call.kind else {
            return;
        };
        let call = ToolCall {
            id: call.use_id.clone(),
            tool,
            input: call.input.clone(),
            config: tool_config(agent, tool),
        };
        let task = self.tasks.spawn(async move {
            freehold_base::crash_point!("tool.call.before");
            let reply = shared.executor.call(&place, &call, cancel).await;
            freehold_base::crash_point!("tool.call.after");
            spill(&shared, &place, &call.id, reply).await
        });
        self.calls.insert(task.id(), key);
    }

    /// The next call to finish; `None` when none runs. Safe to drop.
    pub(crate) async fn next(&mut self) -> Option<(Call, ToolReply)> {
        let (task, reply) = match self.tasks.join_next_with_id().await? {
            Ok((task, reply)) => (task, reply),
            Err(error) => {
                tracing::error!(%error, "a tool call did not end properly");
                (error.id(), ToolReply::error("internal error in the tool"))
            }
        };
        self.calls.remove(&task).map(|(call, _)| (call, reply))
    }

    /// Stops every call; afterwards none runs. Their replies are dropped.
    pub(crate) async fn cancel_all(&mut self) {
        for (_, cancel) in self.calls.values() {
            cancel.cancel();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CANCEL_GRACE, all).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.calls.clear();
    }

    /// Waits up to `grace` for calls to finish and gives their replies; the rest is stopped.
    pub(crate) async fn drain(&mut self, grace: Duration) -> Vec<(Call, ToolReply)> {
        let mut done = Vec::new();
        let deadline = tokio::time::Instant::now() + grace;
        while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, self.next()).await {
            done.push(finished);
        }
        self.cancel_all().await;
        done
    }
}

/// The agent's override for a tool.
fn tool_config(agent: &SessionAgent, tool: BuiltinTool) -> Option<BuiltinToolConfig> {
    agent.tools.iter().find_map(|t| match t {
        Tool::AgentToolset(set) => set.configs.iter().find(|c| c.name == tool).cloned(),
        _ => None,
    })
}

/// The event of a finished call.
pub(crate) fn result(call: &Call, reply: ToolReply, shared: &Shared) -> Draft {
    let mut draft = Draft::default();
    draft.push(
        shared.ids.next(),
        call.answer(reply.content, reply.is_error),
    );
    draft
}

/// Moves long text into a file in the sandbox, leaving a preview and the path (contract 55 §12).
async fn spill(shared: &Shared, place: &Place, id: &EventId, mut reply: ToolReply) -> ToolReply {
    for (i, block) in reply.content.iter_mut().enumerate() {
        let ContentBlock::Text(TextBlock { text }) = block else {
            continue;
        };
        let chars = text.chars().count();
        if chars <= limits::TOOL_OUTPUT_SPILL_CHARS {
            continue;
        }
        if is_self_hosted(&place.config) {
            // There is no sandbox of ours that the rest could be put into.
            let cut: String = text.chars().take(limits::TOOL_OUTPUT_SPILL_CHARS).collect();
            *text = format!("{cut}\n\n[The output of {chars} characters is cut here.]");
            continue;
        }
        let path = format!("/workspace/.tool_outputs/{id}-{i}.txt");
        let full = std::mem::take(text).into_bytes();
        let preview: String = String::from_utf8_lossy(&full)
            .chars()
            .take(limits::TOOL_OUTPUT_PREVIEW_CHARS)
            .collect();
        let note = match shared.executor.write_file(place, &path, full).await {
            Ok(()) => format!("The full output of {chars} characters is in this file: {path}"),
            Err(error) => {
                tracing::warn!(session = %place.session, %error, "tool output not spilled");
                format!("The output had {chars} characters; the rest could not be kept")
            }
        };
        *text =
            format!("{preview}\n\n[The output is cut: above are its first characters. {note} ]");
    }
    reply
}
