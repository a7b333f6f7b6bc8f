//! How skills are shown: as contract 70 §2 has them, or as §3 for clients that ask for the legacy
//! form.

use axum::extract::FromRequestParts;
use freehold_base::limits::page;
use freehold_store::{SkillRow, SkillVersionRow};
use freehold_wire::Page;
use freehold_wire::skill::legacy::{self, LegacyPage, LegacySkill, LegacySkillVersion};
use freehold_wire::skill::{Skill, SkillSource, SkillTag, SkillVersion, SkillVersionTag};
use http::request::Parts;

use crate::http::{Fail, Reply, json};

/// Which form the client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Today's.
    Current,
    /// That of `anthropic-beta: skills-2025-10-02`.
    Legacy,
}

impl<S: Sync> FromRequestParts<S> for Shape {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fail> {
        let betas = parts.headers.get_all("anthropic-beta").into_iter();
        let asks = betas
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|beta| beta.trim() == legacy::BETA);
        Ok(if asks { Self::Legacy } else { Self::Current })
    }
}

impl Shape {
    /// Versions on one page at most.
    pub(super) fn max_versions(self) -> usize {
        match self {
            Self::Current => page::SKILLS.1,
            Self::Legacy => legacy::MAX_VERSIONS,
        }
    }

    /// One skill.
    pub(super) fn skill(self, row: SkillRow) -> Reply {
        match self {
            Self::Current => json(&skill(row)),
            Self::Legacy => json(&legacy_skill(row)),
        }
    }

    /// A page of skills.
    pub(super) fn skills(self, rows: Vec<SkillRow>, next_page: Option<String>) -> Reply {
        let rows = rows.into_iter();
        match self {
            Self::Current => json(&Page {
                data: rows.map(skill).collect(),
                next_page,
            }),
            Self::Legacy => json(&LegacyPage {
                data: rows.map(legacy_skill).collect(),
                has_more: next_page.is_some(),
                next_page,
            }),
        }
    }

    /// One version.
    pub(super) fn version(self, row: SkillVersionRow) -> Reply {
        match self {
            Self::Current => json(&version(row)),
            Self::Legacy => json(&legacy_version(row)),
        }
    }

    /// A page of versions.
    pub(super) fn versions(self, rows: Vec<SkillVersionRow>, next_page: Option<String>) -> Reply {
        let rows = rows.into_iter();
        match self {
            Self::Current => json(&Page {
                data: rows.map(version).collect(),
                next_page,
            }),
            Self::Legacy => json(&LegacyPage {
                data: rows.map(legacy_version).collect(),
                has_more: next_page.is_some(),
                next_page,
            }),
        }
    }
}

fn skill(row: SkillRow) -> Skill {
    Skill {
        r#type: SkillTag::Skill,
        id: row.id,
        display_name: row.display_name,
        latest_version_id: row.latest,
        source: SkillSource::Custom,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn legacy_skill(row: SkillRow) -> LegacySkill {
    let number = row.latest_number;
    LegacySkill::new(skill(row), number)
}

fn version(row: SkillVersionRow) -> SkillVersion {
    SkillVersion {
        r#type: SkillVersionTag::SkillVersion,
        id: row.id,
        skill_id: row.skill_id,
        name: row.name,
        description: row.description,
        created_at: row.created_at,
    }
}

fn legacy_version(row: SkillVersionRow) -> LegacySkillVersion {
    let number = row.number;
    LegacySkillVersion::new(version(row), number)
}
