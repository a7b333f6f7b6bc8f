//! Attached files as the sandbox sees them, read-only, below `/mnt/session/uploads`. The host
//! writes them into the sandbox's state directory; a manifest beside them says which content is
//! where, so that a restart copies nothing twice.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use freehold_base::limits;
use freehold_sandbox::{Access, SandboxSpec, Share};
use tokio::io::AsyncReadExt;

use crate::files::FileSource;

/// Where attached files appear.
const ROOT: &str = "/mnt/session/uploads";
/// Longest path below [`ROOT`], bytes.
const MAX_PATH: usize = 2_048;
/// Greatest manifest, bytes.
const MAX_MANIFEST: u64 = 8 * 1024 * 1024;

/// A file to be shown in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Absolute, normalised, under `/mnt/session/uploads`.
    pub mount_path: String,
    /// Names its bytes in the [`FileSource`]; different content has another key.
    pub key: String,
}

/// Why attached files cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A mount path is not below the uploads folder.
    #[error("a mount path is not an absolute, normalised path under {ROOT}")]
    Path,
    /// Two files want to be in each other's way.
    #[error("cannot {doing} an attached file")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any may be.
    #[error("an attached file is larger than {} bytes", limits::MAX_FILE)]
    TooLarge,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> UploadError {
    move |source| UploadError::Io { doing, source }
}

/// The folder of the state directory that holds them.
const FOLDER: &str = "uploads";

/// Shows them in a sandbox.
pub(crate) fn share() -> Share {
    Share {
        folder: FOLDER.to_owned(),
        at: ROOT.to_owned(),
        access: Access::ReadOnly,
    }
}

type Manifest = BTreeMap<PathBuf, String>;

/// Makes the uploads folder hold exactly `uploads`.
pub(crate) async fn sync(
    spec: &SandboxSpec,
    uploads: &[Upload],
    source: &dyn FileSource,
) -> Result<(), UploadError> {
    let mut wanted = Manifest::new();
    for upload in uploads {
        wanted.insert(relative(&upload.mount_path)?, upload.key.clone());
    }
    let manifest = spec.dir.join("uploads.json");
    let top = spec.dir.join(FOLDER);
    if wanted.is_empty() && !exists(&manifest).await {
        return Ok(());
    }
    make_dir(&spec.dir, 0o700)
        .await
        .map_err(failed("make room for"))?;
    make_dir(&top, 0o755)
        .await
        .map_err(failed("make room for"))?;
    let present = read_manifest(&manifest).await;
    for path in present
        .iter()
        .filter(|(p, k)| wanted.get(*p) != Some(*k))
        .map(|(p, _)| p)
    {
        match tokio::fs::remove_file(top.join(path)).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(e)),
            _ => {}
        }
    }
    for (path, key) in wanted.iter().filter(|(p, k)| present.get(*p) != Some(*k)) {
        place(spec, &top, path, key, source).await?;
    }
    if present != wanted {
        write_manifest(&manifest, &wanted)
            .await
            .map_err(failed("note"))?;
    }
    Ok(())
}

/// The path below the uploads folder.
fn relative(mount_path: &str) -> Result<PathBuf, UploadError> {
    let rest = mount_path
        .strip_prefix(ROOT)
        .and_then(|r| r.strip_prefix('/'));
    let rest = rest.ok_or(UploadError::Path)?;
    let normal = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    if rest.len() > MAX_PATH || rest.contains('\0') || !rest.split('/').all(normal) {
        return Err(UploadError::Path);
    }
    let path = PathBuf::from(rest);
    debug_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
    Ok(path)
}

async fn place(
    spec: &SandboxSpec,
    top: &Path,
    path: &Path,
    key: &str,
    source: &dyn FileSource,
) -> Result<(), UploadError> {
    let mut dir = top.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        dir.push(part);
        make_dir(&dir, 0o755)
            .await
            .map_err(failed("make room for"))?;
    }
    // Written outside the folder, so that no half-written file is ever seen inside.
    let temporary = spec.dir.join("upload.tmp");
    let content = source.open(key).await.map_err(failed("open"))?;
    let mut file = tokio::fs::File::create(&temporary)
        .await
        .map_err(failed("write"))?;
    let copied = tokio::io::copy(&mut content.take(limits::MAX_FILE + 1), &mut file).await;
    if copied.map_err(failed("copy"))? > limits::MAX_FILE {
        return Err(UploadError::TooLarge);
    }
    file.set_permissions(Permissions::from_mode(0o644))
        .await
        .map_err(failed("write"))?;
    file.sync_all().await.map_err(failed("write"))?;
    tokio::fs::rename(&temporary, top.join(path))
        .await
        .map_err(failed("place"))
}

