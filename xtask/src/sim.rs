//! `cargo xtask sim`: the fault harness in `sim/`. What goes wrong and what is checked is in
//! `docs/faults.md`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{Steps, command};
use crate::{paths, setup, suite};

/// Sets everything up and runs the harness; `args` go to it, and it has a `--help`.
///
/// # Errors
/// Something cannot be set up, or a property was violated.
pub fn run(args: &[&str]) -> Result<()> {
    let mut steps = Steps::new();
    let mut harness = ready(&mut steps)?;
    // Not as a step: it may take hours, and is stopped with Ctrl-C.
    let status = harness
        .args(["-m", "sim"])
        .args(args)
        .status()
        .context("cannot start the fault harness")?;
    if !status.success() {
        bail!("the fault harness ended with {status}");
    }
    Ok(())
}

/// The interpreter of the harness, with all it needs set up.
///
/// # Errors
/// Something cannot be set up.
pub fn ready(steps: &mut Steps) -> Result<Command> {
    suite::build(steps)?;
    steps.own(
        "faults set-up",
        "network namespaces, PostgreSQL, clocks",
        setup::faults,
    )?;
    steps.own("python set-up", "python3 with venv", setup::python)?;
    let python = steps.own("faults python", "virtual environment", || {
        setup::CURRENT.ready()
    })?;
    let mut harness = command(python);
    harness.env("FREEHOLD_BIN", paths::freehold()?);
    Ok(harness)
}
