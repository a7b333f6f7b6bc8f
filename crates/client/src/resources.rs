//! The endpoints, one file a noun.

mod agents;
mod credentials;
mod environments;
mod files;
mod keys;
mod models;
mod sessions;
mod vaults;
mod workspaces;
