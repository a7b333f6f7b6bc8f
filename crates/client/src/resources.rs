//! The endpoints, one file a noun.

mod agents;
mod credentials;
mod environment_keys;
mod environments;
mod files;
mod keys;
mod mcp;
mod memory_stores;
mod models;
mod sessions;
mod skills;
mod tunnels;
mod vaults;
mod work;
mod workspaces;

pub use files::Download;
pub use work::Poll;
