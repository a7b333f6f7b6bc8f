//! Overlays, named by relative paths, which is all the inside then sees of where layers lie.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Where an overlay keeps what is written.
pub(super) struct Upper<'a> {
    pub dir: &'a str,
    pub work: &'a str,
}

/// A detached overlay of `lower` directories, topmost first. Paths are relative to the current
/// directory and free of `:`, `,` and `\`.
pub(super) fn overlay(
    lower: &[String],
    upper: Option<Upper<'_>>,
    flags: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &str| {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(io::Error::from)
    };
    set("lowerdir", &lower.join(":"))?;
    if let Some(upper) = upper {
        set("upperdir", upper.dir)?;
        set("workdir", upper.work)?;
    }
    // The only attributes that a user namespace's root may set.
    rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        flags,
    )?)
}
