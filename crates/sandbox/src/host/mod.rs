//! The server's side of a sandbox: starting the launcher, speaking with the agent, cleaning up.

mod channel;
mod files;
mod running;
mod start;

pub(crate) use running::{Parts, Running};
pub(crate) use start::{START_LIMIT, Started, start};
