//! Crash safety, with the real binary, its real store and real sandboxes: the server is killed at
//! named points and at random, started again, and the histories must be good.
//!
//! Needs the `crash-points` feature for the named points; `cargo xtask test` builds with it.

mod nemesis;
#[cfg(feature = "crash-points")]
mod points;
mod server;
