//! The server's side of a sandbox: starting the launcher, speaking with the agent, cleaning up.

mod channel;
mod files;
mod pause;
mod programs;
mod running;
mod snapshots;
mod start;

pub(crate) use channel::Channel;
#[allow(
    unused_imports,
    reason = "for providers that hold sandboxes by other means"
)]
pub(crate) use running::Holder;
pub(crate) use running::{Parts, Running};
pub(crate) use snapshots::{fill, verify};
pub(crate) use start::{Ready, START_LIMIT, Waiting, launch};
