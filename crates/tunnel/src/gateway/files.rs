//! Files that others than their owner can read or change.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::config::Config;

/// For everybody: reading, and writing.
const READ: u32 = 0o004;
const WRITE: u32 = 0o002;

/// What is too open of the files a gateway is made from; each with what to do.
pub fn too_open(file: Option<&Path>, config: &Config) -> Vec<String> {
    let secrets = [Some(&config.certificate.1), config.token_file.as_ref()];
    let secrets = secrets
        .into_iter()
        .flatten()
        .map(|p| (p.as_path(), READ | WRITE));
    let others = [Some(config.certificate.0.as_path()), file];
    let others = others.into_iter().flatten().map(|p| (p, WRITE));
    let bad = secrets.chain(others).filter_map(|(path, mask)| {
        // One that is not there is another's complaint.
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & mask;
        let can = match (mode & WRITE != 0, mode & READ != 0) {
            (true, _) => "change",
            (false, true) => "read",
            (false, false) => return None,
        };
        let path = path.display();
        Some(format!(
            "{path}: everybody on this host can {can} it; chmod o-rw"
        ))
    });
    bad.collect()
}
