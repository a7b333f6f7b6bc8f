//! A sandbox that runs, and its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::process::Child;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::{Answered, Channel};
use super::pause::Pause;
use super::{files, programs, snapshots};
use crate::cgroup::Group;
use crate::egress::{Denial, Egress};
use crate::protocol::{Answer, Ask, MAX_INPUT, MAX_OUTPUT};
use crate::{
    ExecHandle, ExecRequest, FileStream, Limits, Listing, Network, Operation, Sandbox,
    SandboxError, Snapshot, Stats, ToolReply, ToolRequest,
};

/// How long a cancelled call may take to answer before the sandbox is ended. Shorter than what the
/// runtime waits before it abandons the call (5 s): a frozen agent must be found out here, or the
/// next call meets it again and waits out its whole limit.
const CANCEL_GRACE: Duration = Duration::from_secs(3);
/// How long any call may take; tools have shorter limits of their own (10 minutes at most).
const CALL_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long the launcher may take to end after the control socket closed.
const END_GRACE: Duration = Duration::from_secs(5);
/// Longest tool name, bytes (contract 10).
const MAX_NAME: usize = 128;
/// Content blocks of one reply.
const MAX_BLOCKS: usize = freehold_base::limits::MAX_CONTENT_BLOCKS;

/// What keeps a sandbox's processes alive, seen from outside: a launcher, a container, a machine.
#[async_trait]
pub(crate) trait Holder: Send {
    /// Returns when nothing runs any more.
    async fn ended(&mut self);
    /// Whether nothing runs any more.
    fn has_ended(&mut self) -> bool;
    /// Ends it the hard way; `ended` is asked afterwards.
    async fn kill(&mut self);
}

#[async_trait]
impl Holder for Child {
    async fn ended(&mut self) {
        // An error means that there is no such process to wait for.
        let _ = self.wait().await;
    }
    fn has_ended(&mut self) -> bool {
        !matches!(self.try_wait(), Ok(None))
    }
    async fn kill(&mut self) {
        // Pid 1 dies with the launcher by its parent death signal. Should this fail, the process
        // is gone already.
        let _ = self.start_kill();
    }
}

/// What a running sandbox consists of beside the connection to its agent.
pub(crate) struct Parts {
    pub provider: &'static str,
    pub id: String,
    pub holder: Box<dyn Holder>,
    pub limits: Limits,
    /// Whether what is kept lies on a file system of its own.
    pub own_disk: bool,
    pub group: Option<Group>,
    pub egress: Option<Egress>,
    /// Runs when everything is gone; may block for a moment.
    pub on_end: Box<dyn FnOnce() + Send>,
}

/// The one implementation of [`Sandbox`]: an agent behind a control socket.
pub(crate) struct Running {
    provider: &'static str,
    id: String,
    unsupported: &'static [Operation],
    limits: Limits,
    own_disk: bool,
    channel: Arc<Channel>,
    pause: Pause,
    group: Option<Arc<Group>>,
    egress: Option<Arc<Egress>>,
    /// Fires when processes and groups are gone.
    gone: CancellationToken,
    _end_on_drop: DropGuard,
}

impl Running {
    pub(crate) fn new(channel: Arc<Channel>, parts: Parts) -> Self {
        let group = parts.group.map(Arc::new);
        let egress = parts.egress.map(Arc::new);
        let gone = CancellationToken::new();
        let ending = Ending {
            id: parts.id.clone(),
            holder: parts.holder,
            channel: channel.clone(),
            group: group.clone(),
            egress: egress.clone(),
            on_end: parts.on_end,
            gone: gone.clone(),
        };
        tokio::spawn(ending.watch());
        Self {
            provider: parts.provider,
            id: parts.id,
            unsupported: &[],
            limits: parts.limits,
            own_disk: parts.own_disk,
            pause: Pause::new(),
            group,
            egress,
            gone,
            _end_on_drop: channel.closed.clone().drop_guard(),
            channel,
        }
    }
}

/// Waits for the end and cleans up, however the end comes.
struct Ending {
    id: String,
    holder: Box<dyn Holder>,
    channel: Arc<Channel>,
    group: Option<Arc<Group>>,
    egress: Option<Arc<Egress>>,
    on_end: Box<dyn FnOnce() + Send>,
    gone: CancellationToken,
}

