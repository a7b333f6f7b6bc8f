//! Pausing: everything inside stands still, and whoever asks something waits.

use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use super::channel::Channel;
use super::files;
use crate::SandboxError;
use crate::cgroup::Group;

/// Whether a sandbox is paused.
pub(super) struct Pause {
    paused: watch::Sender<bool>,
    /// Held by who changes it.
    change: Mutex<()>,
}

impl Pause {
    pub(super) fn new() -> Self {
        Self {
            paused: watch::Sender::new(false),
            change: Mutex::default(),
        }
    }

    /// Whether it is paused.
    pub(super) fn is_on(&self) -> bool {
        *self.paused.borrow()
    }

    /// Returns when it is not paused, or has ended.
    pub(super) async fn over(&self, channel: &Channel) {
        let mut paused = self.paused.subscribe();
        tokio::select! {
            // The sender lives as long as `self`.
            _ = paused.wait_for(|paused| !paused) => {}
            () = channel.closed.cancelled() => {}
        }
    }

    /// By the groups' freezer where there is one; otherwise the agent stops everything but itself.
    pub(super) async fn set(
        &self,
        channel: &Arc<Channel>,
        group: Option<&Arc<Group>>,
        pause: bool,
    ) -> Result<(), SandboxError> {
        let _change = self.change.lock().await;
        if channel.closed.is_cancelled() {
            return Err(channel.lost_error());
        }
        if self.is_on() == pause {
            return Ok(());
        }
        let frozen = match group.cloned() {
            Some(group) => {
                let change = move || match pause {
                    true => group.freeze().inspect_err(|_| drop(group.thaw())),
                    false => group.thaw().map(|()| group.can_freeze()),
                };
                let changed = tokio::task::spawn_blocking(change).await;
                changed
                    .map_err(|e| SandboxError::lost(e.to_string()))?
                    .map_err(SandboxError::host("freezing or thawing a control group"))?
            }
            None => false,
        };
        if !frozen {
            files::still(channel, pause).await?;
        }
        self.paused.send_replace(pause);
        Ok(())
    }
}
