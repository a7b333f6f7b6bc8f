//! From what was uploaded to what is kept: one zip with one folder, of checked files only.

use std::collections::BTreeSet;
use std::io::Cursor;

use freehold_archive::{
    ArchiveError, Content, File, Limits, MemberPath, Places, Rules, Special, pack, read,
};
use freehold_base::limits::{MAX_SKILL, MAX_SKILL_FILES};
use freehold_wire::skill::{Manifest, SKILL_MD};
use freehold_wire::{ApiError, ErrorKind};

use super::upload::Part;
use crate::http::Fail;

/// How an uploaded zip is read.
const RULES: Rules = Rules {
    limits: Limits {
        // Directories count too.
        members: 2 * MAX_SKILL_FILES,
        bytes: MAX_SKILL,
        ratio: 200,
    },
    special: Special::Refuse,
};

/// What a version is made of.
pub(super) struct Bundle {
    /// What its SKILL.md says.
    pub(super) manifest: Manifest,
    /// A zip with one folder, which has the skill's name.
    pub(super) archive: Vec<u8>,
}

/// Checks and packs. Takes time in proportion to [`MAX_SKILL`]: not for an async thread.
///
/// # Errors
/// 400 that names what is wrong, 413 for too much.
pub(super) fn bundle(parts: Vec<Part>) -> Result<Bundle, Fail> {
    let mut files = match &parts[..] {
        [zip] if is_zip(zip) => unzipped(&zip.bytes)?,
        _ => named(parts)?,
    };
    files.retain(|file| !is_litter(&file.path));
    if MAX_SKILL_FILES < files.len() {
        let message = format!("files: a skill has at most {MAX_SKILL_FILES} files");
        return Err(ApiError::invalid(message).into());
    }
    let files = without_top(files)?;
    let described = files.iter().find(|file| file.path.as_str() == SKILL_MD);
    let described = described.ok_or_else(misplaced)?;
    let manifest = Manifest::parse(&described.bytes)?;
    let archive = pack(&manifest.name, files).map_err(refused)?;
    Ok(Bundle { manifest, archive })
}

fn is_zip(part: &Part) -> bool {
    let name = part.name.to_ascii_lowercase();
    name.ends_with(".zip") || part.bytes.starts_with(b"PK\x03\x04")
}

fn unzipped(zip: &[u8]) -> Result<Vec<File>, Fail> {
    if !zip.starts_with(b"PK") {
        return Err(ApiError::invalid("files: the part is named as a zip and is none").into());
    }
    let mut files = Vec::new();
    let walked = read(Cursor::new(zip), RULES, &mut |member| {
        if let Content::File {
            executable,
            bytes: content,
        } = member.content
        {
            let mut bytes = Vec::new();
            content
                .read_to_end(&mut bytes)
                .map_err(|source| ArchiveError::Io {
                    doing: "read a member",
                    source,
                })?;
            files.push(File {
                path: member.path,
                executable,
                bytes,
            });
        }
        Ok(())
    });
    walked.map_err(refused)?;
    Ok(files)
}

fn named(parts: Vec<Part>) -> Result<Vec<File>, Fail> {
    let mut places = Places::default();
    let mut files = Vec::with_capacity(parts.len());
    for part in parts {
        let path = MemberPath::new(part.name.as_bytes()).map_err(refused)?;
        places.file(&path).map_err(refused)?;
        files.push(File {
            path,
            // A form has no modes; a script says itself that it is one.
            executable: part.bytes.starts_with(b"#!"),
            bytes: part.bytes,
        });
    }
    Ok(files)
}

/// What some systems leave in every archive.
fn is_litter(path: &MemberPath) -> bool {
    let path = path.as_str();
    path.starts_with("__MACOSX/") || path.rsplit('/').next() == Some(".DS_Store")
}

/// The files as they lie beside SKILL.md: at the root, or in the one folder that holds all of them.
fn without_top(files: Vec<File>) -> Result<Vec<File>, ApiError> {
    if files.iter().any(|file| file.path.as_str() == SKILL_MD) {
        return Ok(files);
    }
    let tops: BTreeSet<_> = files.iter().map(|file| file.path.top()).collect();
    if tops.len() != 1 {
        return Err(misplaced());
    }
    let below = files.into_iter().map(|file| {
        let path = file.path.below_top().ok_or_else(misplaced)?;
        Ok(File { path, ..file })
    });
    below.collect()
}

fn misplaced() -> ApiError {
    ApiError::invalid(format!(
        "files: expected {SKILL_MD} at the root of exactly one top-level directory that holds all files"
    ))
}

fn refused(error: ArchiveError) -> Fail {
    match error {
        ArchiveError::Io { .. } => Fail::internal(&error),
        ArchiveError::TooLarge { limit } => {
            let message = format!("the skill is larger than {limit} bytes");
            ApiError::new(ErrorKind::TooLarge, message).into()
        }
        other => ApiError::invalid(format!("files: {other}")).into(),
    }
}