impl Ending {
    async fn watch(mut self) {
        tokio::select! {
            () = self.holder.ended() => self.channel.fail("its processes ended"),
            () = self.channel.closed.cancelled() => {}
        }
        // Dropping the halves of the socket, which `closed` brings about, makes pid 1 exit.
        self.channel.fail("it has ended");
        if let Some(egress) = &self.egress {
            egress.stop();
        }
        if let Some(group) = self.group.clone() {
            // Pid 1 must be able to see the socket close. If it cannot, it is killed below.
            let _ = tokio::task::spawn_blocking(move || group.thaw()).await;
        }
        if tokio::time::timeout(END_GRACE, self.holder.ended())
            .await
            .is_err()
        {
            self.holder.kill().await;
            self.holder.ended().await;
        }
        let (group, on_end) = (self.group.take(), self.on_end);
        let removed = tokio::task::spawn_blocking(move || {
            let removed = group.map_or(Ok(()), |group| {
                group.kill();
                group.remove()
            });
            on_end();
            removed
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(sandbox = %self.id, %error, "a control group could not be removed");
        }
        // What a holder keeps open goes with the rest.
        drop(self.holder);
        self.gone.cancel();
        tracing::debug!(sandbox = %self.id, "sandbox ended");
    }
}

#[async_trait]
impl Sandbox for Running {
    fn id(&self) -> &str {
        &self.id
    }

    async fn call(
        &self,
        request: ToolRequest,
        cancel: &CancellationToken,
    ) -> Result<ToolReply, SandboxError> {
        let input = Bytes::from(String::from(Box::<str>::from(request.input)));
        let too_large = |len, max| Err(SandboxError::RequestTooLarge { len, max });
        if input.len() > MAX_INPUT {
            return too_large(input.len(), MAX_INPUT);
        }
        if request.name.len() > MAX_NAME {
            return too_large(request.name.len(), MAX_NAME);
        }
        let ask = Ask::Call { name: request.name };
        tokio::select! {
            // A call that was cancelled before it began is begun and then ended, like any other.
            biased;
            () = self.pause.over(&self.channel) => {}
            () = cancel.cancelled() => return Err(SandboxError::Cancelled),
        }
        let mut asked = self.channel.ask(ask, input, MAX_OUTPUT).await?;
        // Also when this future is dropped: nobody wants the result then.
        let kill = KillOnDrop::new(&self.channel, asked.id);
        let answered = tokio::select! {
            answered = asked.answered() => answered?,
            () = cancel.cancelled() => {
                self.channel.cancel(asked.id);
                match tokio::time::timeout(CANCEL_GRACE, asked.answered()).await {
                    Ok(answered) => answered?,
                    Err(_) => {
                        self.channel.fail("a cancelled call did not end");
                        return Err(SandboxError::Cancelled);
                    }
                }
            }
            () = tokio::time::sleep(CALL_LIMIT) => {
                self.channel.fail("a call did not end in time");
                return Err(self.channel.lost_error());
            }
        };
        kill.disarm();
        self.reply(answered)
    }

    async fn list_files(&self, dir: &str) -> Result<Listing, SandboxError> {
        self.pause.over(&self.channel).await;
        files::list(&self.channel, dir).await
    }

    async fn read_file(&self, path: &str, max: u64) -> Result<FileStream, SandboxError> {
        self.pause.over(&self.channel).await;
        files::read(&self.channel, path, max).await
    }

    async fn write_file(&self, path: &str, bytes: Bytes) -> Result<(), SandboxError> {
        self.pause.over(&self.channel).await;
        files::write(&self.channel, path, bytes).await
    }

    async fn delete_file(&self, path: &str) -> Result<(), SandboxError> {
        self.pause.over(&self.channel).await;
        files::delete(&self.channel, path).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecHandle, SandboxError> {
        self.pause.over(&self.channel).await;
        programs::start(&self.channel, self.group.clone(), request).await
    }

    async fn snapshot(&self, store: &Path) -> Result<Snapshot, SandboxError> {
        self.supports(Operation::Snapshot)?;
        self.pause.over(&self.channel).await;
        snapshots::make(&self.channel, &self.limits, store).await
    }

    async fn pause(&self) -> Result<(), SandboxError> {
        self.supports(Operation::Pause)?;
        self.pause
            .set(&self.channel, self.group.as_ref(), true)
            .await
    }

    async fn resume(&self) -> Result<(), SandboxError> {
        self.supports(Operation::Pause)?;
        self.pause
            .set(&self.channel, self.group.as_ref(), false)
            .await
    }

    fn provider(&self) -> &'static str {
        self.provider
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        self.channel.fail("it was destroyed");
        self.gone.cancelled().await;
        Ok(())
    }

