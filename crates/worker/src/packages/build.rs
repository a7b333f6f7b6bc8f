//! One build: a sandbox to install in, the managers one after the other, and what they wrote as a
//! layer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_base::{Entropy, SystemEntropy};
use freehold_sandbox::{
    ExecEvent, ExecRequest, Exit, NetworkPolicy, Sandbox, SandboxError, SandboxSpec,
};
use tokio::time::Instant;

use super::managers::{self, Manager};
use super::{BUILD_LIMIT, Lists, Packages, PackagesError};

/// Kept of what a manager says, bytes.
const TAIL: usize = 16 * 1024;
/// Told of it: lines, and characters in all.
const TOLD_LINES: usize = 20;
const TOLD: usize = 2_000;

/// Builds the layer of this key and puts it on the shelf.
pub(super) async fn build(
    packages: &Packages,
    key: &str,
    lists: &Lists,
    policy: NetworkPolicy,
) -> Result<(), PackagesError> {
    if policy == NetworkPolicy::None {
        return Err(PackagesError::NoHosts);
    }
    let began = Instant::now();
    let half = packages.shelf.half(key).map_err(PackagesError::Keep)?;
    let mut spec = SandboxSpec {
        // Not of the key: another process may be making the same.
        id: format!("packages_{}", SystemEntropy.hex(8)),
        dir: half.path.join("sandbox"),
        limits: packages.limits,
        network: policy.into(),
        min_isolation: packages.min_isolation,
        shares: Vec::new(),
        layers: Vec::new(),
        env: managers::build_env(),
    };
    spec.env.extend_from_slice(&packages.env);
    tracing::info!(layer = key, "packages are being installed");
    let sandbox = packages.provider.installer(&spec).await?;
    let installed = install(&*sandbox, lists, began + BUILD_LIMIT, key).await;
    let snapshot = match installed {
        Ok(()) => sandbox.snapshot(&half.path).await.map_err(Into::into),
        Err(error) => Err(with_denials(error, &*sandbox)),
    };
    let ended = sandbox.destroy().await;
    packages.provider.remove_state(&spec.dir)?;
    let snapshot = snapshot?;
    ended?;
    spec.dir = half.path.join("unpacked");
    spec.network = NetworkPolicy::None.into();
    let layer: PathBuf = packages.provider.layer(&snapshot, &spec).await?;
    let kept = packages.shelf.keep(half, &layer, snapshot.bytes);
    kept.await.map_err(PackagesError::Keep)?;
    let seconds = began.elapsed().as_secs();
    tracing::info!(
        layer = key,
        bytes = snapshot.bytes,
        seconds,
        "packages were installed"
    );
    Ok(())
}

async fn install(
    sandbox: &dyn Sandbox,
    lists: &Lists,
    deadline: Instant,
    key: &str,
) -> Result<(), PackagesError> {
    let dirs = managers::build_dirs();
    let make = ["mkdir", "-p", "--"].map(String::from);
    let make: Vec<String> = make.into_iter().chain(dirs).collect();
    run(sandbox, "mkdir", &make, deadline).await?;
    for manager in managers::managers(lists) {
        let Manager {
            name,
            system,
            commands,
        } = manager;
        if system && !may_write(sandbox, "/usr", deadline).await? {
            return Err(PackagesError::NoRoot);
        }
        let began = Instant::now();
        for command in &commands {
            run(sandbox, name, command, deadline).await?;
        }
        let seconds = began.elapsed().as_secs();
        tracing::info!(
            layer = key,
            manager = name,
            seconds,
            "a package manager is done"
        );
    }
    Ok(())
}

async fn may_write(
    sandbox: &dyn Sandbox,
    dir: &str,
    deadline: Instant,
) -> Result<bool, PackagesError> {
    let test = ["test", "-w", dir].map(String::from);
    match run(sandbox, "test", &test, deadline).await {
        Ok(()) => Ok(true),
        Err(PackagesError::Failed { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Runs one command of a manager to its good end.
async fn run(
    sandbox: &dyn Sandbox,
    manager: &'static str,
    argv: &[String],
    deadline: Instant,
) -> Result<(), PackagesError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left == Duration::ZERO {
        return Err(PackagesError::Slow);
    }
    let mut request = ExecRequest::new(argv);
    request.timeout = left;
    // Passed on as it comes, and only the end is kept.
    request.output_bytes = u64::MAX;
    let mut program = match sandbox.exec(request).await {
        Err(SandboxError::Exec(_)) => return Err(PackagesError::NoManager { manager }),
        started => started?,
    };
    let (mut tail, mut exit) = (Vec::new(), Exit::default());
    while let Some(event) = program.next().await {
        match event? {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => {
                tail.extend_from_slice(&bytes);
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
            ExecEvent::Exit(ended) => exit = ended,
        }
    }
    if exit.timed_out {
        return Err(PackagesError::Slow);
    }
    if exit.code == Some(0) {
        return Ok(());
    }
    let how = match (exit.oom, exit.code) {
        (true, _) => "out of memory".to_owned(),
        (_, Some(code)) => format!("exit code {code}"),
        (_, None) => "killed by a signal".to_owned(),
    };
    let output = told(&tail);
    tracing::debug!(manager, output, "a package manager failed");
    Err(PackagesError::Failed {
        manager,
        how,
        output,
    })
}

/// Adds what the network refused: a manager seldom knows why it could not connect.
fn with_denials(mut error: PackagesError, sandbox: &dyn Sandbox) -> PackagesError {
    if let PackagesError::Failed { output, .. } = &mut error {
        for denial in sandbox.take_denials() {
            output.push_str(&format!("\nrefused by the network: {denial}"));
        }
    }
    error
}

/// The last lines, as plain text.
fn told(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let plain = |c: &char| *c == '\n' || !c.is_control();
    let text: String = text.chars().filter(plain).collect();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n");
    let skip = last.chars().count().saturating_sub(TOLD);
    last.chars().skip(skip).collect()
}

/// Everything below has reached the disk, so that what is found after a crash is whole.
pub(super) fn sync(dir: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_and_nothing_that_moves_a_cursor() {
        let said: String = (0..100).map(|n| format!("\x1b[1mline {n}\r\n\n")).collect();
        let told = told(said.as_bytes());
        assert_eq!(told.lines().count(), TOLD_LINES);
        assert!(
            told.ends_with("line 99") && !told.contains('\x1b'),
            "{told}"
        );
        assert_eq!(super::told(&[b'x'; 9_000]).len(), TOLD);
        assert_eq!(super::told(b""), "");
    }
}
