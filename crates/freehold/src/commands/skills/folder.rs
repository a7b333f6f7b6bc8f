//! A folder as the zip of a skill.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use freehold_archive::{File, MemberPath};
use freehold_base::limits::{MAX_SKILL, MAX_SKILL_FILES};

use crate::exit::Failure;
use crate::terminal::clean;

/// Never part of a skill.
const LEFT_OUT: [&str; 2] = [".git", ".DS_Store"];

/// Packs a folder with the modes its files have.
///
/// # Errors
/// It cannot be read, holds a link or the like, or is more than a skill may be.
pub(super) fn pack(folder: &Path) -> Result<Vec<u8>, Failure> {
    let (mut files, mut room, mut open) = (Vec::new(), MAX_SKILL, vec![folder.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).map_err(failed(&dir))? {
            let entry = entry.map_err(failed(&dir))?;
            let path = entry.path();
            if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            // Of the entry itself: a link is not followed.
            let metadata = entry.metadata().map_err(failed(&path))?;
            if metadata.is_dir() {
                open.push(path);
                continue;
            }
            if !metadata.is_file() {
                return Err(bad(&path, "is neither a file nor a folder"));
            }
            let left = room.checked_sub(metadata.len());
            room = left.ok_or_else(|| bad(&path, &format!("exceeds {MAX_SKILL} bytes in all")))?;
            if files.len() == MAX_SKILL_FILES {
                return Err(bad(
                    &path,
                    &format!("exceeds {MAX_SKILL_FILES} files in all"),
                ));
            }
            let below = path.strip_prefix(folder).unwrap_or(&path);
            let member = MemberPath::new(below.as_os_str().as_bytes());
            files.push(File {
                path: member.map_err(|error| Failure::because("cannot pack the folder", &error))?,
                executable: metadata.permissions().mode() & 0o111 != 0,
                bytes: fs::read(&path).map_err(failed(&path))?,
            });
        }
    }
    freehold_archive::pack("skill", files)
        .map_err(|error| Failure::because("cannot pack the folder", &error))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let what = format!("cannot read {}", clean(&path.display().to_string()));
    move |error| Failure::because(&what, &error)
}

fn bad(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("{} {why}", clean(&path.display().to_string())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_packed_with_modes_and_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at(".git/objects")).unwrap();
        fs::write(at(".git/objects/x"), "x").unwrap();
        fs::write(at("SKILL.md"), "---").unwrap();
        fs::write(at("bin/run"), "x").unwrap();
        fs::set_permissions(at("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        let zip = pack(dir.path()).unwrap();
        let file = |path: &[u8], executable, bytes: &[u8]| File {
            path: MemberPath::new(path).unwrap(),
            executable,
            bytes: bytes.to_vec(),
        };
        let same = vec![
            file(b"SKILL.md", false, b"---"),
            file(b"bin/run", true, b"x"),
        ];
        assert_eq!(zip, freehold_archive::pack("skill", same).unwrap());
        symlink("/etc/passwd", at("link")).unwrap();
        assert!(pack(dir.path()).is_err());
    }
}
