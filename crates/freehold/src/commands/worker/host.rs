//! The part of this host that a worker uses: a directory, and sandboxes in it.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{Clock, SystemClock};
use freehold_worker::service::{Hands, LocalHands, Network, SkillArchives};
use freehold_worker::{SessionSandboxes, local, skills};

use crate::cli::{NetworkArg, ServingArgs};
use crate::config;
use crate::environment;
use crate::exit::Failure;
use crate::sandboxes;

/// Between two looks for what can be deleted.
const KEEP_HOUSE: Duration = Duration::from_secs(3600);
/// Files of a session that was not served for this long are deleted, seconds.
const KEEP_SESSIONS: u64 = 30 * 24 * 3600;

/// Who else may use the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Nobody: what earlier processes left is cleared.
    Alone,
    /// Other processes that serve one session each.
    WithOthers,
}

/// A directory and sandboxes.
pub(super) struct Host {
    dir: PathBuf,
    sandboxes: Arc<SessionSandboxes>,
    archives: Arc<SkillArchives>,
    network: Network,
    /// Held until the end.
    _lock: File,
}

impl Host {
    /// Takes the directory and tries a sandbox.
    ///
    /// # Errors
    /// The directory cannot be used, or the host does not isolate as demanded.
    pub(super) async fn open(
        args: &ServingArgs,
        max_sessions: u16,
        share: Share,
    ) -> Result<Self, Failure> {
        if args.unrestricted_paths {
            tracing::warn!(
                "--unrestricted-paths has no meaning here: a session's tools see its sandbox"
            );
        }
        let dir = match &args.workdir {
            Some(dir) => dir.clone(),
            None => default_dir()?,
        };
        let dir = std::path::absolute(&dir).map_err(|e| unusable(&dir, &e))?;
        let root = dir.join("sandboxes");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(|e| unusable(&dir, &e))?;
        let lock = lock(&dir, share)?;
        let settings =
            config::sandbox_settings(args.config.as_deref(), args.sandbox, args.min_isolation)?;
        let instance = sandboxes::instance(&dir).map_err(|e| unusable(&dir, &e))?;
        let expected = match share {
            Share::Alone => sandboxes::Expected::Many,
            Share::WithOthers => sandboxes::Expected::One,
        };
        let provider = sandboxes::provider(&settings, instance, root.clone(), expected);
        let found = provider.probe().await;
        if let Some(refusal) = sandboxes::refusal(settings.min_isolation, &found) {
            return Err(Failure::failed(refusal));
        }
        let options = local::Options {
            // One a session, and one more while another ends.
            max_live: usize::from(max_sessions) + 1,
            skills_at: skills::ON_WORKERS,
            ..sandboxes::options(&settings, root)
        };
        // Skills are the only files they get from elsewhere.
        let archives = Arc::new(SkillArchives::default());
        let source = Arc::clone(&archives);
        let sandboxes = Arc::new(SessionSandboxes::new(provider, source, options));
        let boxes = Arc::clone(&sandboxes);
        tokio::spawn(async move { boxes.keep_floor().await });
        if share == Share::Alone {
            sandboxes.clear_left_behind().await;
        }
        Ok(Self {
            dir,
            sandboxes,
            archives,
            network: network(args)?,
            _lock: lock,
        })
    }

    pub(super) fn hands(&self) -> Arc<dyn Hands> {
        let sandboxes = Arc::clone(&self.sandboxes);
        let archives = Arc::clone(&self.archives);
        Arc::new(LocalHands::new(sandboxes, archives, &self.network))
    }

    pub(super) fn journals(&self) -> PathBuf {
        self.dir.join("journals")
    }

    /// Deletes files of sessions that nobody came back to. Never ends.
    pub(super) async fn keep_house(&self) {
        loop {
            tokio::time::sleep(KEEP_HOUSE).await;
            match self.sandboxes.kept().await {
                Ok(sessions) => {
                    for session in sessions {
                        let journal = self.journals().join(format!("{session}.journal"));
                        if is_old(&journal) {
                            tracing::info!(%session, "not served for 30 days; its files go");
                            self.sandboxes.remove(&session).await;
                            let _ = std::fs::remove_file(journal);
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "old sessions were not looked for"),
            }
        }
    }
}

/// Whether a file was last written long ago.
fn is_old(path: &Path) -> bool {
    let written = std::fs::metadata(path).and_then(|meta| meta.modified());
    let Ok(written) = written else {
        return false;
    };
    let written = written.duration_since(std::time::UNIX_EPOCH);
    let now = SystemClock.now().as_micros().unsigned_abs() / 1_000_000;
    written.is_ok_and(|written| written.as_secs() + KEEP_SESSIONS < now)
}

fn network(args: &ServingArgs) -> Result<Network, Failure> {
    for host in &args.allow_host {
        let read: Result<freehold_sandbox::HostPattern, _> = host.parse();
        read.map_err(|e| Failure::usage(format!("--allow-host {host}: {e}")))?;
    }
    Ok(match args.network {
        NetworkArg::Public => Network::Public,
        NetworkArg::None if args.allow_host.is_empty() => Network::None,
        NetworkArg::None => Network::Hosts(args.allow_host.clone()),
    })
}

/// `$XDG_STATE_HOME/freehold/worker`, else `~/.local/state/freehold/worker`, else below `/var/lib`.
fn default_dir() -> Result<PathBuf, Failure> {
    let base = match environment::variable("XDG_STATE_HOME")? {
        Some(dir) if Path::new(&dir).is_absolute() => Some(PathBuf::from(dir)),
        _ => environment::variable("HOME")?.map(|home| Path::new(&home).join(".local/state")),
    };
    let base = base.unwrap_or_else(|| PathBuf::from("/var/lib"));
    Ok(base.join("freehold/worker"))
}

fn lock(dir: &Path, share: Share) -> Result<File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(|e| unusable(dir, &e))?;
    let locked = match share {
        Share::Alone => file.try_lock(),
        Share::WithOthers => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::failed(format!(
            "another worker uses {}",
            dir.display()
        ))
        .hint("give each worker a directory of its own with --workdir")),
        Err(TryLockError::Error(e)) => Err(unusable(dir, &e)),
    }
}

fn unusable(dir: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "the directory {} cannot be used: {error}",
        dir.display()
    ))
    .hint("choose one with --workdir")
}
