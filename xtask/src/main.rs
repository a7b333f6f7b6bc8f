//! Project chores: `cargo xtask test`, `cargo xtask demo`, `cargo xtask bench` and `cargo xtask sim`.
//! Sets up by itself what they need.

mod bench;
mod counts;
mod demo;
mod docs;
mod http;
mod paths;
mod run;
mod setup;
mod sim;
mod suite;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask test [--only rust|python|ts|hosts|replicas|sim|mcp|deploy|demo|lint|docs]
       cargo xtask demo [tunnel] [--exit]
       cargo xtask bench [SECTION]... [--quick] [--json] [--rounds N]
       cargo xtask bench --scale [--quick]
       cargo xtask sim [--seed N] [--minutes M] [--scenario NAME]...

test   format, lints, unit and integration tests, documentation, and both official SDKs against a
       freshly built server; sets up everything it needs below target/xtask
demo   starts a server on embedded defaults and runs a real session on it; then serves until Ctrl-C,
       or with --exit ends, with status 0 only if the session ended well; `demo tunnel` shows an
       agent that calls an MCP server in a private network (a network namespace: needs root)
bench  builds in release and measures the server, seven to ten minutes; see docs/benchmarks.md.
       With --scale how things grow, on both engines; see docs/scale.md
sim    real processes in network namespaces, faults chosen by a printed seed, and a judge of what clients
       noted; half an hour if not told otherwise (needs root); see docs/faults.md";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["test"] => suite::run(None),
        ["test", "--only", part] => suite::run(Some(part)),
        ["demo"] => demo::run(false),
        ["demo", "--exit"] => demo::run(true),
        ["demo", "tunnel"] => demo::tunnel(false),
        ["demo", "tunnel", "--exit"] => demo::tunnel(true),
        ["bench", rest @ ..] => bench::run(rest),
        ["sim", rest @ ..] => sim::run(rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => bail!("nothing to do\n{USAGE}"),
        other => bail!("cannot do `{}`\n{USAGE}", other.join(" ")),
    }
}
