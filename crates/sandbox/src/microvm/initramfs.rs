//! The machine's first file system: an archive in cpio's `newc` format with the agent, what it
//! needs to run, and the kernel's modules. Nothing of it depends on the session.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::launch::guest::{MARKER, MODULES};
use crate::launch::plan::Program;

/// Directory, regular file and character device, with their permissions.
const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// Directories that mounts need, and what they are in.
const DIRS: [&str; 3] = ["dev", "tree", "modules"];

/// The whole archive.
///
/// # Errors
/// A file cannot be read.
pub(super) fn build(agent: &Path, needs: &Program, modules: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in DIRS {
        archive.dir(Path::new(dir));
    }
    // Standard streams of the first process, which must not start without.
    archive.entry("dev/console", DEVICE, (5, 1), b"");
    archive.entry("dev/null", DEVICE, (1, 3), b"");
    archive.entry(MARKER.trim_start_matches('/'), FILE, (0, 0), b"");
    archive.file(Path::new("init"), &fs::read(agent)?);
    for path in needs.interpreter.iter().chain(&needs.libraries) {
        archive.file(path.strip_prefix("/").unwrap_or(path), &fs::read(path)?);
    }
    for (n, module) in modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let at = format!("{}/{n:02}-{name}", MODULES.trim_start_matches('/'));
        archive.file(Path::new(&at), &fs::read(module)?);
    }
    Ok(archive.finish())
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    dirs: Vec<PathBuf>,
}

impl Archive {
    /// A directory and its parents, once.
    fn dir(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || self.dirs.iter().any(|d| d == path) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.dir(parent);
        }
        self.entry(&path.to_string_lossy(), DIR, (0, 0), b"");
        self.dirs.push(path.to_owned());
    }

    fn file(&mut self, path: &Path, content: &[u8]) {
        if let Some(parent) = path.parent() {
            self.dir(parent);
        }
        self.entry(&path.to_string_lossy(), FILE, (0, 0), content);
    }

    /// A header of fourteen fields in hexadecimal, the name, the content, each padded to four.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let library = dir.path().join("lib/libx.so.1");
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::write(&agent, "program").unwrap();
        fs::write(&library, "library").unwrap();
        let needs = Program {
            interpreter: None,
            libraries: vec![library.clone()],
        };
        let archive = build(&agent, &needs, std::slice::from_ref(&agent)).unwrap();
        assert_eq!(archive.len() % 4, 0);
        // Walked as the kernel walks it: header, name, content.
        let mut at = 0;
        let mut names = Vec::new();
        loop {
            let field = |n: usize| {
                let from = at + 6 + n * 8;
                let text = std::str::from_utf8(&archive[from..from + 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&archive[at..at + 6], b"070701");
            let (size, name_len) = (field(6), field(11));
            let name_at = at + 110;
            let name = &archive[name_at..name_at + name_len - 1];
            let name = String::from_utf8(name.to_vec()).unwrap();
            let content_at = (name_at + name_len).next_multiple_of(4);
            let content = &archive[content_at..content_at + size];
            at = (content_at + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                break;
            }
            names.push((name, String::from_utf8(content.to_vec()).unwrap()));
        }
        let has = |name: &str, content: &str| {
            assert!(
                names.iter().any(|(n, c)| n == name && c == content),
                "{name}: {names:?}"
            );
        };
        has("init", "program");
        has(library.to_str().unwrap().trim_start_matches('/'), "library");
        has("modules/00-agent", "program");
        has("dev", "");
        has("freehold-guest", "");
    }
}
