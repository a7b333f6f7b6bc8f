//! HTTP around the routes: the outer layer every request passes, request bodies, replies, errors,
//! event streams, and the accept loop.

mod body;
mod fail;
mod id;
mod outer;
mod reply;
pub(crate) mod serve;
pub(crate) mod sse;
mod unread;

pub(crate) use body::{MAX_BODY_IDLE, Payload};
pub(crate) use fail::Fail;
pub(crate) use id::path_id;
pub(crate) use outer::{RequestName, outer};
pub(crate) use reply::{Kept, Reply, json, raw_json};
