//! Model providers behind one small interface.
//!
//! Inside there is one dialect: the JSON of the Messages API. A [`Provider`] takes the body of a
//! `POST /v1/messages` and yields the events of its stream, whatever it speaks upstream:
//! [`messages`] forwards, [`chat`] translates, [`rehearsal`] needs no upstream at all.
//! [`Catalog`] maps model ids to providers; [`Accumulator`] folds a stream into a [`Message`].

pub mod accumulate;
pub mod catalog;
pub mod chat;
pub mod classify;
pub mod config;
mod emit;
pub mod error;
mod http;
pub mod message;
pub mod messages;
pub mod provider;
pub mod raw;
pub mod rehearsal;
pub mod request;
pub mod usage;

pub use accumulate::{AccumulateError, Accumulator};
pub use catalog::{Catalog, CatalogError, ModelEntry, Supports};
pub use config::{CatalogConfig, Rates};
pub use error::{ModelError, ModelErrorKind};
pub use message::{BlockKind, Delta, Message};
pub use provider::{EventStream, Provider, ProviderInfo, RawReply, StreamEvent, folded};
pub use raw::RawObject;
pub use request::ModelRequest;
pub use usage::{Price, Usage};