    fn alive(&self) -> bool {
        !self.channel.closed.is_cancelled()
    }

    async fn set_network(&self, network: Network) -> Result<(), SandboxError> {
        network.check()?;
        let cannot = |what: &str| Err(SandboxError::InvalidSpec(what.to_owned()));
        match &self.egress {
            None if network.policy.reaches_out() => {
                cannot("a sandbox made without a network cannot be given one")
            }
            Some(egress) if !egress.set(network) => {
                cannot("a sandbox made without credentials cannot be given any")
            }
            _ => Ok(()),
        }
    }

    fn take_denials(&self) -> Vec<Denial> {
        self.egress
            .as_ref()
            .map_or_else(Vec::new, |e| e.take_denials())
    }

    async fn stats(&self) -> Result<Stats, SandboxError> {
        if !self.alive() {
            return Err(self.channel.lost_error());
        }
        let mut stats = Stats::default();
        if let Some(group) = &self.group {
            group.stats(&mut stats);
        }
        if let Some(egress) = &self.egress {
            let counts = egress.counts();
            (stats.egress_allowed, stats.egress_denied) = (counts.allowed, counts.denied);
            stats.egress_sent_bytes = counts.sent_bytes;
            stats.egress_received_bytes = counts.received_bytes;
        }
        // A frozen agent cannot say.
        if self.own_disk && !self.pause.is_on() {
            let (bytes, inodes) = files::usage(&self.channel).await?;
            (stats.disk_bytes, stats.disk_inodes) = (Some(bytes), Some(inodes));
        }
        Ok(stats)
    }
}

impl Running {
    /// The same, with some operations refused.
    pub(crate) fn without(mut self, unsupported: &'static [Operation]) -> Self {
        self.unsupported = unsupported;
        self
    }

    fn supports(&self, operation: Operation) -> Result<(), SandboxError> {
        if self.unsupported.contains(&operation) {
            return Err(self.unsupported(operation));
        }
        Ok(())
    }

    /// Unpacks a snapshot into a sandbox that has no files yet.
    pub(crate) async fn unpack(&self, snapshot: &Snapshot) -> Result<(), SandboxError> {
        snapshots::unpack(&self.channel, &self.limits, snapshot).await
    }

    fn reply(&self, (answer, body): Answered) -> Result<ToolReply, SandboxError> {
        let Answer::Reply { is_error } = answer else {
            return Err(files::unexpected(&self.channel, answer));
        };
        let content = blocks(&body).ok_or_else(|| files::violation(&self.channel))?;
        Ok(ToolReply { content, is_error })
    }
}

/// An array of JSON objects, at most [`MAX_BLOCKS`]; each stays text, so that no small output
/// grows large in memory.
fn blocks(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    let Blocks(blocks) = serde_json::from_slice(body).ok()?;
    blocks
        .iter()
        .all(|b| b.get().starts_with('{'))
        .then_some(blocks)
}

struct Blocks(Vec<Box<RawValue>>);

impl<'de> serde::Deserialize<'de> for Blocks {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> serde::de::Visitor<'de> for Bounded {
            type Value = Blocks;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a bounded array")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut a: A) -> Result<Blocks, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = a.next_element()? {
                    if blocks.len() == MAX_BLOCKS {
                        return Err(serde::de::Error::custom("too many blocks"));
                    }
                    blocks.push(block);
                }
                Ok(Blocks(blocks))
            }
        }
        d.deserialize_seq(Bounded)
    }
}

/// Has an abandoned call killed.
struct KillOnDrop<'a> {
    channel: &'a Channel,
    call: Option<u64>,
}

impl<'a> KillOnDrop<'a> {
    fn new(channel: &'a Channel, call: u64) -> Self {
        Self {
            channel,
            call: Some(call),
        }
    }
    fn disarm(mut self) {
        self.call = None;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.channel.cancel(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_bounded_arrays_of_objects() {
        assert_eq!(blocks(br#"[{"type":"text"}]"#).unwrap().len(), 1);
        assert_eq!(blocks(b"[]").unwrap().len(), 0);
        for bad in ["", "{}", "[1]", "[[]]", "[{}", "[{}] x", "[{\"a\":}]"] {
            assert!(blocks(bad.as_bytes()).is_none(), "{bad}");
        }
        let many = format!("[{}{{}}]", "{},".repeat(MAX_BLOCKS));
        assert!(blocks(many.as_bytes()).is_none());
        assert!(blocks(b"[\"\xff\"]").is_none());
    }
}
