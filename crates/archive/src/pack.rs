//! Writing a zip that is the same whenever its content is.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::MemberPath;
use crate::error::ArchiveError;

/// A file to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: MemberPath,
    /// Whether it may be executed.
    pub executable: bool,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Packs files below one folder, in the order of their paths and without times: equal files give
/// equal bytes.
///
/// # Errors
/// They do not fit in a zip.
pub fn pack(folder: &str, mut files: Vec<File>) -> Result<Vec<u8>, ArchiveError> {
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let mode = if file.executable { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(mode);
        let name = format!("{folder}/{}", file.path);
        let written = zip
            .start_file(name, options)
            .and_then(|()| Ok(zip.write_all(&file.bytes)?));
        written.map_err(failed)?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}

fn failed(error: zip::result::ZipError) -> ArchiveError {
    ArchiveError::Io {
        doing: "write the archive",
        source: std::io::Error::other(error),
    }
}
