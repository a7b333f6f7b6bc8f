//! Disks that are nobody's yet.
//!
//! A few lie ready, so that a start need not wait for the host's disk: when an image becomes a block
//! device, newer kernels first write what is in memory of it, in several writes that wait for one
//! another.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use freehold_base::{Entropy, SystemEntropy};

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
pub(super) struct Spare {
    disk: SpareDisk,
    /// Whether there is an image.
    made: bool,
}

impl Spare {
    fn new(dir: &Path, template: &Path) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            disk: SpareDisk {
                image: dir.join(format!("{}{n}", *OWN)),
                template: template.to_owned(),
            },
            made: false,
        }
    }

    /// What a launcher is told to expect.
    pub(super) fn disk(&self) -> &SpareDisk {
        &self.disk
    }

    /// Mounts it. Blocks.
    pub(super) fn mount(&self) -> io::Result<OwnedFd> {
        let SpareDisk { image, template } = &self.disk;
        if !self.made {
            disk::copy(template, image)?;
        }
        disk::mount_unused(image)
    }

    /// Makes the image, so that nothing of it is left to be written. Blocks.
    fn make(mut self) -> io::Result<Self> {
        disk::copy(&self.disk.template, &self.disk.image)?;
        File::open(&self.disk.image)?.sync_all()?;
        self.made = true;
        Ok(self)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Most are somebody's now, under another name. A leftover is removed with the next start of
        // the server.
        let _ = fs::remove_file(&self.disk.image);
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
    type Made = Spare;

    async fn make(&self) -> Result<Spare, SandboxError> {
        let spare = Spare::new(&self.dir, &self.template);
        let made = tokio::task::spawn_blocking(move || spare.make()).await;
        let made = made.unwrap_or_else(|e| Err(io::Error::other(e)));
        made.map_err(SandboxError::host("preparing a disk"))
    }

    fn fits(&self, made: &Spare) -> bool {
        made.disk.template == self.template
    }

    fn discard(made: Spare) {
        drop(made);
    }
}

impl Disks {
    pub(super) fn new(dir: PathBuf, want: usize) -> Self {
        let ready = Stock::new(want);
        Self { dir, ready }
    }

    /// One that lies ready, or else is to be copied.
    pub(super) fn take(&self, template: &Path) -> Spare {
        let ready = self.ready.take(|spare| spare.disk.template == template);
        ready.unwrap_or_else(|| Spare::new(&self.dir, template))
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
