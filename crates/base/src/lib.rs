//! What every other crate may lean on: ids, time, randomness, secrets and the files that hold them,
//! hexadecimal digits, limits, errors with their causes, the address policy for outbound connections,
//! and the crash points of the fault tests. Depends on nothing of ours.

pub mod cause;
pub mod clock;
pub mod crash;
pub mod entropy;
pub mod file;
pub mod hex;
pub mod id;
pub mod limits;
pub mod net;
pub mod secret;

pub use cause::chain;
pub use clock::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};
pub use entropy::{Entropy, IdSource, SystemEntropy};
pub use id::*;
pub use secret::Secret;
