//! What is remembered of a server's tools, as far as it needs no storage: a definition's
//! fingerprint, what it claims to do, how two definitions differ, what in one is suspicious, and
//! whether a tool may be offered.
//!
//! A definition is what the model is shown, so a server that changes one changes what the model is
//! told to do. Nothing here believes a server: what it claims makes a tool's class stricter, and
//! milder only where an operator has approved that very definition.

pub mod canonical;
pub mod class;
pub mod diff;
pub mod fingerprint;
pub mod flags;
pub mod standing;

pub use freehold_wire::mcp_catalogue::{ToolClass, ToolState};

pub use canonical::{TooDeep, canonical};
pub use class::claimed;
pub use diff::{Change, changes, renames};
pub use fingerprint::{Fingerprint, binding};
pub use flags::{Flag, flags, visible};
pub use standing::{Standing, Why};
