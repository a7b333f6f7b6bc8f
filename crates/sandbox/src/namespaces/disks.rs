//! Disks that are nobody's yet.
//!
//! A few lie ready, mounted, so that a start need wait neither for the host's disk (when an image
//! becomes a block device, newer kernels first write what is in memory of it, in several writes that
//! wait for one another) nor for the kernel, which starts a thread for each file system.

use std::fs::{self, File};
use std::future::ready;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use freehold_base::{Entropy, SystemEntropy};
use tokio_util::either::Either;

use super::stock::{Maker, Stock};
use crate::SandboxError;
use crate::launch::disk;
use crate::launch::plan::SpareDisk;

/// What names of images begin with that are nobody's.
const PREFIX: &str = ".spare-";

/// What follows in this process's. Not its id: that is another container's, too, or was an earlier
/// process's.
static OWN: LazyLock<String> = LazyLock::new(|| format!("{PREFIX}{}-", SystemEntropy.hex(8)));

/// Images are told apart by this: one that nobody waited for may still be made when its sandbox is
/// tried again.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A disk that becomes the one of whoever the sandbox is for. Its image is removed with this if it did
/// not.
pub(super) struct Spare(SpareDisk);

impl Spare {
    fn new(dir: &Path, template: &Path) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(SpareDisk {
            image: dir.join(format!("{}{n}", *OWN)),
            template: template.to_owned(),
        })
    }

    /// What a launcher is told to expect.
    pub(super) fn disk(&self) -> &SpareDisk {
        &self.0
    }

    /// Makes and mounts it. Blocks.
    fn mount(&self) -> io::Result<OwnedFd> {
        disk::copy(&self.0.template, &self.0.image)?;
        disk::mount_unused(&self.0.image)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Most are somebody's now, under another name. A leftover is removed with the next start of
        // the server.
        let _ = fs::remove_file(&self.0.image);
    }
}

/// One that lies ready, so that nothing of it is left to be written, and what is looked at first has
/// been read.
struct Ready {
    spare: Spare,
    mount: OwnedFd,
}

impl Ready {
    /// Blocks.
    fn make(spare: Spare) -> io::Result<Self> {
        disk::copy(&spare.0.template, &spare.0.image)?;
        File::open(&spare.0.image)?.sync_all()?;
        let mount = disk::mount_unused(&spare.0.image)?;
        let root = format!("/proc/self/fd/{}", mount.as_raw_fd());
        for entry in fs::read_dir(root)? {
            entry?.metadata()?;
        }
        Ok(Self { spare, mount })
    }
}

/// Those of one directory.
#[derive(Clone)]
pub(super) struct Disks {
    dir: PathBuf,
    ready: Arc<Stock<Blank>>,
}

/// What disks are made from, and where.
#[derive(Clone)]
struct Blank {
    dir: PathBuf,
    template: PathBuf,
}

impl Maker for Blank {
    type Made = Ready;

    async fn make(&self) -> Result<Ready, SandboxError> {
        let spare = Spare::new(&self.dir, &self.template);
        let made = tokio::task::spawn_blocking(move || Ready::make(spare)).await;
        let made = made.unwrap_or_else(|e| Err(io::Error::other(e)));
        made.map_err(SandboxError::host("preparing a disk"))
    }

    fn fits(&self, made: &Ready) -> bool {
        made.spare.0.template == self.template
    }

    fn discard(made: Ready) {
        drop(made);
    }
}

impl Disks {
    pub(super) fn new(dir: PathBuf, want: usize) -> Self {
        let ready = Stock::new(want);
        Self { dir, ready }
    }

    /// One that lies ready, or else is made and mounted from now on, on another thread; and its mount,
    /// `None` if that failed.
    pub(super) fn take(
        &self,
        template: &Path,
    ) -> (Arc<Spare>, impl Future<Output = Option<OwnedFd>> + use<>) {
        let fits = |ready: &Ready| ready.spare.0.template == template;
        match self.ready.take(fits) {
            Some(Ready { spare, mount }) => (Arc::new(spare), Either::Left(ready(Some(mount)))),
            None => {
                let spare = Arc::new(Spare::new(&self.dir, template));
                // Not removed before it has been made.
                let making = Arc::clone(&spare);
                let mounting = tokio::task::spawn_blocking(move || making.mount().ok());
                let mounted = async { mounting.await.ok().flatten() };
                (spare, Either::Right(mounted))
            }
        }
    }

    /// Makes as many as are missing, in the background and not at once.
    pub(super) fn fill(&self, template: &Path) {
        self.ready.fill(Blank {
            dir: self.dir.clone(),
            template: template.to_owned(),
        });
    }

    /// Removes images that an earlier process made for nobody.
    pub(super) fn remove_left_behind(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let another = name.starts_with(PREFIX) && !name.starts_with(&*OWN);
            if another && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(%error, "a spare disk image was left behind");
            }
        }
    }
}
