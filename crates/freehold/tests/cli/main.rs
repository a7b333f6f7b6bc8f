//! The built binary as its users meet it.

#[path = "../../../store/tests/common/cluster.rs"]
#[allow(dead_code, reason = "these tests do not use all of it")]
mod cluster;
mod environments;
mod errors;
mod gateway;
mod help;
mod journey;
mod mcp;
mod memory;
mod migrate;
mod operations;
mod process;
mod secrets;
mod server;
mod skills;
mod tunnels;
