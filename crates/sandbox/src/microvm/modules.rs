//! The kernel modules a machine needs, where its kernel does not have them built in.

use std::io;
use std::path::{Path, PathBuf};

/// What our machines' devices need.
const WANTED: [&str; 3] = ["virtio_mmio", "virtio_console", "virtiofs"];

/// The modules' files below `dir` (`/lib/modules/VERSION`) in the order in which they must be
/// loaded. What is not listed there is built in, or will be missed when the machine starts.
///
/// # Errors
/// The directory's `modules.dep` cannot be read.
pub(super) fn needed(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let list = std::fs::read_to_string(dir.join("modules.dep"))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for name in WANTED {
        let Some(line) = list.lines().find(|line| is(line, name)) else {
            continue;
        };
        let (module, needs) = line.split_once(':').unwrap_or((line, ""));
        // What is listed last needs nothing of the others.
        let needs = needs.split_whitespace().rev();
        for file in needs.chain([module]) {
            let file = dir.join(file);
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// Whether a line of `modules.dep` is about this module: `path/name.ko[.xz]: needs…`.
fn is(line: &str, name: &str) -> bool {
    let path = line.split(':').next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split('.')
        .next()
        .is_some_and(|stem| stem.replace('-', "_") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let list = "kernel/fs/fuse/virtiofs.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko kernel/fs/fuse/fuse.ko\n\
                    kernel/v/virtio_mmio.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko\n\
                    kernel/v/other_virtio_mmio.ko:\n";
        std::fs::write(dir.path().join("modules.dep"), list).unwrap();
        let found = needed(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|f| f.file_name().unwrap()).collect();
        assert_eq!(
            names,
            [
                "virtio_ring.ko",
                "virtio.ko",
                "virtio_mmio.ko",
                "fuse.ko",
                "virtiofs.ko"
            ]
        );
        assert!(needed(&dir.path().join("none")).is_err());
    }
}
