//! `cargo xtask bench`: builds the server and the load generator in release, and runs one against
//! the other. What is measured is in `crates/bench`; how to read it in `docs/benchmarks.md`.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::run::cargo;
use crate::setup;

/// Builds and measures; `args` go to the load generator, which has a `--help`.
///
/// # Errors
/// A build or a measurement failed. A missed aim is no error.
pub fn run(args: &[&str]) -> Result<()> {
    // Apart, so that the server measured is the one users build, and not one with features that
    // the load generator asked of a library both use.
    for package in ["freehold", "freehold-bench"] {
        // Standard output is the report alone, for scripts that ask for JSON.
        let status = cargo()
            .args(["build", "--release", "--package", package])
            .stdout(Stdio::null())
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("building {package} ended with {status}");
        }
    }
    let target = paths::bin_dir()?;
    let release = target.parent().context("no target folder")?.join("release");
    let peers = if args.contains(&"--scale") {
        setup::postgres()?;
        setup::Peers::default()
    } else {
        setup::peers(args.contains(&"tunnel"))
    };
    let mut bench = crate::run::command(release.join("freehold-bench"));
    if let Some(python) = peers.python {
        bench.arg("--python").arg(python);
    }
    if let Some(packages) = peers.node_packages {
        bench.arg("--node-packages").arg(packages);
    }
    if let Some(tunnels) = peers.tunnels {
        bench.arg("--tunnels").arg(tunnels);
    }
    let status = bench
        .arg("--server")
        .arg(release.join("freehold"))
        .args(args)
        .status()
        .context("cannot start the load generator")?;
    if !status.success() {
        bail!("the load generator ended with {status}");
    }
    Ok(())
}
