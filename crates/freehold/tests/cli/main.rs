//! The built binary as its users meet it.

mod environments;
mod errors;
mod gateway;
mod help;
mod journey;
mod mcp;
mod memory;
mod process;
mod secrets;
mod server;
mod skills;
mod tunnels;
