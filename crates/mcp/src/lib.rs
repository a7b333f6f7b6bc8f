//! The client of MCP servers (contract 62): streamable HTTP in both eras of the protocol, and the
//! older SSE transport, over an HTTP layer of our own, so that where it connects, how much it reads
//! and how long it waits are ours to say. Everything a server sends is hostile.
//!
//! From the outside in: a [`Connector`] keeps clients (`client`), rmcp speaks the protocol,
//! `transport` and `old` carry its messages over [`http`], and [`Dial`] opens the connections,
//! [`direct`]ly or through a tunnel.

pub mod audit;
pub mod catalogue;
mod client;
pub mod connector;
mod content;
pub mod definition;
pub mod dial;
pub mod direct;
pub mod endpoint;
pub mod error;
mod events;
pub mod http;
mod listing;
pub mod oauth;
mod old;
pub mod outcome;
mod transport;
pub mod url;

pub use audit::{Audit, AuditRecord};
pub use connector::{Connector, Options};
pub use definition::{Listing, ToolDefinition};
pub use dial::{Connection, Destination, Dial, DialError};
pub use direct::{Allowed, Direct};
pub use endpoint::Endpoint;
pub use error::McpError;
pub use http::{Http, HttpError};
pub use listing::{MAX_DEFINITION, MAX_TOOLS};
pub use outcome::{ToolCall, ToolOutcome};
