//! The commands, one a file.

mod backup;
mod connect;
mod crash_point;
mod doctor;
mod environments;
mod gateway;
mod keys;
mod mcp;
mod migrate;
mod models;
mod process;
mod run;
mod secrets;
mod serve;
mod sessions;
mod signals;
mod skills;
mod store;
mod transfer;
mod tunnels;
mod worker;
mod workspaces;

pub(crate) use backup::{backup, restore};
pub(crate) use doctor::doctor;
pub(crate) use environments::environments;
pub(crate) use gateway::gateway;
pub(crate) use keys::keys;
pub(crate) use mcp::mcp;
pub(crate) use migrate::migrate;
pub(crate) use models::models;
pub(crate) use run::run;
pub(crate) use secrets::secrets;
pub(crate) use serve::serve;
pub(crate) use sessions::sessions;
pub(crate) use skills::skills;
pub(crate) use transfer::{export, import};
pub(crate) use tunnels::tunnels;
pub(crate) use worker::worker;
pub(crate) use workspaces::workspaces;

/// Does what blocks where it blocks nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, crate::exit::Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| crate::exit::Failure::because("stopped half-way", &e))
}
