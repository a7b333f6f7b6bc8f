//! Archives made by hand.

use std::io::{Cursor, Write};

use freehold_archive::{ArchiveError, Content, Limits, Rules, Special};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

pub const RULES: Rules = Rules {
    limits: Limits {
        members: 100,
        bytes: 4 << 20,
        ratio: 100,
    },
    special: Special::Refuse,
};

pub const SKIPPING: Rules = Rules {
    special: Special::Skip,
    ..RULES
};

/// A zip of these names and contents.
pub fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().unix_permissions(0o644);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The same, not compressed, so that names and contents can be altered where they stand.
pub fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Replaces every occurrence by something as long.
pub fn altered(mut archive: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut found = 0;
    for at in 0..=archive.len() - from.len() {
        if archive[at..].starts_with(from) {
            archive[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "nothing to alter");
    archive
}

/// One header block and the content of a tar member; the name is written as it is.
pub fn tar_member(name: &[u8], kind: tar::EntryType, mode: u32, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A whole tar of members.
pub fn tarred(members: &[Vec<u8>]) -> Vec<u8> {
    let mut out = members.concat();
    out.extend([0; 1024]);
    out
}

pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Paths, execute bits and contents of the files of an archive.
pub fn listed(archive: &[u8], rules: Rules) -> Result<Vec<(String, bool, Vec<u8>)>, ArchiveError> {
    let mut all = Vec::new();
    freehold_archive::read(Cursor::new(archive), rules, &mut |member| {
        if let Content::File { executable, bytes } = member.content {
            let mut content = Vec::new();
            bytes
                .read_to_end(&mut content)
                .map_err(|source| ArchiveError::Io {
                    doing: "read",
                    source,
                })?;
            all.push((member.path.to_string(), executable, content));
        }
        Ok(())
    })?;
    Ok(all)
}

/// Unpacks into a fresh folder and gives what lies around it: the outcome, and whether anything
/// but the folder was made.
pub fn unpacked(archive: &[u8], rules: Rules) -> (Result<Vec<String>, ArchiveError>, Vec<String>) {
    let base = tempfile::tempdir().unwrap();
    let inner = base.path().join("a/b/c");
    std::fs::create_dir_all(&inner).unwrap();
    let result = freehold_archive::unpack(Cursor::new(archive), &inner.join("to"), rules);
    let everything = walk(base.path());
    let (inside, outside): (Vec<_>, Vec<_>) = everything
        .into_iter()
        .partition(|p| p.starts_with("a/b/c/to/"));
    let inside = inside
        .into_iter()
        .map(|p| p["a/b/c/to/".len()..].to_owned());
    let outside = outside
        .into_iter()
        .filter(|p| !["a", "a/b", "a/b/c", "a/b/c/to"].contains(&p.as_str()));
    (result.map(|_| inside.collect()), outside.collect())
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            let path = entry.path();
            found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}
