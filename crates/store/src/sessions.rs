//! Sessions (contract 30): their rows. What happened in them is in [`crate::log`].

mod change;
mod create;
mod end;
mod list;
mod row;

pub use change::{SessionChange, UpdateSessionError};
pub use create::{CreateSessionError, NewSession};
pub use end::{ArchiveError, DeleteSessionError};
pub use list::{Direction, SessionCursor, SessionQuery};
pub use row::SessionRow;
