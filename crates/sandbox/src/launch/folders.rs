//! The state directory's folders and the layers, as detached mounts: made where they can be
//! reached, attached where they are to be seen.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::disk::{self, Spare};
use super::plan::{Bind, Keeps, USER};
use super::tree::{NODEV, NOEXEC, NOSUID, RDONLY, lend};
use super::{InStage, Step};
use crate::{Access, spec};

/// Scratch directories of overlays, in the store.
pub(super) const WORK: &str = "work";
/// What lies below a folder that nothing lies below.
pub(crate) const EMPTY: &str = "empty";

/// What a sandbox sees of its own.
pub(super) struct Folders {
    /// Holds everything that is written and kept, each folder under its name.
    pub store: OwnedFd,
    /// Whether the store is a file system of the sandbox's own.
    pub own_disk: bool,
    /// Read-only shares, in the order of the plan.
    pub shares: Vec<OwnedFd>,
    /// Layers, in the order of the plan.
    pub layers: Vec<OwnedFd>,
}

impl Folders {
    /// Makes what is missing and lends all. `first` is the outside id of the inside's root where a
    /// range is mapped.
    pub(super) fn lend(
        bind: &Bind,
        first: Option<u32>,
        spare: Option<Spare<'_>>,
    ) -> Result<Self, Step> {
        let (store, own_disk) = store(bind, first, spare)?;
        let shares = bind.shares.iter();
        let read_only = RDONLY | NOSUID | NODEV | NOEXEC;
        let mut lent = Vec::new();
        for share in shares.filter(|s| s.access == Access::ReadOnly) {
            let dir = bind.dir.join(&share.folder);
            make(&dir, None, 0o755).stage("state directories")?;
            // Scripts of skills are run from where they lie.
            lent.push(lend(&dir, read_only & !NOEXEC).stage("state directories")?);
        }
        let layers = bind.layers.iter();
        let layers = layers.map(|dir| lend(dir, RDONLY | NOSUID | NODEV));
        Ok(Self {
            store,
            own_disk,
            shares: lent,
            layers: layers.collect::<Result<_, _>>().stage("layers")?,
        })
    }

    pub(super) fn into_fds(self) -> Vec<OwnedFd> {
        let mut fds = vec![self.store];
        fds.extend(self.shares);
        fds.extend(self.layers);
        fds
    }

    pub(super) fn from_fds(bind: &Bind, fds: Vec<OwnedFd>) -> io::Result<Self> {
        let missing = || io::Error::other("a folder is missing");
        let mut fds = fds.into_iter();
        let store = fds.next().ok_or_else(missing)?;
        let mut rest: Vec<_> = fds.collect();
        let layers = rest.len().checked_sub(bind.layers.len());
        let layers = rest.split_off(layers.ok_or_else(missing)?);
        Ok(Self {
            store,
            own_disk: bind.disk.is_some(),
            shares: rest,
            layers,
        })
    }
}

/// Everything that is written and kept, and whether it is a file system of its own.
fn store(
    bind: &Bind,
    first: Option<u32>,
    spare: Option<Spare<'_>>,
) -> Result<(OwnedFd, bool), Step> {
    match &bind.disk {
        Some(template) => {
            let path = bind.dir.join(spec::DISK);
            let mount = match spare.and_then(|spare| spare.become_the(&path, template)) {
                Some(mount) => mount,
                None => disk::mount(&path, template).stage("disk")?,
            };
            let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
            prepare(bind, Path::new(&path), first, !bind.layers.is_empty()).stage("disk")?;
            Ok((mount, true))
        }
        None => {
            if let Some(spare) = spare {
                spare.leave();
            }
            prepare(bind, &bind.dir, first, true).stage("state directories")?;
            let tree = lend(&bind.dir, NOSUID | NODEV).stage("state directories")?;
            Ok((tree, false))
        }
    }
}

/// The names of folders the inside writes to, and where they appear.
pub(super) fn writable(bind: &Bind) -> impl Iterator<Item = (&str, &str)> {
    let shares = bind.shares.iter();
    let shares = shares.filter(|s| s.access == Access::ReadWrite);
    let shares = shares.map(|s| (s.folder.as_str(), s.at.as_str()));
    spec::WRITABLE.into_iter().chain(shares)
}

/// Makes the folders in a store, owned by the tools' user, and with `overlays` what those need. Only
/// when missing: later their inside is the sandbox's.
fn prepare(bind: &Bind, store: &Path, first: Option<u32>, overlays: bool) -> io::Result<()> {
    // A disk's root is the inside's already; giving it again would be written to the disk.
    if let Some(first) = first
        && fs::metadata(store)?.uid() != first
    {
        chown(store, Some(first), Some(first))?;
    }
    let user = first.map(|first| first + USER);
    for (name, _) in writable(bind) {
        make(&store.join(name), user, 0o755)?;
    }
    // What lies between a directory and an overlay that adds nothing to it.
    make(&store.join(EMPTY), first, 0o755)?;
    let layer = bind.keeps != Keeps::Folders;
    if layer {
        make(&store.join(spec::LAYER), first, 0o755)?;
    }
    if !overlays && !layer {
        return Ok(());
    }
    let work = store.join(WORK);
    make(&work, first, 0o700)?;
    let folders = writable(bind).map(|(name, _)| name);
    for name in folders.chain(layer.then_some(spec::LAYER)) {
        make(&work.join(name), first, 0o700)?;
    }
    Ok(())
}

fn make(dir: &Path, owner: Option<u32>, mode: u32) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    fs::set_permissions(dir, PermissionsExt::from_mode(mode))?;
    if owner.is_some() {
        chown(dir, owner, owner)?;
    }
    Ok(())
}
