//! A client of our own public API, for the command line, workers and load tests. It uses nothing
//! that any other client could not.
//!
//! Start at [`Client`]. JSON bodies are passed as the server gave them ([`serde_json::Value`],
//! [`Event`]), so that fields this version does not know survive; what the client itself needs is
//! typed. Live streams are in [`stream`], and [`history`] joins them with the stored log.

mod client;
mod error;
mod event;
pub mod history;
mod page;
mod resources;
mod retry;
pub mod stream;

pub use client::{Client, Options};
pub use error::{ApiFailure, ClientError};
pub use event::Event;
pub use history::{History, Since};
pub use page::{Page, Pages};
pub use resources::{Download, Poll};
pub use stream::{EventStream, Frame, Previews};