/// Makes one directory with exactly this mode, whatever the umask.
pub(crate) async fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match tokio::fs::create_dir(path).await {
        Ok(()) => tokio::fs::set_permissions(path, Permissions::from_mode(mode)).await,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Only for the state directory's own parents.
            tokio::fs::create_dir_all(path).await?;
            tokio::fs::set_permissions(path, Permissions::from_mode(mode)).await
        }
        Err(e) => Err(e),
    }
}

async fn exists(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

/// What is there; nothing if that cannot be told, and then all is written anew.
async fn read_manifest(path: &Path) -> Manifest {
    let Ok(file) = tokio::fs::File::open(path).await else {
        return Manifest::new();
    };
    let mut text = Vec::new();
    match file.take(MAX_MANIFEST).read_to_end(&mut text).await {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => Manifest::new(),
    }
}

async fn write_manifest(path: &Path, manifest: &Manifest) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    let text = serde_json::to_vec(manifest)?;
    tokio::fs::write(&temporary, text).await?;
    tokio::fs::rename(&temporary, path).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use freehold_sandbox::{Isolation, Limits, NetworkPolicy};
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::AsyncRead;

    /// Content is the key itself.
    #[derive(Default)]
    struct Keys(AtomicU32);

    #[async_trait]
    impl FileSource for Keys {
        async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            match key {
                "missing" => Err(io::ErrorKind::NotFound.into()),
                key => Ok(Box::new(io::Cursor::new(key.as_bytes().to_vec()))),
            }
        }
    }

    fn spec(dir: &Path) -> SandboxSpec {
        SandboxSpec {
            id: "s".to_owned(),
            dir: dir.join("state"),
            limits: Limits::default(),
            network: NetworkPolicy::None.into(),
            min_isolation: Isolation::None,
            shares: vec![share()],
            layers: Vec::new(),
            env: Vec::new(),
        }
    }

    fn upload(path: &str, key: &str) -> Upload {
        Upload {
            mount_path: format!("{ROOT}/{path}"),
            key: key.to_owned(),
        }
    }

    #[tokio::test]
    async fn the_folder_follows_the_list_and_copies_once() {
        let base = tempfile::tempdir().unwrap();
        let (spec, source) = (spec(base.path()), Keys::default());
        let read = |p: &str| std::fs::read_to_string(spec.dir.join(FOLDER).join(p)).ok();
        sync(
            &spec,
            &[upload("a.txt", "one"), upload("d/e/b", "two")],
            &source,
        )
        .await
        .unwrap();
        assert_eq!(
            (read("a.txt"), read("d/e/b")),
            (Some("one".into()), Some("two".into()))
        );
        sync(
            &spec,
            &[upload("a.txt", "one"), upload("d/e/b", "two")],
            &source,
        )
        .await
        .unwrap();
        assert_eq!(source.0.load(Ordering::SeqCst), 2);
        sync(&spec, &[upload("a.txt", "new")], &source)
            .await
            .unwrap();
        assert_eq!((read("a.txt"), read("d/e/b")), (Some("new".into()), None));
        sync(&spec, &[], &source).await.unwrap();
        assert_eq!(read("a.txt"), None);
        let gone = sync(&spec, &[upload("x", "missing")], &source).await;
        assert!(
            matches!(gone, Err(UploadError::Io { doing: "open", .. })),
            "{gone:?}"
        );
    }

    #[tokio::test]
    async fn without_files_nothing_is_made() {
        let base = tempfile::tempdir().unwrap();
        let spec = spec(base.path());
        sync(&spec, &[], &Keys::default()).await.unwrap();
        assert!(!spec.dir.exists());
    }

    #[test]
    fn paths_stay_below_the_folder() {
        for bad in [
            "/mnt/session/uploads",
            "/mnt/session/uploads/",
            "/mnt/session/uploads/../outputs/x",
            "/mnt/session/uploads/a/./b",
            "/mnt/session/uploadsx/a",
            "/etc/passwd",
            "a",
            "/mnt/session/uploads//a",
            "/mnt/session/uploads/a\0b",
            "/mnt/session/uploads/a/",
        ] {
            assert!(relative(bad).is_err(), "{bad}");
        }
        assert_eq!(
            relative("/mnt/session/uploads/a b/ä").unwrap(),
            Path::new("a b/ä")
        );
    }
}
