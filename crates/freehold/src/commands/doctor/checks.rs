//! Checks of this host.

use std::path::{Path, PathBuf};

use freehold_sandbox::{Capabilities, Status};
use rustix::process::{Resource, getrlimit};

use super::{Check, Level};
use crate::config::{SandboxKind, Settings};
use crate::sandboxes;

/// Free space below which there is a warning, bytes.
const LITTLE_SPACE: u64 = 2 << 30;
/// Free space below which nothing goes, bytes.
const NO_SPACE: u64 = 64 << 20;
/// Open files a server wants: a few for each stream and sandbox.
const OPEN_FILES: u64 = 4_096;
/// Open files of a host that some ten sandboxes, of a million each, cannot use up.
const ALL_OPEN_FILES: u64 = 10_000_000;

/// The kernel.
pub(super) fn system() -> Check {
    let name = rustix::system::uname();
    let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    let detail = format!(
        "{} {} {}",
        text(name.sysname()),
        text(name.release()),
        text(name.machine())
    );
    Check::new("system", Level::Ok, detail)
}

/// The data directory: whether it can be written, and the room on its disk.
pub(super) fn data_dir(settings: &Settings) -> Vec<Check> {
    let dir = &settings.data_dir;
    let mut checks = Vec::new();
    let Some(existing) = existing(dir) else {
        return vec![Check::new(
            "data directory",
            Level::Problem,
            "no part of its path exists",
        )];
    };
    let shown = dir.display();
    checks.push(match tempfile_in(&existing) {
        Ok(()) if existing == *dir => Check::new(
            "data directory",
            Level::Ok,
            format!("{shown} can be written"),
        ),
        Ok(()) => Check::new("data directory", Level::Ok, format!("{shown} can be made")),
        Err(e) => Check::new("data directory", Level::Problem, format!("{shown}: {e}"))
            .remedy("let this user write it, or choose one with --data-dir"),
    });
    checks.push(disk(&existing));
    checks
}

/// The directory itself, or its nearest parent that exists.
fn existing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find(|d| d.is_dir()).map(Path::to_owned)
}

/// What names of the doctor's own files begin with.
const MADE: &str = ".freehold-doctor-";

/// Whether a file can be made and removed.
fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let made = tempfile::Builder::new().prefix(MADE).tempfile_in(dir)?;
    made.close()
}

fn disk(dir: &Path) -> Check {
    let found = match rustix::fs::statvfs(dir) {
        Ok(found) => found,
        Err(e) => return Check::new("disk", Level::Warning, format!("cannot be looked at: {e}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let detail = format!("{:.1} GiB free", free as f64 / f64::from(1 << 30));
    match free {
        f if f < NO_SPACE => Check::new("disk", Level::Problem, detail)
            .remedy("make room, or choose another disk with --data-dir"),
        f if f < LITTLE_SPACE => Check::new("disk", Level::Warning, detail)
            .remedy("files and sandboxes of sessions are kept there; make room"),
        _ => Check::new("disk", Level::Ok, detail),
    }
}

/// The limit of open files.
pub(super) fn open_files() -> Check {
    // The server raises its limit to the hard one.
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(n) if n < OPEN_FILES => {
            Check::new("open files", Level::Warning, format!("limited to {n}")).remedy(format!(
                "ulimit -Hn {OPEN_FILES}, or LimitNOFILE= in a systemd unit"
            ))
        }
        Some(n) => Check::new("open files", Level::Ok, format!("up to {n}")),
        None => Check::new("open files", Level::Ok, "not limited"),
    }
}

/// Open files of the whole host, which every user but root shares with the sandboxes.
pub(super) fn all_open_files() -> Check {
    let name = "open files of the host";
    let limit = std::fs::read_to_string("/proc/sys/fs/file-max");
    match limit.map(|text| text.trim().parse::<u64>()) {
        Ok(Ok(n)) if n < ALL_OPEN_FILES => Check::new(
            name,
            Level::Warning,
            format!("limited to {n}"),
        )
        .remedy(format!(
            "sysctl fs.file-max={ALL_OPEN_FILES} or above: a few sandboxes could use them all up"
        )),
        Ok(Ok(n)) => Check::new(name, Level::Ok, format!("up to {n}")),
        Ok(Err(_)) | Err(_) => Check::new(name, Level::Warning, "cannot be looked at"),
    }
}

/// Starts a sandbox, really.
pub(super) async fn sandbox(settings: &Settings) -> Vec<Check> {
    // Beside the real ones, if they would be there; nothing is left behind.
    let beside = match existing(&settings.data_dir) {
        Some(dir) if dir == settings.data_dir => dir,
        _ => std::env::temp_dir(),
    };
    let dir = match tempfile::Builder::new().prefix(MADE).tempdir_in(&beside) {
        Ok(dir) => dir,
        Err(e) => {
            let why = format!("nothing can be made in {}: {e}", beside.display());
            return vec![Check::new("sandbox", Level::Problem, why)];
        }
    };
    let instance = format!("doctor_{}", std::process::id());
    let at = dir.path().to_owned();
    let provider = sandboxes::provider(&settings.sandbox, instance, at, sandboxes::Expected::One);
    let found = provider.probe().await;
    checks_of(settings, &found)
}

fn checks_of(settings: &Settings, found: &Capabilities) -> Vec<Check> {
    let name = format!("sandbox {}", found.provider);
    let mut checks = Vec::new();
    checks.push(
        match sandboxes::refusal(settings.sandbox.min_isolation, found) {
            Some(refusal) => Check::new(name, Level::Problem, refusal).remedy(
                "see below; --sandbox=process runs tools without isolation, for development",
            ),
            None if settings.sandbox.kind == SandboxKind::Process => {
                Check::new(name, Level::Warning, "works, and isolates nothing")
            }
            None => Check::new(
                name,
                Level::Ok,
                format!("works; isolation: {}", found.isolation),
            ),
        },
    );
    for feature in &found.features {
        let level = match feature.status {
            Status::Enforced => Level::Ok,
            Status::Partial | Status::Missing => Level::Warning,
        };
        let mut check = Check::new(feature.name, level, feature.detail.clone());
        check.remedy = feature.remedy.clone();
        checks.push(check);
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_parent_is_what_counts() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("a/b/c");
        assert_eq!(existing(&deep).unwrap(), base.path());
        assert!(tempfile_in(base.path()).is_ok());
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
        assert!(tempfile_in(&deep).is_err());
    }
}
