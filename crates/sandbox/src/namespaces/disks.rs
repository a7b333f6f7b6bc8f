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
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use freehold_base::{Entropy, SystemEntropy};

use super::pool::REST;
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

/// Those that lie ready, in a directory.
pub(super) struct Disks {
    dir: PathBuf,
    want: usize,
    stock: Mutex<Stock>,
}

#[derive(Default)]
struct Stock {
    ready: Vec<Spare>,
    /// The template that was asked for last.
    wanted: PathBuf,
    filling: bool,
}

impl Disks {
    pub(super) fn new(dir: PathBuf, want: usize) -> Arc<Self> {
        Arc::new(Self {
            dir,
            want,
            stock: Mutex::default(),
        })
    }

    /// One that lies ready, or else is to be copied.
    pub(super) fn take(&self, template: &Path) -> Spare {
        let ready = &mut self.stock().ready;
        let found = ready.iter().position(|s| s.disk.template == template);
        let found = found.map(|at| ready.remove(at));
        found.unwrap_or_else(|| Spare::new(&self.dir, template))
    }

    /// Makes as many as are missing, in the background and not at once.
    pub(super) fn fill(self: &Arc<Self>, template: &Path) {
        if self.want == 0 {
            return;
        }
        {
            let mut stock = self.stock();
            template.clone_into(&mut stock.wanted);
            if std::mem::replace(&mut stock.filling, true) {
                return;
            }
        }
        let disks = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            while let Some(disks) = disks.upgrade() {
                let Some(spare) = disks.missing() else {
                    return;
                };
                let made = tokio::task::spawn_blocking(move || spare.make()).await;
                match made.unwrap_or_else(|e| Err(io::Error::other(e))) {
                    Ok(spare) => disks.stock().ready.push(spare),
                    Err(error) => {
                        tracing::debug!(%error, "no disk could be prepared");
                        disks.stock().filling = false;
                        return;
                    }
                }
            }
        });
    }

    /// The next to be made; `None` ends the filling. Of the last template there is one at least, those
    /// of others stay as long as there is room.
    fn missing(&self) -> Option<Spare> {
        let mut stock = self.stock();
        let Stock { ready, wanted, .. } = &mut *stock;
        if ready.len() >= self.want {
            if ready.iter().any(|s| s.disk.template == *wanted) {
                stock.filling = false;
                return None;
            }
            ready.remove(0);
        }
        Some(Spare::new(&self.dir, wanted))
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

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
