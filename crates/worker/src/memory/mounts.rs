//! Where a sandbox shows memory stores: each is a folder of its own in the state directory. The
//! folder above them, `/mnt/memory`, belongs to the read-only system, so nothing else can be
//! written there.

use std::path::Path;
use std::sync::Arc;

use freehold_sandbox::{Access, Sandbox, Share};

use super::{Folder, HostFolder, MemoryMount, SandboxFolder};

/// The shares of these mounts.
pub fn shares(mounts: &[MemoryMount]) -> Vec<Share> {
    let each = mounts.iter().enumerate().map(|(n, mount)| Share {
        folder: folder(n),
        at: mount.mount_path.clone(),
        access: if mount.read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        },
    });
    each.collect()
}

/// The folders of these mounts: through the sandbox where the inside may write, else in the state
/// directory `dir`.
pub fn folders(
    sandbox: &Arc<dyn Sandbox>,
    dir: &Path,
    mounts: &[MemoryMount],
) -> Vec<Box<dyn Folder>> {
    let each = mounts.iter().enumerate();
    each.map(|(n, mount)| -> Box<dyn Folder> {
        if mount.read_only {
            Box::new(HostFolder(dir.join(folder(n))))
        } else {
            Box::new(SandboxFolder {
                sandbox: Arc::clone(sandbox),
                path: mount.mount_path.clone(),
            })
        }
    })
    .collect()
}

fn folder(n: usize) -> String {
    format!("memory-{n}")
}
