//! Drives sessions: claims them, executes the engine's steps, appends what happened, and fans
//! committed events out to live streams. Start at [`Runtime`]; one session's life is
//! [`driver`](self)'s loop, one model request is `model_call`, one round of tools is `tools`.

mod bells;
mod credentials;
mod driver;
pub mod executor;
pub mod hub;
mod load;
mod log_clock;
pub mod mcp;
mod media;
mod model_call;
mod outputs;
mod queue;
mod runtime;
mod tools;

pub use credentials::EnvironmentCredential;
pub use executor::{
    MemoryMount, OutputFile, Place, Skill, ToolCall, ToolExecutor, ToolReply, Upload,
};
pub use hub::{Frame, Hub, Interest, Interests, Missed, Relay, Subscription};
pub use mcp::Mcp;
pub use queue::{Waiting, WorkBells};
pub use runtime::{Options, Runtime};
