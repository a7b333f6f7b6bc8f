//! `freehold worker` against the real server, with the rehearsal model and real sandboxes.
//!
//! Tests that need to know when a call is at a certain point use named pipes that the call reads or
//! writes, with the `process` provider, whose tools see the host's files.

#[path = "../../../archive/tests/archive/common.rs"]
#[allow(dead_code, reason = "the archive's own tests use the rest")]
mod archives;
mod between;
#[cfg(feature = "crash-points")]
mod crash;
mod ends;
mod fleet;
mod hands_off;
#[path = "../ordinary/mod.rs"]
mod ordinary;
mod searching;
mod serving;
mod skills;
mod world;
