//! From the message to the end of its turn.

use std::collections::HashMap;
use std::io::IsTerminal;

use freehold_client::{Client, Event, Frame, History, Previews, Since};
use freehold_wire::event::{EventBody, StopReason};
use freehold_wire::usage::SessionUsage;
use serde_json::json;

use super::confirm::{self, Waiting};
use super::view::View;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// How a turn ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) usage: Option<SessionUsage>,
}

struct Turn<'a> {
    client: &'a Client,
    session: &'a str,
    json: bool,
    view: View,
    usage: Option<SessionUsage>,
    /// Calls that may have to be confirmed.
    calls: HashMap<String, Waiting>,
    interrupted: bool,
}

/// Sends the prompt and shows what happens until the session is idle or over.
pub(super) async fn follow(
    client: &Client,
    session: &str,
    prompt: &str,
    json: bool,
) -> Result<Ended, Failure> {
    let previews = if json { Previews::Off } else { Previews::On };
    let mut history = client.stream_with_history(session, previews, Since::Start);
    history.open().await?;
    let message =
        json!({ "type": "user.message", "content": [{ "type": "text", "text": prompt }] });
    client.send_events(session, &[message]).await?;
    let mut turn = Turn {
        client,
        session,
        json,
        view: View::new(!json && std::io::stdout().is_terminal()).without_prompts(),
        usage: None,
        calls: HashMap::new(),
        interrupted: false,
    };
    let exit = turn.play(&mut history).await;
    turn.view.finish()?;
    Ok(Ended {
        exit: exit?,
        usage: turn.usage,
    })
}

impl Turn<'_> {
    async fn play(&mut self, history: &mut History) -> Result<Exit, Failure> {
        loop {
            let frame = tokio::select! {
                frame = history.next() => frame?,
                signal = tokio::signal::ctrl_c() => {
                    signal.map_err(|e| Failure::because("cannot wait for signals", &e))?;
                    if self.interrupted {
                        return Err(Failure::silent(Exit::Interrupted)
                            .hint(format!("the session goes on: `freehold sessions tail {}`", self.session)));
                    }
                    self.interrupt().await?;
                    continue;
                }
            };
            match frame {
                None => return Ok(Exit::SessionFailed),
                Some(Frame::Event(event)) => {
                    if self.json {
                        terminal::print(event.raw())?;
                    } else {
                        self.view.frame(&Frame::Event(event.clone()))?;
                    }
                    if let Some(exit) = self.event(&event).await? {
                        return Ok(exit);
                    }
                }
                Some(preview) if !self.json => self.view.frame(&preview)?,
                Some(_) => {}
            }
        }
    }

    async fn interrupt(&mut self) -> Result<(), Failure> {
        self.interrupted = true;
        self.view
            .note("interrupting; press Ctrl-C again to leave")?;
        self.client
            .send_events(self.session, &[json!({ "type": "user.interrupt" })])
            .await?;
        Ok(())
    }

    /// What an event means for the command; a status ends it.
    async fn event(&mut self, event: &Event) -> Result<Option<Exit>, Failure> {
        match event.body() {
            Some(EventBody::Usage(u)) => self.usage = Some(u.usage),
            Some(EventBody::AgentToolUse(call)) => {
                self.calls
                    .insert(event.id.clone(), Waiting::built_in(&call));
            }
            Some(EventBody::AgentMcpToolUse(call)) => {
                self.calls.insert(event.id.clone(), Waiting::mcp(&call));
            }
            Some(EventBody::AgentCustomToolUse(call)) => {
                self.calls.insert(event.id.clone(), Waiting::custom(&call));
            }
            Some(EventBody::StatusTerminated(_)) => return Ok(Some(Exit::SessionFailed)),
            Some(EventBody::StatusIdle(idle)) => return self.idle(&idle.stop_reason).await,
            _ => {}
        }
        Ok(None)
    }

    async fn idle(&mut self, reason: &StopReason) -> Result<Option<Exit>, Failure> {
        Ok(Some(match reason {
            StopReason::EndTurn if self.interrupted => Exit::Interrupted,
            StopReason::EndTurn => Exit::Ok,
            StopReason::RetriesExhausted => Exit::SessionFailed,
            StopReason::BudgetReached => Exit::BudgetReached,
            StopReason::Refusal => Exit::Refused,
            StopReason::RequiresAction { event_ids } => {
                let calls: Vec<_> = event_ids
                    .iter()
                    .filter_map(|id| Some((id.as_str(), self.calls.get(id.as_str())?)))
                    .collect();
                let answers = if self.json {
                    None
                } else {
                    confirm::ask(&calls).await?
                };
                let Some(answers) = answers else {
                    return Ok(Some(Exit::ActionRequired));
                };
                self.client.send_events(self.session, &answers).await?;
                return Ok(None);
            }
        }))
    }
}
