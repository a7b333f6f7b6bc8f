//! What the inside trusts beside the system's certificates: its own authority's, where it has one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::MoveMountFlags;

use super::mounts::{clone_of, make_dir, make_file};
use super::plan::{BUNDLE, CERTIFICATE};

/// Where systems keep all certificates they trust in one file.
const SYSTEM: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];
/// Longest list of certificates that is taken over, bytes; real ones have about 250,000.
const MAX_BUNDLE: u64 = 1024 * 1024;

/// Writes the certificate alone, and together with the system's own, and shows the latter in place
/// of the system's, for programs that cannot be told another. `root` is the only root by now.
pub(super) fn add(root: &OwnedFd, certificate: &str) -> io::Result<()> {
    let system = SYSTEM.iter().find_map(|path| find(root, path).ok());
    let mut bundle = String::new();
    // Without a list, only hosts whose TLS ends at the proxy are believed.
    if let Some(system) = &system {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(system));
        File::open(path)?
            .take(MAX_BUNDLE)
            .read_to_string(&mut bundle)?;
    }
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    bundle.push_str(certificate);
    for (path, text) in [(CERTIFICATE, certificate), (BUNDLE, &bundle)] {
        let path = Path::new(path.trim_start_matches('/'));
        make_dir(root, path.parent().unwrap_or(path))?;
        make_file(root, path, text)?;
    }
    if let Some(system) = system {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&clone_of(BUNDLE)?, "", &system, "", flags)?;
    }
    Ok(())
}

/// A file of a tree whose links may say anything.
fn find(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = openat2(root, path, flags, Mode::empty(), resolve)?;
    let kind = rustix::fs::fstat(&file)?.st_mode;
    if rustix::fs::FileType::from_raw_mode(kind) != rustix::fs::FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}
