//! What is measured: one file for each section, each run once a round.

mod append;
mod disk;
mod history;
mod isolation;
mod lab;
mod memory;
mod requests;
mod sandbox;
mod tunnel;
mod turn;
mod worker;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

pub(crate) use lab::Lab;

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// The disk's own speed
    Disk,
    /// Durable appends through the API
    Append,
    /// Turns: latency, overhead, delivery, rate
    Turn,
    /// Reads and creates, with their CPU
    Requests,
    /// Sandbox cold start and tool round trip
    Sandbox,
    /// A long history against a short one
    History,
    /// Start and memory of fresh servers
    Memory,
    /// Our worker against the official ones
    Worker,
    /// Our sandbox against other isolation
    Isolation,
    /// Our tunnel against others; only when it is named, as the others have to be built
    Tunnel,
}

impl Section {
    /// Those of a run that names none, in the order of the first round.
    pub(crate) const USUAL: [Self; 9] = [
        Self::Disk,
        Self::Append,
        Self::Turn,
        Self::Requests,
        Self::Sandbox,
        Self::History,
        Self::Memory,
        Self::Worker,
        Self::Isolation,
    ];

    /// First parts of the quantities' ids, in the order they are printed.
    pub(crate) const NAMES: [&str; 11] = [
        "disk",
        "append",
        "turn",
        "requests",
        "sandbox",
        "history",
        "start",
        "memory",
        "worker",
        "isolation",
        "tunnel",
    ];

    /// Measures once.
    pub(crate) async fn run(self, lab: &mut Lab) -> Result<()> {
        let done = match self {
            Self::Disk => disk::measure(lab),
            Self::Append => append::measure(lab).await,
            Self::Turn => turn::measure(lab).await,
            Self::Requests => requests::measure(lab).await,
            Self::Sandbox => sandbox::measure(lab).await,
            Self::History => history::measure(lab).await,
            Self::Memory => memory::measure(lab).await,
            Self::Worker => worker::measure(lab).await,
            Self::Isolation => isolation::measure(lab).await,
            Self::Tunnel => tunnel::measure(lab).await,
        };
        done.with_context(|| format!("section {self:?}"))
    }
}
