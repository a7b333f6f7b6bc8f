//! `freehold worker`: serves sessions of a self-hosted environment from anywhere, with nothing but
//! an environment key and outbound HTTP (contracts 50, 55 and 90).
//!
//! A [`Poller`] claims items; a [`Service`] serves each: heartbeats, a sandbox, the session's calls
//! in order, one at a time, their results. What a host did is in a journal no sandbox can reach.

mod calls;
mod feed;
mod hands;
mod idle;
mod item;
mod journal;
mod lease;
mod metrics;
mod mounts;
mod note;
mod poller;
mod post;
mod runner;
mod script;
mod skills;
pub mod webhook;

pub use hands::{Hands, LocalHands, Network, Shown};
pub use item::{Claim, ItemError, Lapsed, Service};
pub use journal::JournalError;
pub use lease::LeaseEnd;
pub use metrics::{Metrics, Status, router as metrics_router};
pub use mounts::MountsError;
pub use poller::{CannotServe, PollError, Poller, Serve, Until, is_worker_id};
pub use script::{Script, program};
pub use skills::SkillArchives;

use async_trait::async_trait;
use freehold_wire::work::Work;

#[async_trait]
impl Serve for Service {
    async fn serve(&self, claim: Claim, _: Work) -> Result<&'static str, CannotServe> {
        // One bad item fails that item, not the worker.
        match Service::serve(self, &claim).await {
            Ok(cause) => Ok(cause),
            Err(error) => {
                tracing::error!(
                    work = %claim.work, error = &error as &dyn std::error::Error,
                    "an item could not be served"
                );
                Ok("failed")
            }
        }
    }
}
