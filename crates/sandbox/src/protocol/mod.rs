//! What host and agent say to each other over the control socket.
//!
//! First the host sends a [`crate::launch::plan::Base`] frame, what that says it is to expect, and at
//! once or later a frame with a [`crate::launch::plan::Bind`] as its body. The inside answers with one byte,
//! [`STARTED`] (carrying the egress sockets as file descriptors when there are any) or
//! [`FAILED`], and a frame. From then on every [`Ask`] has exactly one [`Answer`] with its id.

mod frame;
mod message;

pub(crate) use frame::{FrameError, Prefix, encode, pieces, read_frame, write_frame};
pub(crate) use message::{
    Answer, Ask, Command, Entries, Failure, FromAgent, Handshake, Problem, ToAgent,
};

/// Egress sockets handed over with [`STARTED`].
pub(crate) const MAX_SOCKETS: usize = 8;
/// The sandbox is ready; a [`Handshake`] frame follows.
pub(crate) const STARTED: u8 = b'R';
/// It could not be set up; a [`Failure`] frame follows.
pub(crate) const FAILED: u8 = b'F';

/// Greatest [`crate::launch::plan::Bind`], bytes of JSON.
pub(crate) const MAX_BIND: usize = 1024 * 1024;
/// Greatest header, bytes.
pub(crate) const MAX_HEADER: usize = 64 * 1024;
/// Greatest tool input or file to write in one frame, host to agent, bytes.
pub(crate) const MAX_INPUT: usize = 32 * 1024 * 1024;
/// Greatest program and arguments of an exec, bytes.
pub(crate) const MAX_COMMAND: usize = 1024 * 1024;
/// Greatest standard input of an exec, bytes.
pub(crate) const MAX_STDIN: usize = 16 * 1024 * 1024;
/// Greatest reason for a program that does not start, bytes.
pub(crate) const MAX_REASON: usize = 4096;
/// Greatest tool output, bytes: a 20 MiB document in base64 and room for text.
pub(crate) const MAX_OUTPUT: usize = 40 * 1024 * 1024;
/// Greatest listing, bytes of JSON.
pub(crate) const MAX_LISTING: usize = 4 * 1024 * 1024;
/// Bytes of a file in one frame.
pub(crate) const CHUNK: usize = 256 * 1024;
/// Files in one listing.
pub(crate) const MAX_FILES: usize = 10_000;
/// Asks in flight, cancelled ones included until they answer.
pub(crate) const MAX_IN_FLIGHT: usize = 64;
