//! `freehold-bench`: measures a release server from outside, on loopback, with its own data
//! directory and an instant model inside this process. `cargo xtask bench` builds and runs it;
//! docs/benchmarks.md says how to read what it prints.
//!
//! Start at [`measure`], one file for each thing that is measured. [`load`] holds what they share:
//! connections, the model, the server process. [`report`] turns samples into tables.

mod args;
mod edge;
mod load;
mod measure;
mod plan;
mod report;
mod run;
mod scale;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // This program again, as a part of what it measures.
    let done = match std::env::args().nth(1).as_deref() {
        Some(edge::COMMAND) => edge::run(&edge::Args::parse_from(std::env::args().skip(1))),
        _ => {
            let args = args::Args::parse();
            if args.scale {
                scale::run(&args)
            } else {
                run::run(&args)
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("freehold-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
