//! The public API's shapes: requests, responses, events, errors, pages. Serde only: no tokio, no
//! SQL, no clock. Every type names the contract file (`shared/contract/NN-*.md`) it comes from.

pub mod agent;
pub mod budget;
pub mod content;
pub mod credential;
pub mod cursor;
pub mod decode;
pub mod domains;
pub mod environment;
pub mod error;
pub mod event;
pub mod file;
pub mod list;
pub mod mcp_catalogue;
pub mod memory;
pub mod memory_store;
pub mod memory_version;
pub mod metadata;
pub mod model_config;
pub mod models;
pub mod page;
pub mod patch;
pub mod query;
pub mod request;
pub mod resource;
pub mod session;
pub mod skill;
pub mod sse;
pub mod thread;
pub mod tool;
pub mod tunnel;
pub mod unsupported;
pub mod usage;
pub mod vault;
pub mod work;

pub use cursor::{Cursor, Scope};
pub use error::{ApiError, Deleted, ErrorKind};
pub use model_config::{ModelFacts, Models};
pub use page::{BiPage, IdPage, Page};
pub use patch::Patch;
pub use query::Query;
pub use request::{Request, parse, parse_or_empty};
