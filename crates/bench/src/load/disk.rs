//! The disk's own speed, side by side with what the server does on it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Bytes of one write.
const BLOCK: usize = 4096;
/// Blocks of the file, written round and round: like a write-ahead log that has reached its size,
/// so that no metadata has to be committed.
const BLOCKS: u64 = 256;

/// A file on the disk under test.
pub(crate) struct Disk {
    file: File,
    next: u64,
}

impl Disk {
    /// Makes the file in `dir`, which goes with the directory.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let path = dir.join("disk-probe");
        let make = || -> io::Result<File> {
            let file = File::create_new(&path)?;
            for block in 0..BLOCKS {
                file.write_all_at(&[0x5a; BLOCK], block * BLOCK as u64)?;
            }
            file.sync_all()?;
            Ok(file)
        };
        Ok(Self {
            file: make().with_context(|| path.display().to_string())?,
            next: 0,
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
}
