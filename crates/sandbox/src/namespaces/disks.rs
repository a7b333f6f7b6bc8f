//! Disks that are nobody's yet.
//!
//! A few lie ready, so that a start need not wait for the host's disk: when an image becomes a block
//! device, newer kernels first write what is in memory of it, in several writes that wait for one
//! another.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::pool::REST;
use crate::launch::disk;
use crate::launch::plan::SpareDisk;

/// What names of images begin with that are nobody's.
const PREFIX: &str = ".spare-";
/// How many lie ready, all of the size that was asked for last.
const READY: usize = 4;

/// Images are told apart by this: one that nobody waited for may still be made when its sandbox is
/// tried again.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A disk that becomes the one of whoever the sandbox is for. Its image is removed with this if it did
/// not.
pub(super) struct Spare(SpareDisk);

impl Spare {
    /// Names it; there is no image yet.
    fn new(dir: &Path, template: &Path) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(SpareDisk {
            image: dir.join(format!("{PREFIX}{}-{n}", std::process::id())),
            template: template.to_owned(),
        })
    }

    /// What a launcher is told to expect.
    pub(super) fn disk(&self) -> &SpareDisk {
        &self.0
    }

    /// Mounts it. Blocks.
    pub(super) fn mount(&self) -> io::Result<OwnedFd> {
        let SpareDisk { image, template } = &self.0;
        if !image.exists() {
            disk::copy(template, image)?;
        }
        disk::mount_unused(image)
    }

    /// Makes the image, so that nothing of it is left to be written. Blocks.
    fn prepare(&self) -> io::Result<()> {
        disk::copy(&self.0.template, &self.0.image)?;
        File::open(&self.0.image)?.sync_all()
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Most are somebody's now, under another name. A leftover is removed with the next start of
        // the server.
        let _ = fs::remove_file(&self.0.image);
    }
}

/// Those that lie ready, in a directory.
pub(super) struct Disks {
    dir: PathBuf,
    ready: Mutex<Vec<Spare>>,
    filling: AtomicBool,
}

impl Disks {
    pub(super) fn new(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            dir,
            ready: Mutex::default(),
            filling: AtomicBool::new(false),
        })
    }

    /// One that lies ready, or else is to be copied.
    pub(super) fn take(&self, template: &Path) -> Spare {
        let mut ready = self.ready();
        let found = ready.iter().position(|s| s.0.template == template);
        let found = found.map(|at| ready.swap_remove(at));
        found.unwrap_or_else(|| Spare::new(&self.dir, template))
    }

    /// Makes as many as are missing, in the background and not at once.
    pub(super) fn fill(self: &Arc<Self>, template: &Path) {
        if self.filling.swap(true, Ordering::SeqCst) {
            return;
        }
        let (disks, template) = (Arc::downgrade(self), template.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            while let Some(disks) = disks.upgrade() {
                if !disks.wants(&template) {
                    break;
                }
                let spare = Spare::new(&disks.dir, &template);
                let made = tokio::task::spawn_blocking(move || spare.prepare().map(|()| spare));
                match made.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
                    Ok(spare) => disks.ready().push(spare),
                    Err(error) => {
                        tracing::debug!(%error, "no disk could be prepared");
                        break;
                    }
                }
            }
            if let Some(disks) = disks.upgrade() {
                disks.filling.store(false, Ordering::SeqCst);
            }
        });
    }

    /// Whether there are too few; those of other sizes are given up.
    fn wants(&self, template: &Path) -> bool {
        let mut ready = self.ready();
        ready.retain(|spare| spare.0.template == template);
        ready.len() < READY
    }

    /// Removes images that an earlier process made for nobody.
    pub(super) fn remove_left_behind(&self) {
        let own = format!("{PREFIX}{}-", std::process::id());
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let another = name.starts_with(PREFIX) && !name.starts_with(&own);
            if another && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(%error, "a spare disk image was left behind");
            }
        }
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Vec<Spare>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
