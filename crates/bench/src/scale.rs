//! `--scale`: what happens when there is much of everything. On both engines, side by side: how each
//! operation of the store grows with the number of sessions, a long work queue, what batching buys
//! against a plain transaction for each write, and a server with many sessions and streams.
//! docs/scale.md has the results and what follows from them.

mod batching;
mod crowd;
mod engine;
mod growth;
mod plain;
mod queue;
mod sheet;
mod world;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::args::Args;
use crate::load::process;
use crate::report::Machine;

use engine::Database;
pub(crate) use engine::Engine;
use sheet::Sheet;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Our appends and claims against plain ones.
    Batching,
    /// A long work queue.
    Queue,
    /// How operations grow with the number of sessions.
    Growth,
    /// A server with many sessions and streams.
    Crowd,
}

impl Part {
    const ALL: [Self; 4] = [Self::Batching, Self::Queue, Self::Growth, Self::Crowd];
}

/// How much there is.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Sessions at which the store is looked at.
    sessions: [usize; 3],
    /// Items of the long queue.
    queue: usize,
    /// Sessions a server has.
    idle: usize,
    /// Streams that are open there.
    streams: usize,
    /// Sessions that run at once there.
    running: usize,
    /// Samples of each operation.
    samples: usize,
    /// Rounds of ours against plain.
    rounds: usize,
}

const FULL: Sizes = Sizes {
    sessions: [1_000, 10_000, 100_000],
    queue: 10_000,
    idle: 10_000,
    streams: 1_000,
    running: 200,
    samples: 100,
    rounds: 5,
};
const QUICK: Sizes = Sizes {
    sessions: [100, 300, 1_000],
    queue: 500,
    idle: 300,
    streams: 50,
    running: 20,
    samples: 50,
    rounds: 2,
};

/// Measures and prints Markdown.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sizes = if args.quick { QUICK } else { FULL };
    let beside = args.server.parent().map(Path::to_owned);
    let dir = args
        .dir
        .clone()
        .or(beside)
        .context("--server names no file")?;
    process::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let machine = Machine::look();
    let mut sheet = Sheet::default();
    let outcome = runtime.block_on(all(args, sizes, &dir, &mut sheet));
    // What was measured before something failed is worth reading, too.
    println!(
        "{} × {}, {} MiB, Linux {}, {}; {:.0} % busy before the run, {:.0} % after it\n",
        machine.cores,
        machine.cpu,
        machine.memory_mib,
        machine.kernel,
        machine.date,
        machine.busy * 100.0,
        Machine::look().busy * 100.0,
    );
    print!("{}", sheet.markdown());
    outcome
}

/// Everything on both engines; goes on after what fails, and gives the first failure.
async fn all(args: &Args, sizes: Sizes, dir: &Path, sheet: &mut Sheet) -> Result<()> {
    let mut outcome = Ok(());
    let engines = match args.engine.is_empty() {
        true => &Engine::ALL[..],
        false => args.engine.as_slice(),
    };
    let parts = match args.part.is_empty() {
        true => &Part::ALL[..],
        false => args.part.as_slice(),
    };
    for part in parts {
        for engine in engines {
            let (part, engine) = (*part, *engine);
            let begun = Instant::now();
            let done = one(args, sizes, dir, part, engine, sheet).await;
            eprintln!(
                "{engine:?}, {part:?}: {:.0} s",
                begun.elapsed().as_secs_f64()
            );
            if let Err(error) = done {
                eprintln!("{engine:?}, {part:?}: {error:#}");
                outcome = outcome.and(Err(error.context(format!("{engine}, {part:?}"))));
            }
        }
    }
    outcome
}

async fn one(
    args: &Args,
    sizes: Sizes,
    dir: &Path,
    part: Part,
    engine: Engine,
    sheet: &mut Sheet,
) -> Result<()> {
    // Each in a database of its own, made afresh and gone afterwards.
    let database = Database::make(engine, dir)?;
    match part {
        Part::Batching => batching::measure(&database, sizes, sheet).await,
        Part::Queue => queue::measure(&database, sizes, sheet).await,
        Part::Growth => growth::measure(&database, sizes, sheet).await,
        Part::Crowd => crowd::measure(&database, &args.server, sizes, sheet).await,
    }
}
