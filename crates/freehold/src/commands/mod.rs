//! The commands, one a file.

mod connect;
mod crash_point;
mod doctor;
mod keys;
mod models;
mod run;
mod serve;
mod sessions;
mod signals;
mod worker;
mod workspaces;

pub(crate) use doctor::doctor;
pub(crate) use keys::keys;
pub(crate) use models::models;
pub(crate) use run::run;
pub(crate) use serve::serve;
pub(crate) use sessions::sessions;
pub(crate) use worker::worker;
pub(crate) use workspaces::workspaces;
