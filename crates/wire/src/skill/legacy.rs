//! The shapes of the header `anthropic-beta: skills-2025-10-02` (contract 70 §3), which SDKs before
//! their second version send. Versions are addressed by the microsecond they were made in.

use freehold_base::{SkillId, SkillVersionId, Timestamp};
use serde::Serialize;

use super::{Skill, SkillTag, SkillVersion, SkillVersionTag};

/// The value of the header.
pub const BETA: &str = "skills-2025-10-02";
/// Versions on one page at most.
pub const MAX_VERSIONS: usize = 100;

/// A skill as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LegacySkill {
    r#type: SkillTag,
    id: SkillId,
    display_title: String,
    latest_version: String,
    source: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl LegacySkill {
    /// The skill, whose newest version is addressed by `latest`.
    pub fn new(skill: Skill, latest: u64) -> Self {
        Self {
            r#type: skill.r#type,
            id: skill.id,
            display_title: skill.display_name,
            latest_version: latest.to_string(),
            source: "custom",
            created_at: skill.created_at,
            updated_at: skill.updated_at,
        }
    }
}

/// A version as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LegacySkillVersion {
    r#type: SkillVersionTag,
    id: SkillVersionId,
    skill_id: SkillId,
    version: String,
    name: String,
    directory: String,
    description: String,
    created_at: Timestamp,
}

impl LegacySkillVersion {
    /// The version, which is addressed by `number`.
    pub fn new(version: SkillVersion, number: u64) -> Self {
        Self {
            r#type: version.r#type,
            id: version.id,
            skill_id: version.skill_id,
            version: number.to_string(),
            directory: version.name.clone(),
            name: version.name,
            description: version.description,
            created_at: version.created_at,
        }
    }
}

/// A page as shown.
#[derive(Debug, Clone, Serialize)]
pub struct LegacyPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there is another page.
    pub has_more: bool,
    /// Cursor of it.
    pub next_page: Option<String>,
}
