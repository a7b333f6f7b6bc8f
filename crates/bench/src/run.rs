//! A whole run.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::args::Args;
use crate::load::process;
use crate::measure::{Lab, Section};
use crate::plan::Plan;
use crate::report::{self, Board, Machine};

/// Open files that a crowd needs on top of its own, in either process.
const SPARE_FILES: u64 = 300;
/// Share of the cores' time used by others above which numbers are doubtful.
const BUSY: f64 = 0.1;
/// How long a run may last after its budget is used up, as a share of it.
const GRACE: f64 = 1.5;

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut plan = Plan::new(args.quick, args.rounds);
    let beside = || Some(args.server.parent()?.to_owned());
    let dir = args
        .dir
        .clone()
        .or_else(beside)
        .context("--server names no file")?;
    let files = process::raise_open_files()?;
    let fit = usize::try_from(files.saturating_sub(SPARE_FILES)).unwrap_or(usize::MAX);
    let short_of_files = fit < plan.crowd;
    plan.crowd = plan.crowd.min(fit);
    if plan.crowd == 0 {
        bail!("the limit of {files} open files leaves none for streams");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let machine = Machine::look();
    let (board, outcome) = runtime.block_on(rounds(args, plan, &dir, &machine, short_of_files))?;
    if 0 < board.rounds {
        report::print(&board, &machine, &plan, args.quick, args.json);
    }
    outcome
}

/// The results up to the first failure, and that failure.
async fn rounds(
    args: &Args,
    plan: Plan,
    dir: &Path,
    machine: &Machine,
    short_of_files: bool,
) -> Result<(Board, Result<()>)> {
    let begun = Instant::now();
    let mut lab = Lab::open(plan, &args.server, &args.peers, dir).await?;
    if BUSY < machine.busy {
        lab.board.note(format!(
            "others used {:.0} % of the machine before the run",
            machine.busy * 100.0
        ));
    }
    if short_of_files {
        lab.board.note(format!(
            "only {} sessions and streams: too few open files",
            plan.crowd
        ));
    }
    let sections = match args.sections.is_empty() {
        true => Section::USUAL.to_vec(),
        false => args.sections.clone(),
    };
    let last = plan.budget.mul_f64(GRACE);
    let mut outcome = Ok(());
    for round in 0..plan.rounds {
        let left = last.saturating_sub(begun.elapsed());
        let one = one_round(&mut lab, &sections, usize::from(round));
        match tokio::time::timeout(left, one).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                lab.board
                    .note(format!("round {} failed: {error:#}", round + 1));
                outcome = Err(error);
                break;
            }
            Err(_) => {
                lab.board
                    .note(format!("round {} was cut off after {last:?}", round + 1));
                break;
            }
        }
        lab.board.rounds += 1;
        if plan.budget <= begun.elapsed() && round + 1 < plan.rounds {
            lab.board
                .note(format!("time was up after {} rounds", round + 1));
            break;
        }
    }
    Ok((lab.close()?, outcome))
}

/// Each section once, beginning with another one in each round, so that none always follows the
/// same.
async fn one_round(lab: &mut Lab, sections: &[Section], round: usize) -> Result<()> {
    for i in 0..sections.len() {
        let section = sections[(i + round) % sections.len()];
        let begun = Instant::now();
        section.run(lab).await?;
        eprintln!(
            "round {}: {section:?} {:.1} s",
            round + 1,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
