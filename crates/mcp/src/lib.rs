//! The client of MCP servers (contract 62): streamable HTTP in both eras of the protocol, and the
//! older SSE transport, over an HTTP layer of our own, so that where it connects, how much it reads
//! and how long it waits are ours to say. Everything a server sends is hostile.

pub mod audit;
pub mod catalogue;
pub mod connector;
mod content;
pub mod definition;
pub mod dial;
pub mod direct;
pub mod endpoint;
mod era;
pub mod error;
mod failure;
mod headers;
pub mod http;
mod known;
mod listing;
mod mask;
pub mod oauth;
pub mod options;
pub mod outcome;
pub mod probe;
mod recording;
mod rpc;
mod scope;
mod sse;
mod stream;
mod target;

pub use audit::{Audit, AuditOutcome, AuditRecord};
pub use connector::Connector;
pub use definition::{Listing, ToolDefinition};
pub use dial::{Connection, Destination, Dial, DialError};
pub use direct::Direct;
pub use endpoint::Endpoint;
pub use error::McpError;
pub use http::{Http, HttpError};
pub use options::{MAX_DEFINITION, MAX_TOOLS, Options};
pub use outcome::{ToolCall, ToolOutcome};
pub use probe::{HttpResponse, Probe};
pub use target::Target;
