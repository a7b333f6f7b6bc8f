//! The disk's own speed, side by side with what the server does on it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Bytes of one write.
const BLOCK: usize = 4096;
/// Blocks of the file, written round and round: like a write-ahead log that has reached its size,
/// so that no metadata has to be committed.
const BLOCKS: u64 = 256;
/// Bytes after which the growing file begins anew.
const LOG: u64 = 64 * 1024 * 1024;

/// Files on the disk under test.
pub(crate) struct Disk {
    file: File,
    next: u64,
    log: File,
    end: u64,
}

impl Disk {
    /// Makes the files in `dir`, and they go with the directory.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let make = |name: &str| {
            let path = dir.join(name);
            File::create_new(&path).with_context(|| path.display().to_string())
        };
        let file = make("disk-probe")?;
        for block in 0..BLOCKS {
            file.write_all_at(&[0x5a; BLOCK], block * BLOCK as u64)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            next: 0,
            log: make("disk-probe-log")?,
            end: 0,
        })
    }

    /// Milliseconds of one 4 KiB write with `fdatasync`. Blocks the thread.
    pub(crate) fn probe(&mut self) -> Result<f64> {
        self.next = (self.next + 1) % BLOCKS;
        let fill = u8::try_from(self.next % 251)?;
        let begun = Instant::now();
        self.file
            .write_all_at(&[fill; BLOCK], self.next * BLOCK as u64)?;
        self.file.sync_data()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Milliseconds of one 4 KiB write at the end of a growing file with `fsync`: metadata has to
    /// be committed too. Blocks the thread.
    pub(crate) fn grow(&mut self) -> Result<f64> {
        if LOG <= self.end {
            self.log.set_len(0)?;
            self.end = 0;
        }
        let begun = Instant::now();
        self.log.write_all_at(&[0x5a; BLOCK], self.end)?;
        self.log.sync_all()?;
        self.end += BLOCK as u64;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}
