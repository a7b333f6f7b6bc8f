//! Skills and their versions (contract 70). What an agent says of them is in
//! [`crate::agent::skills`].

use freehold_base::limits::MAX_SKILL_DISPLAY_NAME;
use freehold_base::{SkillId, SkillVersionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ApiError;

pub mod legacy;
mod manifest;

pub use manifest::Manifest;

/// The file that makes a folder a skill.
pub const SKILL_MD: &str = "SKILL.md";
/// The name of the newest version, in paths and in agents.
pub const LATEST: &str = "latest";

/// The constant `skill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillTag {
    /// `skill`.
    #[default]
    Skill,
}

/// The constant `skill_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillVersionTag {
    /// `skill_version`.
    #[default]
    SkillVersion,
}

/// Where a skill comes from. All of ours are uploads: the hosted platform's own are not ours to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SkillSource {
    /// Uploaded.
    Custom,
}

/// A skill as shown; every key is always present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Always `skill`.
    pub r#type: SkillTag,
    /// `skill_…`.
    pub id: SkillId,
    /// For people; not unique.
    pub display_name: String,
    /// The newest version; there is always one.
    pub latest_version_id: SkillVersionId,
    /// Where it comes from.
    pub source: SkillSource,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its versions last changed.
    pub updated_at: Timestamp,
}

/// A version of a skill as shown; every key is always present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillVersion {
    /// Always `skill_version`.
    pub r#type: SkillVersionTag,
    /// `skver_…`.
    pub id: SkillVersionId,
    /// Its skill.
    pub skill_id: SkillId,
    /// The skill's name, the same in all its versions; names the folder a sandbox sees.
    pub name: String,
    /// What the agent is told of it.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Reads the form field `display_name`, which the legacy form calls `display_title`.
///
/// # Errors
/// 400 for one that is empty, too long or not a single line.
pub fn display_name(field: &str, text: &str) -> Result<String, ApiError> {
    let refuse = |why: &str| Err(ApiError::invalid(format!("{field}: {why}")));
    if text.trim().is_empty() {
        return refuse("should have at least 1 character");
    }
    if MAX_SKILL_DISPLAY_NAME < text.chars().count() {
        return refuse(&format!(
            "should have at most {MAX_SKILL_DISPLAY_NAME} characters"
        ));
    }
    if text.chars().any(char::is_control) {
        return refuse("should be a single line");
    }
    Ok(text.to_owned())
}
