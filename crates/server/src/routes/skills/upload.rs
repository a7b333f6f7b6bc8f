//! The multipart body of a skill: many `files[]` parts whose names are paths, or one that is a zip
//! (contract 70 §1).

use axum::extract::Request;
use axum::extract::multipart::Field;
use freehold_base::limits::{MAX_SKILL, MAX_SKILL_DISPLAY_NAME, MAX_SKILL_FILES};
use freehold_wire::ApiError;
use freehold_wire::skill::display_name;

use crate::http::Fail;
use crate::routes::form::{Form, Limits, unexpected};

/// Fields that name a skill for people: ours, and that of the legacy form.
const NAMES: [&str; 2] = ["display_name", "display_title"];
const LIMITS: Limits = Limits {
    bytes: MAX_SKILL,
    parts: MAX_SKILL_FILES + 2,
    what: "skill",
};

/// A part as sent.
pub(super) struct Part {
    /// Its path.
    pub(super) name: String,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// What was sent.
pub(super) struct Received {
    /// At least one.
    pub(super) parts: Vec<Part>,
    /// As sent, checked.
    pub(super) display_name: Option<String>,
}

/// Reads the body, at most [`MAX_SKILL`] bytes of it into memory.
///
/// # Errors
/// 400 for a body that is not such a form, 413 for one that is too large.
pub(super) async fn receive(request: Request) -> Result<Received, Fail> {
    let mut form = Form::open(request, LIMITS, "files[]").await?;
    let (mut parts, mut name, mut room) = (Vec::new(), None, MAX_SKILL);
    while let Some(field) = form.next().await? {
        match field.name() {
            Some("files[]" | "files") => parts.push(part(field, &mut room).await?),
            Some(field_name) if name.is_none() && NAMES.contains(&field_name) => {
                let field_name = field_name.to_owned();
                let max = 4 * (MAX_SKILL_DISPLAY_NAME + 1);
                let text = LIMITS.text(&field_name, max, field).await?;
                name = Some(display_name(&field_name, &text)?);
            }
            field_name => return Err(unexpected(field_name, &NAMES).into()),
        }
    }
    if parts.is_empty() {
        return Err(ApiError::invalid("files: Field required").into());
    }
    Ok(Received {
        parts,
        display_name: name,
    })
}

async fn part(mut field: Field<'_>, room: &mut u64) -> Result<Part, ApiError> {
    let name = field.file_name().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(ApiError::invalid(
            "files: a part has no filename; it should be a path such as my-skill/SKILL.md",
        ));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = LIMITS.chunk(&mut field).await? {
        let left = room.checked_sub(chunk.len() as u64);
        *room = left.ok_or_else(|| LIMITS.too_large())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Part { name, bytes })
}
