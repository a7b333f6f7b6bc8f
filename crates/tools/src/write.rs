//! `write` (contract 55 §9).

use crate::failure::{Failure, Result};
use crate::replace::{Refused, replace};
use crate::{ToolOutput, Workspace, file, input, path};

/// Writes a whole file and makes the directories it needs.
pub(crate) fn call(workspace: &Workspace, input: &input::Write) -> Result<ToolOutput> {
    let place = path::resolve(workspace, "write", &input.file_path)?;
    place.writable("write")?;
    put("write", &place, input.content.as_bytes())?;
    let bytes = input.content.len();
    Ok(ToolOutput::text(format!(
        "wrote {bytes} bytes to {}",
        place.written
    )))
}

/// Makes `bytes` the contents of the file at `place`.
pub(crate) fn put(op: &str, place: &path::Place, bytes: &[u8]) -> Result<()> {
    let written = || -> std::result::Result<(), Refused> {
        let dir = file::make_parents(place)?;
        let (_, name) = place.names().ok_or(rustix::io::Errno::ISDIR)?;
        replace(&dir, name, bytes)
    };
    written().map_err(|refused| match refused {
        Refused::NotRegular => Failure::new(format!("{op}: {}: not a regular file", place.written)),
        Refused::Io(error) => place.failed(op, &error),
    })
}
