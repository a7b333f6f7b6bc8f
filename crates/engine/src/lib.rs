//! The session engine: a pure fold over a session's events ([`State::fold`]) and a pure decision
//! about what comes next ([`decide()`]). It never awaits, never reads time, and takes new ids from
//! its caller. Start at [`state`], then [`decide()`], which names one file of `steps/` for each step.

pub mod call;
pub mod conversation;
pub mod decide;
pub mod draft;
pub mod invariants;
pub mod mcp;
mod memory;
pub mod reply;
pub mod request;
pub mod state;
mod steps;
pub mod summary;
pub mod toolset;

pub use call::{Call, CallKind};
pub use conversation::Media;
pub use decide::{Purpose, Queued, Step, View, decide};
pub use draft::{Detail, Draft, DraftEvent};
pub use mcp::McpTool;
pub use reply::{Backoff, Failure, Layout, Reply, Spent};
pub use request::{Facts, build as build_request};
pub use state::{Folded, Placement, SkillNote, State};
pub use summary::{PicoUsd, Rates, Summary};
