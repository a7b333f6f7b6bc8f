//! The endpoints, one file a noun.

mod agents;
mod environments;
mod files;
mod keys;
mod memory_stores;
mod models;
mod sessions;
mod workspaces;
