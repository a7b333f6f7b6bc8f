//! The public API's shapes: requests, responses, events, errors, pages. Serde only: no tokio, no
//! SQL, no clock. Every type names the contract file (`shared/contract/NN-*.md`) it comes from.

pub mod agent;
pub mod content;
pub mod domains;
pub mod error;
pub mod event;
pub mod page;
pub mod patch;
pub mod session;
pub mod tool;
pub mod usage;

pub use error::{ApiError, ErrorKind};
pub use page::Page;
pub use patch::Patch;
