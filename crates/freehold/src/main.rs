//! The `freehold` binary: the composition root. The only place that reads the environment and the
//! configuration file, and the only crate that names concrete backends.

mod cli;
mod commands;
mod config;
mod environment;
mod exit;
mod files;
mod hands;
mod logging;
mod mcp;
mod memories;
mod memory;
mod sandboxes;
mod terminal;
mod web;

use std::process::ExitCode;

/// First argument of the program inside sandboxes; not for people.
const SANDBOX_AGENT: &str = "sandbox-agent";

fn main() -> ExitCode {
    // Before anything that might start a thread: the agent enters its namespaces as one.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|a| a == SANDBOX_AGENT)
    {
        freehold_sandbox::agent::main(freehold_worker::agent::handler)
    }
    cli::main()
}
