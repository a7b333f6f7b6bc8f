//! A session's event log, its inbox, and the lease of whoever drives it.
//!
//! - `seq` is gapless from 1 and `processed_at` rises with it: order of log, of time and of commit
//!   are one.
//! - An append names the writer's lease epoch; the statement that assigns sequence numbers checks
//!   it, so a driver that lost its lease can write nothing. Epoch 0 is an external writer.
//! - A tool use has one result, whoever posts it first.
//! - Input waits in the inbox and leaves it in the append that puts its event into the log. A driver
//!   idles only if no input came since it looked ([`Then::Idle`]).

mod accept;
mod append;
mod lease;
mod list;
mod read;
mod types;

pub(crate) use accept::{Put, put};
pub(crate) use append::{InsertError, Part, insert};
pub use read::Inbox;
pub(crate) use read::{ITEM, item};
pub use types::{
    AcceptError, Accepted, Append, AppendError, Appended, Claim, EventQuery, InboxItem, Input,
    Listed, NewEvent, StoredEvent, Then,
};
