//! The server's side of a sandbox: starting the launcher, speaking with the agent, cleaning up.

mod channel;
mod files;
mod nursery;
mod pause;
mod programs;
mod running;
mod snapshots;
mod start;

pub(crate) use channel::Channel;
pub(crate) use nursery::Nursery;
pub(crate) use running::Holder;
pub(crate) use running::{Parts, Running};
pub(crate) use snapshots::{fill, verify};
pub(crate) use start::{Ready, START_LIMIT, Waiting, launch};
