//! The client of MCP servers (contract 62): streamable HTTP in both eras of the protocol, and the
//! older SSE transport, over an HTTP layer of our own, so that where it connects, how much it reads
//! and how long it waits are ours to say. Everything a server sends is hostile.

pub mod catalogue;
pub mod definition;
pub mod dial;
pub mod endpoint;
pub mod error;
pub mod outcome;

pub use definition::{Listing, ToolDefinition};
pub use dial::{Connection, Destination, Dial, DialError};
pub use endpoint::Endpoint;
pub use error::McpError;
pub use outcome::{ToolCall, ToolOutcome};
