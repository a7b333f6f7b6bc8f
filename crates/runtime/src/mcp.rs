//! What sessions and requests need to use MCP servers, beyond the protocol.

pub mod audit;
pub mod catalogue;
pub mod review;

pub use audit::AuditLog;
pub use catalogue::{Catalogue, CatalogueError, Judged, Verdict};
