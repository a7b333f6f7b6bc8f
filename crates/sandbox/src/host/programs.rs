//! Programs started through the agent: output is pulled one piece at a time, and the clock runs
//! here, where nothing inside can stop it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::channel::{Asked, Channel};
use super::files::{exchange, in_time, unexpected, violation};
use crate::cgroup::Group;
use crate::protocol::{Answer, Ask, CHUNK, Command, MAX_COMMAND, MAX_REASON, MAX_STDIN, Problem};
use crate::{ExecEvent, ExecHandle, ExecRequest, Exit, SandboxError};

/// Pieces of output read ahead of the consumer.
const READ_AHEAD: usize = 2;
/// How long a killed program may take to be gone before the sandbox is ended.
const KILL_GRACE: Duration = Duration::from_secs(5);

pub(super) async fn start(
    channel: &Arc<Channel>,
    group: Option<Arc<Group>>,
    request: ExecRequest,
) -> Result<ExecHandle, SandboxError> {
    let too_large = |len, max| Err(SandboxError::RequestTooLarge { len, max });
    if request.stdin.len() > MAX_STDIN {
        return too_large(request.stdin.len(), MAX_STDIN);
    }
    let command = Command {
        argv: request.argv,
        env: request.env,
        cwd: request.cwd,
        output: request.output_bytes,
    };
    let mut body = serde_json::to_vec(&command).map_err(|e| SandboxError::Exec(e.to_string()))?;
    if body.len() > MAX_COMMAND {
        return too_large(body.len(), MAX_COMMAND);
    }
    let ask = Ask::Exec {
        command: body.len() as u32,
    };
    body.extend_from_slice(&request.stdin);
    let deadline = Instant::now() + request.timeout;
    let oom_before = oom_kills(group.as_deref());
    let asked = channel.ask(ask, body.into(), MAX_REASON).await?;
    let handle = asked.id;
    let unheard = Unheard { channel, handle };
    // Asked before it is known to run: programs are short, and their first words are waited for.
    let next = Ask::Next { handle };
    let next = channel.ask(next, Bytes::new(), CHUNK).await.ok();
    match in_time(channel, asked).await? {
        (Answer::Done, _) => {}
        (
            Answer::Failed {
                problem: Problem::Exec,
            },
            reason,
        ) => {
            let reason = String::from_utf8_lossy(&reason).into_owned();
            return Err(SandboxError::Exec(reason));
        }
        (answer, _) => return Err(unexpected(channel, answer)),
    }
    std::mem::forget(unheard);
    let (sender, events) = mpsc::channel(READ_AHEAD);
    let kill = CancellationToken::new();
    let watch = Watch {
        channel: channel.clone(),
        handle,
        next,
        deadline,
        kill: kill.clone(),
        left: request.output_bytes,
        timed_out: false,
        group,
        oom_before,
    };
    tokio::spawn(watch.run(sender));
    Ok(ExecHandle {
        events,
        _kill_on_drop: kill.clone().drop_guard(),
        kill,
    })
}

/// A program that may run and of which nobody has heard. Dropped, it is killed and forgotten: whoever
/// started it has gone, or it did not start.
struct Unheard<'a> {
    channel: &'a Channel,
    handle: u64,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        self.channel.cancel(self.handle);
    }
}

fn oom_kills(group: Option<&Group>) -> u64 {
    group.and_then(Group::oom_kills).unwrap_or(0)
}

/// One program that runs.
struct Watch {
    channel: Arc<Channel>,
    handle: u64,
    /// The first ask for what comes next, if it is under way.
    next: Option<Asked>,
    deadline: Instant,
    kill: CancellationToken,
    /// Bytes that may still come.
    left: u64,
    timed_out: bool,
    group: Option<Arc<Group>>,
    oom_before: u64,
}

impl Watch {
    async fn run(mut self, to: mpsc::Sender<Result<ExecEvent, SandboxError>>) {
        let mut killed = false;
        loop {
            let event = self.next(&mut killed).await;
            if event.is_err() {
                // Nobody will ask about it any more.
                self.channel.cancel(self.handle);
            }
            let last = !matches!(event, Ok(ExecEvent::Stdout(_) | ExecEvent::Stderr(_)));
            // Waiting for the consumer must not keep a program past its time.
            let sent = tokio::select! {
                sent = to.send(event) => sent.is_ok(),
                () = self.stop(), if !killed => false,
            };
            if last {
                return;
            }
            if !sent && !killed {
                killed = true;
                if self.have_killed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Fires when the program is to end.
    async fn stop(&self) {
        tokio::select! {
            () = self.kill.cancelled() => {}
            () = tokio::time::sleep_until(self.deadline) => {}
        }
    }

    async fn have_killed(&mut self) -> Result<(), SandboxError> {
        self.timed_out = !self.kill.is_cancelled();
        let ask = Ask::Kill {
            handle: self.handle,
        };
        exchange(&self.channel, ask, Bytes::new(), 0)
            .await
            .map(drop)
    }

    async fn next(&mut self, killed: &mut bool) -> Result<ExecEvent, SandboxError> {
        let mut asked = match self.next.take() {
            Some(asked) => asked,
            None => {
                let ask = Ask::Next {
                    handle: self.handle,
                };
                self.channel.ask(ask, Bytes::new(), CHUNK).await?
            }
        };
        if !*killed {
            tokio::select! {
                answered = asked.answered() => return self.event(answered?),
                () = self.stop() => {}
            }
            *killed = true;
            self.have_killed().await?;
        }
        self.last_words(&mut asked).await
    }

    /// A killed program has little time left to be heard of.
    async fn last_words(&mut self, asked: &mut Asked) -> Result<ExecEvent, SandboxError> {
        match tokio::time::timeout(KILL_GRACE, asked.answered()).await {
            Ok(answered) => self.event(answered?),
            Err(_) => {
                self.channel.fail("a killed program did not end");
                Err(self.channel.lost_error())
            }
        }
    }

    fn event(&mut self, (answer, body): (Answer, Bytes)) -> Result<ExecEvent, SandboxError> {
        match answer {
            Answer::Output { error } => {
                let left = self.left.checked_sub(body.len() as u64);
                self.left = left
                    .filter(|_| !body.is_empty())
                    .ok_or_else(|| violation(&self.channel))?;
                Ok(if error {
                    ExecEvent::Stderr(body)
                } else {
                    ExecEvent::Stdout(body)
                })
            }
            Answer::Exited {
                code,
                signal,
                truncated,
            } => Ok(ExecEvent::Exit(Exit {
                code,
                signal,
                timed_out: self.timed_out,
                oom: signal == Some(9) && oom_kills(self.group.as_deref()) > self.oom_before,
                truncated,
            })),
            other => Err(unexpected(&self.channel, other)),
        }
    }
}
