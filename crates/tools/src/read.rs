//! `read` (contract 55 §8).

use std::fs::File;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::path::Place;
use crate::{ToolOutput, Workspace, file, input, path};

/// Most text of one result, bytes.
pub(crate) const MAX_TEXT: u64 = 262_144;
/// Largest image, bytes: 5 MiB in base 64.
const MAX_IMAGE: u64 = 5 * 1024 * 1024 / 4 * 3;
/// Largest PDF, bytes.
const MAX_PDF: u64 = 20 * 1024 * 1024;
/// Piece of a large file that is looked at in one go, bytes.
const CHUNK: usize = 64 * 1024;

/// Reads a text file or some of its lines, an image or a PDF.
pub(crate) fn call(workspace: &Workspace, input: &input::Read) -> Result<ToolOutput> {
    let place = path::resolve(workspace, "read", &input.file_path)?;
    let range = match input.view_range.as_deref() {
        None | Some([]) => None,
        Some(&[first, last]) => Some(Range { first, last }),
        Some(_) => {
            return Err(Failure::new(
                "read: view_range must be [start_line, end_line]",
            ));
        }
    };
    let path = &place.written;
    let opened = file::open_file(&place).map_err(|e| place.failed("read", &e))?;
    let Some((file, size)) = opened else {
        return Err(Failure::new(format!("read: {path}: not a regular file")));
    };
    if let Some(media) = media(&place) {
        if range.is_some() {
            return Err(Failure::new(
                "read: view_range is not supported for image/PDF files",
            ));
        }
        return read_media(&place, file, size, media);
    }
    let too_large = |size: u64| {
        Failure::new(format!(
            "read: {path} is {size} bytes, exceeds {MAX_TEXT}-byte limit. Use the view_range \
             parameter to read specific line ranges, e.g. view_range: [1, 500]."
        ))
    };
    if size > MAX_TEXT {
        return match range {
            None => Err(too_large(size)),
            Some(range) => read_range(&place, file, range),
        };
    }
    let bytes = file::read_whole(file, MAX_TEXT).map_err(|e| place.failed("read", &e))?;
    let text = utf8(&place, bytes.map_err(too_large)?)?;
    Ok(ToolOutput::text(match range {
        None => text,
        Some(range) => range.of(&text),
    }))
}

fn utf8(place: &Place, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(format!(
            "read: {}: not valid UTF-8 text (binary files are only supported for image/PDF \
             extensions)",
            place.written
        ))
    })
}

/// Lines a model asked for.
#[derive(Clone, Copy)]
struct Range {
    /// From 1; below means 1.
    first: i64,
    /// Inclusive; 0 and below mean the last line of the file.
    last: i64,
}

impl Range {
    /// Lines to skip.
    fn skip(self) -> usize {
        usize::try_from(self.first.saturating_sub(1)).unwrap_or_default()
    }
    /// Number of the line after the last wanted, from 0.
    fn end(self) -> usize {
        usize::try_from(self.last)
            .ok()
            .filter(|end| *end > 0)
            .unwrap_or(usize::MAX)
    }
    fn of(self, text: &str) -> String {
        let wanted = self.end().saturating_sub(self.skip());
        text.split('\n')
            .skip(self.skip())
            .take(wanted)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Reads the lines of `range` from a file too large to hold.
fn read_range(place: &Place, mut file: File, range: Range) -> Result<ToolOutput> {
    let (start, end) = (range.skip(), range.end());
    let (mut line, mut kept, mut buffer) = (0, Vec::new(), vec![0; CHUNK]);
    while line < end && start < end {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(place.failed("read", &error)),
        };
        for piece in buffer[..read].split_inclusive(|b| *b == b'\n') {
            let ends = piece.ends_with(b"\n");
            if (start..end).contains(&line) {
                // The newline behind the last line is not part of the answer.
                let piece = if ends && line + 1 == end {
                    &piece[..piece.len() - 1]
                } else {
                    piece
                };
                kept.extend_from_slice(piece);
                if kept.len() as u64 > MAX_TEXT {
                    return Err(range_too_large(place, range));
                }
            }
            line += usize::from(ends);
        }
    }
    utf8(place, kept).map(ToolOutput::text)
}

fn range_too_large(place: &Place, range: Range) -> Failure {
    let path = &place.written;
    Failure::new(if range.end() - range.skip() == 1 {
        format!(
            "read: line {} of {path} alone exceeds {MAX_TEXT}-byte limit. The read tool cannot \
             return part of a line, so view_range cannot narrow this further.",
            range.skip() + 1
        )
    } else {
        format!(
            "read: view_range [{}, {}] of {path} exceeds {MAX_TEXT}-byte limit. Narrow the \
             view_range to read a smaller portion.",
            range.first, range.last
        )
    })
}

/// What a name says a file is, if not text.
fn media(place: &Place) -> Option<&'static str> {
    let extension = place.full.extension()?.to_ascii_lowercase();
    Some(match extension.to_str()? {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        _ => return None,
    })
}

fn read_media(place: &Place, file: File, size: u64, media: &str) -> Result<ToolOutput> {
    let is_pdf = media == "application/pdf";
    let limit = if is_pdf { MAX_PDF } else { MAX_IMAGE };
    let too_large = |size: u64| {
        let path = &place.written;
        Failure::new(format!(
            "read: {path} is {size} bytes, exceeds {limit}-byte limit for image/PDF files."
        ))
    };
    if size > limit {
        return Err(too_large(size));
    }
    let bytes = file::read_whole(file, limit).map_err(|e| place.failed("read", &e))?;
    let data = STANDARD.encode(bytes.map_err(too_large)?);
    Ok(ToolOutput::block(json!({
        "type": if is_pdf { "document" } else { "image" },
        "source": { "type": "base64", "media_type": media, "data": data },
    })))
}
