//! The sandbox's side: a folder of files. What the agent can write to is reached through the live
//! sandbox only; a folder that nothing inside can change may be written from outside.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use freehold_sandbox::{FileProblem, Sandbox, SandboxError};

/// Files that a sandbox's agent writes before it names them, which may be left over.
const UNFINISHED: &str = ".freehold-write-";
/// Files looked at in one listing.
const MAX_FILES: usize = 10_000;

/// A file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative, without `.` and `..`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Last modification, microseconds since the epoch; the inside may say what it likes.
    pub mtime_micros: i64,
}

/// What a folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Regular files.
    pub files: Vec<Listed>,
    /// Whether some were left out: what is not listed may be there all the same.
    pub truncated: bool,
}

/// A folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The sandbox could not do it.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The host could not do it.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// One store's folder. Paths are relative.
#[async_trait]
pub trait Folder: Send + Sync {
    /// What it holds; nothing if it is not there.
    async fn list(&self) -> Result<Files, FolderError>;
    /// A file of at most `max` bytes; `None` if there is none, or one that cannot be read.
    async fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, FolderError>;
    /// Writes a file whole, with the folders above it.
    async fn write(&self, path: &str, content: Vec<u8>) -> Result<(), FolderError>;
    /// Deletes a file; one that is not there is no error.
    async fn remove(&self, path: &str) -> Result<(), FolderError>;
}

/// A folder inside a live sandbox.
pub struct SandboxFolder {
    /// The sandbox.
    pub sandbox: Arc<dyn Sandbox>,
    /// The folder's path inside.
    pub path: String,
}

impl SandboxFolder {
    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.path)
    }
}

#[async_trait]
impl Folder for SandboxFolder {
    async fn list(&self) -> Result<Files, FolderError> {
        let listing = match self.sandbox.list_files(&self.path).await {
            Ok(listing) => listing,
            Err(SandboxError::File {
                problem: FileProblem::NotFound,
            }) => return Ok(Files::default()),
            Err(error) => return Err(error.into()),
        };
        let files = listing.files.into_iter().map(|f| Listed {
            path: f.path,
            size: f.size,
            mtime_micros: f.mtime_micros,
        });
        Ok(Files {
            files: files.filter(|f| !is_unfinished(&f.path)).collect(),
            truncated: listing.truncated,
        })
    }

    async fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, FolderError> {
        match self.sandbox.read_file(&self.at(path), max).await {
            Ok(file) => Ok(Some(file.collect().await?)),
            // Gone, grown, made unreadable: the rest of the folder is none the worse for it.
            Err(SandboxError::File { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, path: &str, content: Vec<u8>) -> Result<(), FolderError> {
        Ok(self
            .sandbox
            .write_file(&self.at(path), content.into())
            .await?)
    }

    async fn remove(&self, path: &str) -> Result<(), FolderError> {
        match self.sandbox.delete_file(&self.at(path)).await {
            Err(SandboxError::File {
                problem: FileProblem::NotFound,
            })
            | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A folder on the host that is shown inside read-only: nothing but this process writes to it, so
/// no path in it leads elsewhere.
pub struct HostFolder(pub PathBuf);

#[async_trait]
impl Folder for HostFolder {
    async fn list(&self) -> Result<Files, FolderError> {
        let root = self.0.clone();
        let walked = tokio::task::spawn_blocking(move || walk(&root));
        Ok(walked.await.map_err(io::Error::other)??)
    }

    async fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, FolderError> {
        match tokio::fs::read(self.0.join(path)).await {
            Ok(content) => Ok(Some(content).filter(|c| c.len() as u64 <= max)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn write(&self, path: &str, content: Vec<u8>) -> Result<(), FolderError> {
        let (root, path) = (self.0.clone(), path.to_owned());
        let written = tokio::task::spawn_blocking(move || place(&root, &path, &content));
        Ok(written.await.map_err(io::Error::other)??)
    }

    async fn remove(&self, path: &str) -> Result<(), FolderError> {
        match tokio::fs::remove_file(self.0.join(path)).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

fn walk(root: &Path) -> io::Result<Files> {
    let mut all = Files::default();
    let mut open = vec![(root.to_owned(), String::new())];
    while let Some((dir, prefix)) = open.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let meta = entry.metadata()?;
            if meta.is_dir() {
                open.push((entry.path(), format!("{path}/")));
            } else if meta.is_file() && !is_unfinished(&path) {
                if all.files.len() == MAX_FILES {
                    all.truncated = true;
                    return Ok(all);
                }
                let modified = meta.modified().ok();
                let since = modified.and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok());
                all.files.push(Listed {
                    path,
                    size: meta.len(),
                    mtime_micros: since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0)),
                });
            }
        }
    }
    Ok(all)
}

/// Writes a file and the folders above it, so that every user inside can read them.
fn place(root: &Path, path: &str, content: &[u8]) -> io::Result<()> {
    let shown =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let mut dir = root.to_owned();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in [""]
        .into_iter()
        .chain(folders.split('/').filter(|p| !p.is_empty()))
    {
        dir.push(part);
        match std::fs::create_dir(&dir) {
            Ok(()) => shown(&dir, 0o755)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    // A name of its own: several files are written at a time.
    let mut unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(&dir)?;
    unfinished.write_all(content)?;
    shown(unfinished.path(), 0o644)?;
    unfinished.persist(dir.join(name))?;
    Ok(())
}

fn is_unfinished(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(UNFINISHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_written_at_the_same_time_keep_apart() {
        let root = tempfile::tempdir().unwrap();
        let folder = HostFolder(root.path().to_owned());
        for round in 0..20 {
            let name = |n: u32| format!("{round}/{n}.md");
            let write = async |n: u32| folder.write(&name(n), n.to_string().into_bytes()).await;
            let writes = (0..16).map(write);
            for written in futures_util::future::join_all(writes).await {
                written.unwrap();
            }
            for n in 0..16 {
                let read = folder.read(&name(n), 16).await.unwrap();
                assert_eq!(read, Some(n.to_string().into_bytes()), "{}", name(n));
            }
        }
        let listed = folder.list().await.unwrap().files;
        assert_eq!(listed.len(), 320, "nothing unfinished is left");
    }
}
