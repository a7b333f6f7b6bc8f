//! Snapshots, made and unpacked by the agent; stored and named here.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::Running;
use super::channel::{Answered, Channel};
use super::files::{exchange, exchange_with_id, unexpected, violation};
use crate::protocol::{Answer, Ask, CHUNK, Problem};
use crate::{Limits, Provider, Sandbox, SandboxError, Snapshot};

/// What compression may add to incompressible content, bytes.
const SLACK: u64 = 64 << 20;

/// Fills a fresh sandbox from a snapshot; one that cannot be filled is removed again.
pub(crate) async fn fill(
    provider: &dyn Provider,
    sandbox: Running,
    snapshot: &Snapshot,
    dir: &Path,
) -> Result<Running, SandboxError> {
    if let Err(error) = sandbox.unpack(snapshot).await {
        sandbox.destroy().await?;
        provider.remove_state(dir)?;
        // A sandbox that was lost over it was lost to it: out of memory, for example.
        return Err(match error {
            SandboxError::Lost { reason } => SandboxError::Snapshot(reason),
            other => other,
        });
    }
    Ok(sandbox)
}

/// Has an archive made and stores it in `store`.
pub(super) async fn make(
    channel: &Arc<Channel>,
    limits: &Limits,
    store: &Path,
) -> Result<Snapshot, SandboxError> {
    let stored = SandboxError::host("storing a snapshot");
    let mut file = tempfile(store).map_err(stored)?;
    let ask = Ask::Pack {
        bytes: limits.disk_bytes,
        entries: limits.disk_inodes,
    };
    let (handle, answered) = exchange_with_id(channel, ask, Bytes::new(), CHUNK).await?;
    done(channel, answered)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let skipped = loop {
        let ask = Ask::PackNext { handle };
        match exchange(channel, ask, Bytes::new(), CHUNK).await? {
            (Answer::Chunk { .. }, piece) if !piece.is_empty() => {
                bytes += piece.len() as u64;
                if bytes > limits.disk_bytes + SLACK {
                    return Err(violation(channel));
                }
                hash.update(&piece);
                let written = tokio::task::spawn_blocking(move || {
                    file.0.write_all(&piece)?;
                    Ok(file)
                });
                let written = written
                    .await
                    .map_err(|e| SandboxError::lost(e.to_string()))?;
                file = written.map_err(SandboxError::host("storing a snapshot"))?;
            }
            (Answer::Packed { skipped }, _) => break skipped,
            answered => {
                done(channel, answered)?;
                return Err(violation(channel));
            }
        }
    };
    let digest = freehold_base::hex::encode(hash.finalize());
    let path = store.join(format!("{digest}.tar.zst"));
    let to = path.clone();
    let kept = tokio::task::spawn_blocking(move || file.keep(&to)).await;
    kept.map_err(|e| SandboxError::lost(e.to_string()))?
        .map_err(SandboxError::host("storing a snapshot"))?;
    Ok(Snapshot {
        digest,
        path,
        bytes,
        skipped,
    })
}

/// Sends an archive to be unpacked, having made sure that it is the one it is said to be.
pub(super) async fn unpack(
    channel: &Arc<Channel>,
    limits: &Limits,
    snapshot: &Snapshot,
) -> Result<(), SandboxError> {
    let ask = Ask::Unpack {
        bytes: limits.disk_bytes,
        entries: limits.disk_inodes,
    };
    let (handle, answered) = exchange_with_id(channel, ask, Bytes::new(), CHUNK).await?;
    done(channel, answered)?;
    let mut file = open(snapshot).await?;
    loop {
        let mut piece = vec![0; CHUNK];
        let read = file.read(&mut piece).await.map_err(unreadable)?;
        piece.truncate(read);
        let ask = Ask::UnpackPush { handle };
        done(channel, exchange(channel, ask, piece.into(), CHUNK).await?)?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Checks an archive against its name.
pub(crate) async fn verify(snapshot: &Snapshot) -> Result<(), SandboxError> {
    let mut file = open(snapshot).await?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer).await.map_err(unreadable)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let found = freehold_base::hex::encode(hash.finalize());
    if found == snapshot.digest {
        Ok(())
    } else {
        Err(SandboxError::Snapshot(
            "its content is not that of its name".to_owned(),
        ))
    }
}

async fn open(snapshot: &Snapshot) -> Result<tokio::fs::File, SandboxError> {
    tokio::fs::File::open(&snapshot.path)
        .await
        .map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> SandboxError {
    SandboxError::host("reading a snapshot")(error)
}

fn done(channel: &Channel, (answer, reason): Answered) -> Result<(), SandboxError> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Failed {
            problem: Problem::Refused,
        } => {
            let reason = String::from_utf8_lossy(&reason).into_owned();
            Err(SandboxError::Snapshot(reason))
        }
        other => Err(unexpected(channel, other)),
    }
}

/// A file that is deleted unless it is kept.
struct Temporary(std::fs::File, Option<std::path::PathBuf>);

fn tempfile(store: &Path) -> std::io::Result<Temporary> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(store)?;
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = store.join(format!(".new-{}-{n}", std::process::id()));
    Ok(Temporary(std::fs::File::create(&path)?, Some(path)))
}

impl Temporary {
    fn keep(mut self, at: &Path) -> std::io::Result<()> {
        self.0.sync_all()?;
        if let Some(path) = self.1.take() {
            std::fs::rename(path, at)?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.1 {
            // A leftover is only a file that nobody asks for.
            let _ = std::fs::remove_file(path);
        }
    }
}
