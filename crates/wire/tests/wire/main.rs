//! The rules of the contract, one table per noun, with the messages a client sees.
#![allow(missing_docs)]

mod agents;
mod bodies;
mod environments;
mod events;
mod examples;
mod files;
mod memories;

mod multiagent;
mod properties;
mod queries;
mod resources;
mod sessions;
mod skills;
mod support;
mod tools;
mod unsupported;
mod vaults;
mod work;
