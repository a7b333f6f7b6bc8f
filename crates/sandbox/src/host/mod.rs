//! The server's side of a sandbox: starting the launcher, speaking with the agent, cleaning up.

mod channel;
mod claim;
mod files;
mod nursery;
mod pause;
mod programs;
mod running;
mod snapshots;
mod start;
mod way;

pub(crate) use channel::Channel;
pub(crate) use claim::{Claim, Claims, prepare_dir};
pub(crate) use nursery::Nursery;
pub(crate) use running::Holder;
pub(crate) use running::{Parts, Running};
pub(crate) use snapshots::{fill, verify};
pub(crate) use start::{Ready, START_LIMIT, Waiting, launch};
pub(crate) use way::{Way, bind};
