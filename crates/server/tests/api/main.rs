//! The API as a client sees it: a real server on a loopback port with a real store, the real
//! runtime and the rehearsal model. Only the sandbox is replaced, by an executor that answers
//! tool calls from a script.

mod admin;
mod agents;
mod conventions;
mod credentials;
mod environments;
mod events;
mod executor;
mod files;
mod fuzz;
mod gateway;
mod harness;
mod logs;
mod mcp_refresh;
mod mcp_server;
mod mcp_servers;
mod mcp_sessions;
mod memories;
mod messages;
mod messages_mcp;
mod sessions;
mod skills;
mod stream;
mod tunnels;
mod vaults;
mod work;
