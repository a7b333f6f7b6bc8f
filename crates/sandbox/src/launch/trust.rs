//! What the inside trusts beside the system's certificates: its own authority's, where it has one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::plan::{BUNDLE, CERTIFICATE, Root};
use super::tree::{Tree, What};

/// Where systems keep all certificates they trust in one file.
const SYSTEM: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];

/// Longest list of certificates that is taken over, bytes; real ones have about 250,000.
const MAX_BUNDLE: u64 = 1024 * 1024;

/// The certificate alone, and together with the system's own.
pub(super) fn trees(root: &Root, certificate: &str) -> [Tree; 2] {
    let base = match root {
        Root::Host { .. } => Path::new("/"),
        Root::Image { dir } => dir,
    };
    let found = SYSTEM.iter().find_map(|path| read_in(base, path).ok());
    // Without any, only hosts whose TLS ends at the proxy are believed.
    let mut bundle = found.unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    bundle.push_str(certificate);
    let text = |at: &str, text: String| Tree {
        at: at.trim_start_matches('/').into(),
        what: What::Text(text),
    };
    [
        text(CERTIFICATE, certificate.to_owned()),
        text(BUNDLE, bundle),
    ]
}

/// Reads a file of a tree whose links may say anything.
fn read_in(base: &Path, path: &str) -> io::Result<String> {
    let base = rustix::fs::open(base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&base, path, flags, Mode::empty(), resolve)?;
    let mut text = String::new();
    File::from(file)
        .take(MAX_BUNDLE)
        .read_to_string(&mut text)?;
    Ok(text)
}
