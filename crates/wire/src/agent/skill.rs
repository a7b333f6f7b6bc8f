//! The `skills` of a request (contract 10, "Skill").

use std::collections::BTreeSet;

use freehold_base::limits::MAX_SKILLS;
use serde_json::Value;

use super::{Skill, SkillKind};
use crate::decode::{At, Decode, Object, echo, list, text};

/// The skills that are part of the platform.
const BUILT_IN: [&str; 4] = ["pptx", "xlsx", "docx", "pdf"];
/// Characters of a skill's id or version.
const MAX_REFERENCE: usize = 128;

/// Reads and resolves a `skills` array; an omitted version is `latest`.
///
/// # Errors
/// A skill breaks a rule.
pub fn skills(value: Value, at: &At<'_>) -> Decode<Vec<Skill>> {
    let mut seen = BTreeSet::new();
    list(0, MAX_SKILLS, |value, at| {
        let skill = skill(value, at)?;
        if !seen.insert(skill.skill_id.clone()) {
            return Err(at.key("skill_id").error(format_args!(
                "Skills must be distinct; `{}` is given twice",
                echo(&skill.skill_id)
            )));
        }
        Ok(skill)
    })(value, at)
}

fn skill(value: Value, at: &At<'_>) -> Decode<Skill> {
    let mut o = Object::new(value, at)?;
    let kind = match o.tag(&["anthropic", "custom"])? {
        "anthropic" => SkillKind::Anthropic,
        _ => SkillKind::Custom,
    };
    let skill_id = o.required("skill_id", |value, at| {
        let id = text(1, MAX_REFERENCE)(value, at)?;
        match kind {
            SkillKind::Anthropic if !BUILT_IN.contains(&id.as_str()) => Err(at.error(
                format_args!("Input should be {}", crate::decode::quoted(&BUILT_IN)),
            )),
            SkillKind::Custom if !is_custom_id(&id) => {
                Err(at.error("not a valid id: expected the form skill_…"))
            }
            _ => Ok(id),
        }
    })?;
    let version = o.optional("version", text(1, MAX_REFERENCE))?;
    o.finish()?;
    Ok(Skill {
        r#type: kind,
        skill_id,
        version: version.unwrap_or_else(|| "latest".to_owned()),
    })
}

fn is_custom_id(id: &str) -> bool {
    id.strip_prefix("skill_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_alphanumeric()))
}
